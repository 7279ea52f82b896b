"""What a RabbitMQ holds of a scene: how much waits in which queue, and which of its tasks lie where."""

import asyncio
import contextlib
import socket
import threading
import time
import urllib.parse
from collections.abc import Iterator

import pika
from pika.exceptions import AMQPConnectionError, AMQPError, ChannelClosedByBroker

from labkit.brokers import InfrastructureError
from labkit.grader.amqp_proxy import AmqpLane
from labkit.grader.failure import NotApplicable
from labkit.grader.history import History
from labkit.grader.holdings import DEAD_LETTERS, Holdings
from labkit.grader.rooms import Room
from labkit.grader.tasks import Tasks, id_in

PERSISTENT = 2
ANSWER_WITHIN_SECONDS = 5.0


class RabbitMQHoldings(Holdings):
    """Queues are counted by passive declares. To see what is in one, its tasks are taken and given back.

    Taking them is no look from afar: workers would miss them for a moment, and they come back marked as redelivered.
    It is done when a scene is at its end, and to the dead letters, which nobody reads.
    """

    def __init__(self, room: Room, tasks: Tasks, history: History, arguments: dict[str, object]) -> None:
        """arguments: with which the lab declares the scene's queue, for tasks that come before any worker."""
        super().__init__(room.broker, tasks, history)
        self._room, self._arguments = room, arguments
        self._lanes: list[AmqpLane] = []
        self._declared = False
        self._connection: pika.BlockingConnection | None = None
        self._channel: pika.adapters.blocking_connection.BlockingChannel | None = None
        self._dead: tuple[int, set[int]] = (0, set())  # how many letters there were, and the tasks in them
        self._lock = threading.RLock()

    # ---- the way of the scene's processes -------------------------------------------------------------------

    def lane(self, name: str) -> AmqpLane:
        lane = AmqpLane(name, self.history, self.tasks, self._address)
        self._lanes.append(lane)
        return lane

    async def _address(self) -> tuple[str, int]:
        await asyncio.wrap_future(self._room.ready)
        return self.broker.host, self.broker.port

    def environment(self, lane: AmqpLane) -> dict[str, str]:
        parts = urllib.parse.urlsplit(self._room.url)
        login = "".join(parts.netloc.rpartition("@")[:2])  # "lab:secret@"; "" is the broker's guest
        return {"AMQP_URL": parts._replace(netloc=f"{login}127.0.0.1:{lane.port}").geturl()}

    # ---- the grader's own ---------------------------------------------------------------------------------------

    def delete(self, queue: str) -> None:
        """Delete a queue, with all that is in it."""
        with self._talking():
            self._open_channel().queue_delete(queue)

    def is_ready(self) -> bool:
        if not self._room.ready.done():
            return False
        self._room.wait()
        return True

    def seconds_unready(self, since: float) -> float:
        return max(0.0, (self._room.ready_at or time.monotonic()) - since)

    def push(self, body: bytes) -> None:
        with self._talking():
            if self.tasks.queue not in self.keys():
                self.declare(self._arguments)
            self.publish(self.tasks.queue, body)

    def publish(self, queue: str, body: bytes) -> None:
        """Put a body into a queue that is there, persistent, and wait for the confirm."""
        with self._talking():
            properties = pika.BasicProperties(
                delivery_mode=PERSISTENT, content_type="application/json", message_id=id_in(body) or None
            )
            self._open_channel().basic_publish("", queue, body, properties, mandatory=True)

    def declare(self, arguments: dict[str, object]) -> None:
        """Declare the scene's queue, durable, with these arguments."""
        with self._talking():
            self._open_channel().queue_declare(self.tasks.queue, durable=True, arguments=arguments)
            self._declared = True

    def queue_type(self) -> str:
        """Of which type the scene's queue is: "classic" or "quorum"; "" if there is none of its name.

        Raises:
            NotApplicable: the broker was given by URL, and only its administrators may ask.
        """
        if not self.broker.can_kill:
            raise NotApplicable("only RabbitMQ's own administrator may ask for the type of a queue")
        queues = {queue["name"]: queue for queue in self.broker.queues(self._room.name)}
        return queues[self.tasks.queue].get("type", "classic") if self.tasks.queue in queues else ""

    def depth(self) -> int:
        return self.count(self.tasks.queue)

    def keys(self) -> list[str]:
        """The queues that the scene's processes have declared, and the one that tasks were pushed into."""
        own = {self.tasks.queue} if self._declared else set()
        return sorted(own.union(*(lane.queues for lane in self._lanes)))

    def contents(self, key: str) -> list[bytes]:
        """The bodies in a queue, the oldest first."""
        return [body for _, body in self.letters(key)]

    def count(self, queue: str) -> int:
        """How many tasks wait in a queue; 0 if there is none of this name."""
        with self._talking():
            try:
                return self._open_channel().queue_declare(queue, passive=True).method.message_count
            except ChannelClosedByBroker:
                return 0

    def letters(self, queue: str) -> list[tuple[pika.BasicProperties, bytes]]:
        """Properties and body of all that waits in a queue, the oldest first. It is all given back."""
        found = []
        with self._talking():
            channel = self._open_channel()
            try:
                for _ in range(channel.queue_declare(queue, passive=True).method.message_count):
                    method, properties, body = channel.basic_get(queue)
                    if method is None:
                        break
                    found.append((properties, body))
                channel.close()
            except ChannelClosedByBroker:
                pass  # no such queue
        return found

    def holds_any(self) -> bool:
        waiting = (queue for queue in self.keys() if not queue.endswith(DEAD_LETTERS))
        return any(map(self.count, waiting)) or any(lane.unacknowledged() for lane in self._lanes)

    def dead(self) -> set[int]:
        with self._lock:
            queues = [queue for queue in self.keys() if queue.endswith(DEAD_LETTERS)]
            count = sum(map(self.count, queues))
            if count != self._dead[0]:
                bodies = [body for queue in queues for body in self.contents(queue)]
                self._dead = (count, set(self.tasks.numbers_in(bodies)))
            return self._dead[1]

    def where_and_dead(self) -> tuple[dict[int, list[str]], set[int]]:
        held: dict[int, list[str]] = {}
        for lane in self._lanes:
            for task in lane.unacknowledged():
                held.setdefault(task, []).append(f"the hands of {lane.who}, not acknowledged")
        for queue in self.keys():
            if not queue.endswith(DEAD_LETTERS) and self.count(queue):
                for task in self.tasks.numbers_in(self.contents(queue)):
                    held.setdefault(task, []).append(self.tasks.called_by_students(queue))
        return held, set(self.dead())

    def ping(self) -> None:
        if not self._room.ready.done():
            return  # the broker is still starting, and nothing has needed it yet
        socket.create_connection((self.broker.host, self.broker.port), ANSWER_WITHIN_SECONDS).close()

    def connect_again(self) -> None:
        self.close()

    def clear(self) -> None:
        """Delete the scene's queues where they would outlive the run; one of another name may be somebody else's."""
        if self.broker.can_kill:
            return  # they go with the broker
        with self._talking():
            for queue in self.keys():
                if queue.startswith(self.tasks.queue):
                    self._open_channel().queue_delete(queue)

    def close(self) -> None:
        with self._lock:
            if self._connection is not None and self._connection.is_open:
                with contextlib.suppress(AMQPError):  # it died first
                    self._connection.close()
            self._connection = self._channel = None

    @contextlib.contextmanager
    def _talking(self) -> Iterator[None]:
        """One caller at a time; raises ConnectionError when RabbitMQ hangs up."""
        with self._lock:
            try:
                yield
            except AMQPConnectionError as error:
                raise ConnectionError(f"RabbitMQ hung up ({type(error).__name__}: {error})") from None

    def _open_channel(self) -> pika.adapters.blocking_connection.BlockingChannel:
        """The channel, opened anew if an error has closed it.

        Raises:
            InfrastructureError: the broker cannot be reached, and we did not kill it.
        """
        try:
            if self._connection is None or not self._connection.is_open:
                self._room.wait()
                parameters = pika.URLParameters(self._room.administrator_url)
                parameters.heartbeat = 0  # nobody sends one while the check waits for something else
                self._connection, self._channel = pika.BlockingConnection(parameters), None
            if self._channel is None or not self._channel.is_open:
                self._channel = self._connection.channel()
                self._channel.confirm_delivery()
            return self._channel
        except (AMQPError, OSError) as error:
            if self.broker_down:
                raise ConnectionError(str(error)) from None
            raise InfrastructureError(f"RabbitMQ does not answer ({type(error).__name__}: {error})") from None
