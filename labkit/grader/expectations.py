"""What the checks of several labs expect in the same words, and the faults that they all inject."""

from labkit.grader.actor import Actor
from labkit.grader.history import STOPPED, WORK_STARTED
from labkit.grader.scene import Scene
from labkit.grader.stage import Stage
from labkit.grader.story import last_words
from labkit.grader.verdict import Verdict
from labkit.grader.words import counted, names

NO_BROKER = "redis://127.0.0.1:1/0"
RECONNECTS = 20  # in a second and a half: waits of 0.05 s that double need about 5


def kill(actor: Actor, point: str) -> None:
    """A fault: SIGKILL."""
    actor.kill(point)


def terminate(actor: Actor, point: str) -> None:
    """A fault: SIGTERM."""
    actor.terminate()


def shown(body: bytes) -> str:
    """The beginning of a body from the queue, as a message shows it."""
    return body[:80].decode("utf-8", "backslashreplace")


def expect_reasons(scene: Scene) -> None:
    """Each entry of the rejected list is a JSON object with a reason and a body."""
    for entry in scene.contents(f"{scene.queue}:rejected"):
        kept = scene.json(entry)
        scene.expect(
            isinstance(kept, dict) and len(str(kept.get("reason", ""))) > 3 and "body" in kept,
            f"An entry of the rejected list is a JSON object with a reason and a body, not: {shown(entry)}",
            question="What will somebody need who looks at this entry next week?",
        )


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


def expect_ctrl_c_finishes_the_task(scene: Scene) -> None:
    """Ctrl-C in the middle of the work: the task in hand is done."""
    scene.work.hold()
    scene.push(1)
    carol = scene.start("worker.py", "carol")
    scene.wait_until(scene.at_work, "the worker was to begin")
    carol.interrupt()
    scene.work.release()
    carol.wait_exit(question="What does Ctrl-C do to a worker in the middle of a task?")
    scene.expect(
        scene.verdict().done_once == [1], "Ctrl-C came during the work on task 1; it was not done.", task=1
    )


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
        actor = scene.start(script, *args, may_fail=True, VALKEY_URL=NO_BROKER)
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
