"""The private RabbitMQ: what a submission may do on it, what a kill leaves, where it listens, where it comes from."""

import contextlib
import http.client
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time

import pika
import pika.exceptions
import pytest

from labkit import installing
from labkit.brokers import (
    InfrastructureError,
    choose_rabbitmq,
    compose,
    free_port,
    rabbitmq_install,
    rabbitmq_program,
)
from labkit.brokers.amqp import WRITTEN_WITHIN_SECONDS, amqp_url
from labkit.brokers.amqp_by_url import AmqpByUrl
from labkit.brokers.rabbitmq import RabbitMQ
from labkit.brokers.rabbitmq_api import ManagementApi
from labkit.brokers.rabbitmq_container import RabbitMQContainer
from labkit.brokers.rabbitmq_program import find_program, link_needed_plugins
from labkit.commands import test as lab_test
from labkit.janitor import is_running

ROOT = pathlib.Path(__file__).resolve().parents[2]
PREFIX = "lab06:"
LINUX = pytest.mark.skipif(not os.path.exists("/proc/net/tcp"), reason="reads Linux's /proc")


def started(node):
    """Start a node, or skip where none can be had."""
    try:
        node.start()
    except InfrastructureError as problem:
        node.close()
        if "not installed" in str(problem):
            pytest.skip(str(problem))
        raise
    return node


@pytest.fixture(scope="module")
def broker():
    node = started(RabbitMQ())
    yield node
    node.close()


@pytest.fixture
def vhost(broker, request):
    """A virtual host of the test's own."""
    name = f"test {request.node.name}"
    broker.add_vhost(name)
    yield name
    broker.remove_vhost(name)


@pytest.fixture
def login(broker, vhost):
    return broker.add_user("submission", PREFIX, vhost)


@pytest.fixture
def submission(broker, login):
    with connected(broker.url_for(login)) as connection:
        yield connection


@pytest.fixture
def admin(broker, vhost):
    with connected(broker.url_of(vhost)) as connection:
        yield connection


def connected(url):
    parameters = pika.URLParameters(url)
    parameters.heartbeat = 0
    return pika.BlockingConnection(parameters)


def confirming(connection):
    channel = connection.channel()
    channel.confirm_delivery()
    return channel


def wait_until(event, within=5.0):
    """Wait for the event; tell whether it came in time."""
    deadline = time.monotonic() + within
    while not event():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def processes_of(pid):
    """The process and all its descendants."""
    found = [pid]
    for each in found:
        for listing in pathlib.Path(f"/proc/{each}/task").glob("*/children"):
            with contextlib.suppress(OSError):  # the node asks for the disk's space by short-lived ones
                found += map(int, listing.read_text().split())
    return found


def listeners_of(pids):
    """Addresses (in the kernel's hexadecimal) and ports on which these processes listen."""
    inodes = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            for descriptor in pathlib.Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    inodes.add(os.readlink(descriptor).removeprefix("socket:[").removesuffix("]"))
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for row in map(str.split, pathlib.Path(table).read_text().splitlines()[1:]):
            if row[3] == "0A" and row[9] in inodes:
                address, port = row[1].split(":")
                found.add((address, int(port, 16)))
    return found


# ---- what it is, where it listens ----


def test_it_says_what_it_is(broker):
    assert (broker.kind, broker.protocol, broker.source) == ("rabbitmq", "amqp", "on the PATH")
    assert broker.can_kill
    assert broker.version == broker.api().get("overview")["rabbitmq_version"]
    assert str(broker) == f"rabbitmq {broker.version} (on the PATH, port {broker.port})"
    broker.wait_ready()  # again, and from anywhere


@LINUX
def test_it_listens_on_two_ports_of_the_loopback_and_nowhere_else(broker):
    processes = processes_of(broker.pid)
    assert len(processes) > 1, "Erlang starts a helper for ports; is this the node's process?"
    assert listeners_of(processes) == {("0100007F", broker.port), ("0100007F", broker.management_port)}


