"""The checks of lab 1: they speak HTTP to your web application, run your workers, and count the mail that arrives.

A scene is one play: a queue of its own, your processes, and a record of everything they did. `scene.push`
puts tasks into the queue, `scene.start` starts one of your scripts, and each wait is for an event, with a
deadline. The mail server is the grader's: a task is done when its mail has arrived there.
"""

import json
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

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
from labkit.grader.material.lab01_polling import BAD_REQUESTS, BAD_TASKS, GOOD_REQUEST
from labkit.grader.tasks import id_in

QUICK = {"POLL_SECONDS": 0.1, "RECONNECT_SECONDS": 0.05}
NO_MAIL_SERVER = "smtp://127.0.0.1:1"
AT_MOST_ONCE = {"at_most_once": True, "quiet": 0.4}


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
def test_the_web_app_answers_at_once(scene):
    """The web application answers at once, with no worker running"""
    web = scene.serve("producer.py")
    answer = web.request("POST", "/send-email", json=GOOD_REQUEST)
    bodies = scene.contents(scene.queue)
    scene.expect(
        (answer.status, len(bodies)) == (202, 1),
        f"A good request was sent. The answer was {answer.status} {answer.text[:80]}; {len(bodies)} tasks were queued.",
        question="What should a request wait for: the mail, or the queue?",
    )
    task = expect_a_task(scene, bodies[0])
    scene.adopt(bodies[0])
    answered = answer.json.get("id") if isinstance(answer.json, dict) else None
    scene.expect(
        answered == task["id"],
        f"The answer was {answer.text[:80]}; the task in the queue has the id {task['id']}.",
        question="What does whoever asked need, to ask again about this mail?",
    )
    scene.expect(
        task | GOOD_REQUEST == task,
        f"The request was {json.dumps(GOOD_REQUEST)}; this was queued: {shown(bodies[0])}",
        question="On which way from the request to the queue did it change?",
    )
    with ThreadPoolExecutor(8) as many:
        answers = list(many.map(lambda _: web.request("POST", "/send-email", json=GOOD_REQUEST), range(24)))
    accepted = sum(answer.status == 202 for answer in answers)
    ids = {id_in(body) for body in scene.contents(scene.queue)}
    scene.expect(
        accepted == 24 and len(ids) == 25,
        f"24 more requests came, 8 at a time; {accepted} were accepted, and {len(ids) - 1} new ids are in the queue.",
        question="What do requests that are served at the same time share?",
    )
    for expected in (25, 24):
        seen = web.request("GET", "/tasks/waiting").json
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
def test_bad_requests_queue_nothing(scene):
    """A bad request gets 4xx with a reason, and queues nothing"""
    web = scene.serve("producer.py")
    for what, request in BAD_REQUESTS.items():
        answer = web.request("POST", "/send-email", **request)
        queued = scene.depth()
        scene.expect(
            400 <= answer.status < 500 and queued == 0,
            f"The request had {what}. The answer was {answer.status}; {queued} tasks were queued.",
            question="Where is a request looked at before anything is done about it?",
        )
        reason = answer.json.get("detail") if isinstance(answer.json, dict) else None
        scene.expect(
            reason and len(answer.text) < 10_000,
            f"The request had {what}. The answer says no reason that can be read: {answer.text[:80]}",
            question="What does whoever sent it need to know, to mend it?",
        )
    answer = web.request("POST", "/send-email", json=GOOD_REQUEST)
    scene.expect(
        answer.status == 202, f"After the bad requests a good one was answered with {answer.status}."
    )


@pytest.mark.check(points=3, after="the_web_app_answers_at_once")
def test_without_its_broker_the_web_app_says_503(stage):
    """While the broker is down the answer is 503, at once"""
    scene = stage.scene(own_broker=True)
    web = scene.serve("producer.py")
    web.request("POST", "/send-email", json=GOOD_REQUEST)
    scene.kill_broker()
    for method, path in (("POST", "/send-email"), ("GET", "/tasks/waiting"), ("POST", "/send-email")):
        answer = web.request(method, path, within=5, json=GOOD_REQUEST)
        scene.expect(
            answer.status == 503,
            f"The broker was down. {method} {path} was answered with {answer.status} {answer.text[:80]}",
            question="Was the task queued? What does whoever asked believe now?",
        )
    scene.restart_broker()
    answer = web.request("POST", "/send-email", json=GOOD_REQUEST)
    waiting = scene.depth()
    scene.expect(
        (answer.status, waiting) == (202, 2),
        f"The broker is back. A request was answered with {answer.status} {answer.text[:80]}; of the two tasks that "
        f"were accepted in all, {waiting} are in the queue.",
        question="What does the application do with a connection that has died?",
    )


@pytest.mark.check(points=4, todo=3)
def test_mails_are_sent(scene):
    """Each task becomes one mail, oldest first"""
    scene.settings = QUICK
    tasks = scene.push(5)
    body = json.dumps(scene.run.new_task(scene), separators=(",", ":"))  # as other languages write it
    tasks += scene.push(body.encode())
    scene.start("worker.py", "alice")
    scene.wait_done()
    expect_oldest_first(scene)
    for task, mail in zip(tasks, scene.mails(), strict=True):
        wanted, seen = scene.json(task.body), mail.read()
        text = seen.get_content().replace("\r\n", "\n").strip()
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
    last = {"within": 5, "question": "After which looks does the worker pause, and after which not?"}
    scene.wait_until(
        lambda: scene.finished(tasks[-1]), "4 tasks waited, and were to be done one after the other", **last
    )


