"""A RabbitMQ as the course sees it, wherever it runs; and the few bytes of AMQP 0-9-1 that tell whether one answers."""

import abc
import io
import socket
import ssl
import struct
import urllib.parse

from labkit.brokers.base import Broker, Login

PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
METHOD_FRAME, FRAME_END = 1, b"\xce"
CONNECTION_START = (10, 10)
LONGEST_GREETING = 128 * 1024
WRITTEN_WITHIN_SECONDS = (
    2.5  # what was declared: RabbitMQ 3.x, killed sooner, may come back without the queue
)


class AmqpBroker(Broker):
    """A broker in which virtual hosts keep one check's queues from the other's."""

    protocol = "amqp"

    @abc.abstractmethod
    def start_in_background(self) -> None:
        """Begin to start it and return at once; wait_ready says how it went."""

    @abc.abstractmethod
    def wait_ready(self) -> None:
        """Return when it answers. InfrastructureError if it does not. For any number of threads."""

    @abc.abstractmethod
    def add_vhost(self, name: str) -> None:
        """Add a virtual host. Nothing is done where the server is not ours to change."""

    @abc.abstractmethod
    def remove_vhost(self, name: str) -> None:
        """Remove a virtual host with all that is in it."""

    @abc.abstractmethod
    def add_user(self, name: str, prefix: str, vhost: str = "/", password: str | None = None) -> Login | None:
        """Add a user who may touch only what is named with the prefix in this virtual host.

        He may publish to the default exchange as well, and have tasks dead-lettered through it. An empty prefix is
        the whole virtual host. None where the server is not ours to change.
        """

    def url_of(self, vhost: str) -> str:
        """The address of a virtual host, with the administrator's credentials."""
        return urllib.parse.urlsplit(self.url)._replace(path=f"/{_percent(vhost)}").geturl()

    def url_for(self, login: Login | None) -> str:
        """The address for this user; without one, the administrator's."""
        if login is None:
            return self.url
        return amqp_url(login.user, login.password, self.host, self.port, login.vhost)


def amqp_url(user: str, password: str, host: str, port: int, vhost: str) -> str:
    return f"amqp://{_percent(user)}:{_percent(password)}@{host}:{port}/{_percent(vhost)}"


def _percent(word: str) -> str:
    return urllib.parse.quote(word, safe="")


def greet(host: str, port: int, timeout_seconds: float, *, tls: bool = False) -> dict[str, str]:
    """Ask for AMQP 0-9-1 and return what the server says of itself, such as {"product": "RabbitMQ", "version": …}.

    No client library is needed for it: importing pika takes 110 ms. OSError if nobody answers, ConnectionError
    if the answer is not AMQP's. https://www.rabbitmq.com/amqp-0-9-1-protocol
    """
    with socket.create_connection((host, port), timeout_seconds) as sock:
        if tls:
            sock = ssl.create_default_context().wrap_socket(sock, server_hostname=host)
        sock.sendall(PROTOCOL_HEADER)
        with sock, sock.makefile("rb") as answer:
            return _server_properties(_read_start(answer))


def _read_start(answer: io.BufferedReader) -> io.BytesIO:
    """Read the first frame, which is connection.start, as far as its server properties."""
    kind, _, size = struct.unpack(">BHL", _exactly(answer, 7))
    if kind != METHOD_FRAME or size > LONGEST_GREETING:
        raise ConnectionError("what answers does not speak AMQP 0-9-1")
    frame = io.BytesIO(_exactly(answer, size))
    if struct.unpack(">HH", _exactly(frame, 4)) != CONNECTION_START or _exactly(answer, 1) != FRAME_END:
        raise ConnectionError("what answers does not greet as AMQP 0-9-1 does")
    frame.seek(2, io.SEEK_CUR)  # the protocol's version
    return frame


def _server_properties(frame: io.BytesIO) -> dict[str, str]:
    """Read a table of the protocol, as far as its values are texts or tables; return the texts."""
    texts = {}
    table = io.BytesIO(_long_string(frame))
    while name := table.read(1):
        name = _exactly(table, name[0]).decode(errors="replace")
        kind = _exactly(table, 1)
        if kind not in (b"S", b"F"):
            break
        value = _long_string(table)
        if kind == b"S":
            texts[name] = value.decode(errors="replace")
    return texts


def _long_string(data: io.BytesIO) -> bytes:
    return _exactly(data, struct.unpack(">L", _exactly(data, 4))[0])


def _exactly(data: io.BufferedReader | io.BytesIO, size: int) -> bytes:
    found = data.read(size)
    if len(found) != size:
        raise ConnectionResetError("the server closed the connection")
    return found
