"""The checks of lab 3: they play your scripts against a real broker, and kill them.

A scene is one play: a queue of its own, your processes, and a record of everything they did. `scene.push` puts tasks
into the queue, `scene.start` starts one of your scripts, and each wait is for an event, with a deadline.
"""

import json
import uuid
from itertools import product

import pytest

from labkit.grader.crash import Hold
from labkit.grader.material.lab03_reliable import BAD_TASKS, OPERATIONS, PHOTOS, expected_image

QUICK = {"HEARTBEAT_SECONDS": 0.5, "BLOCK_SECONDS": 0.2, "RECONNECT_SECONDS": 0.05}
NO_BROKER = "redis://127.0.0.1:1/0"


@pytest.mark.check(points=3, todo=1)
def test_the_producer_queues_tasks(scene):
    """The producer's tasks arrive, the newest on the left"""
    scene.start("producer.py", "--count", "3").wait_exit()
    earlier = scene.contents(scene.queue)
    scene.start("producer.py", "--count", "1", name="producer again").wait_exit()
    bodies = scene.contents(scene.queue)
    scene.expect(
        (len(earlier), len(bodies)) == (3, 4),
        f"The producer was asked for 3 tasks and then for 1; {len(earlier)} and then {len(bodies)} were in the queue.",
    )
    tasks = [json.loads(scene.adopt(body).body) for body in reversed(bodies)]
    for task in tasks:
        uuid.UUID(task["id"])
        scene.expect(task["image"] in scene.images(), f"The task asks for the image {task['image']!r}; there is none.")
        scene.expect(task["operation"] in OPERATIONS, f"There is no operation {task['operation']!r}.")
    scene.expect(len({task["id"] for task in tasks}) == 4, "Two of the tasks have the same id.")
    scene.expect(
        bodies[1:] == earlier,
        "The newest task did not go in at the left end; workers take from the right, so it would not be done last.",
        question="Which end does LPUSH push to?",
    )


@pytest.mark.check(points=4, after="the_producer_queues_tasks", todo=1)
def test_producers_never_pass_the_limit(stage):
    """Two producers at once never pass the limit"""
    limit = 5

    def race(held_before):
        scene = stage.scene(f"the first producer is held before its command {held_before}")
        scene.settings = {"QUEUE_LIMIT": limit, "FIRST_WAIT_SECONDS": 0.05, "LONGEST_WAIT_SECONDS": 0.1}
        scene.push(limit - 1)
        hold = scene.lie_in_wait("first", Hold(scene, held_before))
        first = scene.start("producer.py", "--count", "1", name="first")
        scene.wait(lambda: hold.reached.is_set() or not first.running)
        scene.start("producer.py", "--count", "1", name="second")
        scene.wait_until(lambda: scene.depth() == limit, "one of the two producers was to take the last place")
        hold.release()
        answers = first.replies() + 4
        scene.wait(lambda: scene.depth() > limit or not first.running or first.replies() >= answers)
        scene.expect(
            scene.depth() <= limit,
            f"QUEUE_LIMIT is {limit} and {limit - 1} tasks waited. The first producer was held before its command "
            f"{held_before} while the second pushed; then both had pushed, and {scene.depth()} tasks waited.",
            question="What can happen between looking at the length and pushing, and what makes the two one step?",
        )

    calm = stage.scene("one producer alone")
    calm.start("producer.py", "--count", "1", name="first").wait_exit()
    stage.play_each(range(1, calm.actors[0].commands_sent() + 1), race)


@pytest.mark.check(points=3, after="the_producer_queues_tasks", todo=2)
def test_a_producer_waits_while_the_queue_is_full(scene):
    """A producer waits while the queue is full, and goes on when there is room"""
    scene.settings = {"QUEUE_LIMIT": 2, "FIRST_WAIT_SECONDS": 0.02, "LONGEST_WAIT_SECONDS": 1}
    scene.push(2)
    producer = scene.start("producer.py", "--count", "3")
    scene.wait_until(lambda: producer.replies() >= 4, "the producer was to try again and again")
    scene.wait(lambda: not producer.running, within=2.5)
    scene.expect(producer.running, "2 tasks may wait and 2 did; the producer ended without putting in its own 3.")
    tried = producer.commands_sent()
    scene.expect(
        tried <= 60,
        f"The queue was full for 2.5 s, and the producer sent {tried} commands in that time. "
        "Waits of 0.02 s that double up to 1 s need about 8 tries.",
        question="How long is the second wait, and how long the fifth?",
    )
    scene.expect(scene.depth() == 2, f"2 tasks may wait at once; {scene.depth()} did.")
    for _ in range(3):
        scene.ask("RPOP", scene.queue)
        scene.wait_until(lambda: scene.depth() == 2, "a place was free; the producer was to fill it")
    producer.wait_exit()


