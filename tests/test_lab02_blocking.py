"""The checks of lab 2: they count what your workers send while they wait, and stop, kill and starve them.

A scene is one play: a queue of its own, your processes, and a record of everything they did. `scene.push`
puts tasks into the queue, `scene.start` starts one of your scripts, and each wait is for an event, with a
deadline.
"""

import json
import re
import uuid
from itertools import product

import pytest

from labkit.grader import commands
from labkit.grader.expectations import (
    expect_a_good_stop,
    expect_ctrl_c_finishes_the_task,
    expect_new_ids_newest_left,
    expect_oldest_first,
    expect_only_the_task_in_hand_is_lost,
    expect_patience_without_a_broker,
    expect_reasons,
    expect_words_without_a_broker,
    kill,
    shown,
    terminate,
)
from labkit.grader.files import content, write_new
from labkit.grader.history import COMMAND, EXITED, REPLY, SENT, STOPPED, WORK_FINISHED, WORK_STARTED
from labkit.grader.material.lab02_blocking import BAD_TASKS, REPORTS, USERS, SecondLook, trouble_with
from labkit.grader.steps import command_line
from labkit.grader.tasks import id_in
from labkit.grader.words import counted, names

QUICK = {"BLOCK_SECONDS": 0.2, "RECONNECT_SECONDS": 0.05}
AT_MOST_ONCE = {"at_most_once": True, "quiet": 0.6}
FULL_DISK = {"RLIMIT_FSIZE": 1800}  # bytes; a report has some more
OLDER = b"%PDF-1.3 an older report"
LONG_BLOCK = {"BLOCK_SECONDS": 4}  # no wait ends by itself while the scene is played
SHORT_PAUSE = 0.25  # seconds; what a machine with much to do may take between two commands now and then


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
    newest = scene.json(bodies[0])
    scene.expect(
        (newest["user"], newest["report"]) == ("katherine", "visits"),
        "The producer was called with katherine and visits, and put this task into the queue: "
        f"{shown(bodies[0])}",
    )


@pytest.mark.check(points=4, todo=2)
def test_tasks_are_done(scene):
    """Every task is done once, oldest first"""
    scene.push(5)
    body = json.dumps(scene.run.new_task(scene), separators=(",", ":"))  # as other languages write it
    scene.push(body.encode())
    scene.start("worker.py", "alice")
    scene.wait_done()
    expect_oldest_first(scene)


@pytest.mark.check(points=3, after="tasks_are_done", todo=3)
def test_a_task_wakes_the_worker(scene):
    """A waiting worker is handed a task the moment that it arrives"""
    alice = scene.start("worker.py", "alice")
    missed = {}
    for number in range(1, 6):
        scene.wait_until(
            alice.waits_for_a_task,
            "while the queue is empty the worker was to wait in a blocking command",
            within=4,
            question="What does the worker do between two looks, when a task comes in just then?",
        )
        scene.wait_started(*scene.push(1))
        if elsewhere := waited_elsewhere(scene, number):
            missed[number] = elsewhere
        scene.expect(
            len(missed) <= 2,  # a wait may end by itself just as a task comes
            f"The worker waited at the broker, and {names(missed)} came. None was handed out by the command "
            f"that the worker stood in, {' and '.join(set(missed.values()))}, but by a later one.",
            question="Which key does a push have to reach, for that command to end?",
            task=number,
        )
        scene.wait_until(
            lambda task=number: task in scene.verdict().done_once, f"task {number} was to be done"
        )
    scene.wait_until(alice.waits_for_a_task, "the worker was to wait for the next task")
    after_a_task = min(away(scene, number) for number in range(1, 6))
    scene.expect(
        after_a_task < SHORT_PAUSE,
        f"5 tasks came, one by one. With each the worker was away from the broker for the work, and for "
        f"{after_a_task:.1f} s more at the least.",
        question="What does the worker wait for when the work is done, and where would it wait better?",
        task=1,
    )


