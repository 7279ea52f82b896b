"""The checks of lab 5: one policy after the other, your producer and your workers are started, and their mail is read.

A scene is one play: a queue of its own, your processes, and a record of everything they did. `by_producer` has your
own producer queue tasks, `push` puts them into the list of a level, `scene.start` starts one of your scripts, and each
wait is for an event, with a deadline. The mail server is the grader's: a task is done when its mail has arrived there.
"""

import json

import pytest

from labkit.grader.commands import TAKING
from labkit.grader.crash import Hold
from labkit.grader.expectations import (
    expect_a_good_stop,
    expect_a_stop_without_a_broker,
    expect_bodies_as_they_were,
    expect_ctrl_c_finishes_the_task,
    expect_little_while_idle,
    expect_new_ids_newest_left,
    expect_only_the_task_in_hand_is_lost,
    expect_patience_without_a_broker,
    expect_reasons,
    expect_words_without_a_broker,
    kill,
    kill_broker,
    scenes_of_long_work,
    shown,
    terminate,
)
from labkit.grader.history import COMMAND, REPLY, WORK_STARTED
from labkit.grader.material.lab05_priorities import (
    BAD_TASKS,
    LEVELS,
    UNSENDABLE,
    AfterAWait,
    BeforeAWait,
    Stock,
    by_producer,
    level_of,
    push,
    start_producer,
)
from labkit.grader.steps import command_line
from labkit.grader.tasks import id_in
from labkit.grader.words import counted, names

QUICK = {"BLOCK_SECONDS": 0.2, "RECONNECT_SECONDS": 0.05, "HEARTBEAT_SECONDS": 0.5}
LONG = {"BLOCK_SECONDS": 30}  # no wait ends by itself while the scene is played
STRETCH = 20  # tasks in a row, within which each level gets its share


# ---- step 1: strict ----------------------------------------------------------------------------------------


@pytest.mark.check(points=3, todo=1)
def test_strict_the_producer_queues_tasks(scene):
    """Strict: a task arrives in the list of its level, on the left"""
    for level in LEVELS:
        key = f"{scene.queue}:{level}"
        scene.start("producer.py", level, "--count", "2", "--policy", "strict", name=level).wait_exit()
        earlier = scene.contents(key)
        scene.start("producer.py", level, name=f"{level} again", POLICY="strict").wait_exit()
        bodies = scene.contents(key)
        scene.expect(
            (len(earlier), len(bodies)) == (2, 3),
            f"The producer was asked for 2 tasks of the level {level} and then for 1; {len(earlier)}, then "
            f"{len(bodies)} were in {scene.called([key])}.",
            question="Which list belongs to which level?",
        )
        for body in bodies:
            expect_a_task(scene, body, level)
            scene.adopt(body)
        expect_new_ids_newest_left(scene, earlier, bodies, [id_in(body) for body in bodies])


@pytest.mark.check(points=3, todo=2)
def test_strict_the_urgent_go_first(scene):
    """Strict: high before normal before low, and within a level the oldest first"""
    play_the_order(scene, "strict", lambda level, count: push(scene, level, count))


@pytest.mark.check(points=2, after="strict_the_urgent_go_first", todo=2)
def test_strict_an_idle_worker_waits_for_all_levels(stage):
    """Strict: an idle worker costs little, and a task of any level wakes it"""
    play_a_quiet_time(stage, "strict")


@pytest.mark.check(points=1, after="strict_the_urgent_go_first", todo=2)
def test_strict_three_workers_share(scene):
    """Strict: three workers work at the same time"""
    scene.work.hold()
    for level in LEVELS:
        push(scene, level, 3)
    for name in ("alice", "bob", "carol"):
        scene.start("worker.py", name, "--policy", "strict")
    scene.wait_until(
        lambda: len(scene.at_work()) == 3,
        "9 tasks waited, and three workers were to be at work at the same time",
        question="What does one worker do that keeps the others from their tasks?",
    )
    scene.work.release()
    scene.wait_done()


