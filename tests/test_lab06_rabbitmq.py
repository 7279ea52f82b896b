"""The checks of lab 6: they play your scripts against a real RabbitMQ, and kill both.

Each check has a virtual host of its own. Your scripts reach the broker through a proxy that reads AMQP: it knows each
method by its name, and can hold, cut or kill before and after any of them.
"""

import json

import pytest

from labkit.grader.broker_death import Play, when_the_broker_dies
from labkit.grader.commands import CONSUMING
from labkit.grader.crash import HoldAt, Point
from labkit.grader.expectations import (
    expect_ctrl_c_finishes_the_task,
    expect_little_while_idle,
    expect_oldest_first,
    expect_patience_without_a_broker,
    expect_words_without_a_broker,
    kill,
    shown,
)
from labkit.grader.failure import TooSlow
from labkit.grader.history import COMMAND, REPLY, SENT, WORK_FAILED, WORK_FINISHED, WORK_STARTED
from labkit.grader.lane import BEFORE
from labkit.grader.material.lab06_rabbitmq import (
    BAD_TASKS,
    OPERATIONS,
    Confirms,
    expect_right_pictures,
    letters,
    queued_by,
)
from labkit.grader.tasks import id_in

QUICK = {"RETRY_SECONDS": 0.1, "RECONNECT_SECONDS": 0.05}


@pytest.mark.check(points=4, todo=3)
def test_the_producer_publishes_tasks(scene):
    """The producer's tasks arrive, made to last"""
    scene.start("producer.py", "--count", "3").wait_exit()
    found = letters(scene)
    scene.expect(len(found) == 3, f"The producer was asked for 3 tasks; {len(found)} are in the queue.")
    for letter in found:
        task = scene.json(letter.body)
        scene.expect(
            isinstance(task, dict), f"A task is a JSON object; this is in the queue: {shown(letter.body)}"
        )
        scene.expect(id_in(letter.body), f"The id of a task is a UUID; this one is {task.get('id')!r}.")
        image, operation = task.get("image"), task.get("operation")
        scene.expect(str(image) in scene.images(), f"The task asks for the image {image!r}; there is none.")
        scene.expect(operation in OPERATIONS, f"There is no operation {operation!r}.")
        scene.expect(
            letter.persistent,
            "A task is in the queue that the broker keeps in memory only: it is gone with a restart.",
            question="Which property of a message tells the broker to write it to disk?",
        )
        scene.expect(
            (letter.message_id, letter.content_type) == (task["id"], "application/json"),
            f"The properties of a task are message_id {letter.message_id!r} and content_type {letter.content_type!r}; "
            f"they were to be its id and 'application/json'.",
            question="What can be seen of a message before its body is read?",
        )
    ids = {scene.adopt(letter.body).id for letter in found}
    scene.expect(len(ids) == 3, "Two of the tasks have the same id.", question="What makes an id new?")