@pytest.mark.check(points=3, after="tasks_are_done", todo=3)
def test_an_idle_worker_costs_little(scene):
    """An idle worker sends at most one command a second, and no RPOP"""
    seconds = 5.5  # more than the 5 s after which clients give an answer up, unless told otherwise
    alice = scene.start("worker.py", "alice")
    scene.wait_until(alice.has_looked, "the worker was to look for a task")
    before, connected, until = alice.commands_sent(), alice.lane.connections, scene.history.now() + seconds
    scene.wait_until(lambda: scene.history.now() > until, f"nothing was to come for {seconds} s")
    sent, anew = alice.commands_sent() - before, alice.lane.connections - connected
    scene.wait(lambda: not unanswered(scene, alice), within=0.5)
    scene.expect(
        not unanswered(scene, alice),
        f"Nothing came for {seconds} s; meanwhile the worker hung up on the broker in the middle of a wait, before it "
        f"had an answer, {counted(len(unanswered(scene, alice)), 'time')}.",
        question="How long does the broker hold the take, and how long does the client wait for an answer?",
    )
    scene.expect(
        anew <= 1,
        f"Nothing came for {seconds} s; the worker connected to the broker {anew} times in that time.",
        question="What does a connection cost, and how long can one be used?",
    )
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
    rest = min(rests(scene, alice), default=0)
    scene.expect(
        rest < SHORT_PAUSE,
        f"Nothing came for {seconds} s. When a wait at the broker had ended, it was {rest:.1f} s or more before the "
        "worker waited there again.",
        question="BRPOP is a wait already. What is the other one for, when a task comes in just then?",
    )
    scene.wait_until(
        alice.waits_for_a_task, "while the queue is empty the worker was to wait in a blocking command"
    )
    scene.wait_started(*scene.push(1))


@pytest.mark.check(points=3, after="a_task_wakes_the_worker", todo=3)
def test_waiting_workers_share(scene):
    """Three waiting workers share what comes"""
    scene.settings = LONG_BLOCK
    workers = [scene.start("worker.py", name) for name in ("alice", "bob", "carol")]

    def all_wait():
        return all(worker.waits_for_a_task() for worker in workers)

    scene.wait_until(all_wait, "the three workers were to wait in a blocking command")
    scene.work.hold(*range(1, 7))
    scene.push(3)
    scene.wait_until(
        lambda: len(scene.at_work()) == 3,
        "three workers waited, three tasks came, and each worker was to be at work on one",
        question="What does one worker do that keeps the others from their tasks?",
    )
    begun = sorted(scene.done_order())
    scene.expect(
        begun == [1, 2, 3],
        f"Tasks 1, 2 and 3 came, and the three workers are at work on {', '.join(map(str, begun))}.",
        question="When does a task leave the queue, and who is handed it until then?",
        task=1,
    )
    scene.push(3)
    scene.work.release(1)
    scene.wait_until(
        lambda: len(scene.done_order()) == 4,
        "task 1 was done, tasks 4, 5 and 6 waited, and work was to begin on one of them",
    )
    scene.expect(
        scene.depth() == 2,
        f"Three tasks waited, and all three workers were at work. One of them took its next task; then {scene.depth()} "
        "waited.",
        question="How many tasks does one take bring, and who could have done the others meanwhile?",
        task=5,
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
        f"12 tasks came, 6 of them each while all three workers waited; they did {shares[0]}, {shares[1]} and "
        f"{shares[2]}.",
        question="Whom does the broker serve, of those who wait?",
    )


@pytest.mark.check(points=3, after="tasks_are_done", todo=5)
def test_the_reports_are_right(scene):
    """Each task leaves one report, a PDF that opens, the right one"""
    wanted = [
        {"id": str(uuid.uuid4()), "user": user, "report": report} for user, report in product(USERS, REPORTS)
    ]
    scene.push(*wanted)
    scene.start("worker.py", "alice")
    scene.wait_done()
    expect_reports(scene, wanted)


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