@pytest.mark.check(points=2, after="strict_the_urgent_go_first", todo=3)
def test_strict_rubbish_becomes_a_dead_letter(scene):
    """Strict: what is no mail task becomes a dead letter with its reason"""
    scene.settings = QUICK
    push(scene, "normal", 1)
    bad = push(scene, "normal", *BAD_TASKS.values(), *UNSENDABLE.values())
    (refused,) = push(scene, "normal", 1)
    push(scene, "low", 1)
    scene.work.fail(refused.number, "no such mailbox")
    scene.start("worker.py", "alice", "--policy", "strict")
    verdict = scene.wait_done(question="What does your worker do with a task that is Rejected?")
    whats = [*BAD_TASKS, *UNSENDABLE, "a mail that the mail server refused"]
    for what, task in zip(whats, [*bad, refused], strict=True):
        scene.expect(task.number in verdict.dead, f"Not among the dead letters: {what}.", task=task.number)
    expect_reasons(scene, ":dead", "dead letters")
    expect_bodies_as_they_were(scene, bad, ":dead", "dead letters")


@pytest.mark.check(
    points=2, after=("strict_the_urgent_go_first", "strict_rubbish_becomes_a_dead_letter"), todo=2
)
def test_strict_a_worker_stops_when_asked(stage):
    """Strict: SIGTERM at any moment, and the mail in hand is sent"""

    def go_on(scene):
        expect_a_good_stop(scene, scene.actors[0])

    stage.at_every_point(
        "alice", begin_strict, go_on, terminate, calm=until_idle, cuts=False, from_the_first_take=True
    )

    ctrl_c = stage.scene("stopped with Ctrl-C in the middle of a task")
    ctrl_c.settings = QUICK
    expect_ctrl_c_finishes_the_task(ctrl_c, lambda count: push(ctrl_c, "low", count))


@pytest.mark.check(
    points=2, after=("strict_the_urgent_go_first", "strict_rubbish_becomes_a_dead_letter"), todo=2
)
def test_strict_a_kill_loses_the_task_in_hand_and_no_other(stage):
    """Strict: a kill loses the task in hand, and no other"""
    stage.at_every_point(
        "alice",
        begin_strict,
        lambda scene: bob_goes_on(stage, scene, "strict"),
        kill,
        calm=until_idle,
        from_the_first_take=True,
    )


@pytest.mark.check(points=2, after="strict_the_urgent_go_first", todo=2)
def test_strict_a_worker_outlives_its_broker(stage):
    """Strict: a worker outlives its broker, and goes on when it is back"""
    scene = stage.scene(own_broker=True)
    scene.settings = QUICK
    alice = scene.start("worker.py", "alice", "--policy", "strict")
    scene.wait_until(alice.waits_for_a_task, "the worker was to wait in a blocking command")
    scene.kill_broker()
    expect_patience_without_a_broker(scene, alice)
    scene.restart_broker()
    push(scene, "low", 2)
    scene.wait_done(question="The broker is back. Who tells the worker?")


@pytest.mark.check(points=1, after="strict_the_urgent_go_first", todo=10)
def test_strict_the_monitor_tells_the_truth(scene):
    """Strict: the monitor's numbers are those of the broker"""
    play_a_look(scene, "strict")


# ---- step 2: a sorted set ----------------------------------------------------------------------------------


@pytest.mark.check(points=3, todo=4)
def test_sorted_the_urgent_go_first(scene):
    """Sorted: high before normal before low, and within a level the oldest first"""
    play_the_order(scene, "sorted", lambda level, count: by_producer(scene, "sorted", level, count))


@pytest.mark.check(points=2, after="sorted_the_urgent_go_first", todo=4)
def test_sorted_two_producers_keep_the_order(stage):
    """Sorted: what is queued later is done later, whoever queues it"""

    def race(held_before):
        scene = stage.scene(f"the first producer is held before its command {held_before}")
        hold = scene.lie_in_wait(
            "producer", Hold(scene, held_before, longest=4)
        )  # a client gives up after 5 s
        first = start_producer(scene, "sorted", "normal", may_fail=True)
        scene.wait_until(hold.reached.is_set, f"the producer was to send command {held_before}")
        second = by_producer(scene, "sorted", "normal", 4)
        hold.release()
        first.actor.wait_exit()
        (last,) = by_producer(scene, "sorted", "normal")
        scene.start("worker.py", "alice", "--policy", "sorted", **QUICK)
        scene.wait_done()
        order = scene.done_order()
        seconds = [number for number in order if number in {task.number for task in second}]
        scene.expect(
            order[-1] == last.number and seconds == sorted(seconds),
            f"One producer was held before its command {held_before}, while a second queued "
            f"{names(task.number for task in second)} and ended. Then the first went on and ended, and a third "
            f"queued task {last.number}. All are of the level normal; work on them began in the order {order}.",
            question="Where does the number of a task come from, and who else may get the same one?",
            task=last.number if order[-1] != last.number else second[0].number,
        )

    calm = stage.scene("one producer alone")
    by_producer(calm, "sorted", "normal")
    stage.play_each(range(1, calm.actors[0].commands_sent() + 1), race)


