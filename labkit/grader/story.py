"""The story of a failure: what was done, what was expected, what was seen, one task step by step, one question."""

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

from labkit.course import RABBITMQ
from labkit.grader import commands
from labkit.grader.history import (
    BROKER_KILLED,
    COMMAND,
    KILLED,
    REPLY,
    STOPPED,
    WORK_FAILED,
    WORK_FINISHED,
    WORK_STARTED,
    Event,
)
from labkit.grader.holdings import DELAYED
from labkit.grader.processes import signal_name
from labkit.grader.steps import steps
from labkit.grader.verdict import Verdict
from labkit.grader.words import clean, counted, moment, names

if TYPE_CHECKING:
    from labkit.grader.actor import Actor
    from labkit.grader.scene import Scene

BUSY = 0.6  # of the moment that we look, running or ready to run: a process that computes and does not wait
STILL_SECONDS = 2.0  # who has not looked for a task for so long, and is at the same line, stands still
QUESTIONS = {
    "removed": "Which command moves a task to a second list instead of removing it?",
    "too early": "What must be done before a task may leave the worker's own list?",
    "lost": "Between which two commands is the task in no list at all?",
    "waiting": "Who looks for the tasks of a worker that is gone, when, and how does it know that it is gone?",
    "delayed": "Who looks for delayed tasks that are due, and when?",
    "dead, too": "Which two commands should be one, so that a task is never in the dead letters and elsewhere?",
    "unacknowledged": "Which command takes a finished task off the worker's own list?",
    "duplicated": "Which command handed the same task out a second time, and what should have happened before it?",
    "unexpected": "Where does the id that the work is given come from?",
}
RABBITMQ_QUESTIONS = QUESTIONS | {
    "removed": "Who acknowledges a task, when, and what becomes of one that nobody acknowledges?",
    "too early": "What must be done before a task may be acknowledged?",
    "lost": "Between which two methods does nobody have the task any more, neither the broker nor a worker?",
    "waiting": "Who consumes from that queue?",
    "delayed": "Where does a task go when its time in that queue is over, and who has said so?",
    "dead, too": "Which comes first, the copy or the acknowledgement, and what is confirmed in between?",
    "unacknowledged": "Which method tells the broker that a task is done, and who sends it?",
    "duplicated": "Why did the broker hand the same task out a second time, and what should have happened before?",
}


def told(scene: "Scene", summary: str, *, question: str = "", task: int | None = 0, now: str = "") -> str:
    """A summary, the steps of one task, how it stands now, and a question, as one text of several lines.

    Task 0 stands for the whole scene, None for no steps at all.
    """
    lines = [summary, *(steps(scene, task) if task is not None else ())]
    if now:
        lines.append(f"    +{scene.history.now():.3f} s  {now}")
    if question:
        lines.append(question)
    return clean("\n".join(lines))


