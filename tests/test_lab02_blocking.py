"""The checks of lab 2: they count what your workers send while they wait, and stop, kill and starve them.

A scene is one play: a queue of its own, your processes, and a record of everything they did. `scene.push`
puts tasks into the queue, `scene.start` starts one of your scripts, and each wait is for an event, with a
deadline.
"""

import json
import uuid
from itertools import product

import pytest

from labkit.grader import commands
from labkit.grader.expectations import (
    expect_a_good_stop,
    expect_ctrl_c_finishes_the_task,
    expect_new_ids_newest_left,
    expect_oldest_first,
    expect_patience_without_a_broker,
    expect_reasons,
    expect_words_without_a_broker,
    kill,
    shown,
    terminate,
)
from labkit.grader.history import COMMAND, EXITED, STOPPED, WORK_STARTED
from labkit.grader.material.lab02_blocking import BAD_TASKS, REPORTS, USERS, trouble_with
from labkit.grader.tasks import id_in

QUICK = {"BLOCK_SECONDS": 0.2, "RECONNECT_SECONDS": 0.05}
AT_MOST_ONCE = {"at_most_once": True, "quiet": 0.6}
FULL_DISK = {"RLIMIT_FSIZE": 1800}  # bytes; a report has some more


@pytest.mark.check(points=3, todo=1)
def test_the_producer_queues_tasks(scene):
    """The producer's tasks arrive, the newest on the left"""
    scene.start("producer.py", "--count", "3").wait_exit()
    earlier = scene.contents(scene.queue)
    scene.start("producer.py", "katherine", "visits", name="producer again").wait_exit()
    bodies = scene.contents(scene.queue)
    scene.expect(
        (len(earlier), len(bodies)) == (3, 4),
        f"The producer was asked for 3 tasks and then for 1; {len(earlier)}, then {len(bodies)} were queued.",
    )
    for body in bodies:
        task = scene.json(body)
        scene.expect(isinstance(task, dict), f"A task is a JSON object; this is in the queue: {shown(body)}")
        scene.expect(id_in(body), f"The id of a task is a UUID; this one is {task.get('id')!r}.")
        scene.expect(task.get("report") in REPORTS, f"There is no report {task.get('report')!r}.")
        scene.expect(isinstance(task.get("user"), str), f"The user is text, not {task.get('user')!r}.")
        scene.adopt(body)
    expect_new_ids_newest_left(scene, earlier, bodies, [id_in(body) for body in bodies])


@pytest.mark.check(points=4, todo=2)
def test_tasks_are_done(scene):
    """Every task is done once, oldest first"""
    scene.push(5)
    body = json.dumps(scene.run.new_task(scene), separators=(",", ":"))  # as other languages write it
    scene.push(body.encode())
    scene.start("worker.py", "alice")
    scene.wait_done()
    expect_oldest_first(scene)


@pytest.mark.check(points=3, after="tasks_are_done", todo=5)
def test_the_reports_are_right(scene):
    """Each task leaves one report, a PDF that opens, the right one"""
    wanted = [
        {"id": str(uuid.uuid4()), "user": user, "report": report} for user, report in product(USERS, REPORTS)
    ]
    scene.push(*wanted)
    alice = scene.start("worker.py", "alice")
    scene.wait_done()
    alice.terminate()
    alice.wait_exit()
    expect_reports(scene, wanted)


@pytest.mark.check(points=3, after=("tasks_are_done", "rubbish_is_set_aside"), todo=5)
def test_half_a_report_is_never_seen(scene):
    """A disk that is full in the middle of a report leaves no half of it"""
    (task,) = scene.push(1)
    scene.start("worker.py", "alice", limits=FULL_DISK)
    scene.wait_until(
        lambda: task.number in scene.dead(),
        "the disk was full in the middle of the report, and task 1 was to be set aside",
        question="What does writing to a full disk raise, and who catches it?",
        task=1,
    )
    files = sorted(path.name.replace(task.id, "ID") for path in scene.outputs.iterdir())
    scene.expect(
        not files,
        f"The disk was full in the middle of a report. Then these were in the output folder: {', '.join(files)}.",
        question="Under which name is a report written, and when does it get the name that others look for?",
        task=1,
    )
    expect_reasons(scene)


@pytest.mark.check(points=3, after="tasks_are_done", todo=3)
def test_an_idle_worker_costs_little(scene):
    """An idle worker sends at most one command a second, and no RPOP"""
    seconds = 4
    alice = scene.start("worker.py", "alice")
    scene.wait_until(alice.has_looked, "the worker was to look for a task")
    before = alice.commands_sent()
    scene.wait(lambda: not alice.running, within=seconds)
    sent = alice.commands_sent() - before
    scene.expect(
        sent <= seconds + 1,
        f"Nothing came for {seconds} s; the worker sent {sent} commands: {sent / seconds:.0f} a second.",
        question="Which of them ask again and again, and which command waits at the broker instead?",
    )
    polls = [
        e for e in scene.history.events(COMMAND, "alice") if e.verb in commands.TAKING and not e.blocking
    ]
    scene.expect(
        not polls,
        f"The worker looked for a task with {polls[0].verb if polls else ''}, which does not wait for one.",
        question="What does the worker do between two looks, when a task comes in just then?",
    )
    scene.wait_until(
        alice.waits_for_a_task, "while the queue is empty the worker was to wait in a blocking command"
    )
    scene.wait_started(*scene.push(1))


