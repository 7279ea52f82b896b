"""A compose project of this process's own: containers from docker-compose.yml under a random name.

All containers of a process belong to one project. Compose makes the first one of a service; the others are made after
its model with a plain `docker create`, under the same label: compose itself, if it is the older one written in Python,
takes a second of the processor for each. What carries the label is removed when nobody needs the project any more, or
when this process is no more, in whatever way it ended.
"""

import contextlib
import dataclasses
import functools
import json
import os
import pathlib
import re
import secrets
import shutil
import subprocess
import sys
import threading

from labkit.brokers.base import InfrastructureError
from labkit.janitor import PROJECT_LABEL, janitor, remove_project, temporary_folder

FILE = pathlib.Path(__file__).resolve().parents[2] / "docker-compose.yml"
HOST = "127.0.0.1"
ANSWER_WITHIN_SECONDS = 60.0
PULLED_WITHIN_SECONDS = 900.0  # an image that is not here yet is pulled first

TAKEN = ("port is already allocated", "address already in use", "ports are not available")
UNREACHABLE = ("cannot connect to the docker daemon", "permission denied", "is the docker daemon running")


class DockerError(InfrastructureError):
    """The engine refused something, or there is none. Its text is one line for the user."""


class PortRefused(DockerError):
    """The engine could not publish a container's port: another program has it."""


@dataclasses.dataclass(frozen=True)
class Service:
    """A service of docker-compose.yml.

    ports: the variable with which the file lets each port be chosen, and the port inside the container.
    """

    name: str
    ports: dict[str, int]


def docker(*arguments: str, environment: dict[str, str] | None = None) -> str:
    """Run the docker command; return what it prints. DockerError, in its own words, if it fails."""
    return _call(["docker", *arguments], environment, ANSWER_WITHIN_SECONDS)[0]


def is_running(container: str) -> bool:
    """Tell whether a container's program runs."""
    return docker("inspect", "--format={{.State.Running}}", container).strip() == "true"


def log_of(container: str) -> str:
    """The last lines that a container has printed."""
    return "".join(_call(["docker", "logs", "--tail", "50", container], None, ANSWER_WITHIN_SECONDS))


@functools.cache
def compose_command() -> tuple[str, ...]:
    """Return how compose is called here: `docker compose`, or `docker-compose` where that is missing.

    DockerError where there is neither, or no engine that answers.
    """
    if shutil.which("docker") is None:
        raise DockerError("there is no docker command: install Docker, or leave --brokers out")
    docker("version", "--format", "{{.Server.Version}}")
    with contextlib.suppress(DockerError):
        docker("compose", "version")
        return ("docker", "compose")
    if shutil.which("docker-compose") is None:
        raise DockerError("there is neither `docker compose` nor docker-compose: install one of them")
    return ("docker-compose",)


def has_image(service: str) -> bool:
    """Whether there is an engine here, and the image of this service, or it could be pulled just now."""
    if shutil.which("docker") is None:
        return False
    try:
        compose_command()
        image = _image(service)
        if not docker("image", "ls", "--quiet", image).strip():
            print(f"Pulling {image}; once a machine.", file=sys.stderr, flush=True)
            _call(["docker", "pull", "--quiet", image], None, PULLED_WITHIN_SECONDS)
    except DockerError:
        return False
    return True


def _image(service: str) -> str:
    """The image that docker-compose.yml names for this service."""
    return re.search(rf"^  {service}:\n(?:    .*\n)*?    image: (\S+)", FILE.read_text(), re.MULTILINE)[1]


