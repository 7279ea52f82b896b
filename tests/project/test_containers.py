"""Brokers in containers: what a kill leaves, what a submission may do, and that nothing of them is ever left."""

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import grading
import pika
import pytest
import redis

from labkit import course
from labkit.brokers import ContainerBroker, InfrastructureError, choose, choose_rabbitmq, compose
from labkit.brokers.amqp import WRITTEN_WITHIN_SECONDS
from labkit.brokers.compose import FILE, docker
from labkit.janitor import PROJECT_LABEL, Janitor

ROOT = pathlib.Path(__file__).resolve().parents[2]
PREFIX = "lab03:"
SERVICES = ("valkey", "redis")
GONE_WITHIN_SECONDS = 60
LISTINGS = (("ps", "-aq"), ("network", "ls", "-q"), ("volume", "ls", "-q"))


def not_here():
    """Why there can be no containers here; "" if there can."""
    try:
        compose.compose_command()
        images = [
            line.split()[1] for line in FILE.read_text().splitlines() if line.strip().startswith("image:")
        ]
        docker("image", "inspect", *images)
    except InfrastructureError as trouble:
        return str(trouble)
    return ""


@pytest.fixture(scope="session")
def engine():
    if reason := not_here():
        pytest.skip(f"no containers here: {reason}")


@pytest.fixture(params=SERVICES, scope="module")
def broker(engine, request):
    with ContainerBroker(request.param) as running:
        yield running


def things_of(project):
    """Containers, networks and volumes that carry the project's label."""
    mine = f"--filter=label={PROJECT_LABEL}={project}"
    return [thing for listing in LISTINGS for thing in docker(*listing, mine).split()]


def containers_of(project):
    return docker("ps", "-q", f"--filter=label={PROJECT_LABEL}={project}").split()


def projects():
    """The names of the projects of ours that have anything at the engine."""
    label = f'--format={{{{.Label "{PROJECT_LABEL}"}}}}'
    shown = [docker(*listing, label) for listing in (("ps", "-a"), ("network", "ls"), ("volume", "ls"))]
    return {name for name in " ".join(shown).split() if name.startswith("lab-")}


