"""The lane between a process and RabbitMQ: it passes things on, records them by name, and cuts where it is told."""

import contextlib
import os
import signal
import threading

import pika
import pytest
from pika.exceptions import AMQPError, ChannelClosedByBroker, UnroutableError

from labkit.brokers.rabbitmq import RabbitMQ
from labkit.grader.amqp_proxy import AmqpLane
from labkit.grader.commands import FOR_GOOD
from labkit.grader.history import COMMAND, REPLY, History
from labkit.grader.lane import AFTER, BEFORE, Cut
from labkit.grader.loop import Loop
from labkit.grader.tasks import Tasks

WITHIN_SECONDS = 10
NOT_FOUND = 404
A_LONG_LINE = 300  # commands on one channel, more than the broker has done when the next bytes come
QUEUE = "images"
BODY = b'{"id": "7f6f3c1e-0f0e-4c6e-9b3f-0123456789%02d"}'


@pytest.fixture(scope="module")
def broker():
    with RabbitMQ() as started:
        yield started


@pytest.fixture(scope="module")
def loop():
    running = Loop()
    yield running
    running.close()


@pytest.fixture
def admin(broker):
    """A channel past the lane, and an empty queue."""
    with pika.BlockingConnection(pika.URLParameters(broker.url)) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.queue_declare(QUEUE, durable=True)
        channel.queue_purge(QUEUE)
        yield channel


class Line:
    """A lane, what it recorded, and clients that come through it."""

    def __init__(self, broker, loop):
        self.loop, self.history, self.tasks = loop, History(), Tasks(QUEUE, QUEUE)

        async def address():
            return broker.host, broker.port

        self.lane = AmqpLane("alice", self.history, self.tasks, address)
        loop.call(self.lane.open())
        self.url = broker.url.replace(f":{broker.port}/", f":{self.lane.port}/")
        self.connections = []

    def channel(self, *, confirming=True):
        parameters = pika.URLParameters(self.url)
        parameters.socket_timeout = parameters.blocked_connection_timeout = WITHIN_SECONDS
        connection = pika.BlockingConnection(parameters)
        self.connections.append(connection)
        channel = connection.channel()
        if confirming:
            channel.confirm_delivery()
        return channel

    def close(self):
        self.loop.call(self.lane.close())
        for connection in self.connections:
            with contextlib.suppress(AMQPError):
                connection.close()

    def seen(self, what=COMMAND):
        return [(event.verb, event.args, event.tasks) for event in self.history.events(what)]

    def wait(self, condition):
        assert self.history.wait_until(condition, WITHIN_SECONDS), self.history.events()

    def cut_at(self, verb, nth, when):
        """Nothing passes any more from this point on, as when the process is killed there."""

        async def gate(lane, command, at):
            if (command.verb, command.nth, at) == (verb, nth, when):
                lane.cut()
                raise Cut

        self.lane.gates.append(gate)


@pytest.fixture
def line(broker, loop):
    made = Line(broker, loop)
    yield made
    made.close()


def add_tasks(line, count=1):
    return [line.tasks.add(BODY % number).body for number in range(count)]


def waiting(admin):
    return admin.queue_declare(QUEUE, passive=True).method.message_count


def is_waiting(line, admin, count):
    line.wait(lambda: waiting(admin) == count)


def is_gone(admin, queue):
    """Asked on a channel of its own, which the broker closes for the question."""
    try:
        admin.connection.channel().queue_declare(queue, passive=True)
    except ChannelClosedByBroker as closed:
        return closed.reply_code == NOT_FOUND


def test_a_publish_is_a_command_and_its_confirm_the_answer(line, admin):
    (body,) = add_tasks(line)
    line.channel().basic_publish("", QUEUE, body, pika.BasicProperties(delivery_mode=2))
    assert line.seen()[-1] == ("basic.publish", ("", QUEUE), (1,))
    assert line.seen(REPLY)[-1][0] == "basic.publish"
    assert waiting(admin) == 1
    assert line.lane.queues == set()


def test_a_publish_without_confirms_is_never_answered_by_the_broker_and_over_at_once(line, admin):
    (body,) = add_tasks(line)
    channel = line.channel(confirming=False)
    channel.basic_publish("", QUEUE, body)
    line.wait(lambda: line.seen(REPLY)[-1:] == [("basic.publish", ("", QUEUE), ())])
    is_waiting(line, admin, 1)


def test_confirms_that_are_asked_for_without_waiting_are_confirms(line, admin):
    (body,) = add_tasks(line)
    channel = line.channel(confirming=False)
    channel._impl._send_method(
        pika.spec.Confirm.Select(nowait=True)
    )  # as pika's asynchronous channel may say it
    channel.basic_publish("", QUEUE, body)
    line.wait(lambda: (channel.connection.process_data_events(0.05), line.seen(REPLY)[-1:])[1])
    line.wait(lambda: line.seen(REPLY)[-1][0] == "basic.publish")
    assert line.lane.unconfirmed == []


