"""A RabbitMQ node of our own: how it is started, awaited, stopped, killed and started again."""

import contextlib
import os
import pathlib
import re
import secrets
import shutil
import signal
import subprocess
import threading
import time

from labkit.brokers.amqp import AmqpBroker, amqp_url, greet
from labkit.brokers.base import InfrastructureError, Login
from labkit.brokers.rabbitmq_api import ManagementApi
from labkit.brokers.rabbitmq_install import install_rabbitmq
from labkit.brokers.rabbitmq_program import find_program
from labkit.brokers.rabbitmq_settings import NodeFiles
from labkit.brokers.server import (
    DISK_FULL_BYTES,
    HOST,
    PORT_FREE_AGAIN_WITHIN_SECONDS,
    PortTaken,
    free_port,
    port_is_free,
)
from labkit.janitor import janitor, remove_folder, temporary_folder

ADMINISTRATOR = "administrator"
READY_WITHIN_SECONDS = 90.0  # a few on an idle machine
ANSWER_WITHIN_SECONDS = 10.0
LOOK_EVERY_SECONDS = 0.02
STOPPED_WITHIN_SECONDS = 15.0
PORTS_TRIED = 3

ADDRESS_IN_USE = re.compile(r"eaddrinuse|address already in use", re.IGNORECASE)
TROUBLE = re.compile(r"\[error\]|\berror\b|failed|cannot|not allowed|enospc|no space", re.IGNORECASE)


