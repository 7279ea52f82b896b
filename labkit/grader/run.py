"""One grading run: what its scenes share. The warm starter, the event loop, the ledger, the broker, a folder."""

import importlib
import os
import secrets
import shutil
import sys
import threading
import urllib.parse
from pathlib import Path

from labkit.brokers import Broker, EmbeddedValkey, choose
from labkit.course import Lab
from labkit.grader.failure import NotApplicable
from labkit.grader.ledger import Ledger
from labkit.grader.loop import Loop
from labkit.grader.processes import Starter
from labkit.grader.scene import Scene
from labkit.grader.submission import Submission
from labkit.janitor import janitor, temporary_folder


class BadBroker(Exception):
    """No broker is called so. Its text is one line for the user."""


class Run:
    """Use as a context manager. `brokers` is "embedded", "path" or a URL; `seed` decides all that is random."""

    def __init__(self, lab: Lab, submission: Submission, *, brokers: str = "embedded", seed: int = 0) -> None:
        self.lab, self.submission, self.brokers, self.seed = lab, submission, brokers, seed
        self.material = importlib.import_module(f"labkit.grader.material.{lab.slug}")
        self.prefix = f"lab{lab.number:02}-{secrets.token_hex(4)}-"
        self.path = os.pathsep.join([str(Path(sys.executable).parent), "/usr/local/bin", "/usr/bin", "/bin"])
        self._lock = threading.Lock()
        self._private: list[Broker] = []

    def __enter__(self) -> "Run":
        self.folder = temporary_folder()
        self.starter = Starter(list(self.lab.clients), self._subfolder("log"))
        try:
            self.loop = Loop()
            self.ledger = Ledger(self.loop, self.folder / "ledger")
            self.broker = self._choose(appendonly="off")
            self.broker.start()
            self.inputs = self._subfolder("in") / "photos"
            self.inputs.mkdir()
            if hasattr(self.material, "prepare"):
                self.material.prepare(self.inputs)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.starter.close()
        for broker in [*self._private, *([self.broker] if hasattr(self, "broker") else [])]:
            broker.close()
        if hasattr(self, "ledger"):
            self.ledger.close()
        if hasattr(self, "loop"):
            self.loop.close()
        _remove(self.folder)

    def _subfolder(self, name: str) -> Path:
        folder = self.folder / name
        folder.mkdir()
        return folder

    def _choose(self, appendonly: str) -> Broker:
        try:
            return choose(self.brokers, appendonly)
        except ValueError as error:
            raise BadBroker(str(error)) from None

    @property
    def own_login(self) -> tuple[str, str] | None:
        """Name and password within a broker's URL that was given to us."""
        if isinstance(self.broker, EmbeddedValkey) or self.broker.can_kill:
            return None
        parts = urllib.parse.urlsplit(self.brokers)
        return (parts.username or "default", parts.password) if parts.password else None

    @property
    def database(self) -> int:
        path = "" if self.broker.can_kill else urllib.parse.urlsplit(self.brokers).path
        return int(path.strip("/") or 0)

    @property
    def services(self) -> tuple[type, ...]:
        """What this lab's processes find outside beside the broker, such as a mail server; each gets its own."""
        return getattr(self.material, "SERVICES", ())

    def new_task(self, scene: Scene) -> dict:
        return self.material.new_task(scene)

    def scene(self, title: str, seed: int, *, own_broker: bool = False) -> Scene:
        """Set a new scene. With own_broker it gets a server that may be killed, which keeps all that it answered.

        Raises:
            NotApplicable: own_broker, and the broker was given by URL.
        """
        if not own_broker:
            return Scene(self, title, self.broker, seed)
        if not self.broker.can_kill:
            raise NotApplicable("it kills the broker, and the one that was given by URL is not ours to kill")
        broker = self._choose(appendonly="always")
        with self._lock:
            self._private.append(broker)
        broker.start()
        return Scene(self, title, broker, seed)

    def end_broker(self, broker: Broker) -> None:
        """End a scene's own broker."""
        with self._lock:
            if broker in self._private:
                self._private.remove(broker)
                broker.close()


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    janitor().forget_folder(folder)
