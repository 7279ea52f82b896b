"""The checks of lab 4: an endpoint that fails in every way, and workers that are killed, hang, and come back.

A scene is one play: a queue of its own, your processes, and a record of everything they did. `scene.push`
puts tasks into the queue, `scene.start` starts one of your scripts, and each wait is for an event, with a
deadline. `webhook(scene, "503,200")` is a task whose first request is answered with 503, and the next with 200.
"""

import json
from datetime import datetime, timedelta

import pytest

from labkit.grader.crash import Hold
from labkit.grader.endpoint import RETRY_AFTER_SECONDS
from labkit.grader.expectations import (
    expect_a_stop_without_a_broker,
    expect_ctrl_c_finishes_the_task,
    expect_little_while_idle,
    expect_new_ids_newest_left,
    expect_nothing_lost_by_a_killed_helper,
    expect_oldest_first,
    expect_words_without_a_broker,
    kill,
    kill_broker,
    scenes_of_long_work,
    shown,
)
from labkit.grader.history import WORK_FAILED, WORK_FINISHED, WORK_STARTED
from labkit.grader.material.lab04_dead_letters import (
    BAD_ADDRESSES,
    BAD_TASKS,
    OnceHanded,
    broker_time,
    delays,
    letters,
    webhook,
)
from labkit.grader.tasks import id_in
from labkit.grader.words import counted, names

QUICK = {
    "BLOCK_SECONDS": 0.1,
    "BASE_SECONDS": 0.02,
    "CAP_SECONDS": 0.1,
    "LEASE_SECONDS": 0.6,
    "HTTP_SECONDS": 2,
    "RECONNECT_SECONDS": 0.05,
}
HOUR = 3600


@pytest.mark.check(points=2, todo=1)
def test_the_producer_queues_tasks(scene):
    """The producer's tasks arrive, the newest on the left"""
    url = "http://127.0.0.1:1/200"
    scene.start("producer.py", url, "--count", "3", name="producer").wait_exit()
    earlier = scene.contents(scene.queue)
    scene.start("producer.py", url, "--max-retries", "2", name="producer again").wait_exit()
    bodies = scene.contents(scene.queue)
    scene.expect(
        (len(earlier), len(bodies)) == (3, 4),
        f"The producer was asked for 3 tasks and then for 1; {len(earlier)}, then {len(bodies)} were queued.",
    )
    for body in bodies:
        task = scene.json(body)
        scene.expect(
            isinstance(task, dict),
            f"A task is a JSON object; this is in the queue: {shown(body)}",
            question="What will a worker need that has nothing but what it finds in the queue?",
        )
        scene.expect(id_in(body), f"The id of a task is a UUID; this one is {task.get('id')!r}.")
        data = task.get("data")
        asked = data.get("url") if isinstance(data, dict) else None
        scene.expect(asked == url, f"It is to be delivered to {url}, not {asked!r}.")
        scene.adopt(body)
    expect_new_ids_newest_left(scene, earlier, bodies, [id_in(body) for body in bodies])


@pytest.mark.check(points=4, todo=6)
def test_tasks_are_delivered(scene):
    """Every webhook is delivered once, oldest first"""
    scene.push(5)
    body = json.dumps(scene.run.new_task(scene), separators=(",", ":"))  # as other languages write it
    scene.push(body.encode())
    scene.start("worker.py", "alice")
    scene.wait_done()
    expect_oldest_first(scene)
    for task in scene.tasks:
        expect_requests(scene, task.number, 1)
        data = scene.json(task.body)["data"]
        sent = scene.json(scene.endpoint.requests_for(task.number)[0].body)
        scene.expect(
            sent == {"event": data["event"], "payload": data["payload"]},
            f"Task {task.number} asked for {data}; the endpoint was sent {sent}.",
            question="Was the work given the task just as it was in the queue?",
            task=task.number,
        )


@pytest.mark.check(points=4, after="tasks_are_delivered", todo=7)
def test_what_is_no_task_is_buried(scene):
    """What is no task goes to the dead letters at once, with a reason"""
    first, *bad, last = scene.push(1, *BAD_TASKS.values(), 1)
    alice = scene.start("worker.py", "alice")
    scene.wait(lambda: scene.finished(last) or not alice.running)
    kind = scene.ask("TYPE", f"{scene.queue}:dead")
    scene.expect(
        kind in ("list", "none"),
        f"The dead letters are a list, the newest at the left end; {scene.called([scene.queue])}:dead is a {kind}.",
        question="Which commands work on a list, and which on a hash or a set?",
        task=None,
    )
    for entry in scene.contents(f"{scene.queue}:dead"):
        letter = scene.json(entry)
        scene.expect(
            isinstance(letter, dict) and "body" in letter,
            f"A dead letter is a JSON object, and has the body that was in the queue. This one has not: {shown(entry)}",
            question="What will somebody need who looks at this letter next week?",
            task=None,
        )
    verdict = scene.wait_done(question="What does your worker do when read_task raises PermanentError?")
    scene.expect(
        verdict.done_once == [first.number, last.number], f"Done: {verdict.done_once}, dead: {verdict.dead}."
    )
    reasons = {}
    for what, task in zip(BAD_TASKS, bad, strict=True):
        letter = expect_a_letter(scene, task.number, what)
        reasons[what] = str(letter["reason"])
    scene.expect(
        len(set(reasons.values())) > len(BAD_TASKS) / 2,
        f"{len(BAD_TASKS)} bodies that are wrong in different ways died of "
        f"{counted(len(set(reasons.values())), 'reason')}, such as {min(reasons.values())[:60]!r}.",
        question="What does the exception say, and who will want to read it?",
        task=None,
    )


