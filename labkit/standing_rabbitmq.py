"""A RabbitMQ that stays up between commands, for terminals and notebooks: `./lab broker up|down|status 6`.

As in standing.py, a lock that the node inherits and holds as long as it lives tells whether it runs.
"""

import contextlib
import os
import secrets
import signal
import subprocess
import time
import urllib.parse

from labkit.brokers.amqp import amqp_url, greet
from labkit.brokers.base import InfrastructureError
from labkit.brokers.rabbitmq import why_it_ended
from labkit.brokers.rabbitmq_api import ManagementApi
from labkit.brokers.rabbitmq_install import install_rabbitmq
from labkit.brokers.rabbitmq_program import find_program
from labkit.brokers.rabbitmq_settings import NodeFiles
from labkit.brokers.server import HOST, PortTaken, free_port, port_is_free
from labkit.course import STATE
from labkit.standing import DYING_SECONDS, Place, Standing

FOLDER = STATE / "rabbitmq"
USER = "lab"
NODE = "lab@localhost"  # its data are kept under this name
PREFERRED_PORT, PREFERRED_MANAGEMENT_PORT = 5699, 15699
READY_WITHIN_SECONDS = 90.0
ANSWER_WITHIN_SECONDS = 5.0
LOOK_EVERY_SECONDS = 0.02
STOPPED_WITHIN_SECONDS = 20.0
PORTS_TRIED = 3


def up(folder: str | os.PathLike, *, install: bool = True) -> Standing:
    """Have RabbitMQ run, with its data in this folder; start it if it does not, and install it if it is missing.

    Two calls at once start one node. InfrastructureError if it cannot be started or does not answer.
    """
    place = _Place(folder)
    try:
        place.data.mkdir(parents=True, exist_ok=True)
        with place.alone():
            return place.running_broker(READY_WITHIN_SECONDS) or _start(place, install)
    except OSError as problem:
        raise InfrastructureError(f"RabbitMQ cannot be started: {problem}") from None


def status(folder: str | os.PathLike) -> Standing | None:
    """Return the broker if it runs. InfrastructureError if it runs but does not answer."""
    place = _Place(folder)
    if not place.folder.is_dir():
        return None
    with place.alone():
        return place.running_broker(DYING_SECONDS)


def down(folder: str | os.PathLike) -> bool:
    """End the broker and keep its data; return when it has ended. False if it did not run."""
    place = _Place(folder)
    if not place.folder.is_dir():
        return False
    with place.alone():
        if place.wait_until_ended(0):
            return False
        place.signal(signal.SIGTERM)
        place.end(STOPPED_WITHIN_SECONDS)
        return True


def is_its_url(url: str) -> bool:
    """Tell whether this is the address of the standing RabbitMQ."""
    try:
        parts = urllib.parse.urlsplit(url)
        here = (parts.hostname, parts.port) == (HOST, _Place(FOLDER).port())
    except ValueError:
        return False
    return here and parts.username == USER


class _Place(Place):
    """The files of a standing RabbitMQ."""

    def __init__(self, folder: str | os.PathLike) -> None:
        super().__init__(folder)
        self.files = NodeFiles(self.folder)
        self._password = self.folder / "password"

    def password(self) -> str:
        """The password of the user, made when there are no data yet."""
        with contextlib.suppress(OSError):
            if password := self._password.read_text().strip():
                return password
        if any(self.data.iterdir()):
            raise InfrastructureError(
                f"the password of the RabbitMQ in {self.folder} is lost: remove that folder, and its data with it"
            )
        self._password.unlink(missing_ok=True)
        self._password.touch(mode=0o600)
        self._password.write_text(f"{secrets.token_hex(16)}\n")
        return self.password()

    def running_broker(self, within_seconds: float) -> Standing | None:
        """Return the broker if it runs. InfrastructureError if it runs but does not answer in that time."""
        deadline = time.monotonic() + within_seconds
        while self.is_running():
            try:
                return self.ask_who_runs()
            except InfrastructureError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(LOOK_EVERY_SECONDS)
        return None

    def ask_who_runs(self, started: bool = False) -> Standing:
        """Ask the node on the ports that we know; nobody else knows the password."""
        port, management_port, password = self.port(), self.port("management_port"), self.password()
        what = f"the RabbitMQ on port {port} runs but does not answer"
        try:
            greet(HOST, port, ANSWER_WITHIN_SECONDS)
        except OSError as problem:
            raise InfrastructureError(f"{what} ({problem}); ./lab broker down 6 ends it") from None
        if not ManagementApi(HOST, management_port, USER, password, ANSWER_WITHIN_SECONDS).listens_on(port):
            raise InfrastructureError(f"{what} for us; ./lab broker down 6, then up, mends it")
        return Standing(
            amqp_url(USER, password, HOST, port, "/"),
            port,
            int(self.pid_file.read_text()),
            self.data,
            started,
            f"http://{HOST}:{management_port}/",
        )


def _start(place: _Place, install: bool) -> Standing:
    """Start the node on the first ports that it gets."""
    program = find_program() or install_rabbitmq(may_install=install)
    for port, management_port in _ports(place):
        _launch(place, program, port, management_port)
        deadline = time.monotonic() + READY_WITHIN_SECONDS
        while place.is_running():
            with contextlib.suppress(InfrastructureError):
                return place.ask_who_runs(started=True)
            if time.monotonic() > deadline:
                raise InfrastructureError(f"RabbitMQ did not answer within {READY_WITHIN_SECONDS:.0f} s")
            time.sleep(LOOK_EVERY_SECONDS)
        problem = why_it_ended("it ended at once", port, place.files, (0, 0))
        if not isinstance(problem, PortTaken):
            raise problem
    raise InfrastructureError(f"no free port for RabbitMQ on {HOST}")


def _launch(place: _Place, program: str, port: int, management_port: int) -> None:
    """Run the node with the running lock in its hands."""
    files = place.files
    files.write(port, management_port, (USER, place.password()), statistics=True)
    for log in (files.output, files.log):  # they tell of one start, and do not grow forever
        log.unlink(missing_ok=True)
    place.remember(port=port, management_port=management_port)
    with place.running_lock() as running, open(files.output, "ab") as output:
        # By way of a shell that ends at once: the node is nobody's child, and no command waits for it. The script
        # that it starts becomes the node, so its number is the node's.
        subprocess.run(
            [
                "/bin/sh",
                "-c",
                '"$@" </dev/null & echo $! >"$0"',
                str(place.pid_file),
                *files.command(program),
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=files.environment(program, NODE),
            cwd=place.folder,
            pass_fds=[running.fileno()],
            start_new_session=True,
            check=True,
        )


def _ports(place: _Place):
    """The ports of last time, the preferred ones, then others."""
    last = place.port(), place.port("management_port")
    for pair in dict.fromkeys((last, (PREFERRED_PORT, PREFERRED_MANAGEMENT_PORT))):
        if all(port and port_is_free(port) for port in pair):
            yield pair
    for _ in range(PORTS_TRIED):
        yield free_port(), free_port()