@pytest.mark.check(points=3, after="the_producer_publishes_tasks", todo=4)
def test_the_producer_waits_for_the_confirm(stage):
    """A task is called queued when the broker has confirmed it, not before"""

    def held():
        scene = stage.scene("the broker's confirm is held back")
        confirms = scene.lie_in_wait("producer", Confirms(scene))
        producer = scene.start("producer.py", "--count", "2")
        expect_confirming(scene, producer, confirms)
        scene.wait(lambda: queued_by(producer) or not producer.running, within=0.7)
        scene.expect(
            producer.running and not queued_by(producer),
            "The broker has not confirmed the task yet, and the producer says that it is queued.",
            question="Which line of output promises that the task is safe, and when may it be printed?",
        )
        confirms.release()
        producer.wait_exit()
        scene.expect(len(queued_by(producer)) == 2, "After the confirms, 2 tasks were to be called queued.")

    def lost():
        scene = stage.scene("the connection dies before the confirm")
        scene.settings = QUICK
        confirms = scene.lie_in_wait("producer", Confirms(scene))
        producer = scene.start("producer.py", "--count", "2")
        expect_confirming(scene, producer, confirms)
        producer.lose_connections()
        confirms.release()
        status = producer.wait_exit(
            question="What does pika raise when the connection dies, and who catches it?"
        )
        promised, there = queued_by(producer), [id_in(letter.body) for letter in letters(scene)]
        scene.expect(
            status == 0 and len(promised) == 2 and set(promised) == set(there),
            f"The connection was cut before the first confirm. The producer ended with status {status} and calls "
            f"{len(promised)} tasks queued; {len(set(there))} different ones are in the queue.",
            question="The broker may have the task or not. What is the same in both cases, if it is published again?",
        )

    def nowhere():
        scene = stage.scene("the queue is deleted before the first task comes")
        scene.settings = QUICK
        before = scene.lie_in_wait("producer", HoldAt(scene, Point("basic.publish", 1, BEFORE)))
        producer = scene.start("producer.py", "--count", "2", may_fail=True)
        scene.wait_until(
            lambda: before.is_reached() or not producer.running, "the producer was to publish a task"
        )
        scene.holdings.delete(scene.queue)
        before.release()
        producer.wait_exit()
        promised, there = queued_by(producer), {id_in(letter.body) for letter in letters(scene)}
        missing = [each for each in promised if each not in there]
        scene.expect(
            not missing,
            f"The queue was deleted before the first task came. The producer calls {len(promised)} tasks queued; "
            f"{len(missing)} of them are nowhere.",
            question="What does the broker do with a task for which there is no queue, and whom does it tell?",
        )

    stage.play_each([held, lost, nowhere], lambda play: play())


def expect_confirming(scene, producer, confirms):
    """The producer has published on a channel that confirms, and waits."""
    scene.wait_until(
        lambda: confirms.reached.is_set() or not producer.running, "the producer was to publish a task"
    )
    selected = [
        event for event in scene.history.events(COMMAND, producer.name) if event.verb == "confirm.select"
    ]
    scene.expect(
        selected and confirms.reached.is_set(),
        "The producer does not ask the broker to confirm what it publishes.",
        question="How would it learn that the broker has the task, on disk?",
    )


@pytest.mark.check(points=4, todo=5)
def test_tasks_are_done(scene):
    """Every task is done once, oldest first, and acknowledged"""
    scene.start("worker.py", "alice")
    scene.push(5)
    scene.wait_done()
    expect_oldest_first(scene)


@pytest.mark.check(points=2, after="tasks_are_done", todo=6)
def test_the_pictures_are_right(scene):
    """Each task leaves one whole picture, the right one"""
    expect_right_pictures(scene)


@pytest.mark.check(points=4, after="tasks_are_done", todo=5)
def test_a_slow_worker_holds_up_one_task(stage):
    """With a prefetch of 1 a slow worker holds up one task only"""

    def play(prefetch, hers, his):
        scene = stage.scene(f"PREFETCH={prefetch}")
        scene.settings = {"PREFETCH": prefetch}
        scene.work.hold()
        scene.push(10)
        scene.start("worker.py", "alice")
        scene.wait_until(scene.at_work, "alice was to begin")
        expect_handed(scene, "alice", hers, prefetch)
        scene.work.let_go("bob")
        bob = scene.start("worker.py", "bob")
        scene.wait_until(bob.has_looked, "bob was to consume as well")
        expect_handed(scene, "bob", his, prefetch)
        expect_handed(scene, "alice", hers, prefetch)  # again: more may have come meanwhile
        scene.work.release()
        scene.wait_done()

    stage.play_each([(1, 1, 9), (3, 3, 7), (0, 10, 0)], lambda case: play(*case))


def expect_handed(scene, name, count, prefetch):
    """The broker hands just so many of the 10 tasks to this worker, while alice is at her first."""
    scene.wait(lambda: len(handed(scene, name)) >= count, within=5)
    came = len(handed(scene, name))
    scene.expect(
        came == count,
        f"With PREFETCH={prefetch} the broker was to hand {count} of 10 tasks to {name}, while alice is still at her "
        f"first; it handed {came} to {name}.",
        question="Which method tells the broker how much one consumer may have in hand?",
    )


def handed(scene, name):
    """The tasks that the broker has handed to this worker, in order."""
    return [n for e in scene.history.events(REPLY, name) if e.verb.startswith("basic.") for n in e.tasks]