def of_verdict(
    scene: "Scene", verdict: Verdict, left: dict[int, list[str]], looping: str, question: str
) -> str:
    """What became of the tasks when it is not what was asked."""
    were = "was" if verdict.done == 1 else "were"
    aside = f", {len(verdict.dead)} set aside" if verdict.dead else ""
    parts = [f"{counted(verdict.sent, 'task')} went in; {verdict.done} {were} done{aside}."]
    kind, task, now = "", 0, ""
    forgotten = {number: keys for number, keys in left.items() if number not in verdict.waiting}
    dead_too = [number for number in forgotten if number in verdict.dead]
    forgotten = {number: keys for number, keys in forgotten.items() if number not in dead_too}
    if verdict.unexpected:
        kind = "unexpected"
        parts.append(f"Done but never sent: id {verdict.unexpected[0]!r}.")
    if forgotten:
        task = min(forgotten)
        kind = "waiting" if task in verdict.hit else "unacknowledged"
        parts.append(
            f"Done but never acknowledged: {names(forgotten)}, still in {', '.join(forgotten[task])}."
        )
    if dead_too:
        kind, task = "dead, too", dead_too[0]
        parts.append(f"In the dead letters, and also in {', '.join(left[task])}: {names(dead_too)}.")
    if verdict.done_and_dead:
        kind, task = "dead, too", verdict.done_and_dead[0]
        parts.append(f"Done, and in the dead letters as well: {names(verdict.done_and_dead)}.")
    if verdict.waiting and not (forgotten and scene.run.lab.broker == RABBITMQ):
        kind, task = (
            "waiting",
            verdict.waiting[0],
        )  # at RabbitMQ it may wait behind what is never acknowledged
        if all(DELAYED.search(key) for key in left.get(task, ["?"])):
            kind = "delayed"
    if verdict.waiting:
        where = ", ".join(left.get(verdict.waiting[0], ["the queue"]))
        parts.append(f"Never done: {names(verdict.waiting)}, still in {where}.")
    if verdict.repeated_without_cause:
        kind, task = "duplicated", verdict.repeated_without_cause[0]
        parts.append(f"Done more than once: {names(verdict.repeated_without_cause)}.")
    if verdict.lost:
        kind, task = "lost", verdict.lost[0]
        parts.append(f"Lost: {names(verdict.lost)}.")
        now = f"task {task} is in no queue and in nobody's hands"
        if (task in verdict.hit or scene.run.lab.broker == RABBITMQ) and removed(scene, task):
            kind, question = "removed", ""
        elif parted_with_too_early(scene, task):
            kind, question = "too early", ""
    questions = RABBITMQ_QUESTIONS if scene.run.lab.broker == RABBITMQ else QUESTIONS
    question = question or ("" if looping else questions.get(kind, ""))
    return told(scene, " ".join(parts) + looping, question=question, task=task, now=now)


def removed(scene: "Scene", task: int) -> bool:
    """Whether a command took the task away from the broker as it handed it out."""
    consumes = (e.verb == f"basic.consume{commands.FOR_GOOD}" for e in scene.history.events(COMMAND))
    replies = scene.history.events(REPLY)
    return any(task in e.tasks and e.verb in commands.REMOVING_FROM_BROKER for e in replies) or any(consumes)


def parted_with_too_early(scene: "Scene", task: int) -> bool:
    """Whether a worker acknowledged the task before it had begun the work, and was killed."""
    if not scene.tasks[task].id:
        return False  # on what is no task there is no work
    parting = commands.REMOVING_A_TASK | commands.SCRIPTS
    for event in scene.history.events(KILLED):
        own = [e for e in scene.history.events(who=event.who) if task in e.tasks and e.at <= event.at]
        acknowledged = [e for e in own if e.what == COMMAND and e.verb in parting]
        first = min((e.at for e in acknowledged), default=0)
        if acknowledged and not any(
            e.what in (WORK_FAILED, WORK_FINISHED) or (e.what == WORK_STARTED and e.at < first) for e in own
        ):
            return True
    return False


def casualty(scene: "Scene", actor: "Actor") -> str:
    """A script of the submission died of itself, or came to a TODO that is not written."""
    if gap := unwritten(scene, actor):
        return gap
    status = actor.process.status or 0
    ending = f"ended with status {status}" if status >= 0 else f"was ended by {signal_name(-status)}"
    said = last_words(scene, actor)
    if actor.process.ended_because:
        ending, said = f"was ended: {actor.process.ended_because}", said or "It said nothing."
    script = Path(actor.process.script).name
    return told(
        scene, f"{script} ({actor.name}) {ending}{f'. {said}' if said else ' and said nothing.'}", task=0
    )


def unwritten(scene: "Scene", actor: "Actor") -> str:
    """The TODO that a script came to and that is not written, or ""."""
    todo = re.search(r"NotImplementedError: (TODO (\d+): .*)", actor.process.errors())
    if not todo:
        return ""
    number, script = int(todo.group(2)), Path(actor.process.script).name
    module = next((f"{each.module}.py" for each in scene.run.lab.todos if each.number == number), script)
    return clean(f"{module}: {todo.group(1).strip()}.\nThis is not written yet.")


def last_words(scene: "Scene", actor: "Actor") -> str:
    """What a script said last of an error: the TODO that is not written, or its own lines of a traceback; or ""."""
    trace = own_lines(actor.process.errors(), Path(actor.process.script).parent)
    words = clean("\n".join(["Its last words:", *("    " + line for line in trace)])) if trace else ""
    return unwritten(scene, actor) or words