@pytest.mark.check(points=3, after="rubbish_is_set_aside", todo=5)
def test_half_a_report_is_never_seen(stage):
    """A disk that is full in the middle of a report leaves no half of it"""

    def fill_the_disk(scene, *tasks):
        scene.start("worker.py", "alice", limits=FULL_DISK)
        scene.wait_until(
            lambda: scene.dead() == {task.number for task in tasks},
            f"the disk was full in the middle of a report, and {names(t.number for t in tasks)} had to be set aside",
            question="What does writing to a full disk raise, and who catches it?",
            task=1,
        )
        expect_reasons(scene)

    def files(scene):
        return sorted(
            {re.sub("[0-9a-f]{8}(-[0-9a-f]+){4}", "ID", path.name) for path in scene.outputs.iterdir()}
        )

    scene = stage.scene("the disk is full")
    fill_the_disk(scene, *scene.push(2))
    scene.wait(lambda: not files(scene), within=1)
    scene.expect(
        not files(scene),
        "The disk was full in the middle of a report. Then this was in the output folder: "
        f"{', '.join(files(scene))}.",
        question="Under which name is a report written, and when does it get the name that others look for?",
        task=1,
    )

    again = stage.scene("an older report is there, and the disk is full")
    (task,) = again.push(1)
    older = again.outputs / f"{task.id}.pdf"
    again.expect(
        write_new(older, OLDER), f"Before task 1 was begun, something was called out/{older.name}.", task=1
    )
    fill_the_disk(again, task)
    kept = content(older)
    again.expect(
        kept == OLDER,
        "The report of task 1 was there from an earlier time, whole. The task came again, and the disk was full in the "
        f"middle of the new report. Of the older one {'nothing is left' if not kept else 'only a part is left'}.",
        question="Who reads ID.pdf while you write to it, and what does that reader find?",
        task=1,
    )


@pytest.mark.check(points=3, after="a_task_wakes_the_worker", todo=3)
def test_an_idle_worker_stops_within_two_seconds(stage):
    """SIGTERM stops a waiting worker within two seconds"""
    took = {}

    def stop(number):
        scene = stage.scene(f"stopped while it waits, attempt {number}")
        scene.push(1)
        alice = scene.start("worker.py", "alice")
        scene.wait_done()
        scene.wait_until(alice.waits_for_a_task, "the worker was to wait in a blocking command")
        alice.terminate()  # a wait has just begun: the longest way to its end
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


@pytest.mark.check(
    points=4,
    after=("rubbish_is_set_aside", "the_reports_are_right", "an_idle_worker_stops_within_two_seconds"),
    todo=2,
)
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


@pytest.mark.check(
    points=4, after=("a_task_wakes_the_worker", "rubbish_is_set_aside", "the_reports_are_right")
)
def test_a_kill_loses_the_task_in_hand_and_no_other(stage):
    """A kill loses the task in hand, as the contract says, and no other"""

    def begin(scene):
        scene.settings = QUICK
        scene.push(1, b"rubbish", 1)
        scene.start("worker.py", "alice")

    def go_on(scene):
        scene.start("worker.py", "bob")
        verdict = scene.wait_done(**AT_MOST_ONCE)
        expect_only_the_task_in_hand_is_lost(stage, scene, verdict)
        for task in scene.tasks:
            path = scene.outputs / f"{task.id}.pdf"
            trouble = path.exists() and trouble_with(path, scene.json(task.body))
            scene.expect(not trouble, f"The report of task {task.number}: {trouble}.", task=task.number)

    stage.at_every_point("alice", begin, go_on, kill, calm=until_idle)


@pytest.mark.check(points=4, after="a_task_wakes_the_worker")
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


