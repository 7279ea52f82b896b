"""The proxy between a process and the broker: a real Valkey, real clients, and a cut at any command."""

import asyncio
import contextlib
import json
import os
import socket
import threading
import time
import uuid

import pytest
import redis

from labkit.brokers import EmbeddedValkey
from labkit.grader.commands import ADMINISTRATION
from labkit.grader.history import COMMAND, REPLY, History
from labkit.grader.lane import AFTER, BEFORE, Cut
from labkit.grader.loop import Loop
from labkit.grader.resp_proxy import RespLane
from labkit.grader.tasks import Tasks
from labkit.resp import FrameReader, encode

WITHIN_SECONDS = 10
QUEUE = "proxy:images"


@pytest.fixture(scope="module")
def broker():
    with EmbeddedValkey(appendonly="off") as running:
        yield running


@pytest.fixture(scope="module")
def loop():
    running = Loop()
    yield running
    running.close()


@pytest.fixture
def admin(broker):
    with redis.Redis.from_url(broker.url) as client:
        client.flushall()
        yield client


class Line:
    """A lane, what it recorded, and clients that come through it."""

    def __init__(self, broker, loop, **options):
        self.broker, self.loop = broker, loop
        self.history, self.tasks = History(), Tasks(QUEUE, "images")
        login = options.pop("login", None) or broker.add_user("alice", QUEUE)
        self.lane = RespLane(
            "alice",
            self.history,
            self.tasks,
            lambda: (broker.host, broker.port),
            (login.user, login.password),
            **options,
        )
        loop.call(self.lane.open())
        self.clients = contextlib.ExitStack()

    def client(self, **options):
        retry = redis.retry.Retry(redis.backoff.NoBackoff(), 0)
        client = redis.Redis(port=self.lane.port, retry=retry, socket_timeout=WITHIN_SECONDS, **options)
        return self.clients.enter_context(client)

    def raw(self):
        return self.clients.enter_context(
            socket.create_connection(("127.0.0.1", self.lane.port), WITHIN_SECONDS)
        )

    def seen(self, what=COMMAND):
        return [(event.verb, *event.args) for event in self.history.events(what)]

    def wait(self, condition):
        assert self.history.wait_until(condition, WITHIN_SECONDS), self.history.events()

    def kill_at(self, verb, nth, when):
        """Cut the lane before or after the nth command of this verb, as a kill does."""

        async def gate(lane, command, at):
            if (command.verb, command.nth, at) == (verb, nth, when):
                lane.cut()
                raise Cut

        self.lane.gates.append(gate)


@pytest.fixture
def line(broker, loop, admin):
    made = Line(broker, loop)
    yield made
    made.clients.close()
    loop.call(made.lane.close())


def add_task(line):
    body = json.dumps({"id": str(uuid.uuid4()), "image": "dawn.jpg"}).encode()
    return line.tasks.add(body)


# ---- what is recorded ----


@pytest.mark.parametrize("protocol", [2, 3])
def test_commands_and_replies_are_recorded_with_the_tasks_that_they_name(line, protocol):
    task = add_task(line)
    client = line.client(protocol=protocol)
    assert client.lpush(QUEUE, task.body) == 1
    assert client.lmove(QUEUE, f"{QUEUE}:mine", "RIGHT", "LEFT") == task.body
    assert client.blmove(QUEUE, f"{QUEUE}:mine", 0.01, "RIGHT", "LEFT") is None
    commands, replies = line.history.events(COMMAND), line.history.events(REPLY)
    assert [(e.verb, e.args, e.tasks, e.blocking) for e in commands] == [
        ("LPUSH", ("images", "‹task 1›"), (1,), False),
        ("LMOVE", ("images", "images:mine", "RIGHT", "LEFT"), (), False),
        ("BLMOVE", ("images", "images:mine", "RIGHT", "LEFT", "0.01"), (), True),
    ]
    assert [(e.verb, e.tasks, e.empty, e.number) for e in replies] == [
        ("LPUSH", (), False, 1),
        ("LMOVE", (1,), False, 2),
        ("BLMOVE", (), True, 3),
    ]
    assert {e.who for e in line.history} == {"alice"}


def test_an_error_of_the_broker_reaches_the_client_and_the_record(line):
    client = line.client()
    client.set(f"{QUEUE}:text", "x")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        client.lpush(f"{QUEUE}:text", "y")
    assert line.history.events(REPLY)[-1].detail.startswith("WRONGTYPE")
    with pytest.raises(redis.exceptions.NoPermissionError):
        client.flushall()


def test_an_inline_command_is_heard(line):
    task = add_task(line)
    raw = line.raw()
    raw.sendall(b"LPUSH %s one\nLPUSH %s %s\r\n" % (QUEUE.encode(), QUEUE.encode(), task.id.encode()))
    received = b""
    while received.count(b"\r\n") < 2:
        received += raw.recv(100)
    assert received == b":1\r\n:2\r\n"
    assert line.history.events(COMMAND)[1].tasks == (1,)


