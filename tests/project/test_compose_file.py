"""docker-compose.yml as a student uses it: what it says, and, where there is an engine, what it brings up."""

import os
import re
import secrets
import shutil
import subprocess
import time

import pika
import pytest
import redis
from test_containers import engine, things_of  # noqa: F401  (a fixture)

from labkit.brokers import compose, free_port
from labkit.brokers.compose import FILE, docker
from labkit.course import ROOT
from labkit.janitor import janitor

HEALTHY_WITHIN_SECONDS = 180  # RabbitMQ on a busy machine
PORTS = ("VALKEY_PORT", "REDIS_PORT", "RABBITMQ_PORT", "RABBITMQ_MANAGEMENT_PORT")
PASSWORDS = ("VALKEY_PASSWORD", "RABBITMQ_PASSWORD")


def services():
    """The text of each service, by its name: what is indented below it."""
    text = FILE.read_text().partition("\nservices:\n")[2].partition("\nvolumes:\n")[0]
    parts = re.split(r"^  (\w+):$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


# ---- what it says ----


def test_it_has_three_services_and_no_version_line():
    assert set(services()) == {"valkey", "redis", "rabbitmq"}
    assert not re.search(r"^version:", FILE.read_text(), re.MULTILINE)


@pytest.mark.parametrize(
    ("service", "image"),
    [("valkey", r"valkey/valkey:9\.\d+\.\d+"), ("redis", r"redis:8\.\d+\.\d+"),
     ("rabbitmq", r"rabbitmq:4\.\d+\.\d+-management")],
)  # fmt: skip
def test_images_are_pinned(service, image):
    assert re.search(rf"^    image: {image}(-alpine)?$", services()[service], re.MULTILINE)


@pytest.mark.parametrize("service", services())
def test_each_service_has_a_health_check_a_memory_limit_and_a_named_volume(service):
    said = services()[service]
    assert re.search(r"^    mem_limit: \d+m$", said, re.MULTILINE)
    assert re.search(r"^    healthcheck:\n      test: \[", said, re.MULTILINE)
    assert f"- {service}-data:/" in said
    assert "check_port_connectivity" in said or "ping | grep -q PONG" in said


@pytest.mark.parametrize("service", services())
def test_ports_are_on_the_loopback_and_can_be_changed(service):
    published = re.search(r"^    ports:\n((?:      - .*\n)+)", services()[service], re.MULTILINE)[1].split(
        "- "
    )[1:]
    for port in published:
        assert re.fullmatch(r"127\.0\.0\.1:\$\{[A-Z_]+_PORT:-\d+\}:\d+", port.strip()), port


def test_no_password_is_in_the_open():
    text = FILE.read_text() + (ROOT / ".env.example").read_text()
    assert "guest" not in text
    for name in PASSWORDS:
        assert f"\n{name}=\n" in text, "the example has no value: whoever copies it chooses one"
        assert f"${{{name}:-" not in text, "a default would be everybody's password"


def test_passwords_are_written_once(tmp_path):
    (tmp_path / ".devcontainer").mkdir()
    script = shutil.copy(ROOT / ".devcontainer" / "passwords.sh", tmp_path / ".devcontainer")
    shutil.copy(ROOT / ".env.example", tmp_path)
    for _ in range(2):
        subprocess.run(["sh", script], cwd="/", check=True, capture_output=True)
        written = (tmp_path / ".env").read_text()
        found = dict(re.findall(r"^(\w+)=(.+)$", written, re.MULTILINE))
        assert set(found) == set(PASSWORDS)
        assert all(re.fullmatch(r"[0-9a-f]{32}", word) for word in found.values())
        assert len(set(found.values())) == 2
    (tmp_path / ".env").write_text("mine")
    subprocess.run(["sh", script], cwd="/", check=True, capture_output=True)
    assert (tmp_path / ".env").read_text() == "mine", "whose passwords were overwritten?"
    assert not [
        path for path in tmp_path.iterdir() if path.name not in (".devcontainer", ".env", ".env.example")
    ]


# ---- what it brings up ----


@pytest.fixture
def project(engine, tmp_path):  # noqa: F811
    """A project of its own, with a copy of the file: beside the course's there may be somebody's .env."""
    shutil.copy(FILE, tmp_path)
    name = f"lab-{secrets.token_hex(4)}"
    janitor().watch_project(name)
    yield Project(name, tmp_path)
    compose.remove_project(name)
    janitor().forget_project(name)
    assert not things_of(name)


class Project:
    def __init__(self, name, folder):
        self.name, self.folder = name, folder
        self.settings = {each: str(free_port()) for each in PORTS} | {
            each: secrets.token_hex(8) for each in PASSWORDS
        }

    def call(self, *words, **changed):
        """Run compose as a student would: (status, what it printed and complained)."""
        environment = {
            k: v
            for k, v in os.environ.items()
            if not k.startswith(("COMPOSE_", "VALKEY_", "RABBITMQ_", "PYTHON"))
        }
        environment |= {k: v for k, v in (self.settings | changed).items() if v is not None}
        ran = subprocess.run(
            [*compose.compose_command(), "-p", self.name, *words],
            cwd=self.folder, env=environment, capture_output=True, text=True, timeout=HEALTHY_WITHIN_SECONDS,
        )  # fmt: skip
        return ran.returncode, ran.stdout + ran.stderr

    def health(self):
        ids = docker("ps", "-q", f"--filter=label=com.docker.compose.project={self.name}").split()
        return docker("inspect", "--format={{.State.Health.Status}}", *ids).split() if ids else []

    def wait_until_healthy(self, count):
        deadline = time.monotonic() + HEALTHY_WITHIN_SECONDS
        while self.health() != ["healthy"] * count:
            assert time.monotonic() < deadline, (self.health(), self.call("logs", "--tail", "5")[1])
            time.sleep(0.2)

    def redis(self, port="VALKEY_PORT", **options):
        return redis.Redis(
            port=int(self.settings[port]), password=self.settings["VALKEY_PASSWORD"], **options
        )


@pytest.mark.parametrize("missing", PASSWORDS)
def test_without_a_password_it_says_what_to_do(project, missing):
    status, said = project.call("up", "-d", **{missing: None})
    assert status
    assert "sh .devcontainer/passwords.sh" in said
    assert not things_of(project.name)


def test_healthy_means_that_connections_are_accepted_and_data_outlive_the_containers(project):
    status, said = project.call("up", "-d", "valkey")
    assert status == 0, said
    project.wait_until_healthy(1)
    with project.redis() as client:
        assert client.config_get("appendonly") == {"appendonly": "yes"}
        client.set("task", "kept")
    stranger = redis.Redis(port=int(project.settings["VALKEY_PORT"]))
    with stranger, pytest.raises(redis.exceptions.AuthenticationError):
        stranger.ping()
    assert project.call("down")[0] == 0
    assert project.call("up", "-d", "valkey")[0] == 0
    project.wait_until_healthy(1)
    with project.redis() as client:
        assert client.get("task") == b"kept"


def test_redis_comes_with_its_profile_and_rabbitmq_as_it_is(project):
    status, said = project.call("--profile", "redis", "up", "-d")
    assert status == 0, said
    project.wait_until_healthy(3)
    with project.redis("REDIS_PORT") as client:
        assert "valkey_version" not in client.info("server")
    parameters = {"host": "127.0.0.1", "port": int(project.settings["RABBITMQ_PORT"])}
    ours = pika.PlainCredentials("lab", project.settings["RABBITMQ_PASSWORD"])
    pika.BlockingConnection(pika.ConnectionParameters(**parameters, credentials=ours)).close()
    with pytest.raises(pika.exceptions.AMQPError):
        pika.BlockingConnection(pika.ConnectionParameters(**parameters))  # as guest
