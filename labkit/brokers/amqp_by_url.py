"""Somebody's RabbitMQ, given by its URL: it is used, never started, stopped or changed."""

import urllib.parse

from labkit.brokers.amqp import AmqpBroker, greet
from labkit.brokers.base import InfrastructureError, without_password

PORTS = {"amqp": 5672, "amqps": 5671}
ANSWER_WITHIN_SECONDS = 5.0


class AmqpByUrl(AmqpBroker):
    """A broker that others may be using as well: no virtual host and no user is added to it."""

    source = "by URL"
    can_kill = False

    def __init__(self, url: str) -> None:
        """ValueError if this is not an amqp:// or amqps:// URL."""
        try:
            parts = urllib.parse.urlsplit(url)
            if parts.scheme not in PORTS:
                raise ValueError
            self.host, self.port = parts.hostname or "localhost", parts.port or PORTS[parts.scheme]
        except ValueError:
            raise ValueError(f"not a RabbitMQ's URL: {without_password(url)}") from None
        self.tls = parts.scheme == "amqps"
        self._url = url

    @property
    def url(self) -> str:
        return self._url

    def start(self) -> None:
        shown = without_password(self._url)
        try:
            greeting = greet(self.host, self.port, ANSWER_WITHIN_SECONDS, tls=self.tls)
        except OSError as problem:
            raise InfrastructureError(f"no RabbitMQ answers at {shown}: {problem}") from None
        self.kind = greeting.get("product", "?").lower()
        self.version = greeting.get("version", "?")

    def start_in_background(self) -> None:
        """Do nothing: wait_ready asks."""

    def wait_ready(self) -> None:
        if not self.version:
            self.start()

    def stop(self) -> None:
        """Do nothing: it was there before us."""

    def kill(self) -> None:
        raise InfrastructureError("a broker given by URL is not ours to kill")

    def restart(self) -> None:
        raise InfrastructureError("a broker given by URL is not ours to restart")

    def add_vhost(self, name: str) -> None:
        """Add nothing: the virtual host is that of the URL."""

    def remove_vhost(self, name: str) -> None:
        """Remove nothing."""

    def add_user(self, name: str, prefix: str, vhost: str = "/", password: str | None = None) -> None:
        """Add nobody: the user is that of the URL."""

    def url_of(self, vhost: str) -> str:
        return self._url

    def clear(self, prefix: str) -> int:
        """Nobody but who made the queues knows what is in them: each run deletes its own."""
        return 0