@pytest.mark.check(points=1, after="sorted_the_urgent_go_first", todo=4)
def test_sorted_many_tasks_do_not_overtake(scene):
    """Sorted: the levels stay apart after many tasks"""
    low, *_ = by_producer(scene, "sorted", "low", 110)
    more = scene.ask("TYPE", f"{scene.queue}:number") == "string"
    if more:
        scene.ask("INCRBY", f"{scene.queue}:number", 20_000)  # as if so many had come, and been done
    (normal,) = by_producer(scene, "sorted", "normal")
    (high,) = by_producer(scene, "sorted", "high")
    scene.work.hold(low.number)
    scene.start("worker.py", "alice", "--policy", "sorted")
    scene.wait_started(low)
    order = scene.done_order()
    scene.expect(
        order == [high.number, normal.number, low.number],
        f"110 low tasks were queued, then{', when 20,000 more had come and were done,' if more else ''} task "
        f"{normal.number}, which is normal, then task {high.number}, which is high. Begun until the first low one "
        f"was in hand: {order}.",
        question="How far apart are the scores of two levels, and how far does the number of a task go?",
        task=high.number,
    )


@pytest.mark.check(points=1, after="sorted_the_urgent_go_first", todo=5)
def test_sorted_an_idle_worker_waits_for_all_levels(stage):
    """Sorted: an idle worker costs little, and a task of any level wakes it"""
    play_a_quiet_time(stage, "sorted")


@pytest.mark.check(points=1, after="sorted_the_urgent_go_first", todo=5)
def test_sorted_a_kill_loses_the_task_in_hand_and_no_other(stage):
    """Sorted: a kill loses the task in hand, and no other"""
    play_kills(stage, "sorted")


@pytest.mark.check(points=1, after="sorted_the_urgent_go_first", todo=10)
def test_sorted_the_monitor_tells_the_truth(scene):
    """Sorted: the monitor's numbers are those of the broker"""
    play_a_look(scene, "sorted")


# ---- step 3: fair ------------------------------------------------------------------------------------------


@pytest.mark.check(points=3, todo=6)
def test_fair_every_level_gets_its_share(scene):
    """Fair: while all levels wait each gets its share, high at least half"""
    for level, count in (("low", 25), ("normal", 25), ("high", 45)):  # more than are done here
        by_producer(scene, "fair", level, count)
    scene.start("worker.py", "alice", "--policy", "fair")
    wait_until_begun(scene, 45, "45 tasks were to be begun, one after the other")
    order = scene.done_order()[:45]
    expect_oldest_first_in_each_level(scene, order)
    levels = [level_of(scene.tasks[number]) for number in order]
    for begin in range(len(levels) - STRETCH + 1):
        stretch = levels[begin : begin + STRETCH]
        count = {level: stretch.count(level) for level in LEVELS}
        scene.expect(
            count["low"] and count["normal"] and count["high"] >= STRETCH / 2,
            f"45 high, 25 normal and 25 low tasks waited. Of the {STRETCH} that were begun from number {begin + 1} on "
            f"{count['high']} were high, {count['normal']} normal, {count['low']} low: {', '.join(stretch)}.",
            question="Whose turn is it, and how often does each level's turn come?"
            if count["high"] >= STRETCH / 2
            else "How many of the turns are for high?",
            task=None,
        )


@pytest.mark.check(points=2, after="fair_every_level_gets_its_share", todo=6)
def test_fair_no_turn_is_wasted(stage):
    """Fair: when one level alone waits, no turn is wasted"""

    def play(level):
        scene = stage.scene(f"only {level} tasks wait")
        by_producer(scene, "fair", level, 12)
        scene.start("worker.py", "alice", "--policy", "fair", **LONG)
        wait_until_begun(
            scene,
            12,
            f"BLOCK_SECONDS is 30; 12 {level} tasks waited, and nothing else. They were to be done one after the other",
            question="It is the turn of a level that has no task. What does the worker do then?",
        )
        expect_oldest_first_in_each_level(scene, scene.done_order())

    stage.play_each(LEVELS, play)