class Project:
    """One compose project. Safe to use from several threads."""

    def __init__(self) -> None:
        self.name = f"lab-{secrets.token_hex(4)}"
        self.members = 0
        self._compose = compose_command()
        self._models: dict[
            str, dict
        ] = {}  # a service, and what the engine says of the container compose made
        self._lock = threading.Lock()
        janitor().watch_project(self.name)

    def create(
        self,
        service: Service,
        published: dict[str, int],
        command: list[str],
        environment: dict[str, str] | None = None,
    ) -> str:
        """Make a container of this service, not started yet, with data of its own; return its id.

        published: the variables of the service's ports, and for each the port of the loopback that it gets.
        command: what runs in it, in place of what docker-compose.yml says.
        """
        with self._lock:
            if service.name not in self._models:
                container = self._create_by_compose(service, published, command, environment or {})
                self._models[service.name] = json.loads(docker("inspect", container))[0]
                return container
        return self._create_alike(service, published, command, environment or {})

    def remove(self, container: str) -> None:
        """Remove a container and its data, running or not."""
        docker("rm", "--force", "--volumes", container)

    def take_down(self) -> None:
        """Remove all that belongs to the project: containers, volumes, networks."""
        remove_project(self.name)
        janitor().forget_project(self.name)

    def _create_by_compose(
        self, service: Service, published: dict[str, int], command: list[str], environment: dict[str, str]
    ) -> str:
        ours = {"healthcheck": {"interval": "24h"}, "environment": environment}  # it is asked over its port
        if command:
            ours["command"] = command
        folder = temporary_folder()
        try:
            changes = folder / "changes.json"
            changes.touch(mode=0o600)
            changes.write_text(json.dumps({"services": {service.name: ours}}))
            # Every variable that the file requires has a value, or it is refused: none of these is used.
            unused = {f"{name}_PASSWORD": secrets.token_hex(16) for name in ("VALKEY", "RABBITMQ")}
            _call(
                [*self._compose, "--project-name", self.name, "--file", str(FILE), "--file", str(changes),
                 "up", "--no-start", service.name],
                unused | {name: str(port) for name, port in published.items()},
                PULLED_WITHIN_SECONDS,
            )  # fmt: skip
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            janitor().forget_folder(folder)
        labels = f"{PROJECT_LABEL}={self.name}", f"com.docker.compose.service={service.name}"
        return docker(
            "ps", "--all", "--quiet", "--no-trunc", *(f"--filter=label={each}" for each in labels)
        ).strip()

    def _create_alike(
        self, service: Service, published: dict[str, int], command: list[str], environment: dict[str, str]
    ) -> str:
        model = self._models[service.name]
        limits = model["HostConfig"]
        options = [
            f"--label={PROJECT_LABEL}={self.name}",
            f"--label=com.docker.compose.service={service.name}",
            "--label=com.docker.compose.oneoff=True",
            f"--memory={limits['Memory']}",
            *(f"--ulimit={each['Name']}={each['Soft']}:{each['Hard']}" for each in limits["Ulimits"] or ()),
            *(f"--volume={mount['Destination']}" for mount in model["Mounts"]),
            *(f"--publish={HOST}:{port}:{service.ports[name]}" for name, port in published.items()),
            *(f"--env={name}" for name in environment),  # the values are not for the list of processes
        ]
        return docker("create", *options, model["Config"]["Image"], *command, environment=environment).strip()


_guard = threading.Lock()
_project: Project | None = None
_owner = 0  # the process that made it: a forked child has none


def join() -> Project:
    """Return this process's project, making it if there is none. DockerError where there can be none."""
    global _project, _owner
    with _guard:
        if _project is None or _owner != os.getpid():
            _project, _owner = Project(), os.getpid()
        _project.members += 1
        return _project


def leave(project: Project) -> None:
    """Have no more need of it; the last one takes it down."""
    global _project
    with _guard:
        project.members -= 1
        if not project.members:
            project.take_down()
            if _project is project:
                _project = None


def _call(command: list[str], environment: dict[str, str] | None, within_seconds: float) -> tuple[str, str]:
    """Run a command that ends when this process does; return its output and its complaints."""
    # docker-compose is a Python program itself: it is not to find our packages in place of its own
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    process = janitor().start_process(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=inherited | (environment or {}),
    )
    try:
        printed, complaint = process.communicate(timeout=within_seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise DockerError(f"`{' '.join(command[:2])} …` did not end within {within_seconds:.0f} s") from None
    except BaseException:  # Ctrl-C
        process.kill()
        process.communicate()
        raise
    finally:
        janitor().forget_process(process.pid)
    if process.returncode:
        raise _trouble(command, complaint)
    return printed, complaint


def _trouble(command: list[str], complaint: str) -> DockerError:
    """Put into one line why a command failed."""
    said = [line.strip() for line in complaint.splitlines() if line.strip()]
    words = next(
        (line for line in said if "error" in line.lower()), said[-1] if said else "it did not say why"
    )
    if any(phrase in complaint.lower() for phrase in TAKEN):
        return PortRefused(words)
    if any(phrase in complaint.lower() for phrase in UNREACHABLE):
        return DockerError(f"no Docker engine answers: start Docker, then try again ({words})")
    return DockerError(f"docker could not do its part ({' '.join(command[:2])}): {words}")
