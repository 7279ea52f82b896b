"""The broker of `./lab broker up`: one of it, found again, its data kept."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import pytest
import redis

from labkit import standing
from labkit.brokers import InfrastructureError, free_port
from labkit.janitor import is_running

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A place for a standing broker, on a port that is not the student's."""
    monkeypatch.setattr(standing, "PREFERRED_PORT", free_port())
    place = tmp_path / ".lab" / "broker"
    yield place
    standing.down(place)


def client(broker):
    return redis.Redis.from_url(broker.url, decode_responses=True)


def wait_until(event, within=5):
    """Wait for the event; tell whether it came in time."""
    deadline = time.monotonic() + within
    while not event():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def test_up_up_status_down_up_keeps_the_data(folder):
    assert standing.status(folder) is None
    assert standing.down(folder) is False

    first = standing.up(folder)
    assert first.started
    assert first.port == standing.PREFERRED_PORT
    assert first.url == f"redis://127.0.0.1:{first.port}/0"
    with client(first) as connection:
        connection.rpush("queue", "task 1", "task 2")
        assert connection.info("server")["process_id"] == first.pid

    second = standing.up(folder)
    assert not second.started
    assert second.pid == first.pid
    assert standing.status(folder) == second

    assert standing.down(folder) is True
    assert not is_running(first.pid)
    assert standing.status(folder) is None

    third = standing.up(folder)
    assert third.started
    assert third.port == first.port
    with client(third) as connection:
        assert connection.lrange("queue", 0, -1) == ["task 1", "task 2"]


def test_it_outlives_the_command_that_started_it_and_the_closing_of_its_terminal(folder):
    program = f"""
import os, signal
from labkit import standing
standing.PREFERRED_PORT = {standing.PREFERRED_PORT}
print(standing.up({str(folder)!r}).pid, flush=True)
os.killpg(0, signal.SIGHUP)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    options = {"stdout": subprocess.PIPE, "text": True, "env": environment, "start_new_session": True}
    with subprocess.Popen([sys.executable, "-c", program], **options) as command:
        said, _ = command.communicate(timeout=20)  # the server does not hold the command's output open
        assert command.returncode == -signal.SIGHUP
    assert standing.up(folder).pid == int(said)


def test_two_ups_at_once_start_one_server(folder):
    program = f"""
import sys
from labkit import standing
standing.PREFERRED_PORT = {standing.PREFERRED_PORT}
print(flush=True)
sys.stdin.readline()
broker = standing.up({str(folder)!r})
print(broker.pid, broker.started)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environment}
    commands = [subprocess.Popen([sys.executable, "-c", program], **pipes) for _ in range(4)]
    for command in commands:
        command.stdout.readline()  # all are ready before the first begins
    for command in commands:
        command.stdin.write("now\n")
        command.stdin.flush()
    said = [command.communicate(timeout=30)[0].split() for command in commands]
    assert len({pid for pid, _ in said}) == 1, f"four commands at once, these servers: {said}"
    assert [started for _, started in said].count("True") == 1


def test_a_taken_port_is_passed_over_and_the_other_one_is_remembered(folder):
    with socket.create_server(("127.0.0.1", standing.PREFERRED_PORT)):
        first = standing.up(folder)
        assert first.port != standing.PREFERRED_PORT
        standing.down(folder)
    assert standing.up(folder).port == first.port


def test_a_broker_that_was_killed_is_not_taken_for_running(folder):
    first = standing.up(folder)
    os.kill(first.pid, signal.SIGKILL)
    assert standing.status(folder) is None, "it is dying, or dead"
    again = standing.up(folder)
    assert again.started
    assert again.pid != first.pid


def test_a_stale_process_number_of_another_program_is_not_taken_for_ours(folder):
    first = standing.up(folder)
    os.kill(first.pid, signal.SIGKILL)
    assert wait_until(lambda: not is_running(first.pid))
    with subprocess.Popen(["sleep", "600"]) as another:
        (folder / "server.pid").write_text(f"{another.pid}\n")
        assert standing.status(folder) is None
        assert standing.down(folder) is False
        assert another.poll() is None, "down ended a program that is not the broker"
        another.kill()


def test_another_server_on_the_remembered_port_is_not_taken_for_ours(folder, tmp_path):
    stranger = standing.up(tmp_path / "other")
    try:
        first = standing.up(folder)
        state = folder / "state.json"
        state.write_text(json.dumps({"port": stranger.port}))
        with pytest.raises(InfrastructureError, match=r"another server answers"):
            standing.status(folder)
        assert standing.down(folder) is True
        assert not is_running(first.pid)
        assert is_running(stranger.pid)
    finally:
        standing.down(tmp_path / "other")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"port": "x"}', '{"port": 0}'])
def test_a_damaged_state_file_does_no_harm(folder, content):
    standing.up(folder)
    standing.down(folder)
    (folder / "state.json").write_text(content)
    assert standing.status(folder) is None
    assert standing.up(folder).started


def test_a_broker_that_hangs_is_named_and_down_ends_it(folder, monkeypatch):
    monkeypatch.setattr(standing, "ANSWER_WITHIN_SECONDS", 0.3)
    monkeypatch.setattr(standing, "STOPPED_WITHIN_SECONDS", 0.5)
    first = standing.up(folder)
    os.kill(first.pid, signal.SIGSTOP)
    for command in (standing.up, standing.status):
        with pytest.raises(InfrastructureError, match=r"runs but does not answer"):
            command(folder)
    monkeypatch.setattr(standing, "STOPPED_WITHIN_SECONDS", 1)
    assert standing.down(folder) is True
    assert wait_until(lambda: not is_running(first.pid))


def test_a_folder_deeper_than_any_socket_path_will_do(tmp_path, monkeypatch):
    monkeypatch.setattr(standing, "PREFERRED_PORT", free_port())
    folder = tmp_path / ("deep " * 30) / "b"
    assert standing.up(folder).started
    assert standing.down(folder)


def test_it_listens_on_the_loopback_only(folder):
    with client(standing.up(folder)) as connection:
        assert connection.config_get("bind")["bind"] == "127.0.0.1"


def test_what_keeps_it_from_starting_is_said_in_one_line(folder):
    standing.up(folder)
    standing.down(folder)
    next((folder / "data").rglob("*.incr.aof")).write_text("this is no command\n")
    with pytest.raises(InfrastructureError, match=r"^the broker did not start: .*Bad file format.*$"):
        standing.up(folder)
    assert standing.status(folder) is None
    blocked = folder / "server.log" / "broker"
    with pytest.raises(InfrastructureError, match=r"^the broker cannot be started: .*"):
        standing.up(blocked)