def test_on_a_channel_whose_number_was_another_s_confirms_are_counted_anew(line, admin):
    first, second = add_tasks(line, 2)
    channel = line.channel()
    channel.basic_publish("", QUEUE, first)
    channel.close()
    again = line.connections[-1].channel()
    assert again.channel_number == channel.channel_number
    again.confirm_delivery()
    again.basic_publish("", QUEUE, second)
    line.wait(lambda: [verb for verb, _, _ in line.seen(REPLY)].count("basic.publish") == 2)
    assert not line.lane.in_flight


def test_a_task_for_which_there_is_no_queue_comes_back(line, admin):
    (body,) = add_tasks(line)
    with pytest.raises(UnroutableError):
        line.channel().basic_publish("", "nowhere", body, mandatory=True)
    back = [event for event in line.history.events(REPLY) if event.verb == "basic.return"]
    assert [(event.tasks, event.detail) for event in back] == [((1,), "NO_ROUTE")]


@pytest.mark.parametrize("size", [0, 1, 200_000, 3_000_000])
def test_a_content_of_any_size_passes_whole(line, admin, size):
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    line.channel().basic_publish("", QUEUE, body)
    assert admin.basic_get(QUEUE, auto_ack=True)[2] == body


def test_a_delivery_is_in_hand_until_it_is_acknowledged(line, admin):
    for body in add_tasks(line, 2):
        admin.basic_publish("", QUEUE, body)
    channel, got = line.channel(), []
    channel.basic_qos(prefetch_count=1)
    channel.basic_consume(QUEUE, lambda *delivery: got.append(delivery), consumer_tag="alice")
    channel.connection.process_data_events(1)
    assert line.lane.unacknowledged() == {1}
    assert ("basic.deliver", (QUEUE,), (1,)) in line.seen(REPLY)
    channel.basic_ack(got[0][1].delivery_tag)
    line.wait(lambda: len(line.seen(REPLY)) and line.lane.unacknowledged() == {2})
    assert ("basic.ack", (), (1,)) in line.seen()
    channel.basic_cancel("alice")
    assert not any(command.verb == "basic.consume" for command in line.lane.in_flight.values())


def test_one_acknowledgement_may_speak_of_many(line, admin):
    for body in add_tasks(line, 5):
        admin.basic_publish("", QUEUE, body)
    channel, got = line.channel(), []
    channel.basic_consume(QUEUE, lambda *delivery: got.append(delivery))
    line.wait(lambda: (channel.connection.process_data_events(0.05), len(got) == 5)[1])
    channel.basic_ack(got[2][1].delivery_tag, multiple=True)
    channel.basic_nack(0, multiple=True, requeue=True)
    line.wait(lambda: ("basic.nack", ("requeue",), (4, 5)) in line.seen())
    assert ("basic.ack", (), (1, 2, 3)) in line.seen()


def test_a_consumer_without_acknowledgements_has_nothing_in_hand(line, admin):
    admin.basic_publish("", QUEUE, add_tasks(line)[0])
    channel, got = line.channel(), []
    channel.basic_consume(QUEUE, lambda *delivery: got.append(delivery), auto_ack=True)
    line.wait(lambda: (channel.connection.process_data_events(0.05), got)[1])
    assert (f"basic.deliver{FOR_GOOD}", (QUEUE,), (1,)) in line.seen(REPLY)
    assert line.lane.unacknowledged() == set()


def test_a_redelivered_task_is_recorded_as_one(line, admin):
    admin.basic_publish("", QUEUE, add_tasks(line)[0])
    method, _, _ = admin.basic_get(QUEUE)
    admin.basic_nack(method.delivery_tag)
    channel = line.channel()
    channel.basic_consume(QUEUE, lambda *_: None)
    line.wait(lambda: ("basic.deliver", (QUEUE, "redelivered"), (1,)) in line.seen(REPLY))


def test_the_broker_s_refusal_reaches_the_client_and_the_record(line, admin):
    with pytest.raises(ChannelClosedByBroker):
        line.channel().queue_declare(QUEUE, durable=False)
    answers = [event.detail for event in line.history.events(REPLY) if event.verb == "queue.declare"]
    assert answers[0].startswith("406 PRECONDITION_FAILED")


def test_in_a_transaction_nothing_has_happened_before_the_commit(line, admin):
    for body in add_tasks(line, 2):
        admin.basic_publish("", QUEUE, body)
    channel = line.channel(confirming=False)
    channel.tx_select()
    method, _, _ = channel.basic_get(QUEUE)
    answers = lambda: [event.detail for event in line.history.events(REPLY) if event.verb == "basic.ack"]  # noqa: E731
    channel.basic_ack(method.delivery_tag)
    channel.tx_rollback()
    assert (line.lane.unacknowledged(), answers()) == ({1}, ["rolled back"])
    channel.basic_ack(method.delivery_tag)
    channel.queue_declare(QUEUE, passive=True)  # an answer: the acknowledgement has been passed on
    assert (line.lane.unacknowledged(), answers()) == ({1}, ["rolled back"])
    channel.tx_commit()
    assert (line.lane.unacknowledged(), answers()) == (set(), ["rolled back", ""])
    assert waiting(admin) == 1


