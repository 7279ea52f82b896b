"""What the checks of several labs expect in the same words, and the faults that they all inject."""

from collections.abc import Callable

from labkit.course import RABBITMQ
from labkit.grader.actor import Actor
from labkit.grader.history import STOPPED, WORK_STARTED
from labkit.grader.scene import Scene
from labkit.grader.stage import Stage
from labkit.grader.story import last_words
from labkit.grader.tasks import Task
from labkit.grader.verdict import Verdict
from labkit.grader.words import counted, names

NO_BROKER = {"VALKEY_URL": "redis://:secret@127.0.0.1:1/0", "AMQP_URL": "amqp://guest:secret@127.0.0.1:1/%2F"}
RECONNECTS = 20  # in a second and a half: waits of 0.05 s that double need about 5


def kill(actor: Actor, point: str) -> None:
    """A fault: SIGKILL."""
    actor.kill(point)


def terminate(actor: Actor, point: str) -> None:
    """A fault: SIGTERM."""
    actor.terminate()


def kill_broker(actor: Actor, point: str) -> None:
    """A fault: SIGKILL of the broker of the actor's scene, which must be its own."""
    actor.scene.kill_broker(point)


def shown(body: bytes) -> str:
    """The beginning of a body from the queue, as a message shows it."""
    return body[:80].decode("utf-8", "backslashreplace")


def expect_reasons(scene: Scene, suffix: str = ":rejected", called: str = "rejected list") -> None:
    """Each entry of the rejected list, or of another that is called so, is a JSON object with a reason and a body."""
    for entry in scene.contents(f"{scene.queue}{suffix}"):
        kept = scene.json(entry)
        scene.expect(
            isinstance(kept, dict) and len(str(kept.get("reason", ""))) > 3 and "body" in kept,
            f"An entry of the {called} is a JSON object with a reason and a body, not: {shown(entry)}",
            question="What will somebody need who looks at this entry next week?",
        )


def expect_bodies_as_they_were(
    scene: Scene, bad: list[Task], suffix: str = ":rejected", called: str = "rejected list"
) -> None:
    """What is set aside has reasons of its own, and the body that was in the queue, character by character."""
    kept = [scene.json(entry) for entry in scene.contents(f"{scene.queue}{suffix}")]
    reasons = {str(entry["reason"]) for entry in kept}
    scene.expect(
        len(reasons) > 1,
        f"{len(bad)} bodies that are wrong in different ways were set aside, all for the same reason: "
        f"{reasons.pop()[:60]!r}.",
        question="What does the exception say, and who will want to read it?",
    )
    for body in [task.body.decode() for task in bad if is_text(task.body)]:
        near = next((entry["body"] for entry in kept if body[:30] in str(entry["body"])), kept[0]["body"])
        scene.expect(
            any(entry["body"] == body for entry in kept),
            f"This was in the queue:                     {body[:60]}\n"
            f"This is the body in the {called + ':':18} {str(near)[:60]}",
            question="What does str() make of bytes, and what does decode()?",
            task=None,
        )


def is_text(body: bytes) -> bool:
    """Whether it is UTF-8, and not empty."""
    try:
        return bool(body.decode())
    except UnicodeDecodeError:
        return False


def expect_new_ids_newest_left(
    scene: Scene, earlier: list[bytes], bodies: list[bytes], ids: list[str]
) -> None:
    """The last of the bodies to come is at the left end, and no two tasks have the same id."""
    scene.expect(
        len(set(ids)) == len(ids), "Two of the tasks have the same id.", question="What makes an id new?"
    )
    scene.expect(
        bodies[1:] == earlier,
        "The newest task did not go in at the left end; workers take from the right, so it is not done last.",
        question="Which end does LPUSH push to?",
    )


def expect_little_while_idle(
    scene: Scene, worker: Actor, seconds: float, *, most: int = 1, over: int = 1
) -> None:
    """For so many seconds nothing comes: the worker sends few commands, and waits at the broker.

    most: commands a second; over: so many more, in all, for those that fall together by chance.
    """
    scene.wait_until(worker.has_looked, "the worker was to look for a task")
    scene.wait(worker.has_waited_for(0.3), within=2)  # what it does on its way there is no idleness
    began, before = scene.history.now(), worker.commands_sent()
    scene.wait(lambda: not worker.running, within=seconds)
    sent = worker.commands_sent() - before
    seconds = round(scene.history.now() - began, 1)  # on a busy machine it is more than was asked for
    scene.expect(
        sent <= most * seconds + over,
        f"Nothing came for {seconds:g} s; the worker sent {sent} commands: {sent / seconds:.0f} a second.",
        question="Which of them ask again and again, and which command waits at the broker instead?",
    )
    scene.wait_until(
        worker.waits_for_a_task,
        "while the queue is empty the worker was to wait in a blocking command",
        question="What does the worker do between two looks, when a task comes in just then?",
    )