@pytest.mark.check(points=2, after="fair_every_level_gets_its_share", todo=6)
def test_fair_a_reset_waits_for_few(scene):
    """Fair: an urgent task waits for few others"""
    by_producer(scene, "fair", "low", 60)
    by_producer(scene, "fair", "normal", 50)
    scene.work.slow(scene.work.ALL, 0.02)
    scene.start("worker.py", "alice", "--policy", "fair")
    scene.wait_until(scene.at_work, "the worker was to begin")
    for _ in range(6):
        (reset,) = by_producer(scene, "fair", "high")
        queued = scene.history.events(REPLY, scene.actors[-1].name)[-1].at
        scene.wait_started(reset, within=20)
        begun = [(event.at, event.tasks) for event in scene.history.events(WORK_STARTED)]
        (its_turn,) = [at for at, tasks in begun if reset.number in tasks]
        others = [tasks for at, tasks in begun if queued < at < its_turn]
        scene.expect(
            len(others) <= 4,
            f"60 low and 50 normal tasks waited when task {reset.number} was queued, which is high. "
            f"{counted(len(others), 'other')} were begun before it.",
            question="How soon is it the turn of high?",
            task=reset.number,
        )


@pytest.mark.check(points=1, after="fair_every_level_gets_its_share", todo=6)
def test_fair_an_idle_worker_waits_for_all_levels(stage):
    """Fair: an idle worker costs little, and a task of any level wakes it"""
    play_a_quiet_time(stage, "fair")


@pytest.mark.check(points=1, after="fair_every_level_gets_its_share", todo=6)
def test_fair_a_kill_loses_the_task_in_hand_and_no_other(stage):
    """Fair: a kill loses the task in hand, and no other"""
    play_kills(stage, "fair")


@pytest.mark.check(points=1, after="fair_every_level_gets_its_share", todo=10)
def test_fair_the_monitor_tells_the_truth(scene):
    """Fair: the monitor's numbers are those of the broker"""
    play_a_look(scene, "fair")


# ---- step 4: reliable --------------------------------------------------------------------------------------


@pytest.mark.check(points=2, todo=8)
def test_reliable_the_urgent_go_first(scene):
    """Reliable: high before normal before low, and within a level the oldest first"""
    play_the_order(scene, "reliable", lambda level, count: by_producer(scene, "reliable", level, count))


@pytest.mark.check(points=2, after="reliable_the_urgent_go_first", todo=8)
def test_reliable_an_idle_worker_waits_for_all_levels(stage):
    """Reliable: an idle worker costs little, and a task of any level wakes it"""
    play_a_quiet_time(stage, "reliable")


@pytest.mark.check(points=3, after="reliable_the_urgent_go_first", todo=8)
def test_reliable_no_wake_up_is_lost(stage):
    """Reliable: a task that comes at the worst moment wakes the worker"""

    def held(number):
        scene = stage.scene(f"alice is held before her command {number}")
        scene.settings = LONG
        by_producer(scene, "reliable", "normal")
        hold = scene.lie_in_wait("alice", Hold(scene, number))
        alice = scene.start("worker.py", "alice", "--policy", "reliable")
        scene.wait(lambda: hold.reached.is_set() or not alice.running)
        (task,) = by_producer(scene, "reliable", "normal")
        hold.release()
        sent = [
            command_line(event)[:40]
            for event in scene.history.events(COMMAND, "alice")
            if event.number == number
        ]
        scene.wait_until(
            lambda: scene.finished(task),
            f"BLOCK_SECONDS is 30. alice was held before her command {number}, {' '.join(sent)} …, while task "
            f"{task.number} was queued; then she went on, and was to do it",
            question="What does alice find of a wake-up that came before she began to wait?",
            task=task.number,
        )

    calm = stage.scene("one worker alone")
    calm.settings = LONG
    by_producer(calm, "reliable", "normal")
    alice = calm.start("worker.py", "alice", "--policy", "reliable")
    calm.wait_done()
    calm.wait(alice.has_been_silent_for(0.3))
    takes = [event.number for event in calm.history.events(COMMAND, "alice") if event.verb in TAKING]
    stage.play_each(range(takes[0], alice.commands_sent() + 1), held)

    scene = stage.scene("alice is killed when she has been woken")
    scene.settings = LONG
    hold = scene.lie_in_wait("alice", AfterAWait(scene))
    alice = scene.start("worker.py", "alice", "--policy", "reliable")
    scene.wait_until(alice.waits_for_a_task, "the worker was to wait in a blocking command")
    bob = scene.start("worker.py", "bob", "--policy", "reliable")
    scene.wait_until(bob.waits_for_a_task, "the worker was to wait in a blocking command")
    by_producer(scene, "reliable", "low")  # alice has waited longer, and is the first to be served
    scene.wait(lambda: hold.reached.is_set() or scene.finished(scene.tasks[1]))
    alice.kill()
    by_producer(scene, "reliable", "low")
    scene.wait_until(
        lambda: "bob" in {event.who for event in scene.history.events(WORK_STARTED)},
        "BLOCK_SECONDS is 30. alice was woken and killed before she took task 1; then task 2 came, and was to wake bob",
        question="Which state of the lists decides whether a push wakes somebody?",
        task=2,
    )