def test_a_channel_that_the_broker_closes_is_told_of_with_the_tasks_in_hand_on_it(line, admin):
    admin.basic_publish("", QUEUE, add_tasks(line)[0])
    channel = line.channel()
    channel.basic_get(QUEUE)
    channel.basic_ack(7)
    with pytest.raises(ChannelClosedByBroker):
        channel.queue_declare(QUEUE, passive=True)
    closed = [event for event in line.history.events(REPLY) if event.verb == "channel.close"]
    assert [event.tasks for event in closed] == [(1,)]
    assert closed[0].detail.startswith("406 PRECONDITION_FAILED - unknown delivery tag 7")
    is_waiting(line, admin, 1)


# ---- crash points ----


@pytest.mark.parametrize(("when", "there"), [(BEFORE, 0), (AFTER, 1)])
def test_a_publish_is_cut_before_or_after(line, admin, when, there):
    (body,) = add_tasks(line)
    line.cut_at("basic.publish", 1, when)
    with pytest.raises(AMQPError):
        line.channel().basic_publish("", QUEUE, body)
    is_waiting(line, admin, there)


@pytest.mark.parametrize(("when", "left"), [(BEFORE, 1), (AFTER, 0)])
def test_an_acknowledgement_before_the_cut_is_heard_and_one_after_is_not(line, admin, when, left):
    admin.basic_publish("", QUEUE, add_tasks(line)[0])
    line.cut_at("basic.ack", 1, when)
    channel = line.channel()
    method, _, _ = channel.basic_get(QUEUE)
    with contextlib.suppress(AMQPError):
        channel.basic_ack(method.delivery_tag)
        channel.connection.process_data_events(1)
    line.wait(lambda: line.lane.dead and not line.lane.in_flight)
    is_waiting(line, admin, left)


def test_what_was_passed_on_before_the_cut_is_done_by_the_broker_however_much_it_is(line, admin, broker):
    admin.basic_publish("", QUEUE, add_tasks(line)[0])
    line.cut_at("basic.ack", 1, AFTER)
    channel = line.channel(confirming=False)
    channel.queue_declare("hers", exclusive=True)  # it goes with the connection
    method, _, _ = channel.basic_get(QUEUE)
    os.kill(broker.pid, signal.SIGSTOP)
    with contextlib.suppress(AMQPError):
        for _ in range(A_LONG_LINE):
            channel.basic_publish("", "nowhere", b"")
        channel.basic_ack(method.delivery_tag)
        channel.connection.process_data_events(1)
    os.kill(broker.pid, signal.SIGCONT)
    line.wait(lambda: is_gone(admin, "hers"))
    assert admin.queue_delete(QUEUE).method.message_count == 0


@pytest.mark.parametrize("when", [BEFORE, AFTER])
def test_a_delivery_whose_client_dies_goes_back(line, admin, when):
    for body in add_tasks(line, 2):
        admin.basic_publish("", QUEUE, body)
    line.cut_at("basic.deliver", 2, when)
    channel = line.channel()
    with contextlib.suppress(AMQPError):
        channel.basic_consume(QUEUE, lambda *_: None)
    line.wait(lambda: line.lane.dead)
    is_waiting(line, admin, 2)


def test_a_confirm_is_held_until_it_is_released(line, admin, loop):
    released, held = threading.Event(), threading.Event()

    async def gate(lane, command, when):
        if command.verb == "basic.publish" and when == AFTER:
            held.set()
            await loop.loop.run_in_executor(None, released.wait, WITHIN_SECONDS)

    line.lane.gates.append(gate)
    (body,) = add_tasks(line)
    channel = line.channel()
    publishing = threading.Thread(target=channel.basic_publish, args=("", QUEUE, body))
    publishing.start()
    assert held.wait(WITHIN_SECONDS)
    is_waiting(line, admin, 1)
    assert publishing.is_alive()
    released.set()
    publishing.join(WITHIN_SECONDS)
    assert not publishing.is_alive()


def test_a_connection_that_fails_can_be_made_again(line, admin):
    channel = line.channel()
    line.loop.loop.call_soon_threadsafe(line.lane.hang_up)
    with pytest.raises(AMQPError):
        channel.queue_declare(QUEUE, passive=True)
        channel.connection.process_data_events(WITHIN_SECONDS)
    assert line.channel().queue_declare(QUEUE, passive=True).method.message_count == 0
    assert line.lane.connections == 2