@pytest.mark.check(points=5, after="tasks_are_done", todo=10)
def test_rubbish_becomes_a_dead_letter(scene):
    """What can never succeed becomes a dead letter, with its reason"""
    scene.settings = QUICK
    scene.push(1)
    bad = scene.push(*BAD_TASKS.values(), b"x" * 1_000_000, b'{"id": Infinity}')
    scene.push(1)
    alice = scene.start("worker.py", "alice")
    verdict = scene.wait_done(within=8, question="What does your worker do when the work raises Rejected?")
    for what, task in zip([*BAD_TASKS, "a megabyte of x", "Infinity in the JSON"], bad, strict=True):
        scene.expect(task.number in verdict.dead, f"Not in the dead letters: {what}.", task=task.number)
    dead = letters(scene, ".dead")
    bodies = {letter.body for letter in dead}
    for task in bad:
        scene.expect(
            task.body in bodies,
            f"A dead letter is the task as it was, byte for byte; this one is missing: {shown(task.body)}",
            task=None,
        )
    for letter in dead:
        scene.expect(
            len(letter.reason) > 3 and type(letter.attempts) is int,
            f"A dead letter has the headers reason and attempts; this one has {sorted(letter.headers)}.",
            question="What will somebody need who looks at this letter next week?",
        )
        scene.expect(letter.persistent, "A dead letter is kept in memory only: a restart would take it.")
    scene.expect(
        len({letter.reason for letter in dead}) > 3,
        f"{len(dead)} tasks that are wrong in different ways became dead letters, all for the same reason: "
        f"{dead[0].reason[:60]!r}.",
        question="What does the exception say, and who will want to read it?",
    )
    scene.expect(
        not alice.lane.unconfirmed,
        "The worker publishes a copy of the task and acknowledges the original, and nobody has confirmed the copy.",
        question="Where is the task, if the broker dies between the two?",
        task=bad[0].number,
    )
    events = scene.history.events(WORK_STARTED)
    begun = [number for event in events for number in event.tasks]
    scene.expect(
        len(begun) == len(set(begun)),
        "A task that can never succeed was tried again.",
        question="What is the difference between a task that is wrong and a disk that is full?",
    )


@pytest.mark.check(points=5, after="tasks_are_done", todo=11)
def test_what_fails_is_tried_again_later(stage):
    """What fails for now is tried again, after waits that double"""
    stage.play_each(
        [waits_double, a_long_wait_holds_up_no_short_one], lambda play: play(stage.scene(play.__name__))
    )


def waits_double(scene):
    """Task 1 fails three times."""
    scene.settings = {"RETRY_SECONDS": 0.2}
    first, second = scene.push(2)
    scene.work.fail(first.number, "the disk is full", times=3)
    scene.start("worker.py", "alice")
    scene.wait_done(quiet=3)
    tried = [e.at for e in scene.history.events(WORK_STARTED) if first.number in e.tasks]
    scene.expect(
        len(tried) == 4,
        f"The work on task 1 failed three times; it was begun {len(tried)} times.",
        task=1,
        question="What does the worker count, and where does the count travel?",
    )
    order = scene.done_order()
    scene.expect(
        order.index(second.number) < len(order) - 1 - order[::-1].index(first.number),
        "Task 1 waits for another try, and task 2 was to be done meanwhile.",
        task=1,
    )
    failed = [e.at for e in scene.history.events(WORK_FAILED) if first.number in e.tasks]
    waits = [again - before for before, again in zip(failed, tried[1:], strict=True)]
    for number, (wait, least) in enumerate(zip(waits, (0.2, 0.4, 0.8), strict=True), start=1):
        scene.expect(
            wait >= 0.95 * least,
            f"With RETRY_SECONDS=0.2 the waits are 0.2, 0.4 and 0.8 s; the broker handed task 1 out again {wait:.2f} s "
            f"after attempt {number}.",
            question="Which queue does a task wait in, and what does that queue say about time?",
            task=1,
        )