@pytest.mark.check(points=2, after="reliable_the_urgent_go_first", todo=7)
def test_reliable_a_killed_producer_leaves_no_task_asleep(stage):
    """Reliable: a task that is in its list has woken a worker, even when its producer died"""

    def begin(scene):
        scene.settings = LONG
        alice = scene.start("worker.py", "alice", "--policy", "reliable")
        scene.wait_until(alice.waits_for_a_task, "the worker was to wait in a blocking command")
        start_producer(scene, "reliable", "low")

    def go_on(scene):
        for task in scene.tasks if scene.where() else ():
            scene.wait_until(
                lambda task=task: scene.finished(task),
                f"BLOCK_SECONDS is 30. Task {task.number} is in its list, and alice waits; she was to be woken",
                question="What makes the push and the wake-up one step?",
                task=task.number,
            )

    def until_done(scene):
        scene.actors[-1].wait_exit()
        scene.wait_done()

    stage.at_every_point("producer", begin, go_on, kill, calm=until_done)


@pytest.mark.check(points=2, after="reliable_no_wake_up_is_lost", todo=8)
def test_reliable_a_burst_wakes_all(stage):
    """Reliable: three tasks wake three workers, though they come at once"""
    scene = stage.scene("three tasks come just before three workers wait")
    scene.settings = LONG
    scene.work.hold()
    holds = [scene.lie_in_wait(name, BeforeAWait(scene)) for name in ("alice", "bob", "carol")]
    for name in ("alice", "bob", "carol"):
        scene.start("worker.py", name, "--policy", "reliable")
    scene.wait_until(
        lambda: all(hold.reached.is_set() for hold in holds), "three workers were to wait for a task"
    )
    by_producer(scene, "reliable", "high", 3)
    for hold in holds:
        hold.release()
    scene.wait_until(
        lambda: len(scene.at_work()) == 3,
        "BLOCK_SECONDS is 30. Three workers were about to wait, and 3 tasks came; all three were to work",
        question="One worker is woken, and takes one task. Who wakes the next?",
    )
    scene.work.release()
    scene.wait_done()


@pytest.mark.check(points=3, after="reliable_the_urgent_go_first", todo=9)
def test_reliable_a_killed_worker_loses_nothing(stage):
    """Reliable: a worker killed at any point loses nothing"""

    def go_on(scene):
        scene.start("worker.py", "bob", "--policy", "reliable")
        scene.wait_done(quiet=5)
        expect_one_dead_letter(scene)

    stock = Stock(queue_rubbish_and_a_task)
    begin = lambda scene: begin_reliable(scene, stock)  # noqa: E731
    stage.at_every_point("alice", begin, go_on, kill, calm=until_idle, from_the_first_take=True)


@pytest.mark.check(points=2, after="reliable_the_urgent_go_first", todo=9)
def test_reliable_a_killed_broker_loses_nothing(stage):
    """Reliable: a broker killed at any point and restarted loses nothing"""

    stock = Stock(queue_rubbish_and_a_task)

    def begin(scene):
        scene.settings = {"HEARTBEAT_SECONDS": 3}
        begin_reliable(scene, stock)

    def go_on(scene):
        scene.restart_broker()
        scene.wait_done(quiet=3, question="What does your worker still hold when its connection comes back?")
        expect_one_dead_letter(scene)

    stage.at_every_point("alice", begin, go_on, kill_broker, calm=until_idle, own_broker=True)


