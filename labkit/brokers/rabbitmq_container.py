"""RabbitMQ in a container of its own: the image and the limits that docker-compose.yml names."""

import contextlib
import time

from labkit.brokers import compose
from labkit.brokers.amqp import greet
from labkit.brokers.base import InfrastructureError
from labkit.brokers.compose import DockerError, PortRefused, Service, docker
from labkit.brokers.containers import wait_until_closed
from labkit.brokers.rabbitmq import (
    ADMINISTRATOR,
    ANSWER_WITHIN_SECONDS,
    RabbitMQ,
    why_it_ended,
)
from labkit.brokers.rabbitmq_settings import STATISTICS_EVERY_MS
from labkit.brokers.server import HOST, PortTaken

SERVICE = Service("rabbitmq", {"RABBITMQ_PORT": 5672, "RABBITMQ_MANAGEMENT_PORT": 15672})
READY_WITHIN_SECONDS = 180.0
STOP_SECONDS = 15  # then it is killed
LOOK_EVERY_SECONDS = 0.1


class RabbitMQContainer(RabbitMQ):
    """A node in a container, which may be killed and started again on its data and its ports."""

    source = "docker"

    def __init__(self, *, port: int | None = None) -> None:
        """Prepare a node; no container is made before start. port: of the loopback, by default a free one."""
        super().__init__(SERVICE.name, port=port, install=False)
        self._project: compose.Project | None = None
        self._container = ""
        self._running = False

    @staticmethod
    def can_be_made() -> bool:
        """Whether this machine has containers, and the node's image or a way to it. A pull is told of on stderr."""
        return compose.has_image(SERVICE.name)

    @property
    def pid(self) -> int | None:
        """The number of the node's first process while it runs: inside of its container, it is 1."""
        return 1 if self._running else None

    @property
    def container(self) -> str:
        """The container's id; "" before start and after close."""
        return self._container

    @property
    def project(self) -> str:
        """The name of the compose project that the container belongs to; "" before start and after close."""
        return self._project.name if self._project else ""

    def stop(self) -> None:
        if self._boot and self._boot.goes_on():
            self.kill()
        elif self._running:
            docker("stop", "-t", str(STOP_SECONDS), self._container)
            self._running = False

    def kill(self) -> None:
        with self._lock:
            if self._boot:
                self._boot.unwanted.set()
            self._kill_container()
        if self._boot:
            self._boot.wait_until_over()

    def close(self) -> None:
        super().close()
        project, self._project = self._project, None
        if project is None:
            return
        container, self._container = self._container, ""
        try:
            if container:
                project.remove(container)
        finally:
            compose.leave(project)

    # ---- how it starts: all this in the thread of the boot ----

    def _start_on_ports(self, boot) -> None:
        """Start the container, return when the node answers. PortTaken if a port is."""
        first = not self._has_administrator
        try:
            with self._lock:
                boot.stop_if_unwanted()
                if self._project is None:
                    self._project = compose.join()
                if not self._container:
                    self._create()
                docker("start", self._container)
                self._running = True
            self._wait_until_it_answers(boot, (0, 0))
        except PortRefused:
            if first:  # a container keeps the ports that it was made with
                container, self._container = self._container, ""
                self._project.remove(container)
            raise PortTaken(
                f"port {self.port} of {HOST}, or the one for management, is taken by another program"
            ) from None
        except BaseException:
            with self._lock:
                self._kill_container()
            raise
        self._has_administrator = True

    def _create(self) -> None:
        self._container = self._project.create(
            SERVICE,
            {"RABBITMQ_PORT": self.port, "RABBITMQ_MANAGEMENT_PORT": self.management_port},
            [],
            {
                "RABBITMQ_DEFAULT_USER": ADMINISTRATOR,
                "RABBITMQ_DEFAULT_PASS": self._password,
                # as for a node of ours
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"-rabbit collect_statistics_interval {STATISTICS_EVERY_MS}",
            },
        )

    def _wait_until_it_answers(self, boot, said: tuple[int, int]) -> None:
        deadline = time.monotonic() + READY_WITHIN_SECONDS
        look_at = time.monotonic()
        while time.monotonic() < deadline:
            boot.stop_if_unwanted()
            with contextlib.suppress(OSError):  # the engine listens before the node does, and hangs up
                greeting = greet(self.host, self.port, ANSWER_WITHIN_SECONDS)
                if self.api().listens_on(SERVICE.ports["RABBITMQ_PORT"]):  # only ours knows the password
                    self.version = greeting.get("version", "?")
                    return
            if time.monotonic() > look_at:
                if not compose.is_running(self._container):
                    raise self._why("it ended at once")
                look_at = time.monotonic() + 1
            boot.unwanted.wait(LOOK_EVERY_SECONDS)
        raise self._why(f"it did not answer within {READY_WITHIN_SECONDS:.0f} s")

    def _why(self, what: str) -> InfrastructureError:
        with contextlib.suppress(DockerError):
            self._files.output.write_text(compose.log_of(self._container))
        return why_it_ended(what, self.port, self._files, (0, 0))

    def _kill_container(self) -> None:
        if self._running:
            with contextlib.suppress(DockerError):  # it has ended by itself
                docker("kill", "--signal=KILL", self._container)
            self._running = False
            wait_until_closed(self.port)
