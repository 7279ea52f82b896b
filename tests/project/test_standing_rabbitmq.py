"""The RabbitMQ of `./lab broker up 6`: one of it, found again, its data kept. It starts slowly: tests share it."""

import os
import pathlib
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.request

import pika
import pytest

from labkit import standing_rabbitmq as standing
from labkit.brokers import InfrastructureError, choose_rabbitmq, free_port
from labkit.brokers.rabbitmq import RabbitMQ
from labkit.brokers.rabbitmq_program import find_program
from labkit.commands import broker as command
from labkit.janitor import is_running

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A place for a standing broker with a blank in its path, on ports that are not the student's."""
    place = tmp_path_factory.mktemp("standing") / "my course" / ".lab" / "rabbitmq"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(standing, "FOLDER", place)
        patch.setattr(standing, "PREFERRED_PORT", free_port())
        patch.setattr(standing, "PREFERRED_MANAGEMENT_PORT", free_port())
        yield place
        patch.setattr(standing, "STOPPED_WITHIN_SECONDS", 3)  # then it is killed: nobody needs these data
        standing.down(place)


@pytest.fixture
def broker(folder):
    """The standing RabbitMQ; started for the first test, and after one that has ended it."""
    try:
        return standing.up(folder)
    except InfrastructureError as problem:
        if "not installed" in str(problem):
            pytest.skip(str(problem))
        raise


def connected(broker):
    parameters = pika.URLParameters(broker.url)
    parameters.heartbeat = 0
    return pika.BlockingConnection(parameters)


def wait_until(event, within=5):
    """Wait for the event; tell whether it came in time."""
    deadline = time.monotonic() + within
    while not event():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def test_two_ups_at_once_start_one_that_outlives_them_and_their_terminals(folder):
    if find_program() is None:
        pytest.skip("RabbitMQ is not installed")
    assert standing.status(folder) is None
    assert standing.down(folder) is False
    program = f"""
import os, signal, sys
from labkit import standing_rabbitmq as standing
standing.PREFERRED_PORT = {standing.PREFERRED_PORT}
standing.PREFERRED_MANAGEMENT_PORT = {standing.PREFERRED_MANAGEMENT_PORT}
print(flush=True)
sys.stdin.readline()
broker = standing.up({str(folder)!r})
print(broker.pid, broker.started, flush=True)
os.killpg(0, signal.SIGHUP)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environment}
    commands = [
        subprocess.Popen([sys.executable, "-c", program], start_new_session=True, **options) for _ in range(2)
    ]
    for each in commands:
        each.stdout.readline()  # both are ready before the first begins
    for each in commands:
        each.stdin.write("now\n")
        each.stdin.flush()
    said = [each.communicate(timeout=60)[0].split() for each in commands]
    assert len({pid for pid, _ in said}) == 1, f"two commands at once, these nodes: {said}"
    assert sorted(started for _, started in said) == ["False", "True"]
    found = standing.status(folder)
    assert found.pid == int(said[0][0])
    assert found.port == standing.PREFERRED_PORT


def test_it_tells_who_it_is_and_keeps_its_password_to_itself(broker, folder):
    user, password = broker.url.removeprefix("amqp://").split("@")[0].split(":")
    assert user == "lab"
    assert broker.url == f"amqp://lab:{password}@127.0.0.1:{broker.port}/%2F"
    for file in folder.rglob("*"):
        if file.is_file() and password.encode() in file.read_bytes():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, f"everybody may read {file.name}"
    with urllib.request.urlopen(broker.pages) as page:
        assert b"RabbitMQ Management" in page.read()


def test_it_listens_on_the_loopback_only(broker):
    pages = int(broker.pages.split(":")[2].strip("/"))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        try:
            asker.connect(("192.0.2.1", 9))  # sends nothing: only asks which address would be used
        except OSError:
            pytest.skip("this machine has no other address")
        outside = asker.getsockname()[0]
    for port in (broker.port, pages):
        with socket.socket() as visitor, pytest.raises(ConnectionRefusedError):
            visitor.settimeout(5)
            visitor.connect((outside, port))


def test_checks_do_not_take_it_for_theirs(broker, monkeypatch):
    """They kill a broker of their own; this one holds what the student is trying out."""
    monkeypatch.setenv("AMQP_URL", broker.url)
    assert isinstance(choose_rabbitmq("embedded"), RabbitMQ)
    other = broker.url.replace(str(broker.port), str(broker.port + 1))
    monkeypatch.setenv("AMQP_URL", other)
    assert choose_rabbitmq("embedded").url == other


def test_one_that_hangs_is_named_and_one_that_was_killed_is_not_taken_for_running(
    broker, folder, monkeypatch
):
    monkeypatch.setattr(standing, "ANSWER_WITHIN_SECONDS", 0.3)
    os.kill(broker.pid, signal.SIGSTOP)
    try:
        with pytest.raises(InfrastructureError, match=r"runs but does not answer .*broker down 6"):
            standing.status(folder)
    finally:
        os.kill(broker.pid, signal.SIGKILL)
    assert standing._Place(folder).wait_until_ended(5)
    with subprocess.Popen(["sleep", "600"]) as another:
        (folder / "server.pid").write_text(f"{another.pid}\n")
        assert standing.status(folder) is None
        assert standing.down(folder) is False
        assert another.poll() is None, "down ended a program that is not the broker"
        another.kill()


def test_the_commands_say_what_they_do_and_the_data_are_kept(broker, folder, capsys):
    with connected(broker) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.queue_declare("tasks", durable=True)
        channel.basic_publish("", "tasks", b"task 1", pika.BasicProperties(delivery_mode=2))
    assert command.run("up", "rabbitmq") == 0
    said = capsys.readouterr()
    assert said.out == f"export AMQP_URL={broker.url}\n"
    assert f"RabbitMQ is up; in a browser: {broker.pages}" in said.err
    assert command.run("status", "rabbitmq") == 0
    assert broker.url in capsys.readouterr().out

    assert command.run("down", "rabbitmq") == 0
    assert not is_running(broker.pid)
    assert command.run("down", "rabbitmq") == 0
    assert command.run("status", "rabbitmq") == 0
    assert capsys.readouterr().out.splitlines() == [
        "RabbitMQ was stopped; its data are kept.",
        "RabbitMQ was not running.",
        "RabbitMQ is not running. Start it: ./lab broker up 6",
    ]

    with socket.create_server(("127.0.0.1", broker.port)):
        assert command.run("up", "rabbitmq") == 0, "a taken port is passed over"
    again = standing.status(folder)
    assert again.port != broker.port
    assert capsys.readouterr().out == f"export AMQP_URL={again.url}\n"
    with connected(again) as connection:
        assert connection.channel().basic_get("tasks")[2] == b"task 1"


def test_a_lost_password_is_said_in_one_line(tmp_path):
    (tmp_path / "data" / "lab@localhost").mkdir(parents=True)
    with pytest.raises(InfrastructureError, match=r"^the password of the RabbitMQ in .* is lost: remove "):
        standing.up(tmp_path)


def test_what_is_no_broker_is_refused_in_one_line(capsys):
    assert command.run("up", "kafka") == 2
    assert command.run("sideways", "rabbitmq") == 2
    assert capsys.readouterr().err.splitlines() == [
        "lab: no broker 'kafka': say a lab's number, valkey or rabbitmq.",
        "lab: broker knows up, down and status, not 'sideways'.",
    ]
