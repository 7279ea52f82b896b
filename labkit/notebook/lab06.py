"""What lab 6's notebook needs: the solutions of labs 3, 4 and 6 side by side, each with work that can be told from
outside; and the table of who gives you what. Its charts are in lab06_charts.py.
"""

import atexit
import collections
import contextlib
import itertools
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
import uuid

import pika
import redis

from labkit.bench.workers import BODY_BYTES, LOOPS, commands_sent
from labkit.brokers import EmbeddedValkey
from labkit.brokers.rabbitmq import RabbitMQ
from labkit.course import RABBITMQ, lab
from labkit.janitor import janitor, temporary_folder
from labkit.notebook.lab04 import wait_until
from labkit.notebook.programs import programs

WITHIN_SECONDS = 100  # also on a machine with much else to do
IMAGE_TASK = {"image": "lake_at_dusk.jpg", "operation": "thumbnail"}
TASKS = {loop.number: loop.task for loop in LOOPS} | {3: IMAGE_TASK, 6: IMAGE_TASK}

# Stands at the end of a copy of the solution's work module. What is told goes into a file: to read a pipe would
# cost the processors that are measured.
TOLD_WORK = """

import sys as _sys
import threading as _threading
import time as _time

_told = os.open(os.environ["TOLD_IN"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
_real_{work} = {work}


def {work}(task):
    \"\"\"Say who begins which task, and when; then do what WORK says: "nothing", "hold" it forever, or "real".\"\"\"
    os.write(_told, f"{{_sys.argv[1]}} {{task['id']}} {{_time.monotonic()}}\\n".encode())
    if os.environ["WORK"] == "hold":
        _threading.Event().wait()
    if os.environ["WORK"] == "real":
        return _real_{work}(task)
    return "nothing"
"""


def open_rabbitmq() -> RabbitMQ:
    """Start a RabbitMQ of the notebook's own; it goes when the kernel does."""
    node = RabbitMQ()
    atexit.register(node.close)
    node.start()
    return node


def open_valkey(appendonly: str = "everysec") -> EmbeddedValkey:
    """Start a Valkey of the notebook's own; it goes when the kernel does."""
    server = EmbeddedValkey(appendonly=appendonly)
    atexit.register(server.close)
    server.start()
    return server


def memory_mb(pid: int) -> float:
    """The memory that a process has in use, in MB (its resident set)."""
    return int(subprocess.check_output(["ps", "-o", "rss=", "-p", str(pid)])) / 1024


def open_queue(number: int, url: str, through: str = "") -> "Queue":
    """A queue of its own for lab `number` at this broker; its workers go `through` another URL, if one is given."""
    return (RabbitQueue if lab(number).broker == RABBITMQ else Queue)(number, url, through)