@pytest.mark.check(points=3, after="what_is_no_task_is_buried", todo=9)
def test_a_permanent_error_is_not_retried(scene):
    """A permanent error is not tried again"""
    scene.settings = QUICK
    gone, *nowhere, _ = scene.push(webhook(scene, "410,200"), *BAD_ADDRESSES.values(), 1)
    scene.start("worker.py", "alice")
    scene.wait_done()
    because = "410 says that it will never work."
    expect_requests(scene, gone.number, 1, because, "Which errors are worth another try?")
    letter = expect_a_letter(scene, gone.number, "a task whose endpoint answered 410")
    scene.expect(
        letter["attempts"] == 1
        and "410" in str(letter["reason"])
        and "Traceback" in str(letter["traceback"]),
        "The dead letter is to say after how many attempts the task died, why (410), and where in the code "
        f"(traceback). It says: {shown(json.dumps(letter).encode())}",
        question="What will somebody need who looks at this letter next week?",
    )
    for task, what in zip(nowhere, BAD_ADDRESSES, strict=True):
        letter = expect_a_letter(scene, task.number, what)
        scene.expect(
            letter["attempts"] == 1,
            f"Task {task.number} can never be delivered ({what}); its letter speaks of "
            f"{counted(letter['attempts'], 'attempt')}.",
            task=task.number,
        )


@pytest.mark.check(points=4, after="tasks_are_delivered", todo=10)
def test_a_temporary_error_is_tried_again(scene):
    """Whatever may pass is tried again: 503, 429, a cut, garbage, silence"""
    scene.settings = QUICK | {"HTTP_SECONDS": 0.5}
    answers = ["503,200", "429,200", "cut,200", "garbage,200", "never,200", "500,502,504,200"]
    tasks = scene.push(*(webhook(scene, answer, max_retries=20) for answer in answers))
    scene.start("worker.py", "alice")
    verdict = scene.wait_done(quiet=3)
    for task, answer in zip(tasks, answers, strict=True):
        reason = str(letters(scene).get(task.number, {}).get("reason", ""))
        scene.expect(
            task.number in verdict.done_once,
            f"Task {task.number} was to be answered {answer}; it was not delivered. Its letter says: {reason[:80]}",
            question="Which of these answers say that it will never work?"
            if "TemporaryError" in reason
            else "What did the worker find in the queue when the task came back?",
            task=task.number,
        )
        expect_requests(scene, task.number, answer.count(",") + 1)


@pytest.mark.check(points=4, after="a_temporary_error_is_tried_again", todo=9)
def test_retries_run_out(scene):
    """An endpoint that keeps failing sees exactly 1 + max_retries requests"""
    scene.settings = QUICK
    limits = [0, 1, 3]
    tasks = scene.push(*(webhook(scene, "503", max_retries=limit) for limit in limits))
    refused = webhook(scene, max_retries=1)
    refused["data"]["url"] = scene.endpoint.refused_url
    (refused,) = scene.push(refused)
    scene.start("worker.py", "alice")
    allowed = {task.number: 1 + limit for task, limit in zip(tasks, limits, strict=True)}
    scene.wait(lambda: len(scene.dead()) == 4 or asked_too_often(scene, allowed), within=8)
    if not asked_too_often(scene, allowed):
        scene.wait_done(quiet=3)
    for task, limit in zip(tasks, limits, strict=True):
        expect_requests(scene, task.number, 1 + limit, f"Its max_retries is {limit}.")
        letter = expect_a_letter(scene, task.number, "a task whose endpoint always answered 503")
        scene.expect(
            letter["attempts"] == 1 + limit,
            f"Task {task.number} was tried {counted(1 + limit, 'time')}; its letter speaks of "
            f"{counted(letter['attempts'], 'attempt')}.",
            question="When is an attempt counted, and how often?",
            task=task.number,
        )
    letter = expect_a_letter(scene, refused.number, "a task whose endpoint refused to be connected")
    scene.expect(
        letter["attempts"] == 2,
        f"Task {refused.number} has max_retries 1, and at its address nobody listens. It was to be tried twice; "
        f"its letter speaks of {counted(letter['attempts'], 'attempt')}.",
        task=refused.number,
    )


@pytest.mark.check(points=2, after="retries_run_out", todo=9)
def test_a_mistake_in_a_handler_stops_no_worker(scene):
    """A handler that raises something else stops no worker, and loses no task"""
    scene.settings = QUICK
    broken, _ = scene.push(webhook(scene, max_retries=2), 1)
    scene.work.fail(broken.number, "a mistake in the handler")
    scene.start("worker.py", "alice")
    scene.wait_done(quiet=3, question="What does your worker do when the work raises an OSError?")
    tried = [event for event in scene.history.events(WORK_STARTED) if broken.number in event.tasks]
    scene.expect(
        len(tried) == 3,
        f"Its max_retries is 2; it was tried {counted(len(tried), 'time')}.",
        task=broken.number,
    )
    letter = expect_a_letter(scene, broken.number, "a task whose handler raises an OSError")
    scene.expect(
        "a mistake in the handler" in str(letter["reason"]),
        f"The reason does not say what the handler said: {letter['reason']}",
    )


# ---- the waits ---------------------------------------------------------------------------------------------

LONG = 100_000  # seconds: beside it what the machine needs is nothing, so the broker's scores tell the waits
EACH = 14


def planned_waits(scene, **settings):
    """Fail tasks that have 0, 1 or 4 attempts behind them, EACH of each; return the waits, by the attempts then.

    The workers look at the delayed set a few times more before a wait is read off it: a set in which all tasks
    stand at one moment may be one that nobody has promoted from yet.
    """
    scene.settings = QUICK | {"BASE_SECONDS": LONG, "CAP_SECONDS": LONG * 10**6} | settings
    attempts = [number for number in (0, 1, 4) for _ in range(EACH)]
    tasks = scene.push(*(webhook(scene, "503", attempts=number, max_retries=20) for number in attempts))
    began = broker_time(scene)
    workers = [scene.start("worker.py", name) for name in ("alice", "bob")]
    scene.wait_until(
        lambda: scene.ask("ZCARD", f"{scene.queue}:delayed") == len(attempts) or came_back(scene, tasks),
        f"{len(attempts)} tasks were answered 503, and were to wait in {scene.called([scene.queue])}:delayed",
        within=25,
        question="Where does a task wait until it is tried again?",
    )
    wait_for_some_rounds(scene, workers, or_until=lambda: came_back(scene, tasks))
    scene.expect(
        not came_back(scene, tasks),
        f"{len(tasks)} tasks were answered 503, and were to wait for a long time: BASE_SECONDS is {LONG:,}. "
        f"{names(came_back(scene, tasks)[:1]).capitalize()} came back at once.",
        question="When is a task due, and in which unit does its score say so?",
        task=min(came_back(scene, tasks), default=0),
    )
    waits = delays(scene, now=began)
    scene.expect(
        sorted(waits) == [1, 2, 5],
        f"The tasks had 0, 1 or 4 attempts behind them; now their attempts are {sorted(waits)}.",
        question="Who counts the attempts, and where is the count kept?",
        task=None,
    )
    return waits