def expect_only_the_task_in_hand_is_lost(stage: Stage, scene: Scene, verdict: Verdict) -> None:
    """After one kill at most one task is lost, the one in hand; the losses are counted for the record."""
    lost = verdict.lost_in_hand
    stage.count("tasks lost in hand", len(lost))
    scene.expect(
        len(lost) <= 1,
        f"One kill, and {counted(len(lost), 'task')} are lost: {names(lost)}.",
        question="How many tasks does a worker need in its hands at a time?",
        task=max(lost, default=0),
    )


def expect_oldest_first(scene: Scene) -> None:
    """Work on the tasks began in the order in which they were sent."""
    order = scene.done_order()
    scene.expect(
        order == sorted(order),
        f"The tasks went in in the order of their numbers; work on them began in the order {order}.",
        question="The producer pushes at the left end. At which end is the oldest task?",
    )


def expect_a_good_stop(scene: Scene, worker: Actor) -> Verdict:
    """After SIGTERM the worker ends with status 0; the task in hand is done, none is lost, no further one begun."""
    status = worker.wait_exit(question="What does SIGTERM do to the wait for a task, and to the loop?")
    scene.expect(status == 0, f"After SIGTERM {worker.name} ended with status {status}, not with 0.")
    asked = min((event.at for event in scene.history.events(STOPPED)), default=scene.history.now())
    verdict = scene.verdict()
    scene.expect(
        not verdict.lost and not verdict.duplicated,
        f"{worker.name} was asked to stop. Done: {verdict.done_once}, set aside: {verdict.dead}, still waiting: "
        f"{verdict.waiting}, lost: {verdict.lost}, done twice: {verdict.duplicated}.",
        question="Between the take and the end of the work, what does the signal do?",
        task=min(verdict.lost + verdict.duplicated, default=0),
    )
    begun = [event for event in scene.history.events(WORK_STARTED) if event.at > asked]
    scene.expect(
        len(begun) <= 1,
        f"After SIGTERM {worker.name} began {len(begun)} tasks.",
        question="When does the loop look whether it should stop?",
    )
    return verdict


def expect_a_stop_without_a_broker(scene: Scene, worker: Actor) -> None:
    """The broker is gone. Asked to stop, the worker ends with status 0 all the same."""
    scene.wait_until(worker.has_looked, "the worker was to look for a task")
    worker.lose_broker()
    worker.terminate()
    status = worker.wait_exit(question="Until when does the worker try to connect again?")
    said = "" if status == 0 else last_words(scene, worker)
    scene.expect(
        status == 0,
        f"The broker was gone when {worker.name} was asked to stop: it ended with status {status}. {said}".rstrip(),
        question="What does the worker still want to tell the broker, and what becomes of that by itself?",
    )


def expect_ctrl_c_finishes_the_task(scene: Scene, push: Callable[[int], object] | None = None) -> None:
    """Ctrl-C in the middle of the work: the task in hand is done. push(1) puts it in (default: scene.push)."""
    scene.work.hold()
    (push or scene.push)(1)
    carol = scene.start("worker.py", "carol")
    scene.wait_until(scene.at_work, "the worker was to begin")
    carol.interrupt()
    scene.work.release()
    carol.wait_exit(question="What does Ctrl-C do to a worker in the middle of a task?")
    scene.expect(
        scene.verdict().done_once == [1], "Ctrl-C came during the work on task 1; it was not done.", task=1
    )
    scene.wait(lambda: scene.where(), within=0.2 if scene.run.lab.broker == RABBITMQ else 0)
    left = ", ".join(scene.where().get(1, ()))
    scene.expect(
        not left,
        f"Ctrl-C came during the work on task 1; it was done, and is in {left} as well: it will be done again.",
        question="What is still to be done between the signal and the end?",
        task=1,
    )


