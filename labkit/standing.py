"""A broker that stays up between commands, for terminals and notebooks: `./lab broker up|down|status`.

Whether it runs is told by a lock on a file: the server inherits the lock when it is started and holds it
exactly as long as it lives, through any kill and any crash of ours, and a process number given to another
program cannot be mistaken for it. Where it runs is told by a small state file.
"""

import contextlib
import dataclasses
import fcntl
import json
import os
import pathlib
import signal
import subprocess
import time

from labkit.brokers.base import Connection, InfrastructureError, ReplyError
from labkit.brokers.embedded import embedded_binary
from labkit.brokers.server import HOST, PortTaken, free_port, port_is_free, quoted, why_it_ended

PREFERRED_PORT = 6399
READY_WITHIN_SECONDS = 30.0  # it may have much data to read
ANSWER_WITHIN_SECONDS = 2.0
STOPPED_WITHIN_SECONDS = 10.0
DYING_SECONDS = 0.5  # a killed server holds its lock until the kernel has taken its memory back
PORTS_TRIED = 5


@dataclasses.dataclass(frozen=True)
class Standing:
    """The standing broker, as it runs now."""

    url: str
    port: int
    pid: int
    data: pathlib.Path
    started: bool  # by this call
    pages: str = ""  # at a RabbitMQ: where a browser finds its management


def up(folder: str | os.PathLike) -> Standing:
    """Have the broker run, with its data in this folder; start it if it does not.

    Two calls at once start one server. InfrastructureError if it cannot be started or does not answer.
    """
    place = _Place(folder)
    try:
        place.data.mkdir(parents=True, exist_ok=True)
        with place.alone():
            return place.running_broker() or _start(place)
    except OSError as problem:
        raise InfrastructureError(f"the broker cannot be started: {problem}") from None


def status(folder: str | os.PathLike) -> Standing | None:
    """Return the broker if it runs. InfrastructureError if it runs but does not answer."""
    place = _Place(folder)
    if not place.folder.is_dir():
        return None
    with place.alone():
        return place.running_broker()


def down(folder: str | os.PathLike) -> bool:
    """End the broker and keep its data; return when it has ended. False if it did not run."""
    place = _Place(folder)
    if not place.folder.is_dir():
        return False
    with place.alone():
        try:
            if place.running_broker() is None:
                return False
            with Connection.to_port(HOST, place.port(), ANSWER_WITHIN_SECONDS) as connection:
                connection.ask("SHUTDOWN", "NOSAVE")  # the append-only file has it all, and is synced first
        except (InfrastructureError, OSError, ReplyError):
            place.signal(signal.SIGTERM)  # to no effect on one that has obeyed and closed the connection
        place.end(STOPPED_WITHIN_SECONDS)
        return True