def test_two_hundred_commands_at_once_are_answered_in_order(line):
    client = line.client()
    pipeline = client.pipeline(transaction=False)
    for number in range(200):
        pipeline.rpush(QUEUE, number)
    assert pipeline.execute() == list(range(1, 201))
    assert client.lrange(QUEUE, 0, -1) == [b"%d" % number for number in range(200)]
    assert [e.number for e in line.history.events(REPLY)] == list(range(1, 202))


def test_five_megabytes_pass_whole(line):
    body = os.urandom(5_000_000)
    client = line.client()
    client.lpush(QUEUE, body)
    assert client.rpop(QUEUE) == body
    assert max(len(arg) for e in line.history for arg in e.args) <= 500


def test_messages_to_subscribers_pass(line, admin):
    for protocol in (2, 3):
        client = line.client(protocol=protocol)
        with client.pubsub() as listener:
            listener.subscribe(f"{QUEUE}:news")
            assert listener.get_message(timeout=WITHIN_SECONDS)["type"] == "subscribe"
            admin.publish(f"{QUEUE}:news", "hello")
            assert listener.get_message(timeout=WITHIN_SECONDS)["data"] == b"hello"
        assert client.llen(QUEUE) == 0


# ---- kills and holds ----


@pytest.mark.parametrize("when, left", [(BEFORE, [b"1"]), (AFTER, [b"1", b"2"])])
def test_a_pipeline_is_cut_between_its_commands(line, admin, when, left):
    line.kill_at("RPUSH", 2, when)
    pipeline = line.client().pipeline(transaction=False)
    for number in (1, 2, 3):
        pipeline.rpush(QUEUE, number)
    with pytest.raises(redis.ConnectionError):
        pipeline.execute()
    assert admin.lrange(QUEUE, 0, -1) == left
    with pytest.raises(redis.ConnectionError):
        line.client().ping()


@pytest.mark.parametrize("when, left", [(BEFORE, 0), (AFTER, 2)])
def test_a_transaction_happens_whole_or_not_at_all(line, admin, when, left):
    line.kill_at("EXEC", 1, when)
    with line.client().pipeline(transaction=True) as both, pytest.raises(redis.ConnectionError):
        both.rpush(QUEUE, 1)
        both.rpush(QUEUE, 2)
        both.execute()
    assert admin.llen(QUEUE) == left
    queued = [event for event in line.history.events(REPLY) if event.detail == "QUEUED"]
    assert len(queued) == 2


def test_a_command_is_held_until_it_is_released(line, loop, admin):
    held, release = threading.Event(), asyncio.Event()

    async def gate(lane, command, when):
        if (command.verb, when) == ("LPUSH", BEFORE):
            held.set()
            await release.wait()

    line.lane.gates.append(gate)
    client = line.client()
    answers = []
    pusher = threading.Thread(target=lambda: answers.append(client.lpush(QUEUE, 1)))
    pusher.start()
    assert held.wait(WITHIN_SECONDS)
    other = line.client()
    assert other.llen(QUEUE) == 0  # another connection of the same process is not held
    assert admin.llen(QUEUE) == 0
    loop.loop.call_soon_threadsafe(release.set)
    pusher.join(WITHIN_SECONDS)
    assert answers == [1]


@pytest.mark.parametrize("how", ["cut", "closed"])
def test_a_take_does_not_stay_at_the_broker_when_its_client_dies(line, loop, admin, how):
    client = line.client()
    blocked = threading.Thread(target=take, args=(client,))
    blocked.start()
    line.wait(lambda: admin.info("clients")["blocked_clients"] == 1)
    if how == "cut":
        loop.loop.call_soon_threadsafe(line.lane.cut)
    else:
        client.connection_pool.disconnect()
    line.wait(lambda: admin.info("clients")["blocked_clients"] == 0)
    blocked.join(WITHIN_SECONDS)
    admin.lpush(QUEUE, "task")
    assert admin.lrange(QUEUE, 0, -1) == [b"task"]


def take(client):
    with contextlib.suppress(redis.RedisError, OSError, ValueError):
        client.blpop(QUEUE, 5)


# ---- clients that close at once ----


def test_a_client_that_closes_at_once_is_still_heard(line, admin):
    for number in range(20):
        with line.raw() as raw:
            raw.sendall(encode("RPUSH", QUEUE, number) + encode("RPUSH", QUEUE, number))
    line.wait(lambda: admin.llen(QUEUE) == 40)
    assert len(line.seen()) == 40


def test_a_client_that_closes_behind_a_blocking_take_takes_nothing(line, admin):
    with line.raw() as raw:
        raw.sendall(
            encode("RPUSH", QUEUE, 1) + encode("BLPOP", f"{QUEUE}:empty", 0) + encode("RPUSH", QUEUE, 2)
        )
    line.wait(lambda: len(line.seen()) == 2 and "alice" not in {each["user"] for each in admin.client_list()})
    admin.rpush(f"{QUEUE}:empty", "task")
    assert admin.llen(f"{QUEUE}:empty") == 1
    assert admin.llen(QUEUE) == 1


