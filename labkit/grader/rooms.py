"""A room at RabbitMQ for each check: a virtual host, and a user who may touch nothing outside it."""

import secrets
import time
from concurrent.futures import Future, ThreadPoolExecutor

from labkit.brokers import Broker


class Room:
    """The scenes of one check share it. It is made in the background, since the broker may still be starting."""

    def __init__(self, broker: Broker, name: str, pool: ThreadPoolExecutor) -> None:
        self.broker, self.name = broker, name
        self._password = secrets.token_hex(16)
        self.ready_at = 0.0  # by the monotonic clock; 0 until it is
        self.ready: Future[None] = pool.submit(self._make)

    def _make(self) -> None:
        self.broker.wait_ready()
        if self.broker.can_kill:
            self.broker.add_vhost(self.name)
            self.broker.add_user(self.name, "", self.name, self._password)
        self.ready_at = time.monotonic()

    def wait(self) -> None:
        """Return when it is there.

        Raises:
            InfrastructureError: the broker did not start.
        """
        self.ready.result()

    @property
    def url(self) -> str:
        """The room's address at the broker, for a submission."""
        if not self.broker.can_kill:
            return self.broker.url
        return f"amqp://{self.name}:{self._password}@{self.broker.host}:0/{self.name}"

    @property
    def administrator_url(self) -> str:
        """The same, for the grader."""
        return self.broker.url_of(self.name) if self.broker.can_kill else self.broker.url
