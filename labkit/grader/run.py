"""One grading run: what its scenes share. The warm starter, the event loop, the ledger, the broker, a folder."""

import contextlib
import importlib
import os
import secrets
import sys
import threading
import urllib.parse
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from labkit.brokers import Broker, EmbeddedValkey, choose, choose_rabbitmq
from labkit.course import RABBITMQ, Lab
from labkit.grader.blame import Blame, bound
from labkit.grader.compiled import Compiled
from labkit.grader.doors import Doors, OpenDoors
from labkit.grader.failure import NotApplicable
from labkit.grader.ledger import Ledger
from labkit.grader.loop import Loop
from labkit.grader.processes import Starter
from labkit.grader.rooms import Room
from labkit.grader.sandbox import NONE, Sandbox
from labkit.grader.sandbox import choose as choose_sandbox
from labkit.grader.scene import Scene
from labkit.grader.submission import Submission
from labkit.grader.valkey_holdings import ValkeyHoldings
from labkit.grader.watchman import Watchman
from labkit.janitor import janitor, remove_tree, temporary_folder

if TYPE_CHECKING:
    from labkit.grader.rabbitmq_holdings import RabbitMQHoldings

ROOMS_MADE_AT_ONCE = 4


class BadBroker(Exception):
    """No broker is called so. Its text is one line for the user."""


