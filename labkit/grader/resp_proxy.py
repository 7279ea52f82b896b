"""A lane that speaks RESP, the protocol of Valkey and Redis.

On a connection one command is passed on only when the one before has been answered. A pipeline that is not a
transaction can therefore be cut between any two of its commands, and all that came before the cut has taken effect.
"""

import asyncio
import contextlib
from collections.abc import Callable

from labkit.grader import commands
from labkit.grader.history import History
from labkit.grader.lane import AFTER, BEFORE, SHOWN_CHARACTERS, Command, Lane, Names
from labkit.resp import Frame, FrameReader, ProtocolError, ReplyError, encode

TOO_LATE_SECONDS = 0.1
MOST_WAITING = 1000  # commands of one connection that are read ahead of the broker


class RespLane(Lane):
    """login: name and password with which the lane logs in itself; refused: verbs that it does not pass on."""

    def __init__(
        self,
        who: str,
        history: History,
        names: Names,
        broker: Callable[[], tuple[str, int]],
        login: tuple[str, str] | None = None,
        refused: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__(who, history, names, broker)
        self.login, self.refused = login, refused

    def conversation(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> "_Conversation":
        return _Conversation(self, reader, writer)

    def record(self, args: list[bytes], link: int = 0) -> Command:
        verb = args[0][:SHOWN_CHARACTERS].decode("ascii", "replace").upper()
        tasks = self.names.numbers_in(args)
        if verb in commands.CONNECTION:
            return Command(verb, tuple(args[1:]), -1, 0, tasks, link)
        return self.note(verb, tuple(args[1:]), tasks, link)

    def record_reply(self, command: Command, value: object) -> None:
        if command.number > 0:
            empty = value is None or value == [] or isinstance(value, ReplyError)
            detail = str(value) if isinstance(value, ReplyError) else "QUEUED" if value == b"QUEUED" else ""
            self.note_reply(command, self.names.numbers_in(value), detail=detail, empty=empty)

    def refuses(self, command: Command) -> bool:
        """Whether this lane does not pass the command on; `refused` has verbs, and some with a subcommand."""
        second = command.args[0][:SHOWN_CHARACTERS].decode("ascii", "replace").upper() if command.args else ""
        return not self.refused.isdisjoint((command.verb, f"{command.verb} {second}"))


class _Conversation:
    """One client connection and its counterpart at the broker."""

    def __init__(self, lane: RespLane, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.lane, self.client_reader, self.client = lane, reader, writer
        self.link = lane.connections
        self.server: asyncio.StreamWriter | None = None
        self.replies: asyncio.Queue[Frame] = asyncio.Queue()
        self.commands: asyncio.Queue[Frame | None] = asyncio.Queue(MOST_WAITING)
        self.streaming = False  # after SUBSCRIBE replies no longer answer commands one by one
        self.closing = False  # the client has closed: it is heard to the end, and waits for nothing more
        self.blocked = False
        self.numbers: set[int] = set()

    def drop(self) -> None:
        for writer in (self.client, self.server):
            if writer is not None:
                writer.transport.abort()

    async def run(self) -> None:
        try:
            reader, self.server = await asyncio.open_connection(*self.lane.broker())
            if self.lane.login:
                await self._log_in(reader)
        except OSError:
            self.drop()
            return
        pumps = [
            asyncio.create_task(self._pump(self.client_reader, self.commands)),
            asyncio.create_task(self._pump(reader, self.replies)),
        ]
        talk = asyncio.create_task(self._converse())
        try:
            await asyncio.wait([talk, *pumps], return_when=asyncio.FIRST_COMPLETED)
            if pumps[0].done() and not self.lane.dead:
                await self._last_words(talk, pumps[1])
        finally:
            self.drop()
            for task in (talk, *pumps):
                task.cancel()
            await asyncio.gather(talk, *pumps, return_exceptions=True)
            for number in self.numbers:
                self.lane.in_flight.pop(number, None)
            self.lane.history.wake()

    async def _last_words(self, talk: asyncio.Task, answers: asyncio.Task) -> None:
        """Pass on what a client sent whole before it closed the connection: a real broker would have read it."""
        self.closing = True
        if self.blocked:
            return
        end = asyncio.ensure_future(self.commands.put(None))
        await asyncio.wait([talk, answers], return_when=asyncio.FIRST_COMPLETED)
        end.cancel()
        if not self.lane.dead:
            self.server.close()
            await asyncio.wait([asyncio.ensure_future(self.server.wait_closed())], timeout=1)

    async def _log_in(self, reader: asyncio.StreamReader) -> None:
        self.server.write(encode("AUTH", *self.lane.login))
        if not (await reader.readline()).startswith(b"+OK"):
            raise ConnectionError("the broker refused the scene's user")

    async def _pump(self, reader: asyncio.StreamReader, frames: asyncio.Queue) -> None:
        """Cut a stream into frames; push data goes straight to the client. Ends with the stream."""
        cutter = FrameReader()
        try:
            while not cutter.error and (data := await reader.read(65536)):
                for frame in cutter.feed(data):
                    if frames is self.replies and (frame.push or self.streaming):
                        await self._answer(frame.raw)
                    else:
                        await frames.put(frame)
        except (OSError, ProtocolError):
            pass

    async def _converse(self) -> None:
        while frame := await self.commands.get():
            args = frame.value
            if self.lane.dead:
                return
            if args in ([], None):
                continue  # an empty line or array: the broker ignores it, too
            if not isinstance(args, list) or not all(isinstance(arg, bytes) for arg in args):
                await self._answer(b"-ERR Protocol error: a command is an array of strings\r\n")
                return
            command = self.lane.record(args, self.link)
            self.numbers.add(command.number)
            await self.lane.pass_gates(command, BEFORE)
            if self.lane.dead:
                return
            if self.lane.refuses(command):
                self.lane.record_reply(command, ReplyError("refused"))
                await self._answer(b"-NOPERM this user may not run '%s'\r\n" % command.verb.lower().encode())
                continue
            if command.verb in commands.SUBSCRIBING:
                self.streaming = True
            # An inline command may be quoted, and would be read otherwise there than here: it goes on as an array.
            self.server.write(frame.raw if frame.raw[:1] == b"*" else encode(*args))
            if self.streaming:
                continue
            if command.blocking and self.closing:
                await self._note_what_came_too_late(command)
                return
            self.blocked = command.blocking
            reply = await self.replies.get()
            self.blocked = False
            self.lane.record_reply(command, reply.value)
            self.numbers.discard(command.number)
            await self.lane.pass_gates(command, AFTER)
            if self.lane.dead:
                return
            await self._answer(reply.raw)

    async def _note_what_came_too_late(self, command: Command) -> None:
        """A client that has closed does not wait; but a take that finds a task at once has taken it all the same."""
        with contextlib.suppress(TimeoutError):
            reply = await asyncio.wait_for(self.replies.get(), TOO_LATE_SECONDS)
            self.lane.record_reply(command, reply.value)

    async def _answer(self, raw: bytes) -> None:
        """Write to the client; that it has gone meanwhile does not unsay what it sent before."""
        if not self.client.is_closing():
            self.client.write(raw)
            with contextlib.suppress(ConnectionError):
                await self.client.drain()