def a_long_wait_holds_up_no_short_one(scene):
    """Task 1 waits for its third try when task 2 fails for the first time."""
    scene.settings = {"RETRY_SECONDS": 0.6}
    (first,) = scene.push(1)
    scene.work.fail(first.number, "the disk is full", times=2)
    scene.work.fail(first.number + 1, "the disk is full", times=1)
    scene.start("worker.py", "alice")
    scene.wait_until(lambda: len(settled(scene, first)) == 2, "task 1 was to fail twice, and to wait")
    (second,) = scene.push(1)
    scene.wait_done(quiet=3)
    if settled(scene, second)[0] - settled(scene, first)[1] > 0.45:
        raise TooSlow("task 2 failed too late to come first")
    scene.expect(
        scene.done_order()[-2:] == [second.number, first.number],
        "Task 1 had failed twice and waited for 1.2 s, when task 2 failed once, to wait for 0.6 s. "
        "Task 2 was to come first.",
        question="A task that expires behind another one: who looks at it, and when?",
        task=2,
    )


def settled(scene, task):
    """When the worker parted with the task: each time that it acknowledged or refused it."""
    settling = ("basic.ack", "basic.nack", "basic.reject")
    events = scene.history.events(COMMAND, "alice")
    return [event.at for event in events if event.verb in settling and task.number in event.tasks]


@pytest.mark.check(points=4, after="what_fails_is_tried_again_later", todo=11)
def test_retries_come_to_an_end(stage):
    """A task that fails for good is tried 1 + MAX_RETRIES times, and buried"""

    def play(most):
        scene = stage.scene(f"MAX_RETRIES={most}")
        scene.settings = {"MAX_RETRIES": most, "RETRY_SECONDS": 0.05}
        first, *_ = scene.push(2)
        scene.work.fail(first.number, "the disk is full")
        scene.start("worker.py", "alice")
        tried = lambda: sum(first.number in e.tasks for e in scene.history.events(WORK_STARTED))  # noqa: E731
        scene.wait(lambda: first.number in scene.holdings.dead() or tried() > 1 + most)
        dead = first.number in scene.holdings.dead()
        scene.expect(
            dead and tried() == 1 + most,
            f"With MAX_RETRIES={most} the work on task 1 fails each time: it was to be tried {1 + most} times and then "
            f"be a dead letter. It was tried {tried()} times{'' if dead else ', and is no dead letter'}.",
            question="How often has a task been tried that has been retried three times?",
            task=1,
        )
        scene.wait_done(quiet=2)
        letter = letters(scene, ".dead")[0]
        scene.expect(
            "the disk is full" in letter.reason and letter.attempts == 1 + most,
            f"The dead letter was to say why it failed last, and attempts: {1 + most}. It says reason: "
            f"{letter.reason[:60]!r}, attempts: {letter.attempts!r}.",
            task=1,
        )

    stage.play_each([3, 1], play)


@pytest.mark.check(points=3, after="tasks_are_done", todo=5)
def test_an_idle_worker_costs_nothing(scene):
    """An idle worker sends nothing, and begins as soon as a task comes"""
    alice = scene.start("worker.py", "alice")
    expect_little_while_idle(scene, alice, seconds=3, most=0, over=0)
    scene.wait_started(*scene.push(1))


@pytest.mark.check(points=4, after="tasks_are_done", todo=9)
def test_a_worker_stops_when_asked(stage):
    """SIGTERM: the task in hand is finished, the others go back"""

    def idle():
        scene = stage.scene("stopped while it waits")
        alice = scene.start("worker.py", "alice")
        scene.wait_until(alice.has_waited_for(0.3), "the worker was to consume, and to wait for a task")
        alice.terminate()
        expect_good_end(scene, alice)

    def busy():
        scene = stage.scene("stopped in the middle of a task, two more in its line")
        scene.settings = {"PREFETCH": 3}
        scene.work.hold()
        scene.push(4)
        bob = scene.start("worker.py", "bob")
        scene.wait_until(scene.at_work, "the worker was to begin")
        scene.wait_until(lambda: len(handed(scene, "bob")) == 3, "the broker was to hand 3 tasks to bob")
        bob.terminate()
        scene.wait(lambda: not bob.running, within=2.5)  # by then its loop has seen the signal
        scene.expect(
            bob.running,
            "SIGTERM came during the work on task 1; bob ended before it was done.",
            question="What becomes of a task whose worker hangs up before it has acknowledged it?",
            task=1,
        )
        scene.work.release()
        expect_good_end(scene, bob)
        scene.wait(lambda: scene.depth() >= 3)
        scene.wait(lambda: scene.depth() > 3, within=0.3)
        scene.expect(
            scene.depth() == 3,
            f"Task 1 was in hand when SIGTERM came, 2 and 3 were in bob's line, 4 in the queue; then {scene.depth()} "
            "tasks were in the queue.",
            question="What becomes of tasks that a worker was handed, and has not acknowledged when it hangs up?",
            task=1,
        )
        verdict = scene.verdict()
        scene.expect(
            (verdict.done_once, verdict.waiting) == ([1], [2, 3, 4]),
            "Task 1 was in hand when SIGTERM came, 2 and 3 were in bob's line, 4 in the queue. Then done: "
            f"{verdict.done_once}, waiting: {verdict.waiting}, lost: {verdict.lost}.",
            question="What becomes of tasks that a worker was handed, and has not acknowledged when it hangs up?",
            task=1,
        )

    def ctrl_c():
        expect_ctrl_c_finishes_the_task(stage.scene("stopped with Ctrl-C in the middle of a task"))

    stage.play_each([idle, busy, ctrl_c], lambda play: play())