def expect_nothing_lost_by_a_killed_helper(
    stage: Stage, settings: dict[str, object], limit: str, *, calm: Callable[[Scene], None]
) -> None:
    """bob is killed at every point while he sees to the task of alice, who is dead; carol does the rest.

    limit: the lab's own name for the seconds after which a worker that is silent looks dead.
    """

    def begin(scene: Scene) -> None:
        scene.settings = settings
        scene.work.hold(1)
        first, _ = scene.push(2)
        alice = scene.start("worker.py", "alice", **{limit: 0.3})
        scene.wait_started(first)
        alice.kill()
        scene.work.release()
        scene.start("worker.py", "bob")

    def go_on(scene: Scene) -> None:
        scene.start("worker.py", "carol")
        scene.wait_done(quiet=3)

    stage.at_every_point("bob", begin, go_on, kill, calm=calm)


def scenes_of_long_work(
    stage: Stage,
    settings: dict[str, object],
    alive: str,
    push: Callable[[Scene, int], list[Task]] = Scene.push,
) -> list[Callable[[], None]]:
    """Scenes to be played: work that lasts for more than twice 1.2 s is not given to another, also after SIGTERM.

    settings must make a worker that is silent for 1.2 s look dead; the lab's own name for that is `alive`, with the
    word for the key that says so: "HEARTBEAT_SECONDS heartbeat". push(scene, 1) puts a task in.
    """
    limit, key = alive.split()

    def play(stopped: bool) -> None:
        scene = stage.scene("alice is asked to stop meanwhile" if stopped else "")
        scene.settings = settings
        scene.work.hold(1)
        first, *_ = push(scene, 1)
        alice = scene.start("worker.py", "alice")
        scene.wait_started(first)
        scene.mind(alice, starving=0.4)  # so long without a processor, and she rightly looks dead
        if stopped:
            alice.terminate()
        bob = scene.start("worker.py", "bob")
        scene.wait(lambda: len(scene.at_work()) > 1, within=3.2)
        renewed = f"{scene.queue}:{key}:alice" in scene.keys()  # noqa: SIM118 (not a dict)
        scene.expect(
            scene.at_work() == {"alice"},
            f"alice worked on task 1 for more than twice {limit}"
            f"{', and had been asked to stop' if stopped else ''}; meanwhile it was handed to bob.",
            question=f"alice's {key} is there. What did bob not look at?"
            if renewed
            else f"Who renews the {key} while the work goes on, and until when?",
            task=1,
        )
        bob.kill()  # on a busy machine the way from the end of the work to its acknowledgement may be long
        scene.work.release()
        scene.wait_done()

    return [lambda: play(stopped=False), lambda: play(stopped=True)]


def expect_patience_without_a_broker(scene: Scene, *workers: Actor) -> None:
    """The scene's broker has been killed: for 1.5 s each worker goes on, and tries again with growing waits."""
    connected = {worker: worker.lane.connections for worker in workers}
    scene.wait(lambda: not all(worker.running for worker in workers), within=1.5)
    for worker in workers:
        scene.expect(
            worker.running,
            f"The broker was killed under {worker.name}, who ended. {last_words(scene, worker)}".rstrip(),
            question="Which exception does a client raise whose connection dies, and where is it caught?",
        )
        tried = worker.lane.connections - connected[worker]
        scene.expect(
            tried <= RECONNECTS,
            f"The broker was gone for 1.5 s, and {worker.name} tried to connect {tried} times. "
            "Waits of 0.05 s that double need about 5 tries.",
            question="How long is the second wait, and how long the fifth?",
        )


def expect_words_without_a_broker(stage: Stage, scripts: dict[str, list[str]]) -> None:
    """Each script, with its arguments, says in one line that there is no broker, and ends with status 1."""
    for script, args in scripts.items():
        scene = stage.scene(f"{script} without a broker")
        actor = scene.start(script, *args, may_fail=True, **NO_BROKER)
        status = actor.wait_exit()
        said = (actor.process.output() + actor.process.errors()).strip().splitlines()
        scene.expect(
            status == 1 and len(said) == 1,
            f"{script} was started without a broker. It ended with status {status}, having said:\n"
            + "\n".join("    " + line for line in said[-4:]),
            question="Which status does a script end with that has failed?"
            if len(said) == 1
            else "Which exception does the client raise, and where is it caught?",
        )
        scene.expect(
            "secret" not in said[0],
            f"{script} shows the password of the broker's address: {said[0][:100]}",
            question="Who reads the lines that a script prints, and where do they end up?",
        )