@LINUX
def test_it_starts_no_epmd(broker):
    """One that is started now and then, by a node that looks for it, would be nobody's child and stay forever."""
    name = broker.api().get("whoami")["name"]
    assert name == "administrator"
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            program = (folder / "comm").read_text().strip()
            environment = (folder / "environ").read_bytes()
        except OSError:
            continue
        assert not (program == "epmd" and os.fsencode(broker.folder) in environment)


def test_nobody_gets_in_without_the_password(broker):
    for user, password in [("guest", "guest"), ("administrator", "administrator"), ("", "")]:
        with pytest.raises(pika.exceptions.AMQPConnectionError):
            connected(amqp_url(user, password, broker.host, broker.port, "/"))
        stranger = http.client.HTTPConnection(broker.host, broker.management_port)
        stranger.request("GET", "/api/whoami")
        assert stranger.getresponse().status == 401
        stranger.close()


def test_no_file_or_command_line_shows_a_password(broker, login):
    administrator = broker.url.split(":")[2].split("@")[0]
    processes = subprocess.run(["ps", "-axewwo", "args="], capture_output=True, check=True).stdout
    seen = [processes, *(file.read_bytes() for file in broker.folder.rglob("*") if file.is_file())]
    assert len(seen) > 5
    for password in (login.password, administrator):
        assert not any(password.encode() in text for text in seen)


# ---- what a submission may do ----


def test_a_submission_works_with_its_own_queues(submission):
    channel = confirming(submission)
    dead = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": PREFIX + "images.dead"}
    channel.queue_declare(PREFIX + "images", durable=True, arguments=dead)
    channel.queue_declare(PREFIX + "images.dead", durable=True)
    channel.basic_publish("", PREFIX + "images", b"task 1", mandatory=True)
    method, _, body = channel.basic_get(PREFIX + "images")
    assert body == b"task 1"
    channel.basic_reject(method.delivery_tag, requeue=False)
    letters = channel.consume(PREFIX + "images.dead", inactivity_timeout=5, auto_ack=True)
    assert next(letters)[2] == b"task 1", "it was not dead-lettered through the default exchange"
    channel.cancel()
    channel.queue_purge(PREFIX + "images")
    channel.queue_delete(PREFIX + "images")