def expect_good_end(scene, worker):
    """It ends with status 0, having said goodbye."""
    status = worker.wait_exit(
        question="What does the handler of a signal do, and what does the loop do that sees it?"
    )
    scene.expect(status == 0, f"After SIGTERM {worker.name} ended with status {status}, not with 0.")


@pytest.mark.check(points=6, after=("tasks_are_done", "rubbish_becomes_a_dead_letter"), todo=8)
def test_a_killed_worker_loses_nothing(stage):
    """A worker killed at any point loses nothing"""

    def begin(scene):
        scene.settings = QUICK
        *_, last = scene.push(1, b"rubbish", 1)
        scene.work.fail(last.number, "the disk is full", times=1)
        scene.start("worker.py", "alice")

    def go_on(scene):
        scene.start("worker.py", "bob")
        scene.wait_done(quiet=2)

    stage.at_every_point("alice", begin, go_on, kill, calm=until_done)


@pytest.mark.check(points=3, after="a_killed_worker_loses_nothing", todo=8)
def test_a_repeated_task_is_known_as_one(scene):
    """What the broker hands out again is marked, and the worker says so"""
    scene.work.hold(1)
    first, second = scene.push(2)
    alice = scene.start("worker.py", "alice")
    scene.wait_started(first)
    alice.kill()
    scene.work.release()
    bob = scene.start("worker.py", "bob")
    scene.wait_done()
    said = lambda: bob.process.output().splitlines()  # noqa: E731
    scene.wait(lambda: all(any(task.id in line for line in said()) for task in (first, second)), within=2)
    lines = said()
    marked = [line for line in lines if "redelivered" in line]
    scene.expect(
        len(marked) == 1 and first.id in marked[0],
        f"alice was killed during the work on task 1; bob did it, and then task {second.number}. He was to mark the "
        f"line about task 1, and no other, with the word redelivered. He said: {' / '.join(lines)[:200]}",
        question="What does the broker tell with each delivery?",
        task=1,
    )


@pytest.mark.check(points=4, after="tasks_are_done", todo=6)
def test_long_work_keeps_its_connection(scene):
    """Work longer than the heartbeat keeps its task and its connection"""
    scene.settings = {"HEARTBEAT_SECONDS": 1}
    scene.work.hold()
    first, *_ = scene.push(1)
    alice = scene.start("worker.py", "alice")
    scene.wait_started(first)
    scene.mind(alice, starving=1)
    scene.start("worker.py", "bob")
    again = lambda: len(consuming_connections(scene, "alice")) > 1 or not alice.running  # noqa: E731
    scene.wait(lambda: len(scene.at_work()) > 1 or again(), within=4.5)
    taken = (
        "took her for dead and gave her task to bob" if "bob" in scene.at_work() else "ended her connection"
    )
    scene.expect(
        scene.at_work() == {"alice"} and not again(),
        f"alice worked for more than four heartbeats; the broker {taken}.",
        question="Who answers the broker's heartbeats while the work goes on?",
        task=1,
    )
    scene.expect(
        alice.lane.heartbeats > 0,
        "HEARTBEAT_SECONDS is 1, and in more than four seconds of work alice sent no heartbeat.",
        question="How does the broker tell a worker that works for long from one whose machine is gone?",
        task=None,
    )
    scene.work.release()
    scene.wait_done()