@pytest.mark.check(points=3, after="a_temporary_error_is_tried_again", todo=8)
def test_waits_grow(scene):
    """Each wait may be twice as long as the one before"""
    waits = planned_waits(scene)
    for attempt, seconds in sorted(waits.items()):
        most = LONG * 2 ** (attempt - 1)
        scene.expect(
            most / 3 < max(seconds) < most * 1.05,
            f"BASE_SECONDS is {LONG:,}. After attempt {attempt} a wait is a random time of up to {most:,} s; "
            f"the longest of {len(seconds)} was {max(seconds):,.0f} s.",
            question="How does the longest wait grow from attempt to attempt?",
            task=None,
        )


@pytest.mark.check(points=2, after="waits_grow", todo=8)
def test_waits_are_capped(scene):
    """No wait is longer than CAP_SECONDS"""
    cap = LONG * 3
    waits = planned_waits(scene, CAP_SECONDS=cap)
    for attempt in (2, 5):
        longest = max(waits[attempt])
        most = min(cap, LONG * 2 ** (attempt - 1))
        scene.expect(
            most / 3 < longest < most * 1.05,
            f"BASE_SECONDS is {LONG:,}, CAP_SECONDS {cap:,}. After attempt {attempt} the longest of "
            f"{len(waits[attempt])} waits was {longest:,.0f} s; it may be up to {most:,} s.",
            question="What would the wait be after twenty attempts?",
            task=None,
        )


@pytest.mark.check(points=3, after="a_temporary_error_is_tried_again", todo=8)
def test_waits_are_spread(scene):
    """Tasks that failed together do not come back together"""
    waits = planned_waits(scene)
    parts = [second / (LONG * 2 ** (attempt - 1)) for attempt, seconds in waits.items() for second in seconds]
    scene.expect(
        min(parts) < 0.45 * max(parts),
        f"{len(parts)} tasks failed together. Every one of them waits for {min(parts):.0%} to {max(parts):.0%} of "
        "the longest wait that its attempts allow: they come back at about the same time.",
        question="What does full jitter choose from, and where does that range begin?",
        task=None,
    )


@pytest.mark.check(points=3, after="waits_grow", todo=3)
def test_waits_are_waited(scene):
    """A delayed task comes back when it is due, not before"""
    scene.settings = QUICK | {"BASE_SECONDS": LONG * 100, "CAP_SECONDS": LONG * 10**6}
    tasks = scene.push(*(webhook(scene, "503,200") for _ in range(3)))
    workers = [scene.start("worker.py", name) for name in ("alice", "bob")]
    delayed = f"{scene.queue}:delayed"
    question = "When does a task leave the delayed set, and who looks at the clock?"

    def expect_patience_of(numbers, because):
        """For some rounds of the workers' loops none of these tasks comes back."""
        early = lambda: came_back(scene, [tasks[number - 1] for number in numbers])  # noqa: E731
        wait_for_some_rounds(scene, workers, or_until=early)
        scene.expect(
            not early(),
            f"{because}; {names(early())} came back before the time.",
            question=question,
            task=min(early(), default=0),
        )

    scene.wait_until(
        lambda: scene.ask("ZCARD", delayed) == 3 or came_back(scene, tasks),
        f"three tasks were answered 503, and were to wait in {scene.called([delayed])}",
        question="Where does a task wait until it is tried again?",
    )
    expect_patience_of([1, 2, 3], "Three tasks were answered 503, and are to be tried again in some days")
    for entry in scene.contents(delayed):
        if scene.tasks.numbers_in(entry) == (2,):
            scene.ask("ZADD", delayed, int(broker_time(scene) * 1000), entry)
    scene.wait_until(
        lambda: scene.finished(tasks[1]),
        f"of three tasks in {scene.called([delayed])} task 2 has become due, and was to be tried again",
        question=question,
        task=2,
    )
    expect_patience_of([1, 3], "Of three delayed tasks task 2 has become due, the others in some days")


@pytest.mark.check(points=2, after="a_temporary_error_is_tried_again", todo=8)
def test_retry_after_is_respected(scene):
    """429 with Retry-After: not before that"""
    scene.settings = QUICK
    tasks = scene.push(*(webhook(scene, "429,200") for _ in range(6)))
    scene.start("worker.py", "alice")
    scene.wait_done(quiet=3)
    for task in tasks:
        expect_patience(scene, task.number, "Which attribute of the TemporaryError tells it?")


@pytest.mark.check(points=3, after="retry_after_is_respected", todo=10)
def test_the_brokers_clock_counts(stage):
    """A worker whose clock is wrong delays no task for longer or shorter"""

    def play(clock):
        scene = stage.scene(f"alice's clock is an hour {'fast' if clock > 0 else 'slow'}")
        scene.settings = QUICK
        late, dead = scene.push(webhook(scene, "429,200"), webhook(scene, "410"))
        now = broker_time(scene)
        scene.start("worker.py", "alice", clock=clock)
        question = "Whose clock says when a task is due?"
        scene.wait_until(
            lambda: scene.endpoint.requests_for(late.number)[1:],
            f"{scene.title}; task 1 was answered 429, and was to be tried again after {RETRY_AFTER_SECONDS} s",
            question=question,
            task=late.number,
        )
        expect_patience(scene, late.number, question)
        letter = expect_a_letter(scene, dead.number, "a task whose endpoint answered 410")
        died = died_at(scene, letter)
        scene.expect(
            abs(died.timestamp() - now) < HOUR / 2,
            f"{scene.title}. A task died at {datetime.fromtimestamp(now, died.tzinfo):%H:%M} by the broker's "
            f"clock; its letter says {died:%H:%M}.",
            question="Whose clock says when a task died?",
            task=None,
        )

    def plan(clock):
        scene = stage.scene(f"alice's clock is an hour {'fast' if clock > 0 else 'slow'}")
        longest = HOUR / 10
        scene.settings = QUICK | {"BASE_SECONDS": longest, "CAP_SECONDS": longest}
        scene.push(webhook(scene, "503"))
        scene.start("worker.py", "alice", clock=clock)
        question = "Whose clock says when a task is due?"
        waits = scene.wait_until(
            lambda: delays(scene, broker_time(scene)),
            f"{scene.title}; a task was answered 503, and was to wait in {scene.called([scene.queue])}:delayed",
            question=question,
            task=1,
        )
        wait = max(max(waits.values()))
        scene.expect(
            -1 < wait < longest + 1,
            f"{scene.title}. A task was to wait for up to {longest:.0f} s; by the broker's clock it is due "
            f"{abs(wait):.0f} s {'from now' if wait > 0 else 'ago'}.",
            question=question,
            task=1,
        )

    cases = [(each, clock) for clock in (-HOUR, HOUR) for each in (play, plan)]
    stage.play_each(cases, lambda case: case[0](case[1]))


