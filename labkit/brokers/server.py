"""A server that we start ourselves: how it is configured, awaited, stopped, killed and started again."""

import contextlib
import hashlib
import os
import pathlib
import random
import re
import secrets
import shutil
import signal
import socket
import subprocess
import time

from labkit.brokers.base import (
    Broker,
    Connection,
    InfrastructureError,
    Login,
    ReplyError,
    clear_keys,
    kind_and_version,
)
from labkit.janitor import janitor, remove_folder, temporary_folder

HOST = "127.0.0.1"
READY_WITHIN_SECONDS = 10.0
STOPPED_WITHIN_SECONDS = 3.0
PORT_FREE_AGAIN_WITHIN_SECONDS = 5.0
PORTS_TRIED = 10

APPENDONLY = {
    "always": "appendonly yes\nappendfsync always",  # what was answered is on disk: SIGKILL loses nothing
    "everysec": "appendonly yes\nappendfsync everysec",
    "off": "appendonly no",
}

TROUBLE = re.compile(r"fatal|can't|cannot|fail|error|not found|no space|bad file", re.IGNORECASE)
DISK_FULL_BYTES = 256 * 1024  # with less than this free, blame the disk: the log could not be written either

# A submission may work with its own keys. It may not administer, nor touch what others have. KEYS, INFO and
# ROLE count as dangerous for a busy server, but clients and beginners use them. Harmless CLIENT subcommands
# (SETINFO, SETNAME, ID, GETNAME) stay in; KILL, LIST, PAUSE and the like leave with @admin and @dangerous.
SUBMISSION_RIGHTS = "+@all -@admin -@dangerous +keys +info +role"


class OwnServer(Broker):
    """A server binary run on the loopback, on a port of its own, with its data in a folder of its own."""

    can_kill = True
    host = HOST

    def __init__(
        self,
        binary: str | os.PathLike | None = None,
        *,
        appendonly: str = "always",
        data: str | os.PathLike | None = None,
        port: int | None = None,
    ) -> None:
        """Prepare a server; nothing runs before start.

        data: a folder to keep the data in; by default a temporary one, which goes with this process.
        port: by default a free one.
        """
        if appendonly not in APPENDONLY:
            raise ValueError(f"appendonly is one of {', '.join(APPENDONLY)}, not {appendonly!r}")
        self._binary = binary
        self._appendonly = appendonly
        self._given_data = pathlib.Path(data).resolve() if data is not None else None
        self._given_port = port
        self.port = port or 0
        self.data: pathlib.Path | None = None
        self._folder: pathlib.Path | None = None  # settings, socket, log; and the data if no place was given
        self._password = secrets.token_hex(16)
        self._users = {"default": f"user default on #{_hash(self._password)} ~* &* +@all"}
        self._process: subprocess.Popen | None = None

    # ---- what a broker does ----

    @property
    def url(self) -> str:
        return f"redis://default:{self._password}@{self.host}:{self.port}/0"

    @property
    def pid(self) -> int | None:
        """The number of the server's process while it runs."""
        return self._process.pid if self._process and self._process.poll() is None else None

    @property
    def log(self) -> pathlib.Path:
        """The server's log file."""
        return self.data / "server.log"

    def start(self) -> None:
        if self.pid:
            raise RuntimeError("this broker runs already")
        binary = self.find_binary()
        try:
            self._make_folders()
        except OSError as problem:
            raise InfrastructureError(f"no place for the broker's data: {problem}") from None
        if self.port:
            self._start_on(binary, self.port)
            return
        for _ in range(PORTS_TRIED):
            port = free_port()
            try:
                self._start_on(binary, port)
            except PortTaken:
                continue  # by another program, after we had looked
            self.port = port
            return
        raise InfrastructureError(f"no free port for the broker on {HOST}: {PORTS_TRIED} were tried")

    def stop(self) -> None:
        if self.pid:
            try:
                with self.connect(STOPPED_WITHIN_SECONDS) as connection:
                    connection.ask(
                        "SHUTDOWN", "NOSAVE"
                    )  # the append-only file has it all, and is synced first
            except TimeoutError:
                self.kill()  # stopped, or in an endless script
                return
            except (OSError, ReplyError):
                pass  # a closed connection is the answer to SHUTDOWN
            try:
                self._process.wait(STOPPED_WITHIN_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()
        self._forget()

    def kill(self) -> None:
        if self._process and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._forget()

    def restart(self) -> None:
        if self.data is None:
            raise RuntimeError("this broker was never started")
        self.stop()
        deadline = time.monotonic() + PORT_FREE_AGAIN_WITHIN_SECONDS
        while True:
            try:
                self._start_on(self.find_binary(), self.port)
                return
            except PortTaken:
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.02)

    def close(self) -> None:
        self.stop()
        if self._folder is not None:
            remove_folder(os.fsencode(self._folder), "-")
            janitor().forget_folder(self._folder)
            self._folder = self.data = None
            self.port = self._given_port or 0

    def add_user(self, name: str, prefix: str) -> Login:
        for word in (name, prefix):
            if not re.fullmatch(r"[A-Za-z0-9_.:{}/-]+", word):
                raise ValueError(f"{word!r} cannot stand in an access control list")
        if name == "default":
            raise ValueError("the user 'default' is the administrator")
        password = secrets.token_hex(16)
        rule = f"user {name} on #{_hash(password)} ~{prefix}* &{prefix}* {SUBMISSION_RIGHTS}"
        if self.pid:
            with self.connect() as connection:
                connection.ask("ACL", "SETUSER", name, "reset", *rule.split()[2:])
        self._users[name] = rule  # written to the ACL file at each start
        return Login(name, password)

    def clear(self, prefix: str) -> int:
        with self.connect() as connection:
            return clear_keys(connection, prefix)

    def connect(self, timeout_seconds: float = 5.0) -> Connection:
        """Open a connection as administrator, over the Unix socket."""
        connection = Connection.to_unix_socket(str(self._socket), timeout_seconds)
        try:
            connection.ask("AUTH", "default", self._password)
        except BaseException:
            connection.close()
            raise
        return connection

    # ---- where the binary comes from: a subclass says ----

    def find_binary(self) -> str:
        """Return the path of a program that can be run, or raise InfrastructureError."""
        if self._binary is None or not os.access(self._binary, os.X_OK):
            raise InfrastructureError(f"the broker's program cannot be run: {self._binary}")
        return str(self._binary)

    # ---- how it starts ----

    @property
    def _socket(self) -> pathlib.Path:
        return self._folder / "socket"

    def _make_folders(self) -> None:
        if self._folder is None:
            self._folder = temporary_folder("lab-broker-")
        self.data = self._given_data or self._folder
        self.data.mkdir(parents=True, exist_ok=True)

    def _start_on(self, binary: str, port: int) -> None:
        """Start the server on this port and return when it answers. PortTaken if it is."""
        try:
            self._write_settings(port)
            log_begins = self.log.stat().st_size if self.log.exists() else 0
            with open(self.log, "ab") as log:
                self._process = janitor().start_process(
                    [binary, str(self._folder / "server.conf")],
                    stdout=subprocess.DEVNULL,
                    stderr=log,
                    cwd=self.data,
                )
        except OSError as problem:
            raise InfrastructureError(f"the broker cannot be started: {problem}") from None
        try:
            self._wait_until_ready()
        except NotReady as problem:
            self.kill()
            raise why_it_ended(problem, port, self.log, log_begins) from None
        except BaseException:  # Ctrl-C
            self.kill()
            raise

    def _write_settings(self, port: int) -> None:
        self._socket.unlink(
            missing_ok=True
        )  # a killed server leaves it, and it would look like the new one's
        users = self._folder / "users.acl"
        _write_private(users, "\n".join(self._users.values()) + "\n")
        settings = f"""\
bind {HOST}
port {port}
unixsocket {quoted(self._socket)}
unixsocketperm 700
dir {quoted(self.data)}
logfile {quoted(self.log)}
aclfile {quoted(users)}
save ""
{APPENDONLY[self._appendonly]}
daemonize no
"""
        _write_private(self._folder / "server.conf", settings)

    def _wait_until_ready(self) -> None:
        """Ask each millisecond over the Unix socket: unlike a TCP port, it can be nobody else's."""
        deadline = time.monotonic() + READY_WITHIN_SECONDS
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise NotReady("it ended at once")
            try:
                with self.connect(max(0.1, deadline - time.monotonic())) as connection:
                    if connection.ask("PING") == "PONG":
                        self.kind, self.version = kind_and_version(connection.server_facts())
                        return
            except (OSError, ReplyError):  # no socket yet, nobody listening yet, or still loading the data
                pass
            time.sleep(0.001)
        raise NotReady(f"it did not answer within {READY_WITHIN_SECONDS:.0f} s")

    def _forget(self) -> None:
        if self._process is not None and self._process.poll() is not None:
            janitor().forget_process(self._process.pid)
            self._process = None