def wait_until(event, within=GONE_WITHIN_SECONDS):
    """Wait for the event; tell whether it came in time."""
    deadline = time.monotonic() + within
    while not event():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def command(*arguments, **options):
    """Run Python as a terminal would: in a process group of its own."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]),
        **options.pop("env", {}),
    }
    return subprocess.Popen(
        [sys.executable, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
        **options,
    )


# ---- what it is, and what a submission may do ----


def test_a_broker_says_what_the_server_in_its_container_is(broker):
    with redis.Redis.from_url(broker.url, decode_responses=True) as client:
        facts = client.info("server")
    assert broker.kind == ("valkey" if "valkey_version" in facts else "redis")
    assert broker.version == facts.get("valkey_version", facts["redis_version"])
    assert str(broker) == f"{broker.kind} {broker.version} (docker, port {broker.port})"


def test_the_name_chooses_the_server(engine):
    for name, kind in (("docker", "valkey"), ("docker-redis", "redis")):
        with choose(name) as running:
            assert running.kind == kind


def test_a_submission_works_with_its_own_keys_and_no_others(broker):
    login = broker.add_user("submission", PREFIX)
    with redis.Redis.from_url(broker.url_for(login), decode_responses=True) as client:
        client.lpush(PREFIX + "queue", "task 1")
        assert client.blmove(PREFIX + "queue", PREFIX + "mine", 1, "RIGHT", "LEFT") == "task 1"
        for refused in ("GET other:key", "FLUSHALL", "CONFIG GET *", "SHUTDOWN NOSAVE", "ACL LIST"):
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.execute_command(*refused.split())
    assert broker.clear(PREFIX) == 1


@pytest.mark.parametrize("credentials", ["", "default:@", ":submission@"])
def test_nobody_gets_in_without_the_password(broker, credentials):
    with (
        redis.Redis.from_url(f"redis://{credentials}{broker.host}:{broker.port}/0") as stranger,
        pytest.raises(redis.exceptions.AuthenticationError),
    ):
        stranger.ping()


def test_no_command_line_shows_a_password(broker):
    login = broker.add_user("submission", PREFIX)
    facts = docker("inspect", broker.container)
    assert broker.find_binary() in facts
    assert not any(
        login.password in facts or word in facts for word in [broker.url.split(":")[2].split("@")[0]]
    )


def test_its_port_is_open_on_the_loopback_only(broker):
    [published] = json.loads(docker("inspect", broker.container))[0]["NetworkSettings"]["Ports"].values()
    assert published == [{"HostIp": "127.0.0.1", "HostPort": str(broker.port)}]


def test_the_limits_are_those_of_the_compose_file(engine):
    with ContainerBroker() as of_compose, ContainerBroker() as made_alike:
        one, other = (json.loads(docker("inspect", each.container))[0] for each in (of_compose, made_alike))
    assert one["HostConfig"]["Memory"] == other["HostConfig"]["Memory"] == 256 * 1024 * 1024
    assert one["Config"]["Image"] == other["Config"]["Image"]
    assert one["Config"]["Labels"][PROJECT_LABEL] == other["Config"]["Labels"][PROJECT_LABEL]


# ---- kill, stop, restart ----


@pytest.mark.parametrize("service", SERVICES)
def test_a_killed_broker_comes_back_with_all_that_it_answered_and_its_users(engine, service):
    with (
        ContainerBroker(),
        ContainerBroker(service) as running,
    ):  # the first is compose's own, the other made alike
        login = running.add_user("submission", PREFIX)
        port, sent = running.port, 0
        for _ in range(3):
            client = redis.Redis.from_url(running.url_for(login), decode_responses=True)
            for _ in range(20):
                client.rpush(PREFIX + "queue", f"task {sent}")
                sent += 1
            running.kill()
            assert running.pid is None
            with pytest.raises(redis.exceptions.ConnectionError):
                client.ping()
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((running.host, running.port), 5)
            client.close()
            running.restart()
        assert running.port == port
        with redis.Redis.from_url(running.url_for(login), decode_responses=True) as client:
            found = client.lrange(PREFIX + "queue", 0, -1)
            assert found == [f"task {n}" for n in range(sent)], (
                f"{sent} were answered for, {len(found)} are there"
            )
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.get("other:key")


@pytest.mark.parametrize(("appendonly", "kept"), [("always", True), ("off", False)])
def test_an_orderly_stop_keeps_what_the_append_only_file_has(engine, appendonly, kept):
    with ContainerBroker(appendonly=appendonly) as running:
        with redis.Redis.from_url(running.url) as client:
            client.set("a", "1")
        running.stop()
        running.restart()
        with redis.Redis.from_url(running.url) as client:
            assert (client.get("a") == b"1") is kept


def test_kill_and_stop_of_a_broker_that_has_ended_do_no_harm(engine):
    with ContainerBroker() as running:
        docker("kill", "--signal=KILL", running.container)
        running.kill()
        running.stop()
        running.restart()
        assert running.pid


def test_two_brokers_of_a_project_do_not_meet(engine):
    with ContainerBroker() as one, ContainerBroker() as other:
        assert one.port != other.port
        with redis.Redis.from_url(one.url) as client:
            client.set("a", "1")
        with redis.Redis.from_url(other.url) as client:
            assert client.get("a") is None


# ---- RabbitMQ ----


def test_a_killed_rabbitmq_comes_back_with_what_it_confirmed_and_its_users(engine):
    with choose_rabbitmq("docker") as running:
        assert str(running) == f"rabbitmq {running.version} (docker, port {running.port})"
        running.add_vhost("room")
        address = pika.URLParameters(running.url_for(running.add_user("submission", "", "room")))
        channel = pika.BlockingConnection(address).channel()
        channel.confirm_delivery()
        channel.queue_declare("images", durable=True)
        channel.basic_publish("", "images", b"task 1", pika.BasicProperties(delivery_mode=2))
        time.sleep(WRITTEN_WITHIN_SECONDS)  # or the queue itself may be missing after the kill
        running.kill()
        with pytest.raises(pika.exceptions.AMQPError):
            channel.queue_declare("images", passive=True)
        running.restart()
        with contextlib.closing(pika.BlockingConnection(address)) as connection:
            assert connection.channel().queue_declare("images", passive=True).method.message_count == 1
        container = running.container
    assert not docker("ps", "-aq", f"--filter=id={container}")


# ---- nothing is left ----


def test_the_last_broker_takes_the_project_with_it(engine):
    program = """
from labkit.brokers import ContainerBroker
one, other = ContainerBroker(), ContainerBroker()
for step in (one.start, other.start, one.close, other.close):
    step()
    print(one.project or other.project, flush=True)
    input()