class RabbitMQ(AmqpBroker):
    """A node on the loopback, on ports of its own, with its data in a temporary folder."""

    kind = "rabbitmq"
    source = "on the PATH"
    host = HOST
    can_kill = True

    def __init__(self, program: str | None = None, *, port: int | None = None, install: bool = True) -> None:
        """Prepare a node; nothing runs before start.

        program: rabbitmq-server, by default the one that is on this machine.
        port: by default a free one.
        install: where there is no RabbitMQ, have the system's package manager install it, if that may be done.
        """
        self._program, self._given_port, self._install = program, port, install
        self.port = port or 0
        self.management_port = 0
        self._password = secrets.token_hex(16)
        self._node = f"lab-{secrets.token_hex(4)}@localhost"
        self._files: NodeFiles | None = None
        self._has_administrator = False
        self._process: subprocess.Popen | None = None
        self._lock = threading.Lock()  # of the process: it may be ended while it boots
        self._boot: _Boot | None = None

    # ---- what a broker does ----

    @property
    def url(self) -> str:
        return amqp_url(ADMINISTRATOR, self._password, self.host, self.port, "/")

    @property
    def pid(self) -> int | None:
        """The number of the node's process while it runs."""
        return self._process.pid if self._process and self._process.poll() is None else None

    @property
    def log(self) -> pathlib.Path:
        """The node's log file."""
        return self._files.log

    @property
    def folder(self) -> pathlib.Path:
        """Where its data, its log and its settings are; it goes with close."""
        return self._files.folder

    def start(self) -> None:
        self.start_in_background()
        try:
            self.wait_ready()
        except BaseException:  # Ctrl-C
            self.kill()
            raise

    def start_in_background(self) -> None:
        if self.pid or (self._boot and self._boot.goes_on()):
            raise RuntimeError("this broker runs already")
        self._boot = _Boot(self._start_somewhere)

    def wait_ready(self) -> None:
        if self._boot is None:
            raise RuntimeError("this broker was never started")
        self._boot.wait()

    def stop(self) -> None:
        if self._boot and self._boot.goes_on():
            self.kill()
        elif self.pid:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOPPED_WITHIN_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()
            self._forget()

    def kill(self) -> None:
        with self._lock:
            if self._boot:
                self._boot.unwanted.set()
            if self._process and self._process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
        if self._boot:
            self._boot.wait_until_over()
        self._forget()

    def restart(self) -> None:
        if self._files is None or not self.port:
            raise RuntimeError("this broker was never started")
        self.stop()
        self._boot = _Boot(self._start_again)
        self.wait_ready()

    def close(self) -> None:
        self.kill()  # its data go as well: there is nothing that it should save
        if self._files is not None:
            remove_folder(os.fsencode(self._files.folder), "-")
            janitor().forget_folder(self._files.folder)
            self._files = self._boot = None
            self._has_administrator = False
            self.port = self._given_port or 0

    def add_vhost(self, name: str) -> None:
        self.api().put("vhosts", name)

    def remove_vhost(self, name: str) -> None:
        self.api().delete("vhosts", name)

    def add_user(self, name: str, prefix: str, vhost: str = "/", password: str | None = None) -> Login:
        if not name or name == ADMINISTRATOR:
            raise ValueError(f"a user of a submission cannot be called {name!r}")
        password = password or secrets.token_hex(16)
        api = self.api()
        api.put("users", name, password=password, tags="")
        own = f"^{re.escape(prefix)}.*" if prefix else ".*"
        # The default exchange is checked for under this name, for publishing and for dead-lettering.
        api.put("permissions", vhost, name, configure=own, read=own, write=f"{own}|^amq\\.default$")
        return Login(name, password, vhost)

    def clear(self, prefix: str) -> int:
        """Delete the queues whose names begin with the prefix, in every virtual host."""
        if not prefix:
            raise ValueError("clear needs a prefix: without one, every queue would go")
        api = self.api()
        found = [
            (queue["vhost"], queue["name"])
            for queue in api.get("queues", disable_stats="true")
            if queue["name"].startswith(prefix)
        ]
        for vhost, name in found:
            api.delete("queues", vhost, name)
        return len(found)

    def queues(self, vhost: str = "/") -> list[dict]:
        """The queues of this virtual host: name, arguments, messages_ready, messages_unacknowledged and more.

        The counts may be half a second old while a queue is busy; a passive declare tells those of now.
        """
        return self.api().get("queues", vhost, disable_stats="true", enable_queue_totals="true")

    def api(self) -> ManagementApi:
        """The management API, as administrator."""
        return ManagementApi(
            self.host, self.management_port, ADMINISTRATOR, self._password, ANSWER_WITHIN_SECONDS
        )

    # ---- how it starts: all this in the thread of the boot ----

    def _start_somewhere(self, boot: "_Boot") -> None:
        if self._program is None:
            self._program = find_program() or install_rabbitmq(may_install=self._install)
        try:
            if self._files is None:
                self._files = NodeFiles(temporary_folder("lab-rabbitmq-"))
        except OSError as problem:
            raise InfrastructureError(f"no place for the broker's data: {problem}") from None
        for last in range(PORTS_TRIED - 1, -1, -1):
            self.port, self.management_port = self._given_port or free_port(), free_port()
            try:
                self._start_on_ports(boot)
                return
            except PortTaken:  # by another program, after we had looked
                if self._given_port or not last:
                    raise

    def _start_again(self, boot: "_Boot") -> None:
        deadline = time.monotonic() + PORT_FREE_AGAIN_WITHIN_SECONDS
        while not (port_is_free(self.port) and port_is_free(self.management_port)):
            if time.monotonic() > deadline or boot.unwanted.is_set():
                break
            time.sleep(LOOK_EVERY_SECONDS)
        self._start_on_ports(boot)

    def _start_on_ports(self, boot: "_Boot") -> None:
        """Start the node, return when it answers. PortTaken if a port is."""
        files = self._files
        if not (port_is_free(self.port) and port_is_free(self.management_port)):
            raise _port_taken(self.port)
        try:
            files.write(
                self.port,
                self.management_port,
                None if self._has_administrator else (ADMINISTRATOR, self._password),
            )
            said = files.mark()
            with self._lock, open(files.output, "ab") as output:
                boot.stop_if_unwanted()
                self._process = janitor().start_process(
                    files.command(self._program),
                    env=files.environment(self._program, self._node),
                    stdout=output,
                    stderr=output,
                    cwd=files.folder,
                )
        except OSError as problem:
            raise InfrastructureError(f"the broker cannot be started: {problem}") from None
        try:
            self._wait_until_it_answers(boot, said)
        except BaseException:
            with self._lock:
                if self._process.poll() is None:
                    os.killpg(self._process.pid, signal.SIGKILL)
                    self._process.wait()
            self._forget()
            raise
        if not self._has_administrator:
            self._has_administrator = True
            files.write(self.port, self.management_port, None)

    def _wait_until_it_answers(self, boot: "_Boot", said: tuple[int, int]) -> None:
        deadline = time.monotonic() + READY_WITHIN_SECONDS
        while time.monotonic() < deadline:
            boot.stop_if_unwanted()
            if self._process.poll() is not None:
                boot.stop_if_unwanted()
                raise why_it_ended("it ended at once", self.port, self._files, said)
            with contextlib.suppress(OSError):
                greeting = greet(self.host, self.port, ANSWER_WITHIN_SECONDS)
                if self.api().listens_on(self.port):  # only ours knows the password
                    self.version = greeting.get("version", "?")
                    return
            boot.unwanted.wait(LOOK_EVERY_SECONDS)
        raise why_it_ended(
            f"it did not answer within {READY_WITHIN_SECONDS:.0f} s", self.port, self._files, said
        )

    def _forget(self) -> None:
        if self._process is not None and self._process.poll() is not None:
            janitor().forget_process(self._process.pid)
            self._process = None


