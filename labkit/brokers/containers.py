"""Valkey or Redis in a container of its own: the image and the limits that docker-compose.yml names, our settings."""

import contextlib
import socket
import time

from labkit.brokers import compose
from labkit.brokers.base import Connection, InfrastructureError, ReplyError, kind_and_version
from labkit.brokers.compose import DockerError, PortRefused, Service, docker
from labkit.brokers.server import (
    APPENDONLY,
    HOST,
    NotReady,
    OwnServer,
    PortTaken,
    why_it_ended,
)

SERVICES = {
    "valkey": Service("valkey", {"VALKEY_PORT": 6379}),
    "redis": Service("redis", {"REDIS_PORT": 6379}),
}
USERS = "/users.acl"  # in the container
READY_WITHIN_SECONDS = 30.0
STOP_SECONDS = 3  # then it is killed
LOOK_EVERY_SECONDS = 0.5  # whether it is still alive, while it does not answer
PORT_CLOSED_WITHIN_SECONDS = 5.0


class ContainerBroker(OwnServer):
    """A server in a container, which may be killed and started again on its data and its port."""

    source = "docker"

    def __init__(
        self, service: str = "valkey", *, appendonly: str = "always", port: int | None = None
    ) -> None:
        """Prepare a server; no container is made before start.

        service: "valkey" or "redis". port: of the loopback, by default a free one.
        """
        super().__init__(appendonly=appendonly, port=port)
        self._service = SERVICES[service]
        self._project: compose.Project | None = None
        self._container = ""
        self._running = False

    @property
    def pid(self) -> int | None:
        """The number of the server's process while it runs: inside of its container, it is the first."""
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
        if self._running:
            docker("stop", "-t", str(STOP_SECONDS), self._container)
            self._running = False

    def kill(self) -> None:
        if self._running:
            with contextlib.suppress(DockerError):  # it has ended by itself
                docker("kill", "--signal=KILL", self._container)
            self._running = False
            wait_until_closed(self._port)

    def close(self) -> None:
        project, self._project = self._project, None
        self._running = False
        try:
            if project is not None:
                self._remove_container(project)
        finally:
            if project is not None:
                compose.leave(project)
            super().close()

    def connect(self, timeout_seconds: float = 5.0) -> Connection:
        """Open a connection as administrator."""
        connection = Connection.to_port(self.host, self._port, timeout_seconds)
        try:
            connection.ask("AUTH", "default", self._password)
        except BaseException:
            connection.close()
            raise
        return connection

    def find_binary(self) -> str:
        """Return the server's name inside of its image."""
        return f"{self._service.name}-server"

    # ---- how it starts ----

    def _start_on(self, binary: str, port: int) -> None:
        if self._project is None:
            self._project = compose.join()
        try:
            if not self._container:
                self._create(binary, port)
            self._write_users()
            docker("start", self._container)
            self._running = True
            self._wait_until_ready()
        except PortRefused:
            if not self.port:
                self._remove_container(self._project)  # a container keeps the port that it was made with
            raise PortTaken(f"port {port} of {HOST} is taken by another program") from None
        except NotReady as problem:
            self._write_log()
            self.kill()
            raise why_it_ended(problem, port, self.log, 0) from None
        except BaseException:  # Ctrl-C
            self.kill()
            raise

    def _create(self, binary: str, port: int) -> None:
        [variable] = self._service.ports
        settings = [line.split() for line in APPENDONLY[self._appendonly].splitlines()]
        command = [binary, "--save", "", "--aclfile", USERS]
        command += [word for name, value in settings for word in (f"--{name}", value)]
        self._container = self._project.create(self._service, {variable: port}, command)
        self._port = port

    def _remove_container(self, project: compose.Project) -> None:
        container, self._container = self._container, ""
        if container:
            project.remove(container)

    def _write_users(self) -> None:
        """Lay the access control list into the container, before it starts: nobody finds it without the users."""
        users = self._folder / "users.acl"
        users.write_text("\n".join(self._users.values()) + "\n")
        users.chmod(0o644)  # the server has a user of its own in there; what it reads are hashes
        docker("cp", str(users), f"{self._container}:{USERS}")

    def _write_log(self) -> None:
        with contextlib.suppress(InfrastructureError):
            self.log.write_text(compose.log_of(self._container))

    def _wait_until_ready(self) -> None:
        """Ask over the port each few milliseconds; the engine listens there before the server does."""
        deadline = time.monotonic() + READY_WITHIN_SECONDS
        look_at = time.monotonic() + LOOK_EVERY_SECONDS
        while time.monotonic() < deadline:
            try:
                with self.connect(max(0.1, deadline - time.monotonic())) as connection:
                    if connection.ask("PING") == "PONG":
                        self.kind, self.version = kind_and_version(connection.server_facts())
                        return
            except (OSError, ReplyError):  # nobody listening yet, or still loading the data
                pass
            if time.monotonic() > look_at:
                if not compose.is_running(self._container):
                    self._running = False
                    raise NotReady("it ended at once")
                look_at = time.monotonic() + LOOK_EVERY_SECONDS
            time.sleep(0.005)
        raise NotReady(f"it did not answer within {READY_WITHIN_SECONDS:.0f} s")


def wait_until_closed(port: int) -> None:
    """Wait until a connection is refused: what the engine listens with goes a moment after the server."""
    deadline = time.monotonic() + PORT_CLOSED_WITHIN_SECONDS
    while time.monotonic() < deadline:
        with socket.socket() as visitor:
            if visitor.connect_ex((HOST, port)):
                return
        time.sleep(0.005)