def own_lines(errors: str, folder: Path) -> list[str]:
    """The last traceback of a script, with only the frames that lie in its own folder; or its last lines."""
    lines = errors.rstrip().splitlines()
    shown = f"{folder}/"  # where the copy that is graded lies is of no interest
    heads = (
        "Traceback (most recent call last)",
        '  File "',
    )  # a syntax error of the script itself has no traceback
    starts = [number for number, line in enumerate(lines) if line.startswith(heads[0])]
    starts = starts or [number for number, line in enumerate(lines) if line.startswith(heads[1])][-1:]
    if not starts:
        return [line.replace(shown, "")[:200] for line in lines[-3:]]
    kept, keep = [], False
    for line in lines[starts[-1] :]:
        if found := re.match(r'  File "(.*)", line (\d+)(, in .*)?', line):
            keep = Path(found.group(1)).parent == folder
            if keep:
                kept.append(f"{Path(found.group(1)).name} line {found.group(2)}{found.group(3) or ''}")
        elif not line.startswith(("  ", "Traceback (")):
            kept.append(line.replace(shown, "")[:300])
        elif keep and not set(line.strip()) <= set("^~"):
            kept.append("  " + line.strip())
    return kept[-12:]


def without_end(scene: "Scene") -> str:
    """A sentence about a process that computes without end or stands still, with the last thing that it did, or ""."""
    running = [actor for actor in scene.actors if actor.running and not actor.waits_for_a_task()]
    busy = {actor.name: actor.process.busy_seconds() for actor in running}
    where = {actor.name: actor.process.where() for actor in running}
    began = time.monotonic()
    scene.history.wait_until(lambda: None, 0.3)
    for actor in running:
        if actor.process.busy_seconds() - busy[actor.name] > BUSY * (time.monotonic() - began):
            return f" {actor.name} computes without end: {last_act(scene, actor)}"
    for actor in running:
        waits = actor.waits_for_a_task() or actor.looked_within(STILL_SECONDS) or actor.name in scene.held()
        if where[actor.name] and not waits and where[actor.name] == actor.process.where():
            return f" {actor.name} stands still: {last_act(scene, actor)}"
    return ""


def last_act(scene: "Scene", actor: "Actor") -> str:
    """What a process did last, and where in its code it is now."""
    sent = scene.history.events(COMMAND, actor.name)
    last = (
        f"its last command was {sent[-1].verb} {' '.join(sent[-1].args[:2])}".rstrip()
        if sent
        else "it sent nothing"
    )
    when = f" at +{sent[-1].at:.1f} s" if sent else ""
    where = actor.process.where()
    return f"{last}{when}{f', and it is at {where}' if where else ''}."


def out_of_time(scenes: list["Scene"], timeout: float) -> str:
    """A check was under way when the time of the whole grading was over: who had done what last."""
    text = f"The time of the grading, {timeout:g} s, was over before this check had ended."
    living = [(scene, actor) for scene in scenes for actor in scene.actors if actor.running]
    if not living:
        return text
    last_event = lambda pair: max((e.at for e in pair[0].history.events(who=pair[1].name)), default=0)  # noqa: E731
    scene, actor = max(living, key=last_event)
    return clean(f"{text} {actor.name} was running: {last_act(scene, actor)}")


def fault_words(scene: "Scene") -> str:
    """One sentence on the fault of a scene: who was killed or asked to stop, and when, in words and by command."""
    events = scene.history.events()
    for position in range(
        len(events) - 1, -1, -1
    ):  # the last is the one that was tried; others set the scene
        event, before = events[position], events[:position]
        if event.what == KILLED:
            return f"{event.who} was killed {_when(before, event.who, event.detail)}."
        if event.what == STOPPED:
            return f"{event.who} was asked to stop ({event.detail}) {_when(before, event.who, scene.title)}."
        if event.what == BROKER_KILLED:
            who = next((e.who for e in reversed(before) if e.what in (COMMAND, WORK_STARTED)), "")
            return f"The broker was killed and restarted; {who} stood {_when(before, who, event.detail)}."
    return "The fault was never reached."


def _when(before: list[Event], who: str, point: str) -> str:
    words = moment(before, who)
    return words if not point or point == words else f"{words} ({point})"