@pytest.mark.check(points=3, after=("a_task_wakes_the_worker", "rubbish_is_set_aside"), todo=7)
def test_the_monitor_tells_the_truth(stage):
    """The monitor's numbers are those of the broker"""
    scene = stage.scene(own_broker=True)
    scene.settings = LONG_BLOCK
    scene.push(b"rubbish", 15)
    alice = scene.start("worker.py", "alice")
    scene.wait_done()
    bob = scene.start("worker.py", "bob")

    def both_wait():
        return alice.waits_for_a_task() and bob.waits_for_a_task()

    scene.wait_until(both_wait, "two workers were to wait in a blocking command")
    look = scene.lie_in_wait("monitor", SecondLook(scene, pause=0.8))
    monitor = scene.start("monitor.py", "--once", "--json", EVERY_SECONDS=1.6)
    scene.wait_until(
        lambda: not monitor.running or monitor.has_been_silent_for(0.5)(),
        "the monitor was to look, and again after EVERY_SECONDS",
    )
    scene.push(5)
    scene.wait_done()
    scene.wait_until(both_wait, "both workers were to wait again")
    look.release()
    monitor.wait_exit()
    seen = scene.json(monitor.process.output())
    said = json.dumps(seen) if seen else monitor.process.output()[:200]
    scene.expect(
        look.reached.is_set(),
        f"The monitor was started with --once and EVERY_SECONDS=1.6; it looked only once, and said {said}",
        question="Which two numbers does a rate divide?",
        task=None,
    )
    expected = {"waiting": 0, "blocked": 2, "done": 20, "rejected": 1}
    lowest, highest = look.rates(5)
    told = {key: seen.get(key) for key in expected} if isinstance(seen, dict) else {}
    scene.expect(
        told == expected,
        f"Nothing waited, two workers were blocked, 20 tasks were done, one was rejected.\n"
        f"expected  {json.dumps(expected | {'per_second': round(highest, 1)})}\nseen      {said}",
        task=None,
    )
    rate = seen.get("per_second")
    scene.expect(
        isinstance(rate, int | float) and 0.9 * lowest <= rate <= 1.1 * highest,
        f"5 tasks were done between two looks that were {5 / highest:.1f} seconds apart; the monitor said {said}",
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
    wanted = {f"{task['id']}.pdf": task for task in tasks}
    scene.wait(lambda: {path.name for path in scene.outputs.iterdir()} == wanted.keys(), within=2)
    there = {path.name for path in scene.outputs.iterdir()}
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


def unanswered(scene, actor):
    """The commands of a process that the broker never answered, but for one that it still waits in."""
    sent, in_flight = scene.history.events(COMMAND, actor.name), set(actor.lane.in_flight)
    answered = {e.number for e in scene.history.events(REPLY, actor.name)}
    return [e for e in sent if e.number not in answered | in_flight]


def waited_elsewhere(scene, number):
    """The command that a worker stood in when this task came, if it was another that handed the task out; or ""."""
    (pushed,) = [e.at for e in scene.history.events(SENT) if number in e.tasks]
    events = scene.history.events(who="alice")
    handed = next(e for e in events if number in e.tasks)
    stood_in = [e for e in events if e.what == COMMAND and e.at < min(pushed, handed.at)][-1]
    ended = next((e.at for e in events if e.what == REPLY and e.number == stood_in.number), handed.at)
    return command_line(stood_in) if stood_in.number != handed.number and ended > pushed else ""


def away(scene, number):
    """How many seconds a worker was away from the broker with a task, the work itself left out."""
    events = scene.history.events(who="alice")
    handed, begun = (
        next(e.at for e in events if number in e.tasks and e.what == what) for what in (REPLY, WORK_STARTED)
    )
    done = next(e.at for e in events if number in e.tasks and e.what == WORK_FINISHED)
    waits = [e.at for e in events if e.what == COMMAND and e.blocking and e.at > handed]
    back = max(done, min(waits, default=done))
    return (back - handed) - (done - begun)


def rests(scene, actor):
    """How many seconds passed from the end of each wait that brought nothing to the beginning of the next wait."""
    events = scene.history.events(who=actor.name)
    ends = [e.at for e in events if e.what == REPLY and e.blocking and e.empty]
    begins = [e.at for e in events if e.what == COMMAND and e.blocking]
    return [next(at for at in begins if at > end) - end for end in ends if end < begins[-1]]


def until_idle(scene):
    """All is done, and the worker waits for more."""
    scene.wait_done()
    scene.wait_until(scene.actors[0].waits_for_a_task, "the worker was to wait for the next task")