# ---- faults ------------------------------------------------------------------------------------------------


def push_a_bit_of_all(scene):
    """A task that is delivered, one that is none, one that is gone for good, and one that fails once."""
    scene.push(1, b"rubbish", webhook(scene, "410"), webhook(scene, "503,200"))


def expect_a_bit_of_all(scene):
    """After push_a_bit_of_all, and whatever happened: each is where it belongs, and nowhere else."""
    verdict = scene.wait_done(quiet=8, within=40)
    done = sorted(verdict.done_once + verdict.duplicated)
    entries = scene.contents(f"{scene.queue}:dead")
    dead = sorted(number for entry in entries for number in scene.tasks.numbers_in(entry))
    scene.expect(
        (done, dead, len(entries)) == ([1, 4], [2, 3], 2),
        f"Tasks 1 and 4 were to be delivered, 2 and 3 to die. Delivered: {done}; "
        f"the dead letters are those of tasks {dead}.",
        question="What makes leaving one list and entering the other one step?",
        task=next((number for number in (1, 4, 2, 3) if (done + dead).count(number) != 1), 2),
    )


@pytest.mark.check(points=8, after=("retries_run_out", "what_is_no_task_is_buried"), todo=11)
def test_a_killed_worker_loses_nothing(stage):
    """A worker killed at any point loses nothing"""

    def begin(scene):
        scene.settings = QUICK
        push_a_bit_of_all(scene)
        scene.start("worker.py", "alice")

    def go_on(scene):
        scene.start("worker.py", "bob")
        expect_a_bit_of_all(scene)

    def in_a_long_delivery(held_before):
        scene = stage.scene(f"alice is killed during a long delivery, before her command {held_before}")
        scene.settings = QUICK
        scene.work.hold(1)
        scene.push(1)
        hold = scene.lie_in_wait("alice", Hold(scene, held_before))
        alice = scene.start("worker.py", "alice")
        scene.wait(lambda: hold.reached.is_set() and scene.at_work(), within=3)
        alice.kill()
        hold.release()
        scene.work.release()
        scene.start("worker.py", "bob")
        scene.wait_done(quiet=8, within=40)

    def acknowledge_meanwhile(_):
        scene = stage.scene("bob acknowledges a task of his own while he takes over one of alice's")
        scene.settings = QUICK
        scene.work.hold()
        first, second = scene.push(2)
        alice = scene.start("worker.py", "alice")
        scene.wait_started(first)
        hold = scene.lie_in_wait("bob", OnceHanded(scene, first.number, longest=2))
        scene.start("worker.py", "bob", LEASE_SECONDS=4)
        scene.wait_started(second)
        alice.kill()
        scene.wait(hold.reached.is_set, within=4)
        scene.work.let_go("bob")
        scene.wait(lambda: scene.finished(second) and second.number not in scene.where(), within=1)
        hold.release()
        scene.work.release()
        scene.wait_done(quiet=3)

    stage.at_every_point("alice", begin, go_on, kill, calm=until_done)
    cases = [(acknowledge_meanwhile, 0), *((in_a_long_delivery, number) for number in (6, 7, 8))]
    stage.play_each(cases, lambda case: case[0](case[1]))


@pytest.mark.check(points=5, after=("retries_run_out", "what_is_no_task_is_buried"), todo=11)
def test_a_killed_broker_loses_nothing(stage):
    """A broker killed at any point and restarted loses nothing"""

    def begin(scene):
        scene.settings = QUICK | {"LEASE_SECONDS": 3}
        push_a_bit_of_all(scene)
        scene.start("worker.py", "alice")

    def go_on(scene):
        scene.restart_broker()
        expect_a_bit_of_all(scene)

    stage.at_every_point("alice", begin, go_on, kill_broker, calm=until_done, own_broker=True)


@pytest.mark.check(points=3, after="a_killed_worker_loses_nothing", todo=11)
def test_a_killed_helper_loses_nothing(stage):
    """A worker killed or cut off while it takes over from another loses nothing"""

    def cut_off(_):
        scene = stage.scene("bob loses his connections when he has just taken over task 1, and lives on")
        scene.settings = QUICK
        scene.work.hold()
        first, second = scene.push(2)
        alice = scene.start("worker.py", "alice", LEASE_SECONDS=0.3)
        scene.wait_started(first)
        hold = scene.lie_in_wait("bob", OnceHanded(scene, first.number, longest=60))
        bob = scene.start("worker.py", "bob")
        scene.wait_started(second)
        alice.kill()
        scene.wait(hold.reached.is_set, within=4)
        bob.lose_connections()
        hold.release()
        scene.work.release()
        scene.wait_done(quiet=5)

    expect_nothing_lost_by_a_killed_helper(stage, QUICK, "LEASE_SECONDS", calm=until_done)
    stage.play_each([0], cut_off)