@pytest.mark.check(points=4, todo=5)
def test_tasks_are_done(scene):
    """Every task is done once, oldest first"""
    scene.push(6)
    scene.start("worker.py", "alice")
    scene.wait_done()
    order = scene.done_order()
    scene.expect(
        order == sorted(order),
        f"Tasks 1 to 6 went in in this order; they were done in the order {order}.",
        question="The producer pushes at the left end. At which end is the oldest task?",
    )


@pytest.mark.check(points=2, after="tasks_are_done", todo=6)
def test_the_pictures_are_right(scene):
    """Each task leaves one whole picture, the right one"""
    wanted = [
        {"id": str(uuid.uuid4()), "image": image, "operation": operation}
        for image, operation in product(PHOTOS, OPERATIONS)
    ]
    scene.push(*wanted)
    scene.start("worker.py", "alice")
    scene.wait_done()
    written = {path.stem: path for path in scene.outputs.iterdir()}
    scene.expect(len(written) == len(wanted), f"{len(wanted)} pictures were asked for; {len(written)} are there.")
    for number, task in enumerate(wanted, start=1):
        scene.expect(
            task["id"] in written and written[task["id"]].read_bytes() == expected_image(scene.run.inputs, task),
            f"{task['operation']} of {task['image']} is not the picture it should be.",
            task=number,
        )


@pytest.mark.check(points=3, after="tasks_are_done", todo=5)
def test_three_workers_share(scene):
    """Three workers work at the same time"""
    scene.work.hold()
    scene.push(9)
    for name in ("alice", "bob", "carol"):
        scene.start("worker.py", name)
    scene.wait_until(
        lambda: len(scene.at_work()) == 3,
        "9 tasks waited, and three workers were to be at work at the same time",
        question="What does one worker do that keeps the others from their tasks?",
    )
    scene.work.release()
    scene.wait_done()


@pytest.mark.check(points=5, after="tasks_are_done", todo=8)
def test_rubbish_is_set_aside(scene):
    """What can never succeed is set aside with its reason"""
    scene.push(1)
    bad = scene.push(*BAD_TASKS.values())
    scene.push(1)
    scene.start("worker.py", "alice")
    verdict = scene.wait_done(question="What does your worker do when the work raises Rejected?")
    for what, task in zip(BAD_TASKS, bad, strict=True):
        scene.expect(task.number in verdict.dead, f"Not on the rejected list: {what}.", task=task.number)
    for entry in scene.contents(f"{scene.queue}:rejected"):
        kept = scene.json(entry)
        scene.expect(
            isinstance(kept, dict) and len(str(kept.get("reason", ""))) > 3 and "body" in kept,
            f"Each entry of the rejected list is a JSON object with a reason and a body; this one is {entry[:80]!r}.",
        )


@pytest.mark.check(points=3, after="tasks_are_done", todo=5)
def test_an_idle_worker_costs_little(scene):
    """An idle worker sends at most one command a second"""
    seconds = 4
    alice = scene.start("worker.py", "alice")
    scene.wait_until(alice.has_looked, "the worker was to look for a task")
    before = alice.commands_sent()
    scene.wait(lambda: not alice.running, within=seconds)
    sent = alice.commands_sent() - before
    scene.expect(
        sent <= seconds + 1,
        f"The queue was empty for {seconds} s, and the worker sent {sent} commands: {sent / seconds:.0f} a second.",
        question="Which command waits at the broker instead of asking again and again?",
    )
    scene.wait_until(
        alice.waits_for_a_task,
        "while the queue is empty the worker was to wait in a blocking command",
        question="What does the worker do between two looks, when a task comes in just then?",
    )
    scene.wait_started(*scene.push(1))


