"""What every broker offers, whichever program it is, and the few words of RESP that are needed to run one."""

import abc
import dataclasses
import re
import socket
import urllib.parse
from typing import Self

from labkit.resp import ReplyError, encode

ANSWER_WITHIN_SECONDS = 5.0


class InfrastructureError(Exception):
    """Something of ours, not of the submission, does not work. Its text is one line for the user."""


@dataclasses.dataclass(frozen=True)
class Login:
    """A user of the broker whose rights end at its own keys."""

    user: str
    password: str
    vhost: str = ""  # at a RabbitMQ: where these rights are


class Broker(abc.ABC):
    """A server that can be started and stopped, and killed where it is ours.

    `with EmbeddedValkey() as broker:` starts it, and on leaving ends it and removes its data.
    """

    kind: str = ""  # "valkey", "redis" or "rabbitmq"; known once started, like the version
    protocol: str = "redis"  # or "amqp"
    version: str = ""
    source: str  # "embedded", "on the PATH", "docker" or "by URL"
    host: str
    port: int
    can_kill: bool
    tls: bool = False  # whether what is said to it is encrypted

    @property
    @abc.abstractmethod
    def url(self) -> str:
        """The address with the administrator's credentials; for submissions, see url_for."""

    @abc.abstractmethod
    def start(self) -> None:
        """Start it; return when it answers. InfrastructureError if it does not."""

    @abc.abstractmethod
    def stop(self) -> None:
        """End it in an orderly way. Its data stay, for restart."""

    @abc.abstractmethod
    def kill(self) -> None:
        """End it with SIGKILL; return when it is dead. InfrastructureError where can_kill is false."""

    @abc.abstractmethod
    def restart(self) -> None:
        """Start it again on the same data and the same port; return when it answers."""

    @abc.abstractmethod
    def add_user(self, name: str, prefix: str) -> Login | None:
        """Add a user who may touch only keys and channels that begin with the prefix, and may not administer.

        None where the server is not ours to change. ValueError for a name or prefix with characters that
        mean something in an access control list.
        """

    @abc.abstractmethod
    def clear(self, prefix: str) -> int:
        """Delete the keys that begin with the prefix, and no others; return how many there were."""

    def close(self) -> None:
        """Stop it and remove what it left on disk."""
        self.stop()

    def url_for(self, login: Login | None) -> str:
        """The address for this user; without one, the administrator's."""
        return (
            self.url if login is None else f"redis://{login.user}:{login.password}@{self.host}:{self.port}/0"
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def __str__(self) -> str:
        return f"{self.kind} {self.version} ({self.source}, port {self.port})"


class Connection:
    """One connection that sends a command and waits for its reply.

    The clients for Python take 200 to 270 ms to import; starting a server needs these few lines of RESP.
    https://valkey.io/topics/protocol/
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._file = sock.makefile("rb")

    @classmethod
    def to_unix_socket(cls, path: str, timeout_seconds: float = ANSWER_WITHIN_SECONDS) -> "Connection":
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(timeout_seconds)
            sock.connect(path)
        except BaseException:
            sock.close()
            raise
        return cls(sock)

    @classmethod
    def to_port(cls, host: str, port: int, timeout_seconds: float = ANSWER_WITHIN_SECONDS) -> "Connection":
        return cls(socket.create_connection((host, port), timeout_seconds))

    def ask(self, *words: str | bytes | int):
        """Send one command, return its reply. ReplyError for an error, OSError if the connection ends."""
        self._sock.sendall(encode(*words))
        return self._reply()

    def _reply(self):
        line = self._file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionResetError("the server closed the connection")
        sign, rest = line[:1], line[1:-2]
        if sign == b"+":
            return rest.decode()
        if sign == b"-":
            raise ReplyError(rest.decode(errors="replace"))
        if sign == b":":
            return int(rest)
        if sign == b"$":
            return None if rest == b"-1" else self._file.read(int(rest) + 2)[:-2]
        if sign == b"*":
            return None if rest == b"-1" else [self._reply() for _ in range(int(rest))]
        raise ConnectionError(f"not a reply of Valkey or Redis: {line[:40]!r}")

    def server_facts(self) -> dict[str, str]:
        """Return what INFO server says."""
        lines = self.ask("INFO", "server").decode(errors="replace").splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)

    def close(self) -> None:
        self._file.close()
        self._sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception) -> None:
        self.close()


def kind_and_version(facts: dict[str, str]) -> tuple[str, str]:
    """Valkey keeps a redis_version for old clients, beside its own."""
    if "valkey_version" in facts:
        return "valkey", facts["valkey_version"]
    return "redis", facts.get("redis_version", "?")


def clear_keys(connection: Connection, prefix: str) -> int:
    """Delete the keys that begin with the prefix, some at a time, so that the server is never held up.

    ValueError for an empty prefix: that would be everything.
    """
    if not prefix:
        raise ValueError("clear needs a prefix: without one, every key would go")
    start = prefix.encode()
    pattern = re.sub(rb"([*?\[\]\\^-])", rb"\\\1", start) + b"*"
    deleted, cursor = 0, b"0"
    while True:
        cursor, keys = connection.ask("SCAN", cursor, "MATCH", pattern, "COUNT", 1000)
        keys = [key for key in keys if key.startswith(start)]
        if keys:
            deleted += connection.ask("UNLINK", *keys)
        if cursor == b"0":
            return deleted


def without_password(url: str) -> str:
    """The URL as it may be shown."""
    parts = urllib.parse.urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