REFUSED = {
    "declare": lambda channel: channel.queue_declare("other", durable=True),
    "declare a prefix without its colon": lambda channel: channel.queue_declare("lab06", durable=True),
    "get": lambda channel: channel.basic_get("other"),
    "consume": lambda channel: channel.basic_consume("other", print),
    "purge": lambda channel: channel.queue_purge("other"),
    "delete": lambda channel: channel.queue_delete("other"),
    "publish to another exchange": lambda channel: channel.basic_publish("amq.fanout", "", b""),
    "declare an exchange": lambda channel: channel.exchange_declare("other"),
    "dead-letter into another exchange": lambda channel: channel.queue_declare(
        PREFIX + "images", arguments={"x-dead-letter-exchange": "amq.fanout"}
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_submission_is_refused(submission, admin, what):
    owner = confirming(admin)
    owner.queue_declare("other", durable=True)
    owner.basic_publish("", "other", b"somebody's")
    with pytest.raises(pika.exceptions.ChannelClosedByBroker, match=r"ACCESS_REFUSED"):
        REFUSED[what](confirming(submission))
    assert owner.queue_declare("other", passive=True).method.message_count == 1


def test_a_submission_enters_no_other_virtual_host_and_administers_nothing(broker, login):
    other = broker.url_for(login).rpartition("/")[0] + "/%2F"
    with pytest.raises(pika.exceptions.ProbableAccessDeniedError):
        connected(other)
    mine = ManagementApi(broker.host, broker.management_port, login.user, login.password, 5)
    with pytest.raises(InfrastructureError, match=r": 401 "):
        mine.get("whoami")


def test_a_user_without_a_prefix_has_his_whole_virtual_host(broker, vhost):
    login = broker.add_user("all of it", "", vhost, "p@ss/word")
    assert login.password == "p@ss/word"
    with connected(broker.url_for(login)) as connection:
        confirming(connection).queue_declare("any name", durable=True)
    assert [queue["name"] for queue in broker.queues(vhost)] == ["any name"]


def test_the_counts_of_queues_are_soon_right(broker, vhost, admin):
    channel = confirming(admin)
    channel.queue_declare("tasks", durable=True, arguments={"x-message-ttl": 60_000})
    for _ in range(3):
        channel.basic_publish("", "tasks", b"task")
    channel.basic_get("tasks")
    counts = lambda queue: (queue["messages_ready"], queue["messages_unacknowledged"])  # noqa: E731
    assert wait_until(lambda: [counts(queue) for queue in broker.queues(vhost)] == [(2, 1)]), broker.queues(
        vhost
    )
    assert broker.queues(vhost)[0]["arguments"] == {"x-message-ttl": 60_000}


def test_clear_deletes_only_queues_that_begin_with_the_prefix(broker, vhost, admin):
    for name in ("run.1 a", "run.1 b", "runs", "run-1"):
        confirming(admin).queue_declare(name, durable=True)
    assert broker.clear("run.1") == 2
    assert sorted(queue["name"] for queue in broker.queues(vhost)) == ["run-1", "runs"]
    with pytest.raises(ValueError, match=r"prefix"):
        broker.clear("")


def test_virtual_hosts_come_and_go_many_at_once(broker):
    names = [f"many {number}" for number in range(8)]
    for action in (broker.add_vhost, broker.remove_vhost):
        threads = [threading.Thread(target=action, args=(name,)) for name in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        there = {vhost["name"] for vhost in broker.api().get("vhosts")} & set(names)
        assert there == (set(names) if action == broker.add_vhost else set())
    broker.remove_vhost("never added")


def test_what_the_api_refuses_is_said_in_one_line(broker):
    with pytest.raises(InfrastructureError, match=r"^RabbitMQ refused PUT /api/permissions/none/.*: 400"):
        broker.add_user("nobody", PREFIX, "none")
    with pytest.raises(ValueError, match=r"cannot be called 'administrator'"):
        broker.add_user("administrator", PREFIX)


def test_each_part_of_an_address_is_encoded():
    assert amqp_url("a b", "p@:/", "h", 1, "/") == "amqp://a%20b:p%40%3A%2F@h:1/%2F"


# ---- kill, stop, restart ----


def test_what_was_confirmed_is_there_after_a_kill_and_after_a_stop(broker, vhost, login):
    ports = broker.port, broker.management_port
    sent = 0
    for end in (broker.kill, broker.stop):
        connection = connected(broker.url_for(login))
        channel = confirming(connection)
        channel.queue_declare(PREFIX + "images", durable=True)
        for _ in range(20):
            persistent = pika.BasicProperties(delivery_mode=2)
            channel.basic_publish("", PREFIX + "images", f"task {sent}".encode(), persistent)
            sent += 1
        time.sleep(WRITTEN_WITHIN_SECONDS)  # or the queue itself may be missing after the kill
        pid = broker.pid
        end()
        assert broker.pid is None
        assert not is_running(pid)
        with pytest.raises(pika.exceptions.AMQPError):
            channel.queue_declare(PREFIX + "images", passive=True)
        broker.restart()
        assert (broker.port, broker.management_port) == ports
    with connected(broker.url_for(login)) as connection:
        channel = confirming(connection)
        found = [channel.basic_get(PREFIX + "images")[2] for _ in range(sent)]
        assert found == [f"task {number}".encode() for number in range(sent)]
        with pytest.raises(pika.exceptions.ChannelClosedByBroker, match=r"ACCESS_REFUSED"):
            channel.queue_declare("other")


def test_closing_while_it_boots_is_quick_and_clean():
    node = RabbitMQ(install=False)
    node.start_in_background()
    said = []
    waiter = threading.Thread(target=lambda: said.append(_complaint(node.wait_ready)))
    waiter.start()
    assert wait_until(lambda: node.pid or not waiter.is_alive())
    if node.pid is None:
        pytest.skip(said[0])
    pid, folder = node.pid, node.folder
    processes = processes_of(pid) if os.path.exists("/proc/self/task") else [pid]
    begun = time.monotonic()
    node.close()
    assert time.monotonic() - begun < 2
    waiter.join(5)
    assert said == ["the broker was ended while it was starting"]
    assert not folder.exists()
    assert wait_until(lambda: not any(map(is_running, processes)))
    node.close()


def _complaint(action):
    try:
        action()
    except InfrastructureError as problem:
        return str(problem)


@LINUX
def test_nothing_outlives_a_command_that_is_killed(broker):
    program = """
from labkit.brokers.rabbitmq import RabbitMQ
broker = RabbitMQ()
broker.start()
print(broker.pid, broker.folder, flush=True)
input()
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environment}
    with subprocess.Popen([sys.executable, "-c", program], **pipes) as command:
        pid, folder = command.stdout.readline().split()
        processes = processes_of(int(pid))
        assert len(processes) > 1
        command.kill()
    assert wait_until(lambda: not any(map(is_running, processes))), [
        pid for pid in processes if is_running(pid)
    ]
    assert wait_until(lambda: not os.path.exists(folder))


# ---- what goes wrong, in one line ----


@pytest.mark.parametrize("when", ["before", "while it boots"])
def test_a_taken_port_is_said_in_one_line(broker, when, monkeypatch):
    if when == "while it boots":
        monkeypatch.setattr("labkit.brokers.rabbitmq.port_is_free", lambda port: True)
    node = RabbitMQ(port=broker.port)
    with pytest.raises(
        InfrastructureError, match=rf"^port {broker.port} of 127.0.0.1, .* is taken by another"
    ):
        node.start()
    assert node.pid is None
    node.close()


def test_a_node_that_dies_at_boot_is_quoted(tmp_path):
    failing = tmp_path / "rabbitmq-server"
    failing.write_text("#!/bin/sh\necho 'ERROR: could not read the cookie, this failed' >&2\nexit 1\n")
    failing.chmod(0o755)
    node = RabbitMQ(str(failing))
    with pytest.raises(InfrastructureError, match=r"^the broker did not start: .*could not read the cookie"):
        node.start()
    node.close()


def test_what_is_not_there_can_not_be_started(tmp_path):
    node = RabbitMQ(str(tmp_path / "nothing-here"))
    with pytest.raises(InfrastructureError, match=r"^the broker did not start: .*nothing-here"):
        node.start()
    node.close()


# ---- where it comes from ----


def test_debians_wrapper_is_passed_by(tmp_path, monkeypatch):
    """The wrapper insists on the system's own node, in the system's folders."""
    for place in ("bin", "lib/bin"):
        (tmp_path / place).mkdir(parents=True)
    real = tmp_path / "lib/bin/rabbitmq-server"
    for file in (real, real.with_name("rabbitmq-script-wrapper")):
        file.write_text("#!/bin/sh\n")
        file.chmod(0o755)
    (tmp_path / "bin/rabbitmq-server").symlink_to("../lib/bin/rabbitmq-script-wrapper")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert find_program() == str(real)
    real.unlink()
    assert find_program() is None


def test_a_copy_of_the_wrapper_is_passed_by(tmp_path, monkeypatch):
    """So it is in RabbitMQ's own packages; beside the real one lies what it reads its environment with."""
    for place in ("bin", "lib/bin"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "rabbitmq-server").write_text("#!/bin/sh\n")
        (tmp_path / place / "rabbitmq-server").chmod(0o755)
    (tmp_path / "lib/bin/rabbitmq-env").write_text("")
    monkeypatch.setattr(rabbitmq_program, "BEHIND_A_WRAPPER", tmp_path / "lib/bin")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert find_program() == str(tmp_path / "lib/bin/rabbitmq-server")
    (tmp_path / "bin/rabbitmq-env").write_text("")
    assert find_program() == str(tmp_path / "bin/rabbitmq-server")


def test_only_the_needed_plugins_are_shown_to_a_node(tmp_path, monkeypatch):
    asks = {
        "rabbit": "kernel, 'ranch' ,\n ra",
        "rabbitmq_management": "rabbit, cowboy",
        "ranch": "",
        "ra": "ranch",
        "cowboy": "ranch",
        "rabbitmq_mqtt": "rabbit",
    }
    for name, list_ in asks.items():
        folder = tmp_path / "home/plugins" / f"{name}-1.0/ebin"
        folder.mkdir(parents=True)
        (folder / f"{name}.app").write_text(
            f'{{application, {name}, [{{vsn,"1.0"}}, {{applications,[{list_}]}}]}}.'
        )
        for number in range(len(name)):
            (folder / f"{number}.beam").touch()
    program = tmp_path / "home/sbin/rabbitmq-server"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nexec something\n")
    own = tmp_path / "own"
    sought = link_needed_plugins(str(program), own)
    names = ["rabbitmq_management", "cowboy", "rabbit", "ranch", "ra"]
    assert {path.parent.name for path in sought} == {f"{name}-1.0" for name in names}
    assert sought[0].parent.name == "rabbitmq_management-1.0", "the one with most modules comes first"
    assert sorted(link.name for link in own.iterdir()) == sorted(f"{name}-1.0" for name in names)
    assert link_needed_plugins(str(tmp_path / "elsewhere/sbin/rabbitmq-server"), own) == []


@pytest.fixture
def bare(tmp_path, monkeypatch):
    """A machine without RabbitMQ and without a package manager; its folder for programs."""
    monkeypatch.setattr(rabbitmq_program, "_beside_the_path", lambda: None)
    monkeypatch.setattr(rabbitmq_program, "BEHIND_A_WRAPPER", tmp_path / "nowhere")
    monkeypatch.setattr(installing, "LOCK", tmp_path / ".lab" / "lock")
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sh", "rm", "chmod", "sleep", "mkdir"):
        (folder / name).symlink_to(f"/bin/{name}")
    monkeypatch.setenv("PATH", str(folder))
    return folder


def put(folder, name, script):
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def test_nothing_is_installed_where_it_may_not_be(bare, tmp_path, monkeypatch):
    asked = tmp_path / "asked"
    put(bare, "apt-get", f"echo x >> {asked}")
    put(bare, "sudo", "exit 1")  # it would ask for a password
    monkeypatch.setattr(installing.os, "getuid", lambda: 1000)
    command = r"^RabbitMQ is not installed: sudo apt-get install rabbitmq-server \(or set AMQP_URL "
    for node in (RabbitMQ(), RabbitMQ(install=False), choose_rabbitmq("embedded", install=False)):
        with pytest.raises(InfrastructureError, match=command):
            node.start()
        node.close()
    monkeypatch.setattr(installing.os, "getuid", lambda: 0)
    with pytest.raises(InfrastructureError, match=r"apt-get install"):
        rabbitmq_install.install_rabbitmq(may_install=False)
    assert not asked.exists()


def test_all_tests_end_with_what_to_type_where_there_is_none(bare, monkeypatch):
    put(bare, "apt-get", "exit 100")
    monkeypatch.setenv("LAB_NO_INSTALL", "1")  # as --no-install does
    with pytest.raises(InfrastructureError, match=r"^RabbitMQ is not installed: (sudo )?apt-get install"):
        lab_test.run([])


DOCKER = """\
case "$1 $2" in
    "version --format" | "compose version") ;;
    "image ls") [ ! -e {pulled} ] || echo 0123456789ab ;;
    "pull --quiet") echo "$3" >> {asked}; [ -e {reachable} ] && : > {pulled} ;;
    *) exit 1 ;;
esac
"""


def test_a_container_comes_before_an_installation_if_its_image_can_be_had(bare, tmp_path, monkeypatch):
    """The docker command is none: it stands for an engine that has the image, can pull it, or cannot."""
    monkeypatch.delenv("AMQP_URL", raising=False)
    assert not isinstance(choose_rabbitmq("embedded"), RabbitMQContainer), "there is no docker command"
    pulled, reachable, asked = (tmp_path / name for name in ("pulled", "reachable", "asked"))
    put(bare, "docker", DOCKER.format(pulled=pulled, reachable=reachable, asked=asked))
    compose.compose_command.cache_clear()
    try:
        assert not isinstance(choose_rabbitmq("embedded"), RabbitMQContainer), "its image cannot be pulled"
        assert asked.read_text().startswith("rabbitmq:4.")
        reachable.touch()
        assert isinstance(choose_rabbitmq("embedded"), RabbitMQContainer)
        asked.unlink()
        assert isinstance(choose_rabbitmq("embedded"), RabbitMQContainer)
        assert not asked.exists(), "it was here already"
        assert not isinstance(choose_rabbitmq("path"), RabbitMQContainer)
        put(bare, "rabbitmq-server", "exit 1")
        assert not isinstance(choose_rabbitmq("embedded"), RabbitMQContainer), "there is a program"
    finally:
        compose.compose_command.cache_clear()


def test_without_a_package_manager_it_is_said_where_to_look(bare):
    with pytest.raises(InfrastructureError, match=r"^RabbitMQ is not installed: install it \(https://"):
        rabbitmq_install.install_rabbitmq(may_install=True)


APT_GET = """\
echo "$@" >> {log}
[ -e {policy} ] && {policy} || echo "policy $?" >> {log}
[ "$1" = install ] || exit 0
printf '#!/bin/sh\\n' > {program}
chmod 755 {program}
"""


@pytest.fixture
def debian(bare, tmp_path, monkeypatch):
    """A Debian whose package manager only writes down what it was asked for."""
    log, policy = tmp_path / "log", tmp_path / "policy-rc.d"
    put(bare, "apt-get", APT_GET.format(log=log, policy=policy, program=bare / "rabbitmq-server"))
    put(bare, "apt-cache", "exit 0")
    monkeypatch.setattr(installing, "APT", installing.APT.replace("/usr/sbin/policy-rc.d", str(policy)))
    monkeypatch.setattr(installing.os, "getuid", lambda: 0)
    return log, policy


def test_it_is_installed_once_and_its_service_is_not_started(debian, bare, capfd):
    log, policy = debian
    found = []
    install = lambda: found.append(rabbitmq_install.install_rabbitmq(may_install=True))  # noqa: E731
    both = [threading.Thread(target=install) for _ in range(2)]
    for each in both:
        each.start()
    for each in both:
        each.join()
    assert found == [str(bare / "rabbitmq-server")] * 2
    lines = log.read_text().splitlines()
    assert len(lines) == 2, f"two at once must install once: {lines}"
    assert lines[0].startswith("install --yes --no-install-recommends ")
    assert lines[1] == "policy 101", "the package would have started its service"
    assert not policy.exists()
    said = capfd.readouterr().err.splitlines()
    assert len(said) == 2
    assert said[0].startswith("Installing RabbitMQ, as `apt-get install rabbitmq-server` would")
    assert said[1].startswith("RabbitMQ was installed in ")


def test_the_packages_are_looked_up_again_only_if_rabbitmq_is_not_among_them(debian, bare):
    put(bare, "apt-cache", "exit 100")
    rabbitmq_install.install_rabbitmq(may_install=True)
    assert [line.split()[0] for line in debian[0].read_text().splitlines()] == [
        "update",
        "policy",
        "install",
        "policy",
    ]


def test_a_policy_of_the_machines_own_stays(debian):
    _, policy = debian
    put(policy.parent, policy.name, "exit 101 # ours")
    rabbitmq_install.install_rabbitmq(may_install=True)
    assert "# ours" in policy.read_text()


def test_an_installation_that_fails_is_said_in_one_line(debian, bare):
    _, policy = debian
    put(bare, "apt-get", "echo Reading; echo 'E: Unable to locate package rabbitmq-server' >&2; exit 100")
    with pytest.raises(
        InfrastructureError, match=r"^RabbitMQ could not be installed, .*E: Unable to locate"
    ) as said:
        rabbitmq_install.install_rabbitmq(may_install=True)
    assert "\n" not in str(said.value)
    assert not policy.exists()


def test_an_installation_goes_to_its_end_when_the_command_is_killed(debian, bare, tmp_path):
    """Half a package would keep the package manager from working, and the policy would keep services down."""
    _, policy = debian
    go = tmp_path / "go on"
    put(
        bare,
        "apt-get",
        f'echo begun > {tmp_path}/begun; while [ ! -e "{go}" ]; do sleep 0.01; done; echo done > {tmp_path}/done',
    )
    program = f"""
import dataclasses
from labkit import installing
from labkit.brokers.rabbitmq_install import RABBITMQ
installing.LOCK = installing.LOCK.__class__({str(tmp_path / "lock")!r})
installing.APT = installing.APT.replace("/usr/sbin/policy-rc.d", {str(policy)!r})
installing.os.getuid = lambda: 0
installing.install(dataclasses.replace(RABBITMQ, find=lambda: None), may_install=True)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    with subprocess.Popen(
        [sys.executable, "-c", program], env=environment, start_new_session=True
    ) as command:
        assert wait_until((tmp_path / "begun").exists, 10)
        assert policy.exists()
        os.killpg(command.pid, signal.SIGKILL)
    go.touch()
    assert wait_until(lambda: (tmp_path / "done").exists() and not policy.exists())


# ---- by URL ----


def test_a_broker_by_url_is_used_and_never_changed(broker):
    with AmqpByUrl(broker.url) as given:
        assert (given.kind, given.version, given.source) == ("rabbitmq", broker.version, "by URL")
        assert given.url == given.url_of("elsewhere") == given.url_for(None) == broker.url
        assert not given.can_kill
        before = broker.api().get("vhosts"), broker.api().get("users")
        given.add_vhost("new")
        assert given.add_user("new", PREFIX, "new") is None
        given.remove_vhost("/")
        assert len(before[0]) == len(broker.api().get("vhosts"))
        assert before[1] == broker.api().get("users")
        for forbidden in (given.kill, given.restart):
            with pytest.raises(InfrastructureError, match=r"not ours"):
                forbidden()
    assert broker.pid


def test_nobody_listening_is_said_in_one_line_without_the_password():
    with pytest.raises(InfrastructureError, match=r"^no RabbitMQ answers at amqp://127.*refused$") as refusal:
        AmqpByUrl(f"amqp://me:my-secret@127.0.0.1:{free_port()}/").wait_ready()
    assert "my-secret" not in str(refusal.value)


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"AMQP\x00\x01\x00\x00", b"", None])
def test_what_is_no_rabbitmq_is_said_in_one_line(answer, monkeypatch):
    monkeypatch.setattr("labkit.brokers.amqp_by_url.ANSWER_WITHIN_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            connection, _ = listener.accept()
            connection.recv(100)
            if answer is not None:
                connection.sendall(answer)
                connection.close()
            else:
                connection.recv(1)

        server = threading.Thread(target=serve)
        server.start()
        with pytest.raises(InfrastructureError, match=r"^no RabbitMQ answers at .*: ") as refusal:
            AmqpByUrl(f"amqp://127.0.0.1:{listener.getsockname()[1]}").start()
        server.join()
    assert "\n" not in str(refusal.value)


# ---- choosing ----


def test_a_broker_is_chosen_by_name(monkeypatch):
    monkeypatch.delenv("AMQP_URL", raising=False)
    assert isinstance(choose_rabbitmq("embedded"), RabbitMQ)
    assert isinstance(choose_rabbitmq("path"), RabbitMQ)
    assert choose_rabbitmq("amqps://me:pw@broker.example/mine").port == 5671
    monkeypatch.setenv("AMQP_URL", "amqp://broker.example:7000/")
    assert choose_rabbitmq("embedded").url == "amqp://broker.example:7000/"
    assert isinstance(choose_rabbitmq("path"), RabbitMQ)


@pytest.mark.parametrize(
    "name", ["", "valkey", "redis://localhost", "amqp:/localhost", "amqp://localhost:port"]
)
def test_another_name_is_refused_in_one_line(name):
    with pytest.raises(ValueError, match=r"^(no RabbitMQ .*embedded, .*path.*|not a RabbitMQ's URL.*)$"):
        choose_rabbitmq(name)


def test_the_other_labs_do_not_load_any_of_this():
    program = "import sys, labkit.brokers; print([name for name in sys.modules if 'amqp' in name or 'rabbit' in name])"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment
    )
    assert json.loads(answer.stdout) == []