@pytest.mark.check(points=3, after="tasks_are_done", todo=6)
def test_a_worker_stops_when_asked(stage):
    """SIGTERM: the task in hand is finished, nothing is left behind"""
    idle = stage.scene("stopped while it waits")
    idle.settings = QUICK
    alice = idle.start("worker.py", "alice")
    idle.wait_until(alice.has_looked, "the worker was to look for a task")

    busy = stage.scene("stopped in the middle of a task")
    busy.settings = QUICK
    busy.work.hold()
    busy.push(3)
    bob = busy.start("worker.py", "bob")
    busy.wait_until(busy.at_work, "the worker was to begin")

    for scene, worker in ((idle, alice), (busy, bob)):
        worker.terminate()
        scene.work.release()
        status = worker.wait_exit(question="What happens to a blocking command, and to the loop, when SIGTERM comes?")
        scene.expect(status == 0, f"Asked to stop with SIGTERM, {worker.name} ended with status {status}, not with 0.")
        left = [key for key in scene.keys() if key != scene.queue]
        scene.expect(not left, f"{worker.name} stopped in good order and left {scene.called(left)} behind.")
    verdict = busy.verdict()
    busy.expect(
        (verdict.done_once, verdict.waiting) == ([1], [2, 3]),
        "Task 1 was in hand when SIGTERM came, 2 and 3 were waiting. Then "
        f"done: {verdict.done_once}, waiting: {verdict.waiting}, lost: {verdict.lost}.",
        question="When does the loop look whether it should stop?",
        task=1,
    )


@pytest.mark.check(points=6, after=("tasks_are_done", "rubbish_is_set_aside"), todo=9)
def test_a_killed_worker_loses_nothing(stage):
    """A worker killed at any point loses nothing"""

    def begin(scene):
        scene.settings = QUICK
        scene.push(1, b"rubbish", 1)
        scene.start("worker.py", "alice")

    def go_on(scene):
        scene.start("worker.py", "bob")
        scene.wait_done(quiet=3)

    stage.at_every_point("alice", begin, go_on, kill, calm=until_done)


@pytest.mark.check(points=3, after="a_killed_worker_loses_nothing", todo=9)
def test_a_killed_helper_loses_nothing(stage):
    """A worker killed while it recovers another's tasks loses nothing"""

    def begin(scene):
        scene.settings = QUICK
        scene.work.hold(1)
        first, _ = scene.push(2)
        alice = scene.start("worker.py", "alice")
        scene.wait_started(first)
        alice.kill()
        scene.work.release()
        scene.start("worker.py", "bob")

    def go_on(scene):
        scene.start("worker.py", "carol")
        scene.wait_done(quiet=3)

    stage.at_every_point("bob", begin, go_on, kill, calm=until_done)


@pytest.mark.check(points=5, after=("tasks_are_done", "rubbish_is_set_aside"), todo=4)
def test_a_killed_broker_loses_nothing(stage):
    """A broker killed at any point and restarted loses nothing"""

    def begin(scene):
        scene.settings = QUICK | {"HEARTBEAT_SECONDS": 3}
        scene.push(1, b"rubbish", 1)
        scene.start("worker.py", "alice")

    def go_on(scene):
        scene.restart_broker()
        scene.wait_done(question="What does your worker still hold when its connection comes back?")

    def kill_broker(actor, point):
        actor.scene.kill_broker(point)

    stage.at_every_point("alice", begin, go_on, kill_broker, calm=until_done, own_broker=True)


@pytest.mark.check(points=3, after="a_killed_worker_loses_nothing", todo=9)
def test_two_helpers_duplicate_nothing(stage):
    """Two workers that recover at once duplicate nothing"""

    def play(held_before):
        scene = stage.scene(f"bob is held before his command {held_before}")
        scene.settings = QUICK
        scene.work.hold()
        first, _ = scene.push(2)
        alice = scene.start("worker.py", "alice")
        scene.wait_started(first)
        alice.kill()
        scene.work.release()
        hold = scene.lie_in_wait("bob", Hold(scene, held_before))
        scene.start("worker.py", "bob", HEARTBEAT_SECONDS=3)
        scene.wait(hold.reached.is_set)
        scene.start("worker.py", "carol")
        scene.wait(lambda: scene.finished(first), within=3)
        hold.release()
        scene.wait_done(quiet=3)

    stage.play_each(range(4, 10), play)