class Queue:
    """A queue for the solution of one lab, and that lab's workers on it. A context; at its end the workers end."""

    _numbers = itertools.count(1)

    def __init__(self, number: int, url: str, through: str) -> None:
        self.name = f"{lab(number).queue}-{next(self._numbers)}"
        self.begun: list[tuple[str, str, float]] = []  # worker, task, seconds on the clock of all processes
        self._number = number
        self._folder = temporary_folder("notebook-")
        self._told_in = self._folder / "told"
        self._told_in.touch()
        self._read = 0  # bytes of it
        self._at = {"VALKEY_URL": through or url, "AMQP_URL": through or url}
        self._workers: dict[str, subprocess.Popen] = {}
        self._copy_the_solution()
        self._open(url)

    def _copy_the_solution(self) -> None:
        for path in programs(self._number).glob("*.py"):
            (self._folder / path.name).write_bytes(path.read_bytes())
        module, work = lab(self._number).work.split(".")
        with (self._folder / f"{module}.py").open("a") as file:
            file.write(TOLD_WORK.format(work=work))

    def _open(self, url: str) -> None:
        self._broker = redis.Redis.from_url(url)

    def new_body(self) -> tuple[str, bytes]:
        """The id of a new task, and the task as JSON, as long as for every lab."""
        task = str(uuid.uuid4())
        return task, json.dumps({"id": task} | TASKS[self._number]).ljust(BODY_BYTES).encode()

    def put(self, tasks: int) -> None:
        """Queue so many tasks, as quickly as it goes, where no worker takes them yet; return when they are there."""
        self._broker.lpush(self.name, *(self.new_body()[1] for _ in range(tasks)))

    def put_one(self) -> tuple[str, float]:
        """Queue a task, and wait until the broker has said that it has it; return its id, and when this began."""
        task, body = self.new_body()
        began = time.monotonic()
        self._broker.lpush(self.name, body)
        return task, began

    def start(self, worker: str, work: str = "nothing", **settings: str) -> None:
        """Start the solution's worker.py as a process of its own."""
        place = self._at | {"QUEUE": self.name, "TOLD_IN": str(self._told_in), "WORK": work}
        self._workers[worker] = janitor().start_process(
            [sys.executable, "worker.py", worker],
            cwd=self._folder,
            env=os.environ | {"OUTPUT_DIR": str(self._folder)} | place | settings,
            stdout=subprocess.DEVNULL,
        )

    def wait_for(self, worker: str = "", task: str = "", begun: int = 1) -> float:
        """Return when the nth task was begun that fits, by this worker or any.

        RuntimeError if a worker has ended that nobody killed, TimeoutError if nothing happens.
        """
        seen: list[float] = []

        def enough() -> bool:
            if self._told_in.stat().st_size > self._read:
                self._look()
            for name, process in self._workers.items():
                if process.poll() not in (None, -signal.SIGKILL):
                    raise RuntimeError(f"{name} has ended")
            seen[:] = [at for who, what, at in self.begun if worker in ("", who) and task in ("", what)]
            return len(seen) >= begun

        wait_until(enough, WITHIN_SECONDS)
        return seen[begun - 1]

    def _look(self) -> None:
        with self._told_in.open("rb") as file:
            file.seek(self._read)
            whole = file.read().rpartition(b"\n")[0]
        self._read += len(whole) + 1
        for line in whole.decode().splitlines():
            worker, task, at = line.split()
            self.begun.append((worker, task, float(at)))

    def tasks_a_second(self, unmeasured: int = 0) -> float:
        """The rate at which tasks were begun, without so many first ones: a worker with a prefetch begins these
        before it has acknowledged any.
        """
        times = sorted(at for _, _, at in self.begun)[unmeasured:]
        return (len(times) - 1) / (times[-1] - times[0])

    def held_by(self, worker: str) -> str:
        """The task that this worker began last."""
        return [task for who, task, _ in self.begun if who == worker][-1]

    def send(self, worker: str, number: signal.Signals) -> float:
        """Send a signal to this worker; return when."""
        at = time.monotonic()
        self._workers[worker].send_signal(number)
        return at

    def close(self) -> None:
        """End the workers, also those that are frozen."""
        for process in self._workers.values():
            process.kill()
            process.wait()
            janitor().forget_process(process.pid)
        self._workers.clear()
        self._broker.close()

    def __enter__(self) -> "Queue":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class RabbitQueue(Queue):
    """The same, for lab 6."""

    def _open(self, url: str) -> None:
        self._broker = pika.BlockingConnection(pika.URLParameters(url + "?heartbeat=0"))
        self._fast, self._confirmed = self._broker.channel(), self._broker.channel()
        self._confirmed.confirm_delivery()
        self._unconfirmed = 0
        to_dead = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": f"{self.name}.dead"}
        self._fast.queue_declare(self.name, durable=True, arguments=to_dead)

    def _publish(self, channel, body: bytes) -> None:
        channel.basic_publish("", self.name, body, pika.BasicProperties(delivery_mode=2), mandatory=True)

    def put(self, tasks: int) -> None:
        for _ in range(tasks):
            self._publish(self._fast, self.new_body()[1])
        self._unconfirmed += tasks
        deadline = time.monotonic() + WITHIN_SECONDS
        while self._ready() < self._unconfirmed:  # the broker may count before it has put all of them in
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self._ready()} tasks are in the queue, not {self._unconfirmed}")

    def _ready(self) -> int:
        return self._fast.queue_declare(self.name, passive=True).method.message_count

    def put_one(self) -> tuple[str, float]:
        task, body = self.new_body()
        began = time.monotonic()
        self._publish(self._confirmed, body)
        return task, began


class Wire:
    """A way to a broker that counts what passes, in both directions, and that may be long. `url` leads through it."""

    def __init__(self, url: str, seconds: float = 0) -> None:
        """seconds: what is sent is on its way for so long."""
        to = urllib.parse.urlsplit(url)
        self._to, self._seconds = (to.hostname, to.port), seconds
        self._listener = socket.create_server(("127.0.0.1", 0))
        place = to.netloc.replace(f":{to.port}", f":{self._listener.getsockname()[1]}")
        self.url = to._replace(netloc=place).geturl()
        self.bytes = 0
        self._other: dict[socket.socket, socket.socket] = {}
        self._told_of_the_end: set[socket.socket] = set()
        self._on_its_way: collections.deque[tuple[float, socket.socket, bytes]] = collections.deque()
        self._ready = selectors.DefaultSelector()
        self._ready.register(self._listener, selectors.EVENT_READ)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            due = self._on_its_way[0][0] - time.monotonic() if self._on_its_way else None
            for key, _ in self._ready.select(due if due is None else max(0, due)):
                if key.fileobj is self._listener:
                    self._accept()
                else:
                    self._take(key.fileobj)
            while self._on_its_way and self._on_its_way[0][0] <= time.monotonic():
                _, target, data = self._on_its_way.popleft()
                self._deliver(target, data)

    def _accept(self) -> None:
        one, two = self._listener.accept()[0], socket.create_connection(self._to)
        for end, other in ((one, two), (two, one)):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._other[end] = other
            self._ready.register(end, selectors.EVENT_READ)

    def _take(self, source: socket.socket) -> None:
        try:
            data = source.recv(65536)
        except ConnectionError:
            data = b""
        if not data:
            self._ready.unregister(source)
        self.bytes += len(data)
        self._on_its_way.append((time.monotonic() + self._seconds, self._other[source], data))

    def _deliver(self, target: socket.socket, data: bytes) -> None:
        with contextlib.suppress(OSError):  # it may have hung up
            if data:
                target.sendall(data)
            else:
                target.shutdown(socket.SHUT_WR)
        if not data:
            self._told_of_the_end.add(target)
            if self._other[target] in self._told_of_the_end:  # both have hung up
                for end in (target, self._other.pop(target)):
                    self._other.pop(end, None)
                    self._told_of_the_end.discard(end)
                    end.close()


def commands(server: EmbeddedValkey, number: int) -> int:
    """How many commands the workers of this lab have sent to a Valkey that nobody else uses."""
    return commands_sent(server, next(loop.sends for loop in LOOPS if loop.number == number))