def consuming_connections(scene, who):
    """The connections on which this worker has consumed so far; it may have others, to publish on."""
    return {event.link for event in scene.history.events(COMMAND, who) if event.verb in CONSUMING}


@pytest.mark.check(points=4, after="tasks_are_done", todo=7)
def test_an_outcome_that_comes_too_late_is_dropped(scene):
    """A connection lost during the work: its tags mean nothing later"""
    scene.settings = QUICK
    scene.work.hold(1)
    first, *_ = scene.push(3)
    alice = scene.start("worker.py", "alice")
    scene.wait_started(first)
    alice.lose_connections()
    scene.wait_until(
        lambda: len(consuming_connections(scene, "alice")) == 2 and alice.waits_for_a_task(),
        "alice's connection was cut during her work; she was to connect again, and consume",
        question="What does pika raise when the connection dies, and what does the worker do then?",
    )
    scene.work.release()
    all_done = lambda: scene.history.tasks(SENT) <= scene.history.tasks(WORK_FINISHED)  # noqa: E731
    scene.wait_until(
        lambda: all_done() or len(consuming_connections(scene, "alice")) > 2 or not alice.running,
        "alice was to go on",
    )
    scene.expect(
        len(consuming_connections(scene, "alice")) == 2 and alice.running,
        "alice's connection was cut during her work on task 1. When she had finished, her new connection died as well.",
        question="On which channel does a delivery tag mean something?",
        task=1,
    )


@pytest.mark.check(
    points=6,
    after=("a_killed_worker_loses_nothing", "the_producer_waits_for_the_confirm"),
    todo=4,
    alone=True,
)
def test_a_killed_broker_loses_nothing(stage):
    """The broker killed at any point and restarted: what it confirmed is done"""

    def begin(scene):
        scene.settings = QUICK
        *_, last = scene.push(1, b"rubbish", 1)
        scene.work.fail(last.number, "the disk is full", times=1)
        scene.start("worker.py", "alice")

    def patient(scene):
        alice = scene.actors[-1]
        expect_patience_without_a_broker(scene, alice)

    def go_on(scene):
        scene.wait_done(quiet=2, question="What does your worker do when its connection is gone?")
        (alice,) = scene.actors
        scene.expect(
            not alice.lane.fleeting,
            f"{scene.called(sorted(alice.lane.fleeting))}: declared without durable. A restart of the broker takes it, "
            "and what is in it.",
            question="Which queues does the broker keep on disk?",
            task=None,
        )

    def publish(scene):
        scene.settings = QUICK
        scene.start("producer.py", "--count", "3")

    def all_there(scene):
        producer = scene.actors[-1]
        status = producer.wait_exit(
            within=20, question="What does the producer do when its connection is gone?"
        )
        promised, there = queued_by(producer), {id_in(letter.body) for letter in letters(scene)}
        scene.expect(
            status == 0 and len(promised) == 3,
            f"The producer was to queue 3 tasks. It ended with status {status}, and called {len(promised)} queued.",
        )
        missing = [each for each in promised if each not in there]
        scene.expect(
            not missing,
            f"The broker was killed under the producer, which calls 3 tasks queued; {len(missing)} of them "
            "are not in the queue after the restart.",
            question="When does the broker confirm a task, and which tasks does it keep on disk?",
        )

    when_the_broker_dies(
        stage,
        Play("alice", begin, until_done, go_on, patient),
        Play("producer", publish, lambda scene: scene.actors[-1].wait_exit(), all_there),
    )


@pytest.mark.check(points=3, after="the_producer_publishes_tasks", todo=2)
def test_a_queue_declared_otherwise_is_explained(stage):
    """A queue that is there with other arguments is explained in one line"""

    def play(script, *args):
        scene = stage.scene(f"{script} finds a queue that was declared otherwise")
        scene.holdings.declare({"x-max-length": 7})
        actor = scene.start(script, *args, may_fail=True)
        status = actor.wait_exit()
        said = (actor.process.output() + actor.process.errors()).strip().splitlines()
        scene.expect(
            status == 1 and len(said) == 1 and scene.queue in said[0],
            f"The queue was declared by somebody else, with other arguments. {script} ended with status {status}, "
            "having said:\n" + "\n".join("    " + line for line in said[-4:]),
            question="What does the broker do to a channel that asks for what cannot be, and what does it say?",
        )

    stage.play_each([("worker.py", "alice"), ("producer.py", "--count", "1")], lambda case: play(*case))