@pytest.mark.check(points=3, after="an_idle_worker_costs_little", todo=3)
def test_a_task_wakes_the_worker(scene):
    """A waiting worker is handed a task the moment that it arrives"""
    alice = scene.start("worker.py", "alice")
    for number in range(1, 6):
        scene.wait_until(alice.waits_for_a_task, "the worker was to wait for the next task")
        sent = alice.commands_sent()
        scene.wait_started(*scene.push(1))
        handed = next(e for e in scene.history.events(who="alice") if number in e.tasks)
        scene.expect(
            handed.number <= sent + 1 and handed.blocking,
            f"Task {number} came while the worker waited at the broker, and was handed out only "
            f"{handed.number - sent} commands later, by {handed.verb}.",
            question="Which command was the worker waiting in, and on which key?",
            task=number,
        )
        scene.wait(lambda task=number: task in scene.verdict().done_once)


@pytest.mark.check(points=3, after="tasks_are_done", todo=3)
def test_waiting_workers_share(scene):
    """Three waiting workers share what comes"""
    workers = [scene.start("worker.py", name) for name in ("alice", "bob", "carol")]

    def all_wait():
        return all(worker.waits_for_a_task() for worker in workers)

    scene.wait_until(all_wait, "the three workers were to wait in a blocking command")
    scene.work.hold()
    scene.push(3)
    scene.wait_until(
        lambda: len(scene.at_work()) == 3,
        "three workers waited, three tasks came, and each worker was to be at work on one",
        question="How many tasks does one take bring?",
    )
    scene.work.release()
    scene.wait_done()
    for _ in range(6):
        scene.wait_until(all_wait, "all three were to wait again")
        scene.push(1)
        scene.wait_done()
    shares = [len(scene.history.events(WORK_STARTED, worker.name)) for worker in workers]
    scene.expect(
        min(shares) >= 2,
        f"9 tasks came, each while all three workers waited; they did {shares[0]}, {shares[1]} and {shares[2]}.",
        question="Whom does the broker serve, of those who wait?",
    )


@pytest.mark.check(points=4, after="tasks_are_done", todo=6)
def test_rubbish_is_set_aside(scene):
    """What is no report task is set aside with its reason, and stops nobody"""
    scene.push(1)
    bad = scene.push(*BAD_TASKS.values())
    scene.push(1)
    scene.start("worker.py", "alice")
    verdict = scene.wait_done(question="What does your worker do when the work raises Rejected?")
    for what, task in zip(BAD_TASKS, bad, strict=True):
        scene.expect(task.number in verdict.dead, f"Not on the rejected list: {what}.", task=task.number)
    expect_reasons(scene)


@pytest.mark.check(points=4, after=("tasks_are_done", "rubbish_is_set_aside"), todo=2)
def test_a_worker_stops_when_asked(stage):
    """SIGTERM at any moment: the task in hand is finished"""

    def begin(scene):
        scene.settings = QUICK
        scene.push(1, b"rubbish", 1)
        scene.start("worker.py", "alice")

    def go_on(scene):
        verdict = expect_a_good_stop(scene, scene.actors[0])
        done = [scene.json(task.body) for task in scene.tasks if task.number in verdict.done_once]
        expect_reports(scene, done)

    stage.at_every_point("alice", begin, go_on, terminate, calm=until_idle, cuts=False)

    ctrl_c = stage.scene("stopped with Ctrl-C in the middle of a task")
    ctrl_c.settings = QUICK
    expect_ctrl_c_finishes_the_task(ctrl_c)


@pytest.mark.check(points=3, after="tasks_are_done", todo=3)
def test_an_idle_worker_stops_within_two_seconds(stage):
    """SIGTERM stops a waiting worker within two seconds"""
    took = {}

    def stop(number):
        scene = stage.scene(f"stopped while it waits, attempt {number}")
        alice = scene.start("worker.py", "alice")
        scene.wait_until(alice.waits_for_a_task, "the worker was to wait in a blocking command")
        before = alice.commands_sent()  # from the beginning of a wait on, which is the longest way to its end
        scene.wait(lambda: alice.commands_sent() > before and alice.waits_for_a_task(), within=5)
        alice.terminate()
        alice.wait_exit(question="How long may the broker keep the worker waiting, and who decides that?")
        (asked,), (ended,) = scene.history.events(STOPPED), scene.history.events(EXITED)
        took[number] = ended.at - asked.at

    stage.play_each([1, 2, 3], stop)
    scene, best = stage.scenes[0], min(took.values())
    scene.expect(
        best <= 2,
        f"Three waiting workers were asked to stop with SIGTERM; the fastest was gone after {best:.1f} s.",
        question="A signal does not end a blocking command. What does?",
    )