"""
    with command("-c", program, stdin=subprocess.PIPE) as parent:
        seen, project = [], ""
        for _ in range(4):
            project = parent.stdout.readline().strip() or project  # none when both are closed
            seen.append((len(containers_of(project)), bool(things_of(project))))
            parent.stdin.write("\n")
            parent.stdin.flush()
    assert seen == [(1, True), (2, True), (1, True), (0, False)], (
        "how many containers, and whether anything was there"
    )


HOLDS_TWO = """
import time
from labkit.brokers import ContainerBroker
one, other = ContainerBroker(), ContainerBroker()
one.start()
other.start()
print(one.project, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("name", ["SIGKILL", "SIGINT", "SIGTERM"])
def test_nothing_is_left_when_a_command_is_ended_by(engine, name):
    with command("-c", HOLDS_TWO, stderr=subprocess.DEVNULL) as parent:
        project = parent.stdout.readline().strip()
        assert len(containers_of(project)) == 2 and len(things_of(project)) > 2, "containers, and a network"
        os.killpg(parent.pid, getattr(signal, name))  # as the terminal does it: to the whole group
    assert wait_until(lambda: not things_of(project)), f"these outlived {name}: {things_of(project)}"


def test_there_is_no_moment_at_which_a_killed_command_leaves_a_container(engine):
    """Kill the command at many moments while compose and the engine are at work for it."""
    program = """
import time
from labkit.brokers import compose, containers
broker = containers.ContainerBroker()
project = compose.join()
print(project.name, flush=True)
broker.start()
containers.ContainerBroker().start()
"""
    killed = []
    for moment in range(8):
        with command("-c", program, stderr=subprocess.DEVNULL) as parent:
            killed.append(parent.stdout.readline().strip())
            time.sleep(moment * 0.35)  # 0 to 2.5 s: before, during and after; this is what varies
            parent.kill()
    assert all(name.startswith("lab-") for name in killed)
    left = lambda: [thing for project in killed for thing in things_of(project)]  # noqa: E731
    assert wait_until(lambda: not left()), left()


@pytest.mark.parametrize("name", ["SIGKILL", "SIGINT"])
def test_a_grading_that_is_ended_leaves_no_container(engine, name, tmp_path):
    before = projects()
    check = ["-m", "labkit", "check", "3", "--submission", str(course.lab(3).solution)]
    with command(
        *check, "--brokers", "docker", "--results", str(tmp_path), stderr=subprocess.DEVNULL
    ) as parent:
        several = lambda: [each for each in projects() - before if len(containers_of(each)) > 1]  # noqa: E731
        assert wait_until(several), "there were never a shared broker and a private one at the same time"
        ours = projects() - before
        os.killpg(parent.pid, getattr(signal, name))
    assert wait_until(lambda: not ours & projects()), f"these outlived {name}: {ours & projects()}"


def test_a_project_that_is_not_ours_is_never_watched():
    for name in ("", "thesis", "lab-", "lab-12345678x", "lab-1234567*", "lab-12345678\nproject thesis"):
        with pytest.raises(ValueError, match="will not remove"):
            Janitor().watch_project(name)


# ---- what goes wrong, in one line ----


def test_a_taken_port_is_said_in_one_line(engine):
    with socket.create_server(("127.0.0.1", 0)) as taker:
        port = taker.getsockname()[1]
        broker = ContainerBroker(port=port)
        with pytest.raises(
            InfrastructureError, match=rf"^port {port} of 127.0.0.1 is taken by another program$"
        ):
            broker.start()
        broker.close()


def test_a_server_that_dies_at_boot_is_quoted(engine):
    with ContainerBroker() as running:
        running.stop()
        running._users["broken"] = "user broken on +no-such-command"
        with pytest.raises(InfrastructureError, match=r"^the broker did not start: .*no-such-command"):
            running.restart()


@pytest.mark.parametrize("missing", ["the command", "the engine", "compose"])
def test_what_is_missing_is_said_in_one_line(missing, tmp_path):
    programs = {
        "the engine": "echo Cannot connect to the Docker daemon at unix:///run/docker.sock. >&2; exit 1",
        "compose": '[ "$1" = version ] && echo 28.0',
    }
    if missing in programs:
        (tmp_path / "docker").write_text(f"#!/bin/sh\n{programs[missing]}\n")
        (tmp_path / "docker").chmod(0o755)
    check = ["-m", "labkit", "check", "1", "--submission", str(course.lab(1).solution), "--brokers", "docker"]
    with command(
        *check, "--results", str(tmp_path / "results"), stderr=subprocess.PIPE, env={"PATH": str(tmp_path)}
    ) as ran:
        printed, complaint = ran.communicate(timeout=60)
    assert ran.returncode == 3, printed
    assert "Traceback" not in printed + complaint
    says = {
        "the command": "there is no docker command: install Docker",
        "the engine": "no Docker engine answers: start Docker",
        "compose": "there is neither `docker compose` nor docker-compose",
    }[missing]
    assert printed.count(says) == 1, printed


# ---- gradings ----


@pytest.mark.parametrize(("brokers", "kind"), [("docker", "valkey"), ("docker-redis", "redis")])
def test_a_grading_runs_on_containers_and_records_the_server(engine, brokers, kind, tmp_path):
    lab = course.lab(3)
    wanted = grading.with_those_before(lab, "a_killed_broker_loses_nothing")
    result = grading.grade(lab, lab.solution, tmp_path, wanted, brokers)
    assert not [check for check in result["checks"] if check["outcome"] != "passed"]
    assert result["broker"]["kind"] == kind
    assert result["broker"]["version"][0].isdigit()


def test_the_option_of_lab_test_reaches_the_gradings():
    """With a broker that does not exist: its refusal can only come from a grading."""
    lab_test = ["-m", "labkit", "test", "--brokers", "no-such-broker", "tests/project/test_graders.py"]
    with command(*lab_test, "-q", "-k", "test_the_solution_passes and lab01", cwd=ROOT) as ran:
        printed, _ = ran.communicate(timeout=120)
    assert "no broker 'no-such-broker'" in printed, printed