@pytest.mark.check(points=1, after="reliable_the_urgent_go_first", todo=8)
def test_reliable_tasks_of_a_dead_worker_come_back(stage):
    """Reliable: a dead worker's task comes back to its level, and is no longer its own"""

    def dead():
        scene = stage.scene("alice is killed")
        scene.settings = QUICK
        scene.work.hold()
        (reset,) = by_producer(scene, "reliable", "high")
        alice = scene.start("worker.py", "alice", "--policy", "reliable")
        scene.wait_started(reset)
        by_producer(scene, "reliable", "normal", 3)
        alice.kill()
        scene.start("worker.py", "bob", "--policy", "reliable")
        scene.wait_until(
            lambda: scene.where().get(1) == [f"{scene.run.lab.queue}:high"] or 1 in scene.done_order()[1:],
            "alice was killed with task 1 in her hands, and it was to come back to the list of its level",
            question="Whoever recovers looks for alice's own list. Under which key, and for what in it?",
            task=1,
        )
        scene.work.release()
        scene.wait_done()
        by_bob = scene.done_order()[1:]
        scene.expect(
            by_bob in ([2, 1, 3, 4], [1, 2, 3, 4]),
            "Task 1, which is high, came back when bob had begun with task 2 at most; he did them in the order "
            f"{by_bob}.",
            question="Which list does a task belong to that comes back?",
            task=1,
        )

    def frozen():
        scene = stage.scene("alice is frozen until bob has buried her task")
        scene.settings = QUICK
        scene.work.hold()
        (mail,) = by_producer(scene, "reliable", "low")
        scene.work.fail(mail.number, "no such mailbox")
        alice = scene.start("worker.py", "alice", "--policy", "reliable")
        scene.wait_started(mail)
        alice.pause()
        scene.start("worker.py", "bob", "--policy", "reliable")
        scene.wait_until(
            lambda: "bob" in scene.at_work(),
            "alice is frozen, her heartbeat has ended, and bob was to get task 1",
            question="Whoever recovers looks for alice's own list. Under which key, and for what in it?",
            task=1,
        )
        scene.work.release()
        scene.wait_until(lambda: mail.number in scene.holdings.dead(), "bob was to bury task 1", task=1)
        alice.resume()
        scene.wait_until(alice.waits_for_a_task, "alice was to go on, and to wait for her next task")
        expect_one_dead_letter(
            scene,
            "The mail server refuses task 1. bob buried it, then alice came back, who had been frozen with it",
            "How does a worker know whether a task is still its own, and in which step does it look?",
        )

    stage.play_each([dead, frozen], lambda play: play())


@pytest.mark.check(points=1, after="reliable_the_urgent_go_first", todo=8)
def test_reliable_a_worker_stops_when_asked(stage):
    """Reliable: SIGTERM: the mail in hand is sent, nothing is left behind"""

    def idle():
        scene = stage.scene("stopped while it waits")
        scene.settings = QUICK
        alice = scene.start("worker.py", "alice", "--policy", "reliable")
        scene.wait_until(alice.waits_for_a_task, "the worker was to wait in a blocking command")
        expect_nothing_is_left(scene, alice)

    def busy():
        scene = stage.scene("stopped in the middle of a task")
        scene.settings = QUICK
        scene.work.hold()
        by_producer(scene, "reliable", "low", 3)
        bob = scene.start("worker.py", "bob", "--policy", "reliable")
        scene.wait_until(scene.at_work, "the worker was to begin")
        expect_nothing_is_left(scene, bob)
        waiting = scene.verdict().waiting
        scene.expect(
            waiting == [2, 3],
            f"Task 1 was in hand when SIGTERM came, 2 and 3 were waiting. Now these wait: {waiting}.",
            question="When does the loop look whether it should stop?",
            task=1,
        )

    def alone():
        scene = stage.scene("stopped when the broker is gone")
        scene.settings = QUICK
        expect_a_stop_without_a_broker(scene, scene.start("worker.py", "dave", "--policy", "reliable"))

    def queue(scene, count):
        return by_producer(scene, "reliable", "low", count)

    settings = QUICK | {"POLICY": "reliable", "HEARTBEAT_SECONDS": 1.2}
    long_work = scenes_of_long_work(stage, settings, "HEARTBEAT_SECONDS heartbeat", queue)
    stage.play_each([busy, idle, alone, *long_work], lambda play: play())