@pytest.mark.check(points=3, after="mails_are_sent", todo=4)
def test_three_workers_share(scene):
    """Three workers work at the same time, and no mail is sent twice"""
    scene.settings = QUICK
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


@pytest.mark.check(points=3, after="mails_are_sent", todo=3)
def test_an_idle_worker_polls_and_pauses(scene):
    """An idle worker looks once every POLL_SECONDS"""
    seconds, pause = 2.5, 0.25
    alice = scene.start("worker.py", "alice", POLL_SECONDS=pause)
    scene.wait_until(alice.has_looked, "the worker was to look for a task")
    before = alice.commands_sent()
    scene.wait(lambda: not alice.running, within=seconds)
    sent, most = alice.commands_sent() - before, int(seconds / pause) + 1
    scene.expect(
        sent <= most,
        f"POLL_SECONDS is {pause}, and nothing came for {seconds} s: time for {most} looks. "
        f"The worker sent {sent} commands.",
        question="What does the worker do between two looks?",
    )
    scene.expect(
        sent >= most // 4,
        f"POLL_SECONDS is {pause}, and nothing came for {seconds} s. The worker sent {sent} commands in that time.",
        question="How long does a task wait that comes just after a look?",
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
    verdict = scene.wait_done(question="What does your worker do when the work raises Rejected?")
    for what, task in zip(BAD_TASKS, bad, strict=True):
        scene.expect(task.number in verdict.dead, f"Not on the rejected list: {what}.", task=task.number)
    expect_reasons(scene)


@pytest.mark.check(points=4, after="rubbish_is_set_aside", todo=5)
def test_a_mail_server_that_fails_stops_nobody(stage):
    """A mail server that refuses, hangs or is gone stops no worker"""

    def refuses(scene):
        scene.work.fail(1, "no such mailbox")

    def hangs(scene):
        scene.work.hold(1)

    def is_not_there(scene):
        scene.settings["SMTP_URL"] = NO_MAIL_SERVER

    def says_nothing(scene):
        silent = socket.create_server(("127.0.0.1", 0))
        scene.at_the_end(silent.close)
        scene.settings["SMTP_URL"] = f"smtp://127.0.0.1:{silent.getsockname()[1]}"

    def play(trouble):
        scene = stage.scene(f"a mail server that {trouble.__name__.replace('_', ' ')}")
        scene.settings = QUICK | {"SMTP_SECONDS": 0.5}
        trouble(scene)
        failed, *others = scene.push(2)
        scene.start("worker.py", "alice")
        if trouble in (refuses, hangs):
            scene.wait_started(*others, question="What becomes of the worker when a mail can not be sent?")
        scene.wait_until(
            lambda: failed.number in scene.dead(),
            f"task 1 met {scene.title}; it was to be set aside",
            question="What becomes of a task whose mail could not be sent?",
            task=1,
        )
        expect_reasons(scene)

    stage.play_each([refuses, hangs, is_not_there, says_nothing], play)


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

    ctrl_c = stage.scene("stopped with Ctrl-C in the middle of a task")
    ctrl_c.settings = QUICK
    expect_ctrl_c_finishes_the_task(ctrl_c)


@pytest.mark.check(points=4, after=("mails_are_sent", "rubbish_is_set_aside"))
def test_a_kill_loses_the_task_in_hand_and_no_other(stage):
    """A kill loses the task in hand, as the contract says, and no other"""

    def begin(scene):
        scene.settings = QUICK
        scene.push(1, b"rubbish", 1)
        scene.start("worker.py", "alice")

    def go_on(scene):
        scene.start("worker.py", "bob")
        stage.count("tasks lost in hand", len(scene.wait_done(**AT_MOST_ONCE).lost_in_hand))

    stage.at_every_point("alice", begin, go_on, kill, calm=until_idle)


@pytest.mark.check(points=3, after="mails_are_sent")
def test_a_worker_outlives_its_broker(stage):
    """A worker outlives its broker, and goes on when it is back"""
    scene = stage.scene(own_broker=True)
    scene.settings = QUICK
    alice = scene.start("worker.py", "alice")
    scene.wait_until(alice.has_looked, "the worker was to look for a task")
    scene.kill_broker()
    expect_patience_without_a_broker(scene, alice)
    scene.restart_broker()
    scene.push(2)
    scene.wait_done(question="The broker is back. Who tells the worker?")


@pytest.mark.check(points=2, after="rubbish_is_set_aside", todo=7)
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


@pytest.mark.check(
    points=2, after=("mails_are_sent", "the_producer_queues_tasks", "the_monitor_tells_the_truth")
)
def test_without_a_broker_they_say_so(stage):
    """Without a broker each script says so in one line"""
    scripts = {"producer.py": ["--count", "1"], "worker.py": ["alice"], "monitor.py": ["--once"]}
    expect_words_without_a_broker(stage, scripts)


def expect_a_task(scene, body):
    task = scene.json(body)
    scene.expect(isinstance(task, dict), f"A task is a JSON object; this is in the queue: {shown(body)}")
    scene.expect(id_in(body), f"The id of a task is a UUID; this one is {task.get('id')!r}.")
    for field in ("to", "subject", "body"):
        scene.expect(
            isinstance(task.get(field), str), f"A task's {field} is text; this one's is {task.get(field)!r}."
        )
    return task


def until_idle(scene):
    """All is done, and the worker has looked in vain after it."""
    scene.wait_done()
    alice = scene.actors[0]
    scene.wait_until(lambda: alice.empty_takes() >= 1, "the worker was to look for the next task")