@pytest.mark.check(points=3, after="a_killed_worker_loses_nothing", todo=11)
def test_a_task_that_kills_its_worker_dies(scene):
    """A task that kills every worker does not go round forever"""
    scene.settings = QUICK
    scene.work.hold(1)
    poison, _ = scene.push(webhook(scene, max_retries=2), 1)
    for number in range(3):
        worker = scene.start("worker.py", f"worker{number}")
        scene.wait_until(
            lambda name=worker.name: works_on(scene, name, poison),
            "a worker was killed with task 1 in hand, and another was to try it",
            task=poison.number,
        )
        worker.kill()
    scene.start("worker.py", "last")
    scene.wait_until(
        lambda: poison.number in letters(scene) or works_on(scene, "last", poison),
        "task 1 was to die",
        task=1,
    )
    scene.expect(
        not works_on(scene, "last", poison),
        "Task 1 has max_retries 2, and three workers were killed with it in hand. A fourth was given it.",
        question="A lost lease: is that an attempt?",
        task=1,
    )
    scene.work.release()
    scene.wait_done(quiet=3)
    expect_a_letter(scene, poison.number, "a task that killed three workers")


def works_on(scene, name, task):
    """Whether the process of this name has begun to work on the task."""
    return any(task.number in event.tasks for event in scene.history.events(WORK_STARTED, name))


@pytest.mark.check(points=3, after="a_killed_worker_loses_nothing", todo=11)
def test_two_helpers_duplicate_nothing(stage):
    """Two workers that take over at once duplicate nothing"""

    def begin(title, held_before, longest):
        scene = stage.scene(f"bob is held before his command {held_before}; {title}")
        scene.settings = QUICK
        scene.work.hold()
        first, _ = scene.push(2)
        alice = scene.start("worker.py", "alice")
        scene.wait_started(first)
        alice.kill()
        return scene, first, scene.lie_in_wait("bob", Hold(scene, held_before, longest=longest))

    def another_takes_over(held_before):
        scene, first, hold = begin("carol takes over, too", held_before, 2.2)
        scene.work.release()
        bob = scene.start("worker.py", "bob", LEASE_SECONDS=4)
        scene.wait(hold.reached.is_set)
        scene.start("worker.py", "carol")
        scene.wait(lambda: scene.finished(first), within=3)
        hold.release()
        scene.wait(lambda: bob.replies() >= held_before + 4, within=3)
        scene.wait_done(quiet=3)

    def the_owner_comes_back(held_before):
        scene, _, hold = begin("alice comes back", held_before, 2.2)
        bob = scene.start("worker.py", "bob", LEASE_SECONDS=4)
        scene.wait(hold.reached.is_set)
        scene.start("worker.py", "alice", name="alice again", LEASE_SECONDS=4)
        scene.wait(lambda: len(scene.at_work()) == 2, within=1.5)
        hold.release()
        scene.wait(lambda: bob.replies() >= held_before + 2, within=3)
        scene.work.release()
        scene.wait_done(quiet=3)

    def both_promote(_):
        scene = stage.scene("bob is held when he has been told what is due; carol promotes, too")
        scene.settings = QUICK | {"BASE_SECONDS": LONG, "CAP_SECONDS": LONG}
        (task,) = scene.push(webhook(scene, "503,200"))
        alice = scene.start("worker.py", "alice")
        delayed = f"{scene.queue}:delayed"
        scene.wait_until(lambda: scene.ask("ZCARD", delayed), "task 1 was answered 503, and was to wait")
        alice.terminate()
        alice.wait_exit()
        scene.ask("ZADD", delayed, int(broker_time(scene) * 1000), scene.contents(delayed)[0])
        hold = scene.lie_in_wait("bob", OnceHanded(scene, task.number, longest=2))
        bob = scene.start("worker.py", "bob", LEASE_SECONDS=4)
        scene.wait(hold.reached.is_set)
        scene.start("worker.py", "carol")
        scene.wait(lambda: scene.finished(task), within=1.5)
        before = bob.replies()
        hold.release()
        scene.wait(lambda: bob.replies() >= before + 4, within=3)
        scene.wait_done(quiet=3)

    cases = [(both_promote, 0)]
    cases += [(the_owner_comes_back, number) for number in (8, 9)]
    cases += [(another_takes_over, number) for number in range(5, 14)]
    stage.play_each(cases, lambda case: case[0](case[1]))


# ---- leases ------------------------------------------------------------------------------------------------


@pytest.mark.check(points=4, after="a_killed_worker_loses_nothing", todo=2)
def test_a_living_worker_keeps_its_task(stage):
    """A lease is renewed while the work runs, also after SIGTERM"""

    def just_taken():
        scene = stage.scene("alice has just taken task 2 when bob looks for what he can take over")
        scene.settings = QUICK
        scene.work.hold()
        bob = scene.start("worker.py", "bob")
        (first,) = scene.push(1)
        scene.wait_started(first)
        (second,) = scene.push(1)
        hold = scene.lie_in_wait("alice", OnceHanded(scene, second.number, longest=1.5))
        scene.start("worker.py", "alice", LEASE_SECONDS=4)
        scene.wait(lambda: hold.reached.is_set() or "alice" in scene.at_work(), within=3)
        scene.mind(bob, starving=0.2)
        held = scene.where().get(second.number)
        before = bob.replies()
        scene.wait(lambda: bob.replies() > before + 6, within=1)
        now = scene.where().get(second.number)
        scene.expect(
            now == held,
            f"alice had just taken task 2, and was a moment late with her next command. Task 2 was in "
            f"{' and '.join(held or ['no key'])}, and is now in {' and '.join(now or ['no key'])}.",
            question="From when on does a worker need its lease?",
            task=second.number,
        )
        hold.release()  # what had to be seen has been seen: bob's lease is too short for all that may come now

    settings = QUICK | {"LEASE_SECONDS": 1.2}
    long_work = scenes_of_long_work(stage, settings, "LEASE_SECONDS lease")
    stage.play_each([*long_work, just_taken], lambda play: play())