def expect_nothing_is_left(scene, worker):
    """After SIGTERM the worker ends well, and there is no key of its own any more."""
    worker.terminate()
    scene.work.release()
    expect_a_good_stop(scene, worker)
    left = [key for key in scene.keys() if worker.name in key]  # noqa: SIM118 (not a dict)
    scene.expect(
        not left,
        f"{worker.name} was asked to stop with SIGTERM, and left {scene.called(left)} behind.",
        question="What is still to be done between the signal and the end?",
    )


@pytest.mark.check(points=1, after="reliable_the_urgent_go_first", todo=10)
def test_reliable_the_monitor_tells_the_truth(scene):
    """Reliable: the monitor's numbers are those of the broker"""
    play_a_look(scene, "reliable")


@pytest.mark.check(
    points=1,
    after=(
        "strict_the_producer_queues_tasks",
        "strict_the_urgent_go_first",
        "strict_the_monitor_tells_the_truth",
    ),
)
def test_without_a_broker_they_say_so(stage):
    """Without a broker each script says so in one line"""
    scripts = {"producer.py": ["low", "--count", "1"], "worker.py": ["alice"], "monitor.py": ["--once"]}
    expect_words_without_a_broker(stage, scripts)


# ---- what the policies have in common ----------------------------------------------------------------------


def play_the_order(scene, policy, queue):
    """Six low and six normal tasks wait; while the third is worked on, more come, six urgent ones among them."""
    queue("low", 6)
    queue("normal", 6)
    scene.work.hold(9)
    scene.start("worker.py", "alice", "--policy", policy)
    scene.wait_started(scene.tasks[9], question="6 low and 6 normal tasks waited. Which are next?")
    queue("normal", 3)
    queue("high", 6)
    scene.work.release()
    scene.wait_done(quiet=4)  # for a worker that waits for one level after the other: it does get there
    order = scene.done_order()
    expected = [7, 8, 9, *range(16, 22), 10, 11, 12, 13, 14, 15, *range(1, 7)]
    astray = next((seen for seen, wanted in zip(order, expected, strict=False) if seen != wanted), 0)
    wanted = next((wanted for seen, wanted in zip(order, expected, strict=False) if seen != wanted), 0)
    of_one_level = astray and level_of(scene.tasks[astray]) == level_of(scene.tasks[wanted])
    scene.expect(
        order == expected,
        "Tasks 1 to 6 are low, 7 to 12 normal. When task 9 was in hand, 13 to 15 came, which are normal, and 16 to "
        f"21, which are high.\nexpected  {expected}\nbegun     {order}",
        question="Of two tasks of one level, which is the older, and what tells the broker?"
        if of_one_level
        else "What does a take look at first, second and last?",
        task=astray,
    )


def play_a_quiet_time(stage, policy):
    """alice is left alone after a task; bob, whose waits do not end by themselves, is woken once for each level."""

    def nothing_comes():
        scene = stage.scene("nothing comes")
        scene.settings = {"HEARTBEAT_SECONDS": 60}  # what is counted is the waiting
        by_producer(scene, policy, "normal")
        alice = scene.start("worker.py", "alice", "--policy", policy)
        scene.wait_done()
        expect_little_while_idle(scene, alice, seconds=2)

    def a_task_comes():
        scene = stage.scene("a task comes, now and then")
        scene.settings = LONG
        bob = scene.start("worker.py", "bob", "--policy", policy)
        for level in reversed(LEVELS):
            expect_to_be_woken(scene, bob, policy, level)

    stage.play_each([nothing_comes, a_task_comes], lambda play: play())


def expect_to_be_woken(scene, worker, policy, level):
    """A task of this level comes, and the command that the worker stands in ends with it."""
    scene.wait_until(
        worker.waits_for_a_task,
        "while the queue is empty the worker was to wait in a blocking command",
        question="What does the worker do between two looks, when a task comes in just then?",
    )
    stood_in = set(worker.lane.in_flight)
    (task,) = by_producer(scene, policy, level)
    scene.wait_until(
        lambda: scene.finished(task),
        f"BLOCK_SECONDS is 30, the worker waited, and a {level} task came; it was to be done",
        question="Which key does the worker wait for, and which does the push reach?",
        task=task.number,
    )
    scene.expect(
        any(e.number in stood_in and not e.empty for e in scene.history.events(REPLY, worker.name)),
        f"BLOCK_SECONDS is 30, and the worker waited. A {level} task came, and the command that the worker stood "
        "in ended without it.",
        question="How many lists can one command wait for?",
        task=task.number,
    )