def test_a_client_that_closes_while_it_is_held_is_heard_when_released(line, loop, admin):
    held, release = threading.Event(), asyncio.Event()

    async def gate(lane, command, when):
        if (command.number, when) == (1, BEFORE):
            held.set()
            await release.wait()

    line.lane.gates.append(gate)
    with line.raw() as raw:
        raw.sendall(encode("RPUSH", QUEUE, 1) + encode("RPUSH", QUEUE, 2))
        assert held.wait(WITHIN_SECONDS)
    assert admin.llen(QUEUE) == 0
    loop.loop.call_soon_threadsafe(release.set)
    line.wait(lambda: admin.lrange(QUEUE, 0, -1) == [b"1", b"2"])


@pytest.mark.parametrize("nonsense", [b"*1\r\n:5\r\n", b"$3\r\nabc\r\n", b"*1\r\n$-1\r\n", b"*x\r\n"])
def test_nonsense_ends_the_connection_and_not_what_came_before(line, admin, nonsense):
    raw = line.raw()
    raw.sendall(encode("RPUSH", QUEUE, 1) + nonsense + encode("RPUSH", QUEUE, 2))
    with contextlib.suppress(ConnectionResetError):
        while raw.recv(1000):
            pass
    assert admin.llen(QUEUE) == 1
    assert line.client().ping()


def test_a_flood_of_connections_does_not_keep_others_out(line, admin):
    crowd = [line.raw() for _ in range(150)]
    for raw in crowd[::2]:
        raw.close()
    assert line.client().lpush(QUEUE, 1) == 1
    for raw in crowd[1::2]:
        raw.sendall(encode("RPUSH", QUEUE, 1))
    line.wait(lambda: admin.llen(QUEUE) == 76)


# ---- on a server that is not ours ----


@pytest.fixture
def unguarded(broker, loop, admin):
    """A lane as it is on a broker given by URL: its user may do everything, so the lane refuses."""

    class Administrator:
        user, password = "default", redis.connection.parse_url(broker.url)["password"]

    made = Line(broker, loop, login=Administrator, refused=frozenset(ADMINISTRATION))
    yield made
    made.clients.close()
    loop.call(made.lane.close())


@pytest.mark.parametrize(
    "command",
    [
        "FLUSHALL", "flushdb", "SHUTDOWN NOSAVE", "CONFIG SET maxmemory 1", "KEYS *", "SWAPDB 0 1",
        "DEBUG SLEEP 0", "CLIENT KILL TYPE normal", "client pause 10000", "SCRIPT FLUSH", "MONITOR",
    ],
)  # fmt: skip
def test_administration_is_refused_where_nothing_else_would(unguarded, admin, command):
    admin.set("of somebody else", "stays")
    with pytest.raises(redis.ResponseError, match="may not run"):
        unguarded.client().execute_command(*command.split())
    raw = unguarded.raw()
    quoted = '"' + command.split()[0] + '"' + command[len(command.split()[0]) :]
    for form in (encode(*command.split()), command.encode() + b"\r\n", quoted.encode() + b"\r\n"):
        raw.sendall(form)
        assert raw.recv(1000).startswith((b"-NOPERM", b"-ERR unknown command"))
    assert admin.get("of somebody else") == b"stays"


def test_administration_is_refused_to_a_client_that_closes_at_once(unguarded, admin):
    admin.set("of somebody else", "stays")
    for number in range(20):
        with unguarded.raw() as raw:
            raw.sendall(encode("FLUSHALL") + encode("RPUSH", QUEUE, number))
    unguarded.wait(lambda: admin.llen(QUEUE) == 20)
    assert admin.get("of somebody else") == b"stays"


def test_ordinary_commands_with_a_word_of_administration_pass(unguarded):
    client = unguarded.client()
    assert client.script_load("return 1")
    assert client.client_id() > 0
    assert client.set(f"{QUEUE}:x", "FLUSHALL")


def test_the_frames_of_a_reply_are_passed_byte_for_byte(line, broker):
    """A client that speaks RESP3 to the lane reads what it would read from the broker itself."""
    login = broker.add_user("bob", QUEUE)
    asked = encode("HELLO", 3, "AUTH", login.user, login.password)
    asked += encode("HSET", f"{QUEUE}:h", "a", "1") + encode("HGETALL", f"{QUEUE}:h") + encode("BOGUS")
    answers = []
    for port in (line.lane.port, broker.port):
        with socket.create_connection(("127.0.0.1", port), WITHIN_SECONDS) as raw:
            raw.sendall(asked)
            reader, frames, deadline = FrameReader(), [], time.monotonic() + WITHIN_SECONDS
            while len(frames) < 4 and time.monotonic() < deadline:
                frames += reader.feed(raw.recv(4096))
        answers.append([frame.raw for frame in frames[2:]])
    assert answers[0] == answers[1]
    assert answers[0][0].startswith(b"%1\r\n")