@pytest.mark.check(points=5, after="a_killed_worker_loses_nothing", todo=11)
def test_a_worker_that_hangs_loses_its_task(stage):
    """A worker that hangs loses its task, and what it says later changes nothing"""

    question = "How does a worker know whether a task is still its own, and in which step does it look?"

    def play(late):
        scene = stage.scene(f"alice's late request is answered {late}")
        scene.settings = QUICK
        scene.work.hold(1)
        first, *_ = scene.push(webhook(scene, f"{late},200"))
        alice = scene.start("worker.py", "alice", WORK_SECONDS=0.3)
        scene.wait_started(first)
        bob = scene.start("worker.py", "bob", WORK_SECONDS=60, LEASE_SECONDS=2)
        scene.mind(bob, starving=1)  # so long without a processor, and he rightly loses his lease
        scene.wait_until(
            lambda: "bob" in scene.at_work(),
            "alice hangs in task 1 for longer than WORK_SECONDS and LEASE_SECONDS together; bob was to get it",
            question="Until when does alice renew her lease?",
            task=1,
        )
        answered = alice.replies()
        held = where_it_is(scene)
        scene.work.let_go("alice")
        ended = {WORK_FINISHED, WORK_FAILED}
        scene.wait_until(
            lambda: any(event.what in ended for event in scene.history.events(who="alice")),
            "alice was to go on",
        )
        scene.wait_until(
            lambda: alice.replies() >= answered + 2 and alice.waits_for_a_task(),
            "alice was to go on, and to wait for her next task",
        )
        scene.expect(
            where_it_is(scene) == held,
            f"alice lost her lease, and bob works on task 1. Then alice was answered {late}, and moved it: it "
            f"was in {' and '.join(held)}, and is now in {' and '.join(where_it_is(scene)) or 'no key at all'}.",
            question=question,
            task=1,
        )
        bob.terminate()
        scene.work.release()
        bob.wait_exit()
        scene.push(1)
        scene.wait_until(
            lambda: 2 in scene.history.tasks(WORK_FINISHED) and not scene.where(),
            "alice, back again, was to do the next task, and then no queue was to hold any",
        )
        expect_requests(
            scene, 1, 2, f"alice, answered {late} when the task was bob's, and bob: one each.", question
        )
        done = int(scene.ask("GET", f"{scene.queue}:count:done") or 0)
        scene.expect(
            done <= 2,
            f"Two tasks were done, task 1 by alice, too late, and by bob; {done} are counted as done.",
            question="Whose success counts, when the task is no longer a worker's own?",
            task=1,
        )

    stage.play_each(["200", "503", "410"], play)


def where_it_is(scene):
    """The keys that hold task 1, dead letters included."""
    left, dead = scene.holdings.where_and_dead()
    return left.get(1, []) + (["the dead letters"] if 1 in dead else [])


@pytest.mark.check(points=3, after="tasks_are_delivered", todo=4)
def test_a_worker_stops_when_asked(stage):
    """SIGTERM: the task in hand is finished, nothing is left behind"""
    scene = stage.scene("stopped in the middle of a task")
    scene.settings = QUICK
    scene.work.hold()
    scene.push(3)
    bob = scene.start("worker.py", "bob")
    scene.wait_until(scene.at_work, "the worker was to begin")
    bob.terminate()
    scene.work.release()
    status = bob.wait_exit(question="What does SIGTERM do to a blocking command, and to the loop?")
    scene.expect(status == 0, f"After SIGTERM bob ended with status {status}, not with 0.")
    verdict = scene.verdict()
    scene.expect(
        (verdict.done_once, verdict.waiting) == ([1], [2, 3]),
        "Task 1 was in hand when SIGTERM came, 2 and 3 were waiting. Then "
        f"done: {verdict.done_once}, waiting: {verdict.waiting}, lost: {verdict.lost}.",
        question="When does the loop look whether it should stop?",
        task=1,
    )
    left = [key for key in scene.keys() if key.endswith(":bob")]  # noqa: SIM118 (not a dict)
    scene.expect(not left, f"bob was asked to stop with SIGTERM, and left {scene.called(left)} behind.")

    ctrl_c = stage.scene("stopped with Ctrl-C in the middle of a task")
    ctrl_c.settings = QUICK
    expect_ctrl_c_finishes_the_task(ctrl_c)

    alone = stage.scene("stopped when the broker is gone")
    alone.settings = QUICK
    expect_a_stop_without_a_broker(alone, alone.start("worker.py", "dave"))


@pytest.mark.check(points=2, after="tasks_are_delivered", todo=4)
def test_an_idle_worker_costs_little(scene):
    """An idle worker sends at most five commands a second"""
    alice = scene.start("worker.py", "alice")
    # Once a second it waits, and looks for what is due: with WATCH that is TIME, WATCH, a look, UNWATCH, BLMOVE.
    expect_little_while_idle(scene, alice, seconds=3, most=5, over=2)


# ---- the dead letters --------------------------------------------------------------------------------------


def bury(scene, *answers):
    """Have a worker bury tasks, one for each answer, whose requests get this answer first and then 200."""
    scene.settings = QUICK
    tasks = scene.push(*(webhook(scene, f"{answer},200") for answer in answers))
    alice = scene.start("worker.py", "alice")
    numbers = {task.number for task in tasks}
    scene.wait_until(lambda: numbers <= scene.dead(), "a permanent error was to end in the dead letters")
    alice.terminate()
    alice.wait_exit()
    return tasks


@pytest.mark.check(points=4, after="a_permanent_error_is_not_retried", todo=12)
def test_a_dead_letter_is_replayed(scene):
    """dlq.py: a dead letter is listed, shown, and replayed"""
    one, two, three = bury(scene, "410", "404", "400")
    listed = ask_dlq(scene, "list")
    scene.expect(
        all(task.id in listed for task in (one, two, three)),
        f"Three tasks are dead; `dlq.py list` says: {listed[:200]}",
    )
    said = ask_dlq(scene, "show", two.id)
    scene.expect("404" in said, f"Task 2 was answered 404; `dlq.py show {two.id}` says: {said[:200]}")
    ask_dlq(scene, "replay", two.id)
    queued = [scene.json(body) for body in scene.contents(scene.queue)]
    scene.expect(
        [task.get("id") if isinstance(task, dict) else task for task in queued] == [two.id],
        f"Task 2 was replayed; in the queue is: {shown(json.dumps(queued).encode())}",
        question="What does a worker need to find in the queue?",
        task=2,
    )
    expected = scene.json(two.body) | {"attempts": 0}
    scene.expect(
        queued[0] == expected,
        f"Task 2 was replayed as {json.dumps(queued[0])}, and was {json.dumps(expected)}.",
        question="Which of its fields belong to its old life?",
        task=2,
    )
    scene.expect(scene.dead() == {1, 3}, f"Then tasks 1 and 3 are dead, not {sorted(scene.dead())}.", task=2)
    ask_dlq(scene, "replay", "--all")
    scene.start("worker.py", "bob")
    verdict = scene.wait_done()
    scene.expect(verdict.done_once == [1, 2, 3], f"All were replayed; delivered: {verdict.done_once}.")
    nobody = "00000000-0000-4000-8000-000000000000"
    said = ask_dlq(scene, "replay", nobody, status=1)
    scene.expect(
        nobody in said, f"No letter has the id {nobody}. `dlq.py replay` does not say so: {said[:200]!r}"
    )


