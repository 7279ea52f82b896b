"""The checks of lab 1: they speak HTTP to your web application, run your workers, and count the mail that arrives.

A scene is one play: a queue of its own, your processes, and a record of everything they did. `scene.push`
puts tasks into the queue, `scene.start` starts one of your scripts, and each wait is for an event, with a
deadline. The mail server is the grader's: a task is done when its mail has arrived there.
"""

import json
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from labkit.grader.crash import Hold
from labkit.grader.expectations import (
    expect_a_good_stop,
    expect_bodies_as_they_were,
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
from labkit.grader.history import REPLY, WORK_STARTED
from labkit.grader.material.lab01_polling import (
    BAD_REQUESTS,
    BAD_TASKS,
    GOOD_REQUEST,
    TASK_IN_UTF8,
    UNSENDABLE,
)
from labkit.grader.stage import patiently
from labkit.grader.tasks import id_in
from labkit.grader.words import counted, names

QUICK = {"POLL_SECONDS": 0.1, "RECONNECT_SECONDS": 0.05}
NO_MAIL_SERVER = "smtp://127.0.0.1:1"


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
    for body in bodies:
        expect_a_task(scene, body)
        scene.adopt(body)
    expect_new_ids_newest_left(scene, earlier, bodies, [id_in(body) for body in bodies])


@pytest.mark.check(points=4, after="the_producer_queues_tasks", todo=2)
def test_the_web_app_answers_at_once(stage):
    """The web application answers at once, with no worker running"""
    patiently(lambda: play_good_requests(stage.scene()))


def play_good_requests(scene):
    web = scene.serve("producer.py")
    answer = ask(web, "POST", "/send-email", json=GOOD_REQUEST)
    expect_no_mail_from(scene, web)
    bodies = scene.contents(scene.queue)
    scene.expect(
        (answer.status, len(bodies)) == (202, 1),
        f"A good request was sent. The answer was {answer.status} {answer.text[:80]}; "
        f"{counted(len(bodies), 'task')} in the queue.",
        question="What does 202 say that 200 does not, and what must be true before it is said?",
    )
    task = expect_a_task(scene, bodies[0])
    scene.adopt(bodies[0])
    answered = answer.json.get("id") if isinstance(answer.json, dict) else None
    scene.expect(
        answered == task["id"],
        f"The answer was {answer.text[:80]}; the task in the queue has the id {task['id']}.",
        question="What does whoever asked need, to ask again about this mail?",
    )
    for field, asked in GOOD_REQUEST.items():
        scene.expect(
            task[field] == asked,
            f"The request's {field} was {asked!r}; the task in the queue has {task[field]!r:.80}.",
            question="Where between the request and the queue did it change?",
        )
    with ThreadPoolExecutor(8) as many:
        answers = list(many.map(lambda _: ask(web, "POST", "/send-email", json=GOOD_REQUEST), range(24)))
    accepted = [answer.json for answer in answers if answer.status == 202]
    told = {str(answer.get("id")) for answer in accepted if isinstance(answer, dict)}
    queued = {id_in(body) for body in scene.contents(scene.queue)[:-1]}
    scene.expect(
        len(accepted) == len(told) == len(queued) == 24 and told == queued,
        f"24 more requests came, 8 at a time; {len(accepted)} were accepted. {len(told)} different ids were answered, "
        f"and {len(queued)} are in the queue; {len(told & queued)} are in both.",
        question="What do requests that are served at the same time share?",
    )
    expect_no_mail_from(scene, web)
    for expected in (25, 24):
        seen = ask(web, "GET", "/tasks/waiting").json
        scene.expect(
            seen == {"waiting": expected},
            f"{expected} tasks waited; GET /tasks/waiting answered {json.dumps(seen)}.",
            question="Which command tells the length of a list?",
        )
        scene.ask("RPOP", scene.queue)
    docs = web.request("GET", "/docs")
    scene.expect(
        docs.status == 200, f"GET /docs, the page to try the application out, answered {docs.status}."
    )


@pytest.mark.check(points=3, after="the_web_app_answers_at_once")
def test_bad_requests_queue_nothing(stage):
    """A bad request gets 4xx with a reason, and queues nothing"""
    patiently(lambda: play_bad_requests(stage.scene()))


def play_bad_requests(scene):
    web = scene.serve("producer.py")
    for what, request in BAD_REQUESTS.items():
        answer = web.request("POST", "/send-email", **request)
        queued = scene.depth()
        scene.expect(
            400 <= answer.status < 500 and queued == 0,
            f"The request had {what}. The answer was {answer.status}; {counted(queued, 'task')} in the queue.",
            question="Where is a request looked at before anything is done about it?",
        )
        reason = answer.json.get("detail") if isinstance(answer.json, dict) else None
        scene.expect(
            reason,
            f'The request had {what}. The answer has no "detail" that says why: {answer.text[:80]}',
            question="What does whoever sent it need to know, to mend it?",
        )
        scene.expect(
            len(answer.text) < 10_000,
            f"The request had {what}. The answer has {len(answer.text):,} characters: {answer.text[:80]}…",
            question="Which parts of a request should an error repeat?",
        )
    answer = ask(web, "POST", "/send-email", json=GOOD_REQUEST)
    scene.expect(
        answer.status == 202, f"After the bad requests a good one was answered with {answer.status}."
    )


@pytest.mark.check(points=3, after="the_web_app_answers_at_once")
def test_without_its_broker_the_web_app_says_503(stage):
    """While the broker is down the answer is 503, at once"""
    patiently(lambda: play_a_broker_that_dies(stage.scene(own_broker=True)))


def play_a_broker_that_dies(scene):
    web = scene.serve("producer.py")
    answer = ask(web, "POST", "/send-email", json=GOOD_REQUEST)
    scene.expect(
        answer.status == 202, f"A good request was answered with {answer.status} {answer.text[:80]}."
    )
    scene.kill_broker()
    for method, path in (("POST", "/send-email"), ("GET", "/tasks/waiting"), ("POST", "/send-email")):
        answer = web.request(method, path, within=5, json=GOOD_REQUEST)
        scene.expect(
            answer.status == 503,
            f"The broker was down. {method} {path} was answered with {answer.status} {answer.text[:80]}",
            question="Was the task queued? What does whoever asked believe now?",
        )
    scene.restart_broker()
    answer = ask(web, "POST", "/send-email", json=GOOD_REQUEST)
    waiting = scene.depth()
    scene.expect(
        (answer.status, waiting) == (202, 2),
        f"One request was accepted before the broker was killed. It is back, and another was answered with "
        f"{answer.status} {answer.text[:80]}; {counted(waiting, 'task')} in the queue.",
        question="What does the application do with a connection that has died?",
    )


@pytest.mark.check(points=4, todo=3)
def test_mails_are_sent(scene):
    """Each task becomes one mail, oldest first"""
    scene.settings = QUICK
    tasks = scene.push(5)
    tasks += scene.push(TASK_IN_UTF8)  # as other languages write it
    scene.start("worker.py", "alice")
    scene.wait_done()
    expect_oldest_first(scene)
    for task, mail in zip(tasks, scene.mails(), strict=True):
        wanted, seen = scene.json(task.body), mail.read()
        plain = seen.get_body(("plain",))
        text = plain.get_content().replace("\r\n", "\n").strip() if plain else ""
        scene.expect(
            (mail.recipients, str(seen["Subject"]), text)
            == ((wanted["to"],), wanted["subject"], wanted["body"].strip()),
            f"The mail of task {task.number} is not the one that was asked for: to {', '.join(mail.recipients)}, "
            f"{seen['Subject']}: {text[:40]!r}",
            question="Was the work given the task just as it was in the queue?",
            task=task.number,
        )


@pytest.mark.check(points=2, after="mails_are_sent", todo=3)
def test_no_pause_while_tasks_wait(scene):
    """A worker pauses only when the queue is empty"""
    scene.settings = {"POLL_SECONDS": 60}
    tasks = scene.push(4)
    scene.start("worker.py", "alice")
    scene.wait_until(
        lambda: scene.finished(tasks[-1]),
        "POLL_SECONDS is 60, and 4 tasks waited; they were to be done one after the other",
        question="After which looks does the worker pause, and after which not?",
    )


@pytest.mark.check(points=3, after="mails_are_sent", todo=4)
def test_three_workers_share(stage):
    """Three workers work at the same time, and no mail is sent twice"""
    scene = stage.scene("three workers, nine tasks")
    scene.settings = QUICK | {"SMTP_SECONDS": 60}
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
    expect_no_mail_twice(scene)
    scene.wait_done()

    def race(held_before):
        scene = stage.scene(f"alice is held before her command {held_before}, while bob works")
        scene.settings = QUICK
        scene.push(3)
        hold = scene.lie_in_wait("alice", Hold(scene, held_before, longest=4))
        scene.start("worker.py", "alice")
        scene.wait(hold.reached.is_set)
        bob = scene.start("worker.py", "bob")
        scene.wait(lambda: nothing_is_left_for(scene, bob), within=2.5)  # alice waits 5 s for an answer
        hold.release()
        expect_no_mail_twice(scene)
        scene.wait_done()

    calm = stage.scene("one worker alone")
    calm.settings = QUICK
    calm.push(3)
    alice = calm.start("worker.py", "alice")
    until_idle(calm)
    stage.play_each(range(1, alice.commands_sent() + 1), race)


@pytest.mark.check(points=3, after="mails_are_sent", todo=3)
def test_an_idle_worker_polls_and_pauses(stage):
    """An idle worker looks once every POLL_SECONDS"""
    patiently(lambda: play_a_quiet_time(stage.scene()))


def play_a_quiet_time(scene):
    pauses = {"alice": 0.05, "bob": 1.0}
    workers = [scene.start("worker.py", name, POLL_SECONDS=pause) for name, pause in pauses.items()]
    scene.wait_until(
        lambda: all(looks(scene, worker) for worker in workers), "the workers were to look for a task"
    )
    began, before = scene.history.now(), [counts(worker) for worker in workers]
    scene.wait(lambda: not all(worker.running for worker in workers), within=2.5)
    seconds = scene.history.now() - began
    for worker, then in zip(workers, before, strict=True):
        sent, opened, starved = (now - was for now, was in zip(counts(worker), then, strict=True))
        name, pause = worker.name, pauses[worker.name]
        most = int(seconds / pause) + 1
        seen = (
            f"{name}'s POLL_SECONDS was {pause}, and nothing came for {seconds:.1f} s: time for "
            f"{counted(most, 'look')}. {name} sent {counted(sent, 'command')}"
        )
        scene.expect(sent <= most + 1, f"{seen}.", question="What does the worker do between two looks?")
        if sent < most // 6 and starved > 0.3:
            scene.too_slow = f"{name} stood in line for a processor for {starved:.1f} s"
        scene.expect(
            sent >= most // 6,
            f"{seen}.",
            question="How long does a task wait that comes just after a look, and who decides that?",
        )
        scene.expect(
            opened <= 2,
            f"{seen}, and opened {opened} connections.",
            question="Where is the client made, and how often?",
        )
    scene.wait_started(*scene.push(1))


@pytest.mark.check(points=4, after="mails_are_sent", todo=6)
def test_rubbish_is_set_aside(scene):
    """What is no mail task is set aside with its reason, and stops nobody"""
    scene.settings = QUICK
    scene.push(1)
    bad = scene.push(*BAD_TASKS.values())
    scene.push(1)
    scene.start("worker.py", "alice")
    verdict = scene.wait_done(within=15, question="What does your worker do with a task that is Rejected?")
    for what, task in zip(BAD_TASKS, bad, strict=True):
        scene.expect(task.number in verdict.dead, f"Not on the rejected list: {what}.", task=task.number)
    expect_reasons(scene)
    expect_bodies_as_they_were(scene, bad)


@pytest.mark.check(points=4, after="rubbish_is_set_aside", todo=5)
def test_a_mail_server_that_fails_stops_nobody(stage):
    """A mail that cannot be sent is set aside, and stops no worker"""

    def refuses(scene):
        scene.work.fail(1, "no such mailbox")

    def hangs(scene):
        scene.work.hold(1)
        scene.settings["SMTP_SECONDS"] = 2

    def is_not_there(scene):
        scene.settings["SMTP_URL"] = NO_MAIL_SERVER

    def says_nothing(scene):
        silent = socket.create_server(("127.0.0.1", 0))
        scene.at_the_end(silent.close)
        scene.settings["SMTP_SECONDS"] = 0.5
        scene.settings["SMTP_URL"] = f"smtp://127.0.0.1:{silent.getsockname()[1]}"

    def play(trouble):
        scene = stage.scene(f"a mail server that {trouble.__name__.replace('_', ' ')}")
        scene.settings = dict(QUICK)
        trouble(scene)
        failed, other = scene.push(2)
        scene.start("worker.py", "alice")
        if trouble in (refuses, hangs):
            scene.wait_until(
                lambda: scene.finished(other) or other.number in scene.dead(),
                f"task 1 met {scene.title}; the mail of task 2 was to be sent all the same",
                question="What does the worker do while a mail cannot be sent?",
                task=1,
            )
            if trouble is hangs and not scene.finished(other):
                scene.too_slow = "a mail took longer than SMTP_SECONDS"
            scene.expect(
                scene.finished(other),
                f"The mail of task 2 met no trouble. After {scene.title} it was set aside.",
            )
        scene.wait_until(
            lambda: failed.number in scene.dead(),
            f"with {scene.title}, task 1 was to be set aside",
            question="What becomes of a task whose mail could not be sent?",
            task=1,
        )
        expect_reasons(scene)
        offered = sum(1 in event.tasks for event in scene.history.events(WORK_STARTED))
        scene.expect(
            offered <= 1 or trouble is not hangs,
            f"The mail server had the whole mail of task 1, and gave no answer within SMTP_SECONDS. "
            f"alice sent the mail {offered} times.",
            question="Does a worker that hears no answer know that the mail has not arrived?",
            task=1,
        )

    stage.play_each([refuses, hangs, is_not_there, says_nothing], play)

    scene = stage.scene("mails that cannot be made")
    scene.settings = QUICK
    never = scene.push(*UNSENDABLE.values())
    scene.push(1)
    scene.start("worker.py", "alice")
    verdict = scene.wait_done(within=15, question="What does your worker do with a task that is Rejected?")
    for what, task in zip(UNSENDABLE, never, strict=True):
        scene.expect(task.number in verdict.dead, f"Not on the rejected list: {what}.", task=task.number)


@pytest.mark.check(points=4, after=("mails_are_sent", "rubbish_is_set_aside"), todo=3)
def test_a_worker_stops_when_asked(stage):
    """SIGTERM at any moment: the mail in hand is sent"""

    def begin(scene):
        scene.settings = QUICK
        scene.push(1, b"rubbish", 1)
        scene.start("worker.py", "alice")

    def go_on(scene):
        expect_a_good_stop(scene, scene.actors[0])

    stage.at_every_point("alice", begin, go_on, terminate, calm=until_idle, cuts=False)

    asleep = stage.scene("stopped in a pause of 60 seconds")
    asleep.settings = {"POLL_SECONDS": 60}
    alice = asleep.start("worker.py", "alice")
    asleep.wait_until(lambda: looks(asleep, alice), "the worker was to look for a task")
    asleep.wait(alice.has_been_silent_for(0.5))  # on its way into the pause Python may miss a signal
    alice.terminate()
    alice.wait_exit(question="POLL_SECONDS is 60. What can end a pause before its time, and what cannot?")

    ctrl_c = stage.scene("stopped with Ctrl-C in the middle of a task")
    ctrl_c.settings = QUICK
    expect_ctrl_c_finishes_the_task(ctrl_c)


@pytest.mark.check(points=4, after=("three_workers_share", "rubbish_is_set_aside"))
def test_a_kill_loses_the_task_in_hand_and_no_other(stage):
    """A kill loses the task in hand, as the contract says, and no other"""

    def begin(scene):
        scene.settings = QUICK
        scene.push(1, b"rubbish", 1)
        scene.start("worker.py", "alice")

    def go_on(scene):
        bob = scene.start("worker.py", "bob")
        scene.wait(lambda: nothing_is_left_for(scene, bob) or not bob.running, within=20)
        verdict = scene.verdict()
        where = ", ".join(
            sorted({key for number in verdict.waiting for key in scene.where().get(number, ())})
        )
        scene.expect(
            not verdict.waiting or not bob.running,
            f"Then bob worked, and did not do {names(verdict.waiting)}, still in {where}.",
            question="What did alice leave behind that keeps a task from bob?",
            task=min(verdict.waiting, default=0),
        )
        verdict = scene.wait_done(at_most_once=True, within=1)
        expect_only_the_task_in_hand_is_lost(stage, scene, verdict)
        scene.expect(
            not verdict.duplicated,
            f"After the kill the mail of {names(verdict.duplicated)} was sent a second time.",
            question="A task that is still in the queue while its mail is sent: who takes it next?",
            task=min(verdict.duplicated, default=0),
        )

    stage.at_every_point("alice", begin, go_on, kill, calm=until_idle)


@pytest.mark.check(points=3, after="rubbish_is_set_aside")
def test_a_worker_outlives_its_broker(stage):
    """A worker outlives its broker, and goes on when it is back"""
    scene = stage.scene(own_broker=True)
    scene.settings = QUICK
    scene.work.hold()
    scene.work.fail(1, "no such mailbox")
    refused, *_ = scene.push(1)
    alice = scene.start("worker.py", "alice")
    scene.wait_started(refused)
    bob = scene.start("worker.py", "bob")
    scene.wait_until(lambda: looks(scene, bob), "bob was to look for a task")
    scene.kill_broker()
    scene.work.release()  # alice's mail is refused now, and there is no broker to set the task aside
    expect_patience_without_a_broker(scene, alice, bob)
    scene.work.hold()
    scene.restart_broker()
    scene.push(2)
    scene.wait_until(
        lambda: scene.at_work() == {"alice", "bob"},
        "the broker is back, and 2 tasks wait; alice and bob were to go on",
        question="The broker is back. Who tells the worker?",
    )
    scene.work.release()
    scene.wait_done(at_most_once=True, within=3)


@pytest.mark.check(points=2, after=("three_workers_share", "rubbish_is_set_aside"), todo=7)
def test_the_monitor_tells_the_truth(scene):
    """The monitor's numbers are those of the broker"""
    scene.settings = QUICK
    scene.work.hold()
    scene.push(b"rubbish", 4)
    scene.start("worker.py", "alice")
    scene.wait_until(scene.at_work, "the worker was to begin")
    monitor = scene.start("monitor.py", "--once", "--json")
    monitor.wait_exit()
    expected, seen = {"waiting": 3, "rejected": 1}, scene.json(monitor.process.output())
    scene.expect(
        seen == expected,
        f"3 tasks waited, one was in hand, one was rejected.\n"
        f"expected  {json.dumps(expected)}\n"
        f"seen      {json.dumps(seen) if seen else monitor.process.output()[:200]}",
        task=None,
    )
    left = {"waiting": scene.depth(), "rejected": len(scene.contents(f"{scene.queue}:rejected"))}
    scene.expect(
        left == expected,
        f"The monitor was run once.\nbefore  {json.dumps(expected)}\nafter   {json.dumps(left)}",
        question="Which commands look, and which take?",
    )


@pytest.mark.check(
    points=2, after=("mails_are_sent", "the_producer_queues_tasks", "the_monitor_tells_the_truth")
)
def test_without_a_broker_they_say_so(stage):
    """Without a broker each script says so in one line"""
    scripts = {"producer.py": ["--count", "1"], "worker.py": ["alice"], "monitor.py": ["--once"]}
    expect_words_without_a_broker(stage, scripts)


def ask(web, method, path, **more):
    """Send a request. For want of a processor the application may miss the broker's answer: that 503 is no fault."""
    answer = web.request(method, path, **more)
    if answer.status == 503 and web.actor.process.starved_seconds() > 1:
        web.scene.too_slow = f"{web.actor.name} stood in line for a processor for too long"
    return answer


def expect_a_task(scene, body):
    task = scene.json(body)
    scene.expect(isinstance(task, dict), f"A task is a JSON object; this is in the queue: {shown(body)}")
    scene.expect(id_in(body), f"The id of a task is a UUID; this one is {task.get('id')!r}.")
    for field in ("to", "subject", "body"):
        scene.expect(
            isinstance(task.get(field), str), f"A task's {field} is text; this one's is {task.get(field)!r}."
        )
    return task


def expect_no_mail_from(scene, web):
    sent = scene.history.events(WORK_STARTED, web.actor.name)
    scene.expect(
        not sent,
        f"A request was sent. The web application itself brought {counted(len(sent), 'mail')} to the mail server.",
        question="What should an answer wait for: the mail server, or the queue?",
    )


def expect_no_mail_twice(scene):
    """Once the workers have nothing left to do, no task's mail has been sent more than once."""
    scene.wait(lambda: all(nothing_is_left_for(scene, worker) for worker in scene.actors), within=10)
    twice = scene.verdict().duplicated
    scene.expect(
        not twice,
        f"{counted(len(scene.actors), 'worker')} shared {counted(len(scene.tasks), 'task')}. "
        f"Sent more than once: the mail of {names(twice)}.",
        question="Between reading a task and removing it, what can another worker do?",
        task=min(twice, default=0),
    )


def counts(worker):
    """What a worker has sent, how often it has connected, and how long it has stood in line for a processor."""
    return worker.commands_sent(), worker.lane.connections, worker.process.starved_seconds()


def looks(scene, worker, after=0.0):
    """How many of the worker's commands on the queue, whichever they are, have brought nothing after this moment."""
    answers = [event for event in scene.history.events(REPLY, worker.name) if event.at > after]
    return sum(scene.run.lab.queue in event.args and not event.tasks for event in answers)


def nothing_is_left_for(scene, worker):
    """The queue is empty, nobody is at work, and since then the worker has looked: twice, for a look may be two."""
    moved = max((event.at for event in scene.history if event.tasks), default=0)
    return looks(scene, worker, after=moved) >= 2 and not scene.at_work() and not scene.depth()


def until_idle(scene):
    """All is done, and the worker has looked in vain after it."""
    scene.wait_done()
    alice = scene.actors[0]
    scene.wait_until(lambda: nothing_is_left_for(scene, alice), "the worker was to look for the next task")
