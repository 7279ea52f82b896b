"""The checks of lab 3: they play your scripts against a real broker, and kill them.

A scene is one play: a queue of its own, your processes, and a record of everything they did. `scene.push`
puts tasks into the queue, `scene.start` starts one of your scripts, and each wait is for an event, with a
deadline.
"""

import json

import pytest

from labkit.grader.crash import Hold
from labkit.grader.expectations import (
    expect_a_stop_without_a_broker,
    expect_ctrl_c_finishes_the_task,
    expect_little_while_idle,
    expect_nothing_lost_by_a_killed_helper,
    expect_oldest_first,
    expect_reasons,
    expect_words_without_a_broker,
    kill,
    kill_broker,
    scenes_of_long_work,
    shown,
)
from labkit.grader.material.lab03_reliable import BAD_TASKS, OPERATIONS, expect_right_pictures
from labkit.grader.tasks import id_in

QUICK = {"HEARTBEAT_SECONDS": 0.5, "BLOCK_SECONDS": 0.2, "RECONNECT_SECONDS": 0.05}


@pytest.mark.check(points=3, todo=1)
def test_the_producer_queues_tasks(scene):
    """The producer's tasks arrive, the newest on the left"""
    scene.start("producer.py", "--count", "3").wait_exit()
    earlier = scene.contents(scene.queue)
    scene.start("producer.py", "--count", "1", name="producer again").wait_exit()
    bodies = scene.contents(scene.queue)
    scene.expect(
        (len(earlier), len(bodies)) == (3, 4),
        f"The producer was asked for 3 tasks and then for 1; {len(earlier)}, then {len(bodies)} were queued.",
    )
    ids = set()
    for body in reversed(bodies):
        task = scene.json(body)
        scene.expect(isinstance(task, dict), f"A task is a JSON object; this is in the queue: {shown(body)}")
        scene.expect(id_in(body), f"The id of a task is a UUID; this one is {task.get('id')!r}.")
        image, operation = task.get("image"), task.get("operation")
        scene.expect(str(image) in scene.images(), f"The task asks for the image {image!r}; there is none.")
        scene.expect(operation in OPERATIONS, f"There is no operation {operation!r}.")
        ids.add(scene.adopt(body).id)
    scene.expect(len(ids) == 4, "Two of the tasks have the same id.", question="What makes an id new?")
    scene.expect(
        bodies[1:] == earlier,
        "The newest task did not go in at the left end; workers take from the right, so it is not done last.",
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
        scene.wait_until(lambda: scene.depth() == limit, "one of the producers was to take the last place")
        hold.release()
        answers = first.replies() + 4
        scene.wait(lambda: scene.depth() > limit or not first.running or first.replies() >= answers)
        scene.expect(
            scene.depth() <= limit,
            f"QUEUE_LIMIT is {limit} and {limit - 1} tasks waited. The first producer was held before its "
            f"command {held_before} while the second pushed; then both had: {scene.depth()} tasks waited.",
            question="What can happen between looking and pushing, and what makes the two one step?",
        )

    def knock(held_before):
        scene = stage.scene(f"the queue is full; the producer is held before its command {held_before}")
        scene.settings = {"QUEUE_LIMIT": limit, "FIRST_WAIT_SECONDS": 0.05, "LONGEST_WAIT_SECONDS": 0.1}
        scene.push(limit)
        hold = scene.lie_in_wait("first", Hold(scene, held_before))
        first = scene.start("producer.py", "--count", "1", name="first")
        scene.wait(lambda: hold.reached.is_set() or not first.running)
        scene.expect(
            scene.depth() == limit,
            f"QUEUE_LIMIT is {limit} and {limit} tasks waited. Before command {held_before} of a producer "
            f"with one more, {scene.depth()} tasks waited.",
            question="Does the producer look first, or push first?",
        )

    calm = stage.scene("one producer alone")
    calm.start("producer.py", "--count", "1", name="first").wait_exit()
    stage.play_each(range(2, 5), knock)
    stage.play_each(range(1, calm.actors[0].commands_sent() + 1), race)


@pytest.mark.check(points=3, after="the_producer_queues_tasks", todo=2)
def test_a_producer_waits_while_the_queue_is_full(scene):
    """A producer waits while the queue is full, then goes on"""
    scene.settings = {"QUEUE_LIMIT": 2, "FIRST_WAIT_SECONDS": 0.005, "LONGEST_WAIT_SECONDS": 1}
    scene.push(2)
    producer = scene.start("producer.py", "--count", "3")
    tries_or_ends = lambda: producer.replies() >= 4 or not producer.running  # noqa: E731
    scene.wait_until(tries_or_ends, "the producer was to try again and again")
    scene.wait(lambda: not producer.running, within=2.5)
    scene.expect(
        producer.running,
        "2 tasks may wait and 2 did; the producer ended without putting in its own 3.",
        question="What becomes of a task for which there is no room?",
    )
    tried = producer.commands_sent()
    scene.expect(
        tried <= 60,
        f"The queue was full for 2.5 s, and the producer sent {tried} commands in that time. "
        "Waits of 0.005 s that double up to 1 s need about 10 tries.",
        question="How long is the second wait, and how long the fifth?",
    )
    scene.expect(
        scene.depth() == 2,
        f"2 tasks may wait at once; {scene.depth()} did.",
        question="May a task go in when QUEUE_LIMIT tasks wait already?",
    )
    for _ in range(3):
        scene.ask("RPOP", scene.queue)
        scene.wait_until(lambda: scene.depth() == 2, "a place was free; the producer was to fill it")
    producer.wait_exit()


@pytest.mark.check(points=4, todo=5)
def test_tasks_are_done(scene):
    """Every task is done once, oldest first"""
    scene.push(5)
    body = json.dumps(scene.run.new_task(scene), separators=(",", ":"))  # as other languages write it
    scene.push(body.encode())
    scene.start("worker.py", "alice")
    scene.wait_done()
    expect_oldest_first(scene)


@pytest.mark.check(points=2, after="tasks_are_done", todo=6)
def test_the_pictures_are_right(scene):
    """Each task leaves one whole picture, the right one"""
    expect_right_pictures(scene)


@pytest.mark.check(points=3, after="tasks_are_done", todo=5)
def test_three_workers_share(scene):
    """Three workers work at the same time"""
    scene.work.hold()
    scene.push(9)
    scene.start("worker.py", "alice")
    scene.wait_until(scene.at_work, "the worker was to begin")  # only then the others: she has what she wants
    for name in ("bob", "carol"):
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
    expect_reasons(scene)


@pytest.mark.check(points=3, after="tasks_are_done", todo=5)
def test_an_idle_worker_costs_little(scene):
    """An idle worker sends at most one command a second"""
    expect_little_while_idle(scene, scene.start("worker.py", "alice"), seconds=4)
    scene.wait_started(*scene.push(1))


@pytest.mark.check(points=3, after="tasks_are_done", todo=6)
def test_a_worker_stops_when_asked(stage):
    """SIGTERM: the task in hand is finished, nothing is left behind"""
    idle = stage.scene("stopped while it waits")
    idle.settings = {"BLOCK_SECONDS": 0.2}
    alice = idle.start("worker.py", "alice")
    idle.wait_until(alice.has_looked, "the worker was to look for a task")

    busy = stage.scene("stopped in the middle of a task")
    busy.settings = {"BLOCK_SECONDS": 0.2}
    busy.work.hold()
    busy.push(3)
    bob = busy.start("worker.py", "bob")
    busy.wait_until(busy.at_work, "the worker was to begin")

    for scene, worker in ((idle, alice), (busy, bob)):
        worker.terminate()
        scene.work.release()
        status = worker.wait_exit(question="What does SIGTERM do to a blocking command, and to the loop?")
        scene.expect(status == 0, f"After SIGTERM {worker.name} ended with status {status}, not with 0.")
        left = [key for key in scene.keys() if key != scene.queue]  # noqa: SIM118 (not a dict)
        scene.expect(
            not left,
            f"{worker.name} was asked to stop with SIGTERM, and left {scene.called(left)} behind.",
            question="What is still to be done between the signal and the end?",
        )
    verdict = busy.verdict()
    busy.expect(
        (verdict.done_once, verdict.waiting) == ([1], [2, 3]),
        "Task 1 was in hand when SIGTERM came, 2 and 3 were waiting. Then "
        f"done: {verdict.done_once}, waiting: {verdict.waiting}, lost: {verdict.lost}.",
        question="When does the loop look whether it should stop?",
        task=1,
    )

    ctrl_c = stage.scene("stopped with Ctrl-C in the middle of a task")
    ctrl_c.settings = {"BLOCK_SECONDS": 0.2}
    expect_ctrl_c_finishes_the_task(ctrl_c)

    alone = stage.scene("stopped when the broker is gone")
    alone.settings = QUICK
    expect_a_stop_without_a_broker(alone, alone.start("worker.py", "dave"))


@pytest.mark.check(points=6, after=("tasks_are_done", "rubbish_is_set_aside"), todo=9)
def test_a_killed_worker_loses_nothing(stage):
    """A worker killed at any point loses nothing"""

    def begin(scene):
        scene.settings = QUICK
        scene.work.slow(1, seconds=0.25)  # long enough for a heartbeat
        scene.push(1, b"rubbish", 1)
        scene.start("worker.py", "alice")

    def go_on(scene):
        scene.start("worker.py", "bob")
        scene.wait_done(quiet=3)
        expect_one_rejected(scene)

    stage.at_every_point("alice", begin, go_on, kill, calm=until_done)


@pytest.mark.check(points=3, after="a_killed_worker_loses_nothing", todo=9)
def test_a_killed_helper_loses_nothing(stage):
    """A worker killed while it recovers another's tasks loses nothing"""
    expect_nothing_lost_by_a_killed_helper(stage, QUICK, "HEARTBEAT_SECONDS", calm=until_done)


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
        expect_one_rejected(scene)

    stage.at_every_point("alice", begin, go_on, kill_broker, calm=until_done, own_broker=True)


@pytest.mark.check(points=3, after="a_killed_worker_loses_nothing", todo=9)
def test_two_helpers_duplicate_nothing(stage):
    """Two workers that recover at once duplicate nothing"""

    def begin(title, held_before):
        scene = stage.scene(f"bob is held before his command {held_before}; {title}")
        scene.settings = QUICK
        scene.work.hold()
        first, _ = scene.push(2)
        alice = scene.start("worker.py", "alice")
        scene.wait_started(first)
        alice.kill()
        return scene, first, scene.lie_in_wait("bob", Hold(scene, held_before, longest=1))

    def another_helps(held_before):
        scene, first, hold = begin("carol recovers too", held_before)
        scene.work.release()
        bob = scene.start("worker.py", "bob", HEARTBEAT_SECONDS=2, BLOCK_SECONDS=2)
        scene.wait(hold.reached.is_set)
        scene.start("worker.py", "carol")
        scene.wait(lambda: scene.finished(first), within=3)
        hold.release()
        scene.wait(lambda: bob.replies() >= held_before + 4, within=3)
        scene.wait_done(quiet=3)

    def the_owner_comes_back(held_before):
        scene, _, hold = begin("alice comes back", held_before)
        bob = scene.start("worker.py", "bob", HEARTBEAT_SECONDS=3)
        scene.wait(hold.reached.is_set)
        scene.start("worker.py", "alice", name="alice again", HEARTBEAT_SECONDS=3)
        scene.wait(lambda: len(scene.at_work()) == 2, within=3)
        hold.release()
        scene.wait(lambda: bob.replies() >= held_before + 2, within=3)
        scene.work.release()
        scene.wait_done(quiet=3)

    cases = [(another_helps, number) for number in range(6, 14)]
    cases += [(the_owner_comes_back, number) for number in range(5, 9)]
    stage.play_each(cases, lambda case: case[0](case[1]))


@pytest.mark.check(points=3, after="a_killed_worker_loses_nothing", todo=3)
def test_a_living_worker_is_left_alone(stage):
    """A worker deep in long work is not taken for dead"""
    settings = QUICK | {"HEARTBEAT_SECONDS": 1.2}
    long_work = scenes_of_long_work(stage, settings, "HEARTBEAT_SECONDS heartbeat")
    stage.play_each(long_work, lambda play: play())


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
        lambda: scene.where().get(1) == [scene.run.lab.queue] or 1 in scene.done_order()[1:],
        "alice was killed with task 1 in her hands, and it was to come back to the queue",
        task=1,
    )
    scene.work.release()
    scene.wait_done()
    by_bob = scene.done_order()[1:]
    scene.expect(
        by_bob in ([2, 1, 3, 4], [1, 2, 3, 4]),
        f"Task 1 came back when bob had begun with task 2 at most; he did them in the order {by_bob}.",
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
    scene.wait_done(question="Nobody else may touch alice's list while her heartbeat is there. Who may?")
    order = scene.done_order()[1:]
    scene.expect(
        order == [1, 2],
        f"Task 1 was in alice's hands when she was killed. She came back and did them in the order {order}.",
        question="Which end of the queue is taken from next?",
        task=1,
    )


@pytest.mark.check(points=2, after="tasks_are_done", todo=10)
def test_the_monitor_tells_the_truth(scene):
    """The monitor's numbers are those of the broker"""
    scene.work.hold()
    scene.push(b"rubbish", 4)
    scene.start("worker.py", "alice", HEARTBEAT_SECONDS=60)
    scene.wait_until(scene.at_work, "the worker was to begin")
    zoe = scene.start("worker.py", "zoe", HEARTBEAT_SECONDS=0.5)
    scene.wait_until(lambda: "zoe" in scene.at_work(), "the second worker was to begin")
    zoe.kill()
    scene.wait(lambda: f"{scene.queue}:heartbeat:zoe" not in scene.keys(), within=3)  # noqa: SIM118 (not a dict)
    monitor = scene.start("monitor.py", "--once", "--json")
    monitor.wait_exit()
    expected = {"waiting": 2, "processing": {"alice": 1, "zoe": 1}, "alive": ["alice"], "rejected": 1}
    seen = scene.json(monitor.process.output())
    scene.expect(
        seen == expected,
        f"2 tasks waited, alice was at work on one, zoe is dead and left one, one was rejected.\n"
        f"expected  {json.dumps(expected)}\n"
        f"seen      {json.dumps(seen) if seen else monitor.process.output()[:200]}",
        task=None,
    )


@pytest.mark.check(
    points=2, after=("tasks_are_done", "the_producer_queues_tasks", "the_monitor_tells_the_truth")
)
def test_without_a_broker_they_say_so(stage):
    """Without a broker each script says so in one line"""
    scripts = {"producer.py": ["--count", "1"], "worker.py": ["alice"], "monitor.py": ["--once"]}
    expect_words_without_a_broker(stage, scripts)


def expect_one_rejected(scene):
    count = len(scene.contents(f"{scene.queue}:rejected"))
    scene.expect(
        count == 1,
        f"Task 2 is rubbish; it is on the rejected list {count} times.",
        question="What makes leaving one list and entering the other one step?",
        task=2,
    )


def until_done(scene):
    scene.wait_done()
    scene.wait(scene.actors[-1].waits_for_a_task, within=1)
