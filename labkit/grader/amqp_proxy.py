"""A lane that speaks AMQP 0-9-1, the protocol of RabbitMQ: methods by their names, with the tasks that they carry.

What a client sends is passed on method by method, a content (header and body frames) whole with its `basic.publish`;
what the broker sends, in the same way. Gates lie before and after each method of the client, and before and after
each delivery. "After" is when the broker has answered: `…-ok` for a call, the confirm for a publish on a confirming
channel; what the protocol does not answer is over when it has been passed on. When a connection is cut, the broker
still does what was passed on before: it is told goodbye, and waited for. A connection that only breaks makes RabbitMQ
drop what it has read and not yet done (the end of a channel's parent goes before all that is in its line), so that an
acknowledgement would count or not by chance.
"""

import asyncio
import contextlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from pika import frame as pika_frame
from pika import spec
from pika.amqp_object import Method

from labkit.grader.commands import FOR_GOOD, GIVING_BACK, REQUEUE
from labkit.grader.history import REPLY, History
from labkit.grader.lane import AFTER, BEFORE, Command, Lane, Names

HEADER = b"AMQP"  # a connection begins with these and four more bytes
VHOST = re.compile(r" in vhost '[^']*'")  # the check's own name for it says nothing to a student
LARGEST_FRAME = 16 * 1024 * 1024
LARGEST_BODY = 128 * 1024 * 1024  # as RabbitMQ has it
METHOD_FRAME, CONTENT_HEADER, CONTENT_BODY = 1, 2, 3
GOODBYE = pika_frame.Method(0, spec.Connection.Close(200, "the client is gone", 0, 0)).marshal()
GOODBYE_HEARD = pika_frame.Method(0, spec.Connection.CloseOk()).marshal()
GOODBYE_SECONDS = 2.0  # a broker that does not answer in this time is itself stopped, or dead
CALLS_SETTLING = {"basic.ack", "basic.nack", "basic.reject"}
QUIET = {
    "connection",
    "channel",
}  # classes whose methods set a connection up, and are no commands of a program
SHOWN = {  # the arguments of a method that a story shows
    "basic.publish": ("exchange", "routing_key"),
    "basic.consume": ("queue", "consumer_tag"),
    "basic.get": ("queue",),
    "basic.cancel": ("consumer_tag",),
    "basic.qos": ("prefetch_count",),
    "queue.declare": ("queue",),
    "queue.bind": ("queue", "exchange", "routing_key"),
    "queue.delete": ("queue",),
    "queue.purge": ("queue",),
    "exchange.declare": ("exchange", "type"),
}