def begin_strict(scene):
    scene.settings = QUICK
    push(scene, "high", b"rubbish")
    push(scene, "low", 2)
    scene.start("worker.py", "alice", "--policy", "strict")


def queue_rubbish_and_a_task(scene):
    push(scene, "low", b"rubbish")
    by_producer(scene, "reliable", "low")


def begin_reliable(scene, stock):
    scene.settings = QUICK | scene.settings
    stock.put_into(scene)
    scene.start("worker.py", "alice", "--policy", "reliable")


def play_kills(stage, policy):
    stock = Stock(lambda scene: by_producer(scene, policy, "low", 2))

    def begin(scene):
        scene.settings = QUICK
        stock.put_into(scene)
        scene.start("worker.py", "alice", "--policy", policy)

    stage.at_every_point(
        "alice",
        begin,
        lambda scene: bob_goes_on(stage, scene, policy),
        kill,
        calm=until_idle,
        from_the_first_take=True,
    )


def bob_goes_on(stage, scene, policy):
    """alice has been killed; bob does what she has left."""
    scene.start("worker.py", "bob", "--policy", policy)
    verdict = scene.wait_done(at_most_once=True, quiet=0.6)
    expect_only_the_task_in_hand_is_lost(stage, scene, verdict)


def play_a_look(scene, policy):
    """The monitor looks while one task is in hand and one has become a dead letter."""
    for level, count in (("low", 1), ("normal", 2), ("high", 4)):
        by_producer(scene, policy, level, count)
    scene.work.fail(4, "no such mailbox")
    scene.work.hold(5)
    scene.start("worker.py", "alice", "--policy", policy)
    scene.wait_started(scene.tasks[5])
    monitor = scene.start("monitor.py", "--policy", policy, "--once", "--json")
    monitor.wait_exit()
    waiting = {"high": 2, "normal": 2, "low": 1}
    if policy == "fair":  # which tasks come first is up to the policy
        waiting = {level: sum(level_of(task) == level for task in unbegun(scene)) for level in LEVELS}
    expected = {"waiting": waiting, "processing": {"alice": 1} if policy == "reliable" else {}, "dead": 1}
    seen = scene.json(monitor.process.output())
    scene.expect(
        seen == expected,
        f"alice was at work on a task, and one had become a dead letter. The monitor was asked about {policy}.\n"
        f"expected  {json.dumps(expected)}\n"
        f"seen      {json.dumps(seen) if seen else monitor.process.output()[:200]}",
        question="How many tasks of each level were queued, and which of them does somebody have in hand?",
        task=None,
    )


def unbegun(scene):
    return [task for task in scene.tasks if task.number not in scene.done_order()]


def wait_until_begun(scene, count, expected, question=""):
    """Wait until work has begun on so many tasks; each has time of its own, so that no slow machine is too slow."""
    for number in range(1, count + 1):
        scene.wait_until(lambda n=number: len(scene.done_order()) >= n, expected, question=question)


def expect_a_task(scene, body, level):
    task = scene.json(body)
    scene.expect(isinstance(task, dict), f"A task is a JSON object; this is in the queue: {shown(body)}")
    scene.expect(id_in(body), f"The id of a task is a UUID; this one is {task.get('id')!r}.")
    scene.expect(
        task.get("priority") == level,
        f"The task in the list of the level {level} has the priority {task.get('priority')!r}.",
        question="Which level was the producer asked for?",
    )


def expect_oldest_first_in_each_level(scene, order):
    for level in LEVELS:
        own = [number for number in order if level_of(scene.tasks[number]) == level]
        scene.expect(
            own == sorted(own),
            f"The {level} tasks went in in the order of their numbers; work on them began in the order {own}.",
            question="The producer pushes at the left end. At which end is the oldest task?",
            task=max(own, default=0),
        )


def expect_one_dead_letter(
    scene, why="Task 1 is rubbish", question="What makes leaving one list and entering the other one step?"
):
    count = len(scene.contents(f"{scene.queue}:dead"))
    scene.expect(
        count == 1,
        f"{why}; it is among the dead letters {counted(count, 'time')}.",
        question=question,
        task=1,
    )


def until_idle(scene):
    """All is done, and the worker waits for more."""
    scene.wait_done()
    scene.wait_until(scene.actors[-1].waits_for_a_task, "the worker was to wait for the next task")