class _Boot:
    """A start that goes on in a thread, and how it ended."""

    def __init__(self, start) -> None:
        self.unwanted = threading.Event()
        self._over = threading.Event()
        self._problem: Exception | None = None
        threading.Thread(target=self._run, args=(start,), name="rabbitmq-boot", daemon=True).start()

    def goes_on(self) -> bool:
        return not self._over.is_set()

    def wait(self) -> None:
        """Return when the node answers. InfrastructureError if it does not."""
        self._over.wait()
        if isinstance(self._problem, InfrastructureError):
            raise type(self._problem)(*self._problem.args)
        if self._problem is not None:
            raise self._problem

    def wait_until_over(self) -> None:
        self._over.wait()

    def stop_if_unwanted(self) -> None:
        if self.unwanted.is_set():
            raise InfrastructureError("the broker was ended while it was starting")

    def _run(self, start) -> None:
        try:
            start(self)
        except Exception as problem:
            self._problem = problem
        finally:
            self._over.set()


def why_it_ended(what: str, port: int, files: NodeFiles, said: tuple[int, int]) -> InfrastructureError:
    """Put into one line why a node did not start: what was seen, and what its logs say from here on."""
    lines = [
        line.strip()
        for file, begins in zip((files.output, files.log), said, strict=True)
        for line in _lines(file, begins)
    ]
    if any(ADDRESS_IN_USE.search(line) for line in lines):
        return _port_taken(port)
    if shutil.disk_usage(files.folder).free < DISK_FULL_BYTES:
        return InfrastructureError(f"the broker did not start: the disk that holds {files.folder} is full")
    lines = [re.sub(r"^\S+ \S+ \[\w+\] <[\d.]+> *", "", line) for line in lines]
    lines = [line for line in lines if re.search(r"\w{3}", line)]
    words = " / ".join([line for line in lines if TROUBLE.search(line)][:2] or lines[-1:])[:300]
    return InfrastructureError(
        f"the broker did not start: {what}" + (f"; its log says: {words}" if words else "")
    )


def _port_taken(port: int) -> PortTaken:
    return PortTaken(f"port {port} of {HOST}, or the one for management, is taken by another program")


def _lines(file: pathlib.Path, begins: int) -> list[str]:
    try:
        return file.read_bytes()[begins:].decode(errors="replace").splitlines()
    except OSError:
        return []