@pytest.mark.check(points=2, after="a_dead_letter_is_replayed", todo=12)
def test_what_would_die_again_is_not_replayed(scene):
    """Rubbish is listed, and is not put back into the queue"""
    scene.push(b"rubbish")
    (gone,) = bury(scene, "410")
    ask_dlq(scene, "list")
    ask_dlq(scene, "replay", "--all", status=None)
    queued = scene.contents(scene.queue)
    scene.expect(
        [id_in(body) for body in queued] == [gone.id] and scene.dead() == {1},
        "One letter held a task, the other rubbish; both were to be replayed. In the queue now: "
        f"{[shown(body) for body in queued]}; {counted(len(scene.dead()), 'letter')} left.",
        question="What will a worker do with what is no task?",
        task=None,
    )


@pytest.mark.check(points=4, after="a_dead_letter_is_replayed", todo=12)
def test_replayed_twice_is_replayed_once(stage):
    """Two replays at once replay once; one that is killed loses nothing"""

    def race(held_before):
        scene = stage.scene(f"the first replay is held before its command {held_before}")
        bury(scene, "410", "410")
        hold = scene.lie_in_wait("first", Hold(scene, held_before))
        first = scene.start("dlq.py", "replay", "--all", name="first", may_fail=True)
        scene.wait(lambda: hold.reached.is_set() or not first.running)
        scene.start("dlq.py", "replay", "--all", name="second", may_fail=True).wait_exit()
        hold.release()
        first.wait_exit()
        waiting = scene.depth()
        scene.expect(
            (waiting, len(scene.dead())) == (2, 0),
            f"Two letters were replayed by two people at once, the first of whom was held before command "
            f"{held_before}. Now {counted(waiting, 'task')} wait, and {len(scene.dead())} are dead.",
            question="How does the second one see that the letter is no longer there?",
            task=1,
        )

    def begin(scene):
        bury(scene, "410", "410")
        scene.start("dlq.py", "replay", "--all", name="first")

    def go_on(scene):
        scene.start("dlq.py", "replay", "--all", name="again", may_fail=True).wait_exit()
        scene.start("worker.py", "bob")
        verdict = scene.wait_done()
        scene.expect(verdict.done_once == [1, 2], f"Both were replayed; delivered once: {verdict.done_once}.")

    stage.at_every_point("first", begin, go_on, kill, calm=lambda scene: scene.actors[-1].wait_exit())
    stage.play_each(range(1, 5), race)


@pytest.mark.check(points=2, after="a_permanent_error_is_not_retried", todo=13)
def test_old_letters_are_purged(stage):
    """dlq.py purge removes the old letters, and no others"""

    def an_old_and_a_young_one(scene):
        """Bury two tasks, and make the first one's letter 8 days old."""
        old, _ = bury(scene, "410", "404")
        key = f"{scene.queue}:dead"
        entries = {scene.tasks.numbers_in(entry)[0]: entry for entry in scene.contents(key)}
        letter = scene.json(entries[old.number])
        letter["died_at"] = (died_at(scene, letter) - timedelta(days=8)).isoformat()
        scene.ask("LREM", key, 1, entries[old.number])
        scene.ask("RPUSH", key, json.dumps(letter))

    scene = stage.scene("by their age")
    an_old_and_a_young_one(scene)
    ask_dlq(scene, "purge", "--older-than", "9")
    scene.expect(
        scene.dead() == {1, 2},
        "The letters of tasks 1 and 2 are 8 days and no day old; those older than 9 days were purged. "
        f"Left: {sorted(scene.dead()) or 'none'}.",
        question="How old is a letter, and in which unit?",
        task=None,
    )
    ask_dlq(scene, "purge", "--older-than", "7", clock=-20 * 24 * HOUR)
    scene.expect(
        scene.dead() == {2},
        "The letters of tasks 1 and 2 are 8 days and no day old; those older than 7 days were purged, with a "
        f"clock that is 20 days slow. Left: {sorted(scene.dead()) or 'none'}.",
        question="How old is a letter, and whose clock says so?",
        task=None,
    )

    def one_more_dies(held_before):
        scene = stage.scene(f"one more task dies while purge is held before its command {held_before}")
        an_old_and_a_young_one(scene)
        hold = scene.lie_in_wait("purge", Hold(scene, held_before))
        purge = scene.start("dlq.py", "purge", "--older-than", "7", name="purge")
        scene.wait(lambda: hold.reached.is_set() or not purge.running)
        bury(scene, "400")
        hold.release()
        purge.wait_exit()
        scene.expect(
            scene.dead() == {2, 3},
            "The letters of tasks 1 and 2 were 8 days and no day old; those older than 7 days were purged, and "
            f"meanwhile task 3 died. Left: {sorted(scene.dead()) or 'none'}.",
            question="What has become of a letter's place in the list when a new one comes in?",
            task=0,
        )

    stage.play_each([3, 4], one_more_dies)


# ---- the monitor, and no broker ----------------------------------------------------------------------------