@pytest.mark.check(points=4, after=("tasks_are_done", "rubbish_is_set_aside"))
def test_a_kill_loses_the_task_in_hand_and_no_other(stage):
    """A kill loses the task in hand, as the contract says, and no other"""

    def begin(scene):
        scene.settings = QUICK
        scene.push(1, b"rubbish", 1)
        scene.start("worker.py", "alice")

    def go_on(scene):
        scene.start("worker.py", "bob")
        verdict = scene.wait_done(**AT_MOST_ONCE)
        stage.count("tasks lost in hand", len(verdict.lost_in_hand))
        for path in scene.outputs.glob("*.pdf"):
            task = next(task for task in scene.tasks if task.id == path.stem)
            trouble = trouble_with(path, scene.json(task.body))
            scene.expect(not trouble, f"The report of task {task.number}: {trouble}.", task=task.number)

    stage.at_every_point("alice", begin, go_on, kill, calm=until_idle)


@pytest.mark.check(points=4, after="tasks_are_done")
def test_the_broker_restarts_under_a_waiting_worker(stage):
    """The broker restarts under a waiting worker, which goes on"""
    scene = stage.scene(own_broker=True)
    scene.settings = {"RECONNECT_SECONDS": 0.05}
    scene.work.hold()
    (first,) = scene.push(1)
    bob = scene.start("worker.py", "bob")
    scene.wait_started(first)
    alice = scene.start("worker.py", "alice")
    scene.wait_until(alice.waits_for_a_task, "the worker was to wait in a blocking command")
    scene.kill_broker()
    scene.work.release()
    expect_patience_without_a_broker(scene, alice, bob)
    scene.restart_broker()
    scene.wait_until(
        lambda: alice.waits_for_a_task() and bob.waits_for_a_task(),
        "the broker was back, and both workers were to wait for a task again",
        question="The broker is back. Who tells the worker?",
    )
    scene.push(4)
    scene.wait_done()


@pytest.mark.check(points=3, after="rubbish_is_set_aside", todo=7)
def test_the_monitor_tells_the_truth(stage):
    """The monitor's numbers are those of the broker"""
    scene = stage.scene(own_broker=True)
    scene.push(b"rubbish", 3)
    alice = scene.start("worker.py", "alice")
    scene.wait_done()
    bob = scene.start("worker.py", "bob")
    scene.wait_until(
        lambda: alice.waits_for_a_task() and bob.waits_for_a_task(),
        "two workers were to wait in a blocking command",
    )
    monitor = scene.start("monitor.py", "--once", "--json", EVERY_SECONDS=1.5)
    scene.wait_until(
        monitor.has_been_silent_for(0.3), "the monitor was to look, and again after EVERY_SECONDS"
    )
    scene.push(5)
    scene.wait_done()
    monitor.wait_exit()
    seen = scene.json(monitor.process.output())
    expected = {"waiting": 0, "blocked": 2, "done": 8, "rejected": 1}
    told = {key: seen.get(key) for key in expected} if isinstance(seen, dict) else {}
    said = json.dumps(seen) if seen else monitor.process.output()[:200]
    scene.expect(
        told == expected,
        f"Nothing waited, two workers were blocked, 8 tasks were done, one was rejected.\n"
        f"expected  {json.dumps(expected | {'per_second': 3.3})}\nseen      {said}",
        task=None,
    )
    rate = seen.get("per_second")
    scene.expect(
        isinstance(rate, int | float) and 0.8 <= rate <= 3.4,
        f"5 tasks were done between two looks that are 1.5 seconds apart; the monitor said {said}",
        question="Which two numbers does a rate divide?",
        task=None,
    )


@pytest.mark.check(
    points=2, after=("tasks_are_done", "the_producer_queues_tasks", "the_monitor_tells_the_truth")
)
def test_without_a_broker_they_say_so(stage):
    """Without a broker each script says so in one line"""
    scripts = {"producer.py": ["--count", "1"], "worker.py": ["alice"], "monitor.py": ["--once"]}
    expect_words_without_a_broker(stage, scripts)


def expect_reports(scene, tasks):
    """Exactly the reports of these tasks are in the output folder, and each is right."""
    there = {path.name for path in scene.outputs.iterdir()}
    wanted = {f"{task['id']}.pdf": task for task in tasks}
    scene.expect(
        there == wanted.keys(),
        f"{len(wanted)} tasks were done; {len(there)} files are in the output folder, and {len(there & wanted.keys())} "
        "of them are called as a report is, ID.pdf.",
        question="What does your worker write there, and under which name in the end?",
        task=None,
    )
    for name, task in wanted.items():
        trouble = trouble_with(scene.outputs / name, task)
        scene.expect(not trouble, f"The report {task['report']} for {task['user']}: {trouble}.", task=None)


def until_idle(scene):
    """All is done, and the worker waits for more."""
    scene.wait_done()
    scene.wait_until(scene.actors[0].waits_for_a_task, "the worker was to wait for the next task")