class Place:
    """The folder of one standing broker: who may act on it, and whether its server runs."""

    def __init__(self, folder: str | os.PathLike) -> None:
        self.folder = pathlib.Path(folder).resolve()
        self.data = self.folder / "data"
        self.pid_file = self.folder / "server.pid"
        self._state = self.folder / "state.json"

    @contextlib.contextmanager
    def alone(self):
        """One up, down or status at a time."""
        with open(self.folder / "commands.lock", "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @contextlib.contextmanager
    def running_lock(self):
        """The file whose lock a running server holds: locked by us, or None if a server runs."""
        with open(self.folder / "running.lock", "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield None
            else:
                yield file

    def is_running(self) -> bool:
        with self.running_lock() as lock:
            return lock is None

    def wait_until_ended(self, within_seconds: float) -> bool:
        deadline = time.monotonic() + within_seconds
        while self.is_running():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.005)
        return True

    def port(self, which: str = "port") -> int:
        """The port in use, or the last one that was; 0 if none is known."""
        try:
            return int(json.loads(self._state.read_text())[which])
        except (OSError, ValueError, KeyError, TypeError):
            return 0

    def remember(self, **ports: int) -> None:
        new = self._state.with_suffix(".new")
        new.write_text(json.dumps(ports) + "\n")
        new.replace(self._state)

    def signal(self, number: int) -> None:
        """Send a signal to the running server, by the number in its own file."""
        with contextlib.suppress(OSError, ValueError):
            pid = int(self.pid_file.read_text())
            if self.is_running():  # or the number may be another program's by now
                os.kill(pid, number)

    def end(self, within_seconds: float) -> None:
        """Return when the server has ended, as it was asked to; or kill it. InfrastructureError if it stays."""
        if not self.wait_until_ended(within_seconds):
            self.signal(signal.SIGKILL)
            if not self.wait_until_ended(within_seconds):
                raise InfrastructureError(f"the broker of {self.folder} does not end")


class _Place(Place):
    """The files of a standing Valkey."""

    def __init__(self, folder: str | os.PathLike) -> None:
        super().__init__(folder)
        self.log = self.folder / "server.log"
        self.settings = self.folder / "server.conf"

    def running_broker(self) -> Standing | None:
        """Return the broker if it runs. InfrastructureError if it runs but does not answer."""
        if not self.is_running():
            return None
        try:
            return self.ask_who_runs()
        except InfrastructureError:
            if self.wait_until_ended(DYING_SECONDS):
                return None
            raise

    def ask_who_runs(self, started: bool = False) -> Standing:
        """Ask the server on the port that we know who it is."""
        port = self.port()
        try:
            with Connection.to_port(HOST, port, ANSWER_WITHIN_SECONDS) as connection:
                connection.ask("PING")  # refused while it reads its data
                facts = connection.server_facts()
        except (OSError, ReplyError) as problem:
            line = (
                f"the broker on port {port} runs but does not answer ({problem}); ./lab broker down ends it"
            )
            raise InfrastructureError(line) from None
        if pathlib.Path(facts.get("config_file", "")) != self.settings:
            raise InfrastructureError(
                f"another server answers on port {port}; ./lab broker down, then up, mends it"
            )
        return Standing(f"redis://{HOST}:{port}/0", port, int(facts["process_id"]), self.data, started)


def _start(place: _Place) -> Standing:
    """Start the server on the first port that it gets."""
    for port in _ports(place):
        log_begins = place.log.stat().st_size if place.log.exists() else 0
        _launch(place, port)
        deadline = time.monotonic() + READY_WITHIN_SECONDS
        while place.is_running():
            with contextlib.suppress(InfrastructureError):
                return place.ask_who_runs(started=True)
            if time.monotonic() > deadline:
                raise InfrastructureError(f"the broker did not answer within {READY_WITHIN_SECONDS:.0f} s")
            time.sleep(0.002)
        problem = why_it_ended("it ended at once", port, place.log, log_begins)
        if not isinstance(problem, PortTaken):
            raise problem
    raise InfrastructureError(f"no free port for the broker on {HOST}")


def _launch(place: _Place, port: int) -> None:
    """Run the server with the running lock in its hands."""
    place.settings.write_text(_settings(place, port))
    place.pid_file.unlink(missing_ok=True)
    place.remember(port=port)
    with place.running_lock() as running, open(place.log, "ab") as log:
        # By way of a shell that ends at once: the server is nobody's child, and no command waits for it.
        subprocess.run(
            ["/bin/sh", "-c", '"$@" </dev/null &', "sh", str(embedded_binary()), str(place.settings)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=place.data,
            pass_fds=[running.fileno()],
            start_new_session=True,
            check=True,
        )


def _ports(place: _Place):
    """The port of last time, the preferred one, then others."""
    for port in dict.fromkeys((place.port(), PREFERRED_PORT)):
        if port and port_is_free(port):
            yield port
    for _ in range(PORTS_TRIED):
        yield free_port()


def _settings(place: _Place, port: int) -> str:
    return f"""\
# Written by ./lab broker up at each start. No password: it listens on the loopback only.
bind {HOST}
port {port}
dir {quoted(place.data)}
logfile {quoted(place.log)}
pidfile {quoted(place.pid_file)}
save ""
appendonly yes
appendfsync everysec
daemonize no
"""