class Run:
    """Use as a context manager. `brokers`: see labkit.brokers.choose; `seed` decides all that is random.

    isolation: one of the levels of sandbox.py; then the one that is really used, and `notes` has a line if it is lower.
    """

    def __init__(
        self,
        lab: Lab,
        submission: Submission,
        *,
        brokers: str = "embedded",
        seed: int = 0,
        isolation: str = "none",
    ) -> None:
        self.lab, self.submission, self.brokers, self.seed = lab, submission, brokers, seed
        self.isolation = isolation
        self.notes: list[str] = []
        self.material = importlib.import_module(f"labkit.grader.material.{lab.slug}")
        self.prefix = f"lab{lab.number:02}-{secrets.token_hex(4)}-"
        self.path = os.pathsep.join([str(Path(sys.executable).parent), "/usr/local/bin", "/usr/bin", "/bin"])
        self.sandbox: Sandbox | None = None
        self._lock = threading.Lock()
        self._private: list[Broker] = []
        self._rooms: dict[str, Room] = {}
        self._pool = ThreadPoolExecutor(ROOMS_MADE_AT_ONCE, "room")

    def __enter__(self) -> "Run":
        self.folder = temporary_folder()
        self.scenes, self.codes, log, ledger = map(self._subfolder, ("scenes", "code", "log", "ledger"))
        self.compiled = Compiled(self.submission, self.folder / "compiled")
        try:
            self.sandbox = choose_sandbox(self.isolation, self.folder, self.notes)
            self.isolation = self.sandbox.level if self.sandbox else NONE
            self.starter = Starter(list(self.lab.clients), log, self.sandbox)
            self.loop = Loop()
            self.ledger = Ledger(self.loop, ledger / "socket")
            self.doors = self._open_doors(ledger) if self.sandbox else OpenDoors()
            self.broker = self._choose(appendonly="off")
            self.blame = Blame(self.broker)
            if self.lab.broker == RABBITMQ:
                self.broker.start_in_background()  # it takes seconds: what needs it waits for it
            else:
                self.broker.start()
                bound(self.broker)
            self.compiled.wait()
            self.inputs = self._subfolder("in") / "photos"
            self.inputs.mkdir()
            if hasattr(self.material, "prepare"):
                self.material.prepare(self.inputs)
            if self.sandbox:
                self.starter.isolated()
                self.starter.proc = self.sandbox.proc(self.doors)
                self.watchman = Watchman(self.starter, self.scenes, self.sandbox.account)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.ExitStack() as last_first:  # each, whatever goes wrong with another
            last_first.callback(_remove, self.folder)
            if self.sandbox:
                last_first.callback(self.sandbox.close)
            for name in ("loop", "doors", "ledger", "broker"):
                if hasattr(self, name):
                    last_first.callback(getattr(self, name).close)
            for broker in self._private:
                last_first.callback(broker.close)
            last_first.callback(self._pool.shutdown, wait=False, cancel_futures=True)
            for name in ("starter", "watchman"):
                if hasattr(self, name):
                    last_first.callback(getattr(self, name).close)

    def _open_doors(self, ledger: Path) -> Doors:
        """Let the scripts to where they have to go, and to nothing else that is ours."""
        for folder in (self.scenes, self.codes, ledger):
            self.sandbox.open_way(folder)
        self.sandbox.let_connect(self.ledger.path)
        return self.sandbox.doors(self.starter.tell, self.loop.loop)

    def _subfolder(self, name: str) -> Path:
        folder = self.folder / name
        folder.mkdir(mode=0o700)
        return folder

    def _choose(self, appendonly: str) -> Broker:
        try:
            is_rabbitmq = self.lab.broker == RABBITMQ
            broker = choose_rabbitmq(self.brokers) if is_rabbitmq else choose(self.brokers, appendonly)
        except ValueError as error:
            raise BadBroker(str(error)) from None
        if broker.tls:
            raise BadBroker(
                "the grader reads along, and cannot where TLS is spoken: give it a URL without TLS"
            )
        return broker

    @property
    def _own_login(self) -> tuple[str, str] | None:
        """Name and password within a broker's URL that was given to us."""
        if isinstance(self.broker, EmbeddedValkey) or self.broker.can_kill:
            return None
        parts = urllib.parse.urlsplit(self.brokers)
        return (parts.username or "default", parts.password) if parts.password else None

    @property
    def _database(self) -> int:
        path = "" if self.broker.can_kill else urllib.parse.urlsplit(self.brokers).path
        return int(path.strip("/") or 0)

    @property
    def services(self) -> tuple[type, ...]:
        """What this lab's processes find outside beside the broker, such as a mail server; each gets its own."""
        return getattr(self.material, "SERVICES", ())

    def new_task(self, scene: Scene) -> dict:
        return self.material.new_task(scene)

    def scene(self, title: str, seed: int, check: str = "", *, own_broker: bool = False) -> Scene:
        """Set a new scene for a check. With own_broker it gets a server that may be killed, and keeps what it answered.

        Raises:
            NotApplicable: own_broker, and the broker was given by URL.
        """
        if self.lab.broker == RABBITMQ:
            return Scene(self, title, self.broker, seed, self._in_room(check))
        if not own_broker:
            return Scene(self, title, self.broker, seed, self._at_valkey)
        if not self.broker.can_kill:
            raise NotApplicable("it kills the broker, and the one that was given by URL is not ours to kill")
        broker = self._choose(appendonly="always")
        with self._lock:
            self._private.append(broker)
        broker.start()
        bound(broker)
        return Scene(self, title, broker, seed, self._at_valkey)

    def _at_valkey(self, scene: Scene) -> ValkeyHoldings:
        user = f"s{scene.number}"
        return ValkeyHoldings(scene.broker, scene.tasks, scene.history, user, self._own_login, self._database)

    def _in_room(self, check: str) -> Callable[[Scene], "RabbitMQHoldings"]:
        """Scenes of one check share a room at RabbitMQ."""
        with self._lock:
            if check not in self._rooms:
                name = f"{self.prefix}{check.replace('_', '-')}"
                self._rooms[check] = Room(self.broker, name, self._pool)
            room = self._rooms[check]
        from labkit.grader.rabbitmq_holdings import (
            RabbitMQHoldings,  # it imports pika, which other labs have no need of
        )

        arguments = lambda scene: self.material.queue_arguments(scene.queue)  # noqa: E731
        return lambda scene: RabbitMQHoldings(room, scene.tasks, scene.history, arguments(scene))

    def end_broker(self, broker: Broker) -> None:
        """End a scene's own broker."""
        with self._lock:
            if broker in self._private:
                self._private.remove(broker)
                broker.close()


def _remove(folder: Path) -> None:
    remove_tree(folder)
    janitor().forget_folder(folder)