@pytest.mark.check(points=3, after="a_killed_worker_loses_nothing", todo=3)
def test_a_living_worker_is_left_alone(scene):
    """A worker deep in long work is not taken for dead"""
    scene.settings = QUICK | {"HEARTBEAT_SECONDS": 1.5}
    scene.work.hold(1)
    first, *_ = scene.push(1)
    scene.start("worker.py", "alice")
    scene.wait_started(first)
    scene.start("worker.py", "bob")
    scene.wait(lambda: len(scene.at_work()) > 1, within=4.5)
    scene.expect(
        scene.at_work() == {"alice"},
        "alice worked on task 1 for three times HEARTBEAT_SECONDS; meanwhile it was handed to bob.",
        question="Who renews the heartbeat while the work goes on?",
        task=1,
    )
    scene.work.release()
    scene.wait_done()


@pytest.mark.check(points=2, after="a_killed_worker_loses_nothing", todo=9)
def test_recovered_tasks_come_first(scene):
    """Tasks of a dead worker go back to the head of the queue"""
    scene.settings = QUICK
    scene.work.hold()
    first, *_ = scene.push(1)
    alice = scene.start("worker.py", "alice")
    scene.wait_started(first)
    alice.kill()
    scene.push(3)
    scene.start("worker.py", "bob")
    scene.wait_until(
        lambda: scene.where().get(1) == [scene.run.lab.queue],
        "alice was killed with task 1 in her hands, and it was to come back to the queue",
        task=1,
    )
    scene.work.release()
    scene.wait_done()
    by_bob = scene.done_order()[1:]
    scene.expect(
        by_bob == [2, 1, 3, 4],
        f"Task 1 came back while bob was at task 2, so it was to be next; he did them in the order {by_bob}.",
        question="Which end of the queue is taken from next?",
        task=1,
    )


@pytest.mark.check(points=2, after="tasks_are_done", todo=4)
def test_a_worker_that_comes_back_finds_its_tasks(scene):
    """A worker that comes back under its old name finds its tasks"""
    scene.settings = QUICK | {"HEARTBEAT_SECONDS": 30}
    scene.work.hold()
    first, _ = scene.push(2)
    alice = scene.start("worker.py", "alice")
    scene.wait_started(first)
    alice.kill()
    scene.work.release()
    scene.start("worker.py", "alice", name="alice again")
    scene.wait_done(question="Nobody else may touch alice's list while her heartbeat lives. Who looks into it?")


@pytest.mark.check(points=2, after="tasks_are_done", todo=10)
def test_the_monitor_tells_the_truth(scene):
    """The monitor's numbers are those of the broker"""
    scene.work.hold()
    scene.push(b"rubbish", 3)
    scene.start("worker.py", "alice")
    scene.wait_until(scene.at_work, "the worker was to begin")
    scene.ask("LPUSH", f"{scene.queue}:processing:zoe", '{"id": "left by a dead worker"}')
    monitor = scene.start("monitor.py", "--once", "--json")
    monitor.wait_exit()
    expected = {"waiting": 2, "processing": {"alice": 1, "zoe": 1}, "alive": ["alice"], "rejected": 1}
    seen = scene.json(monitor.process.output())
    scene.expect(
        seen == expected,
        f"2 tasks waited, alice was at work on one, zoe is dead and left one, one was rejected.\n"
        f"expected  {json.dumps(expected)}\nseen      {json.dumps(seen) if seen else monitor.process.output()[:200]}",
        task=None,
    )


@pytest.mark.check(points=2, after=("tasks_are_done", "the_producer_queues_tasks", "the_monitor_tells_the_truth"))
def test_without_a_broker_they_say_so(stage):
    """Without a broker each script says so in one line"""
    for script, args in (("producer.py", ["--count", "1"]), ("worker.py", ["alice"]), ("monitor.py", ["--once"])):
        scene = stage.scene(f"{script} without a broker")
        actor = scene.start(script, *args, may_fail=True, VALKEY_URL=NO_BROKER)
        status = actor.wait_exit()
        said = (actor.process.output() + actor.process.errors()).strip().splitlines()
        scene.expect(
            status == 1 and len(said) == 1,
            f"{script} was started without a broker. It ended with status {status}, having said:\n"
            + "\n".join("    " + line for line in said[-4:]),
            question="Which exception does the client raise, and where is it caught?",
        )


def kill(actor, point):
    actor.kill(point)


def until_done(scene):
    scene.wait_done()
    scene.wait(scene.actors[-1].waits_for_a_task, within=1)
