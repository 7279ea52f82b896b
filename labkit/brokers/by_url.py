"""Somebody's server, given by its URL: it is used, never started, stopped, flushed or changed."""

import socket
import ssl
import urllib.parse

from labkit.brokers.base import (
    Broker,
    Connection,
    InfrastructureError,
    ReplyError,
    clear_keys,
    kind_and_version,
    without_password,
)

SCHEMES = ("redis", "rediss", "valkey")
ANSWER_WITHIN_SECONDS = 5.0


class BrokerByUrl(Broker):
    """A Valkey or Redis that others may be using as well: only keys under a prefix are ever touched."""

    source = "by URL"
    can_kill = False

    def __init__(self, url: str) -> None:
        """ValueError if this is not a redis://, rediss:// or valkey:// URL."""
        try:
            parts = urllib.parse.urlsplit(url)
            self.host, self.port = parts.hostname or "localhost", parts.port or 6379
            self._database = int(parts.path.strip("/") or 0)
        except ValueError:
            raise ValueError(f"not a broker's URL: {without_password(url)}") from None
        if parts.scheme not in SCHEMES:
            raise ValueError(f"a broker's URL begins with {', '.join(f'{scheme}://' for scheme in SCHEMES)}")
        self.tls = parts.scheme == "rediss"
        self._user = urllib.parse.unquote(parts.username or "")
        self._password = urllib.parse.unquote(parts.password or "")
        # redis-py knows no valkey://; both clients know redis://
        self._url = parts._replace(scheme="rediss" if self.tls else "redis").geturl()

    @property
    def url(self) -> str:
        return self._url

    def start(self) -> None:
        shown = without_password(self._url)
        try:
            with self.connect() as connection:
                if connection.ask("PING") != "PONG":
                    raise InfrastructureError(f"what answers at {shown} is neither Valkey nor Redis")
                self.kind, self.version = kind_and_version(connection.server_facts())
        except (OSError, ReplyError, ValueError) as problem:
            raise InfrastructureError(f"no broker answers at {shown}: {problem}") from None

    def stop(self) -> None:
        """Do nothing: it was there before us."""

    def kill(self) -> None:
        raise InfrastructureError("a broker given by URL is not ours to kill")

    def restart(self) -> None:
        raise InfrastructureError("a broker given by URL is not ours to restart")

    def add_user(self, name: str, prefix: str) -> None:
        """Add nobody: no access control list is changed on a server that is not ours."""

    def clear(self, prefix: str) -> int:
        with self.connect() as connection:
            return clear_keys(connection, prefix)

    def connect(self) -> Connection:
        """Open a connection as the user of the URL, in its database."""
        sock = socket.create_connection((self.host, self.port), ANSWER_WITHIN_SECONDS)
        try:
            if self.tls:
                sock = ssl.create_default_context().wrap_socket(sock, server_hostname=self.host)
        except BaseException:
            sock.close()
            raise
        connection = Connection(sock)
        try:
            if self._password:
                connection.ask("AUTH", *filter(None, (self._user, self._password)))
            if self._database:
                connection.ask("SELECT", self._database)
        except BaseException:
            connection.close()
            raise
        return connection