class NotReady(Exception):
    """A server that was started does not answer."""


class PortTaken(InfrastructureError):
    """Another program listens on the port."""


def free_port() -> int:
    """Choose a port of the loopback on which nobody listens, below those that systems give to clients.

    A client that tries to reach a dead broker on a port of the ephemeral range may be given this very port
    for its own end, be connected to itself, and keep the broker from coming back.
    """
    for _ in range(1000):
        port = random.SystemRandom().randrange(12_000, _first_ephemeral_port())
        if port_is_free(port):
            return port
    raise InfrastructureError(f"no free port on {HOST}")


def port_is_free(port: int) -> bool:
    """Tell whether a server could listen on this port of the loopback."""
    with socket.socket() as visitor:
        visitor.settimeout(0.5)
        if visitor.connect_ex((HOST, port)) == 0:
            return False  # on macOS, the bind below would succeed beside a listener on all addresses
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _first_ephemeral_port() -> int:
    try:
        low = int(pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        low = 32_768  # macOS begins at 49,152
    return min(low, 32_768) if low > 13_000 else 32_768


def quoted(path: str | os.PathLike) -> str:
    """The path as an argument in a configuration file."""
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'


def why_it_ended(what: object, port: int, log: pathlib.Path, begins: int) -> InfrastructureError:
    """Put into one line why a server did not start: what was seen, and what its log says from here on."""
    words = _last_words(log, begins)
    if re.search(r"address already in use|failed listening on port", words, re.IGNORECASE):
        return PortTaken(f"port {port} of {HOST} is taken by another program")
    if shutil.disk_usage(log.parent).free < DISK_FULL_BYTES:
        return InfrastructureError(f"the broker did not start: the disk that holds {log.parent} is full")
    return InfrastructureError(
        f"the broker did not start: {what}" + (f"; its log says: {words}" if words else "")
    )


def _last_words(log: pathlib.Path, begins: int) -> str:
    """Return the last lines that name trouble; if none does, the last one."""
    try:
        with open(log, "rb") as file:
            file.seek(begins)
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    said = [re.sub(r"^\d+:\w \d+ \w+ \d+ [\d:.]+ . ", "", line).strip() for line in lines]
    said = [
        line for line in said if line and not line.startswith("WARNING ")
    ]  # advice on the system's memory
    return " / ".join([line for line in said if TROUBLE.search(line)][-2:] or said[-1:])


def _write_private(path: pathlib.Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)


def _hash(password: str) -> str:
    return hashlib.sha256(password.encode()).hexdigest()