@pytest.mark.check(points=2, after="tasks_are_done", todo=2)
def test_a_quorum_queue_will_do(scene):
    """With QUEUE_TYPE=quorum the queue is a quorum queue"""
    scene.settings = {"QUEUE_TYPE": "quorum"} | QUICK
    alice = scene.start("worker.py", "alice")
    scene.wait_until(alice.has_looked, "the worker was to declare the queue, and consume")
    kind = scene.holdings.queue_type()
    scene.expect(
        kind == "quorum",
        f"QUEUE_TYPE is quorum, and the queue that the worker declared is of the type {kind}."
        if kind
        else "The worker consumes, and there is no queue of the name in QUEUE.",
        question="Which argument of a declaration says what kind of queue it is to be?",
    )
    scene.work.fail(1, "the disk is full", times=1)
    scene.push(1, b"rubbish", 1)
    scene.wait_done(quiet=2)


@pytest.mark.check(points=3, todo=12)
def test_the_monitor_tells_the_truth(scene):
    """The monitor's numbers are those of the broker"""
    scene.settings = {"RETRY_SECONDS": 60}
    nothing = scene.start("monitor.py", "--once", "--json", name="before all")
    nothing.wait_exit()
    expect_numbers(scene, nothing, waiting=0, retrying=0, dead=0, workers=0)
    scene.work.hold(4)
    scene.push(1, b"rubbish", 1, 1, 2)
    scene.work.fail(1, "the disk is full")
    scene.work.fail(3, "the disk is full")
    seen = scene.start("monitor.py", "--once", "--json", name="before")
    seen.wait_exit()
    expect_numbers(scene, seen, waiting=6, retrying=0, dead=0, workers=0)
    alice = scene.start("worker.py", "alice")
    scene.wait_until(
        lambda: scene.at_work() and 4 in scene.history.tasks(WORK_STARTED), "alice was to come to task 4"
    )
    second = f"{scene.queue}.retry.2"
    scene.expect(
        second in scene.keys(),  # noqa: SIM118 (not a dict)
        f"There is no queue {scene.called([second])}, where a task waits that has failed twice.",
        question="Who makes the queues, and when?",
    )
    scene.holdings.publish(second, json.dumps(scene.run.new_task(scene)).encode())
    monitor = scene.start("monitor.py", "--once", "--json")
    monitor.wait_exit()
    expect_numbers(scene, monitor, waiting=2, retrying=3, dead=1, workers=1)
    scene.expect(
        not monitor.lane.queues,
        f"The monitor declared {scene.called(monitor.lane.queues)}: with other arguments no worker could start.",
        question="Which method asks for a queue without making one?",
        task=None,
    )
    scene.work.release()
    scene.wait_until(lambda: len(scene.history.tasks(WORK_FINISHED)) == 3, "alice was to do tasks 4, 5 and 6")
    scene.expect(
        "redelivered" not in alice.process.output(),
        "After the monitor's look the broker handed a task to alice that it marks as redelivered.",
        question="What has a monitor done that was handed a task, if only for a moment?",
    )


def expect_numbers(scene, monitor, **right):
    said = scene.json(monitor.process.output())
    scene.expect(
        said == right,
        f"The monitor was to say {right}. It said {monitor.process.output()[:200].strip()!r}.",
        question="Which method asks for a queue without making one, and what does its answer tell?",
        task=None,
    )


@pytest.mark.check(points=2, todo=1)
def test_without_a_broker_they_say_so(stage):
    """Without a broker each script says so in one line"""
    expect_words_without_a_broker(
        stage, {"producer.py": [], "worker.py": ["alice"], "monitor.py": ["--once"]}
    )


def until_done(scene):
    """A condition of calm: all is done, and the worker waits for more."""
    scene.wait_done(quiet=2)