class AmqpLane(Lane):
    """See the module."""

    def __init__(
        self,
        who: str,
        history: History,
        names: Names,
        broker: Callable[[], "asyncio.Future[tuple[str, int]]"],
    ) -> None:
        """broker: awaited for the broker's address on each connection, since it may still be starting."""
        super().__init__(who, history, names, broker)
        self.heartbeats = 0  # how many the process has sent
        self.unconfirmed: list[tuple[int, ...]] = []  # the tasks of each publish that nobody will confirm
        self.queues: set[str] = set()  # those that it has declared
        self.fleeting: set[str] = set()  # those of them that do not outlive the broker

    def conversation(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> "_Conversation":
        return _Conversation(self, reader, writer)

    def unacknowledged(self) -> set[int]:
        """The tasks that were delivered on a connection that lives, and that nobody has acknowledged."""
        channels = [channel for each in list(self._connections) for channel in list(each.channels.values())]
        return {task for channel in channels for tasks in list(channel.delivered.values()) for task in tasks}

    def delivery(
        self, verb: str, args: tuple[bytes, ...], consumer: Command | None, tasks: tuple[int, ...]
    ) -> Command:
        """What the broker sends to a consumer, as a point at which something may happen."""
        self._verbs[verb] += 1
        number, link = (consumer.number, consumer.link) if consumer else (0, 0)
        return Command(verb, args, number, self._verbs[verb], tasks, link)

    def note_delivery(self, delivery: Command) -> None:
        """Write it into the history, as one more answer to the consume, which goes on."""
        self._add(REPLY, delivery, delivery.tasks)


@dataclass
class _Channel:
    """What has been agreed on one channel, and what is under way on it."""

    calls: list[Command] = field(default_factory=list)  # that wait for their …-ok
    consumers: dict[str, Command] = field(default_factory=dict)
    forgetful: set[str] = field(default_factory=set)  # consumers without acknowledgements
    delivered: dict[int, tuple[int, ...]] = field(default_factory=dict)  # delivery tag: tasks
    published: dict[int, Command] = field(default_factory=dict)  # by the number that its confirm will have
    confirming: bool = False
    count: int = 0  # of what was published since confirms are on
    transactional: bool = False
    uncommitted: list[tuple[Command, list[int]]] = field(
        default_factory=list
    )  # with the tags that each settles


@dataclass
class _Content:
    """A method that carries a content, whose frames are still coming."""

    method: Method
    raw: bytes
    size: int = -1
    body: bytes = b""

    @property
    def whole(self) -> bool:
        return self.size == len(self.body)


class _Conversation:
    """One client connection and its counterpart at the broker."""

    def __init__(self, lane: AmqpLane, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.lane, self.client_reader, self.client = lane, reader, writer
        self.link = lane.connections
        self.server: asyncio.StreamWriter | None = None
        self.channels: dict[int, _Channel] = {}
        self.commands: set[int] = set()
        self._dropped = asyncio.Event()

    def drop(self) -> None:
        self.client.transport.abort()
        self._dropped.set()

    async def run(self) -> None:
        try:
            server_reader, self.server = await asyncio.open_connection(*await self.lane.broker())
        except OSError:
            self.drop()
            return
        pumps = [
            asyncio.create_task(self._pump(self.client_reader, self.server, self._from_client)),
            asyncio.create_task(self._pump(server_reader, self.client, self._from_server)),
            asyncio.create_task(self._dropped.wait()),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.drop()
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            speaking = any(self.channels)  # on a channel other than 0, the connection's own
            self.channels.clear()
            for number in self.commands:
                self.lane.in_flight.pop(number, None)
            self.lane.history.wake()
            try:
                if speaking:
                    await self._say_goodbye(server_reader)
            finally:
                self.server.close()

    async def _say_goodbye(self, server_reader: asyncio.StreamReader) -> None:
        """Close the connection in the client's name, and wait until the broker has done all that came before."""
        with contextlib.suppress(OSError, TimeoutError):
            self.server.write(GOODBYE)
            async with asyncio.timeout(GOODBYE_SECONDS):
                heard = b""
                while GOODBYE_HEARD not in heard and (more := await server_reader.read(65536)):
                    heard = heard[-len(GOODBYE_HEARD) :] + more

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pass_on) -> None:
        """Cut a stream into frames, gather each content behind its method, and have each passed on."""
        contents: dict[int, _Content] = {}
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, ValueError):
            if reader is self.client_reader and (greeting := await reader.readexactly(8)):
                writer.write(greeting)  # if it is none, the broker says so and closes
            while not self.lane.dead:
                start = await reader.readexactly(7)
                if start.startswith(HEADER):  # the broker speaks another version of the protocol
                    writer.write(start + await reader.readexactly(1))
                    return
                kind, number, size = start[0], int.from_bytes(start[1:3]), int.from_bytes(start[3:7])
                if size > LARGEST_FRAME:
                    return
                raw = start + await reader.readexactly(size + 1)
                content = contents.get(number)
                if kind == METHOD_FRAME:
                    method = _method(raw)
                    if spec.has_content(method.INDEX):
                        contents[number] = _Content(method, raw)
                    else:
                        await pass_on(number, method, raw, b"")
                elif kind in (CONTENT_HEADER, CONTENT_BODY) and content:
                    content.raw += raw
                    if kind == CONTENT_HEADER:
                        content.size = int.from_bytes(raw[11:19])
                        if content.size > LARGEST_BODY:
                            return
                    else:
                        content.body += raw[7:-1]
                    if content.whole:
                        del contents[number]
                        await pass_on(number, content.method, content.raw, content.body)
                else:
                    if reader is self.client_reader:
                        self.lane.heartbeats += 1
                    writer.write(raw)
                await writer.drain()

    def _channel(self, number: int) -> _Channel:
        return self.channels.setdefault(number, _Channel())

    # ---- from the client ------------------------------------------------------------------------------------

    async def _from_client(self, number: int, method: Method, raw: bytes, body: bytes) -> None:
        verb = _verb(method)
        channel = self._channel(number)
        if verb.partition(".")[0] in QUIET:
            if verb == "channel.close":
                channel.delivered.clear()  # they go back to their queue
                self._end_consumers(channel)
            elif verb == "channel.open":
                # its number may have been another's: confirms count from 1 again
                self.channels[number] = _Channel()
            self.server.write(raw)
            return
        if verb == "queue.declare" and not method.passive:
            self.lane.queues.add(method.queue)
            if not method.durable:
                self.lane.fleeting.add(method.queue)
        kind = verb
        if verb in ("basic.get", "basic.consume") and method.no_ack:
            verb += FOR_GOOD
        tasks = self.lane.names.numbers_in(body) if body else ()
        if verb in CALLS_SETTLING:
            tasks = self._settled(channel, method, verb)
        command = self.lane.note(verb, _arguments(kind, method), tasks, self.link)
        self.commands.add(command.number)
        await self.lane.pass_gates(command, BEFORE)
        if self.lane.dead:
            return
        answered = self._expect_answer(channel, kind, method, command)
        self.server.write(raw)
        await self.server.drain()
        settled = _tags(channel, method) if verb in CALLS_SETTLING else []
        if channel.transactional and (settled or verb == "basic.publish"):
            channel.uncommitted.append((command, settled))  # nothing has happened before the commit
        else:
            self._forget(channel, settled)
            if not answered:
                self._note_answer(command)
        if not answered:
            await self.lane.pass_gates(command, AFTER)

    @staticmethod
    def _forget(channel: _Channel, tags: list[int]) -> None:
        for tag in tags:
            channel.delivered.pop(tag, None)

    def _settled(self, channel: _Channel, method: Method, verb: str) -> tuple[int, ...]:
        """The tasks that an acknowledgement, or its opposite, speaks of."""
        return tuple(task for tag in _tags(channel, method) for task in channel.delivered.get(tag, ()))

    def _expect_answer(self, channel: _Channel, verb: str, method: Method, command: Command) -> bool:
        """Take note of what the broker will answer; False if it will answer nothing."""
        if verb == "basic.publish":
            if channel.confirming:
                channel.count += 1
                channel.published[channel.count] = command
            elif not channel.transactional:
                self.lane.unconfirmed.append(command.tasks)
            return channel.confirming
        if verb == "basic.consume" and method.no_ack:
            channel.forgetful.add(method.consumer_tag)
        if verb == "confirm.select":
            channel.confirming = True
        if verb == "basic.consume" and method.nowait:
            channel.consumers[method.consumer_tag] = command
            return True
        if verb in CALLS_SETTLING or not method.synchronous or getattr(method, "nowait", False):
            return False
        channel.calls.append(command)
        return True

    # ---- from the broker ------------------------------------------------------------------------------------

    async def _from_server(self, number: int, method: Method, raw: bytes, body: bytes) -> None:
        verb, channel = _verb(method), self._channel(number)
        over: list[Command] = []
        if verb == "basic.deliver":
            await self._deliver(channel, method, raw, body)
            return
        if verb in ("basic.ack", "basic.nack"):
            over = self._confirmed(channel, method, verb)
        elif verb == "basic.cancel":  # its queue is gone
            self._end_consumers(channel, method.consumer_tag)
        elif verb == "basic.return":
            self._returned(channel, method, body)
        elif verb == "channel.close" or (verb == "connection.close" and number == 0):
            self._closed(number, method)
        elif channel.calls and verb.partition(".")[0] not in QUIET:
            over = [self._answered(channel, channel.calls.pop(0), method, verb, body)]
        for command in over:
            await self.lane.pass_gates(command, AFTER)
            if self.lane.dead:
                return
        self.client.write(raw)

    def _answered(
        self, channel: _Channel, command: Command, method: Method, verb: str, body: bytes
    ) -> Command:
        """A call has got its …-ok."""
        if verb == "tx.select-ok":
            channel.transactional = True
        if verb in ("tx.commit-ok", "tx.rollback-ok"):
            self._end_transaction(channel, committed=verb == "tx.commit-ok")
        if verb == "basic.consume-ok":  # it goes on until it is cancelled: the deliveries are its answers
            channel.consumers[method.consumer_tag] = command
            self.lane.history.wake()
            return command
        if verb == "basic.cancel-ok":
            self._end_consumers(channel, method.consumer_tag)
        tasks = self.lane.names.numbers_in(body) if verb == "basic.get-ok" else ()
        if tasks and not command.verb.endswith(FOR_GOOD):
            channel.delivered[method.delivery_tag] = tasks
        self._note_answer(command, tasks, empty=verb == "basic.get-empty")
        return command

    def _end_transaction(self, channel: _Channel, *, committed: bool) -> None:
        """What was sent since the last commit has happened now, or never will."""
        for command, tags in channel.uncommitted:
            if committed:
                self._forget(channel, tags)
            self._note_answer(command, detail="" if committed else "rolled back")
        channel.uncommitted.clear()

    def _confirmed(self, channel: _Channel, method: Method, verb: str) -> list[Command]:
        numbers = [
            each
            for each in sorted(channel.published)
            if each == method.delivery_tag or (method.multiple and each <= method.delivery_tag)
        ]
        over = [channel.published.pop(each) for each in numbers]
        for command in over:
            self._note_answer(command, detail="" if verb == "basic.ack" else "refused by the broker")
        return over

    def _returned(self, channel: _Channel, method: Method, body: bytes) -> None:
        """A task for which there is no queue comes back, before its confirm."""
        tasks = self.lane.names.numbers_in(body)
        args = (method.exchange.encode(), method.routing_key.encode())
        back = Command("basic.return", args, 0, 0, tasks, self.link)
        self.lane.note_reply(back, tasks, detail=method.reply_text)

    def _closed(self, number: int, method: Method) -> None:
        """The broker closes a channel, or all: what waits for an answer on it has got this one."""
        concerned = self.channels.values() if number == 0 else [self._channel(number)]
        said = VHOST.sub("", f"{method.reply_code} {method.reply_text}")
        why = self.lane.names.shown(said.encode())
        for channel in concerned:
            if held := tuple(task for tasks in channel.delivered.values() for task in tasks):
                closing = Command("channel.close", (), 0, 0, held, self.link)
                self.lane.note_reply(closing, held, detail=why)
            uncommitted = (command for command, _ in channel.uncommitted)
            for command in [*channel.calls, *channel.published.values(), *uncommitted]:
                self._note_answer(command, detail=why)
            channel.calls.clear()
            channel.uncommitted.clear()
            channel.published.clear()
            channel.delivered.clear()
            self._end_consumers(channel)

    def _end_consumers(self, channel: _Channel, tag: str = "") -> None:
        """The consumer with this tag, or each, stands at the broker no more."""
        for each in [tag] if tag else list(channel.consumers):
            if consumer := channel.consumers.pop(each, None):
                self._note_answer(consumer, empty=True)

    async def _deliver(self, channel: _Channel, method: Method, raw: bytes, body: bytes) -> None:
        for_good = method.consumer_tag in channel.forgetful
        consumer = channel.consumers.get(method.consumer_tag)
        tasks = self.lane.names.numbers_in(body)
        queue = consumer.args[0] if consumer else b""
        args = (queue, b"redelivered") if method.redelivered else (queue,)
        verb = f"basic.deliver{FOR_GOOD}" if for_good else "basic.deliver"
        delivery = self.lane.delivery(verb, args, consumer, tasks)
        await self.lane.pass_gates(delivery, BEFORE)
        if self.lane.dead:
            return
        if not for_good:
            channel.delivered[method.delivery_tag] = tasks
        self.lane.note_delivery(delivery)
        self.client.write(raw)
        await self.client.drain()
        await self.lane.pass_gates(delivery, AFTER)

    def _note_answer(self, command: Command, tasks: tuple[int, ...] = (), **more: object) -> None:
        self.commands.discard(command.number)
        self.lane.note_reply(command, tasks, **more)


def _method(raw: bytes) -> Method:
    """The method in a frame; ValueError if it is none that AMQP 0-9-1 knows."""
    try:
        _, decoded = pika_frame.decode_frame(raw)
        return decoded.method
    except Exception as error:  # whatever pika's decoder makes of bytes that are no method
        raise ValueError(f"not a method: {raw[:40]!r}") from error


def _verb(method: Method) -> str:
    """Basic.GetOk is basic.get-ok."""
    owner, _, name = method.NAME.partition(".")
    words = "".join(f"-{char.lower()}" if char.isupper() else char for char in name).lstrip("-")
    return f"{owner.lower()}.{words}"


def _arguments(verb: str, method: Method) -> tuple[bytes, ...]:
    if verb in GIVING_BACK:
        return (REQUEUE.encode(),) if method.requeue else ()
    shown = (str(getattr(method, name, "")) for name in SHOWN.get(verb, ()))
    return tuple(text.encode() for text in shown)


def _tags(channel: _Channel, method: Method) -> list[int]:
    """The delivery tags that an acknowledgement speaks of; 0 with `multiple` stands for all."""
    tag = method.delivery_tag
    if getattr(method, "multiple", False):
        return [each for each in channel.delivered if each <= tag or tag == 0]
    return [tag]