@pytest.mark.check(points=4, after=("retries_run_out", "a_permanent_error_is_not_retried"), todo=14)
def test_the_monitor_tells_the_truth(scene):
    """The monitor's numbers are those of the broker, and it raises the alarm"""
    scene.settings = QUICK | {"BASE_SECONDS": LONG, "CAP_SECONDS": LONG, "LEASE_SECONDS": 30}
    scene.push(1, webhook(scene, "410"), webhook(scene, "503"))
    scene.work.hold(4)
    scene.push(3)
    scene.start("worker.py", "alice")
    scene.wait_until(lambda: 4 in scene.history.tasks(WORK_STARTED), "the worker was to begin with task 4")
    expected = {"pending": 2, "delayed": 1, "processing": 1, "dead": 1, "done": 1, "retried": 1}
    expected |= {"rates": {"done": 1, "retried": 1, "dead": 1}}
    for allowed, alert in ((1, False), (0, True)):
        monitor = scene.start("monitor.py", "--once", "--json", name="monitor", ALERT_DEAD=allowed)
        monitor.wait_exit()
        seen = scene.json(monitor.process.output())
        scene.expect(
            seen == expected | {"alert": alert},
            "One task was delivered, one died, one is delayed, one is in hand, two wait; ALERT_DEAD is "
            f"{allowed}.\n"
            f"expected  {json.dumps(expected | {'alert': alert})}\n"
            f"seen      {json.dumps(seen) if seen else monitor.process.output()[:300]}",
            question="How many dead letters are too many?"
            if seen == expected | {"alert": not alert}
            else "Which of these does your snapshot count elsewhere?",
            task=None,
        )


@pytest.mark.check(points=2, after="the_monitor_tells_the_truth", todo=14)
def test_rates_are_of_the_last_minute(scene):
    """What happened long ago is in the counts, and no longer in the rates"""
    scene.settings = QUICK | {"RATE_SECONDS": 0.6}  # a minute that is over soon
    scene.push(2, webhook(scene, "410"))
    scene.start("worker.py", "alice")
    scene.wait_done()
    last = scene.history.now()
    scene.wait(lambda: scene.history.now() > last + 0.8)
    monitor = scene.start("monitor.py", "--once", "--json")
    monitor.wait_exit()
    seen = scene.json(monitor.process.output())
    scene.expect(
        (seen["done"], seen["rates"]) == (2, {"done": 0, "retried": 0, "dead": 0}),
        f"RATE_SECONDS is 0.6; 0.8 s ago two tasks were done. The monitor says done: {seen['done']}, "
        f"rates: {seen['rates']}.",
        question="How does your worker tell the broker when something happened?",
        task=None,
    )


@pytest.mark.check(
    points=2, after=("tasks_are_delivered", "the_producer_queues_tasks", "the_monitor_tells_the_truth")
)
def test_without_a_broker_they_say_so(stage):
    """Without a broker each script says so in one line"""
    scripts = {
        "producer.py": ["http://127.0.0.1:1/200"],
        "worker.py": ["alice"],
        "monitor.py": ["--once"],
        "dlq.py": ["list"],
    }
    expect_words_without_a_broker(stage, scripts)


# ---- what several checks expect ----------------------------------------------------------------------------


def expect_requests(
    scene,
    task,
    count,
    because="",
    question="What counts as an attempt, and what is compared with max_retries?",
):
    """The endpoint saw so many requests for a task."""
    seen = scene.endpoint.requests_for(task)
    answers = ", ".join(request.answer for request in seen)
    scene.expect(
        len(seen) == count,
        f"The endpoint saw {counted(len(seen), 'request')} for task {task}, not {count} "
        f"(it answered {answers or 'nothing'}). {because}".strip(),
        question=question,
        task=task,
    )


def asked_too_often(scene, allowed):
    """Whether the endpoint saw more requests for a task than are allowed: a dict by its number."""
    return any(len(scene.endpoint.requests_for(task)) > most for task, most in allowed.items())


def wait_for_some_rounds(scene, workers, or_until):
    """Wait until each worker's loop has gone round a few times, told by its commands, or until something shows."""
    before = [worker.commands_sent() for worker in workers]
    looked = lambda: all(w.commands_sent() > sent + 8 for w, sent in zip(workers, before, strict=True))  # noqa: E731
    scene.wait(lambda: or_until() or looked(), within=2)


def came_back(scene, tasks):
    """The numbers of those tasks for which the endpoint has seen a second request."""
    return [task.number for task in tasks if scene.endpoint.requests_for(task.number)[1:]]


def expect_a_letter(scene, task, what):
    """There is one dead letter for this task, with all its fields; return it."""
    scene.wait_until(lambda: task in letters(scene), f"{what} was to be in the dead letters", task=task)
    letter = letters(scene)[task]
    missing = {"reason", "attempts", "died_at", "traceback", "body"} - letter.keys()
    scene.expect(
        not missing and len(str(letter["reason"])) > 3,
        f"In the dead letter of task {task} ({what}) there is no {', '.join(sorted(missing)) or 'reason'}.",
        question="What will somebody need who looks at this letter next week?",
        task=task,
    )
    return letter


def expect_patience(scene, task, question):
    """The second request for a task came no earlier than its endpoint asked for."""
    first, second = (request.at for request in scene.endpoint.requests_for(task)[:2])
    scene.expect(
        second - first > RETRY_AFTER_SECONDS - 0.01,
        f"{scene.title}{'. ' if scene.title else ''}Task {task} was answered 429 with Retry-After: "
        f"{RETRY_AFTER_SECONDS}; the next request came {second - first:.2f} s later.",
        question=question,
        task=task,
    )


def died_at(scene, letter):
    """When a task died, as its letter says."""
    try:
        moment = datetime.fromisoformat(letter["died_at"])
        scene.expect(
            moment.tzinfo, f"died_at is a time in UTC, with its offset; {moment} has none.", task=None
        )
        return moment
    except (TypeError, ValueError):
        scene.fail(f"died_at is a time as ISO 8601 has it, not {letter['died_at']!r}.", task=None)


def ask_dlq(scene, *args, status=0, clock=0):
    """Run dlq.py with these arguments; return what it says."""
    tool = scene.start("dlq.py", *args, name=f"dlq {args[0]}", may_fail=True, clock=clock)
    ended = tool.wait_exit()
    said = tool.process.output() + tool.process.errors()
    scene.expect(
        status is None or ended == status,
        f"`dlq.py {' '.join(args)}` ended with status {ended}, not {status}. It said: {said[-300:]}",
    )
    return said


def until_done(scene):
    scene.wait_done()
    scene.wait(scene.actors[-1].waits_for_a_task, within=1)
