"""What there is to see at one moment of a demonstration, read from the scene; every stage draws this."""

import json
import math
from dataclasses import dataclass, field

from labkit.grader.commands import TAKING
from labkit.grader.history import (
    COMMAND,
    EXITED,
    KILLED,
    REPLY,
    SENT,
    WORK_FAILED,
    WORK_FINISHED,
    WORK_STARTED,
    Event,
)
from labkit.grader.scene import Scene
from labkit.grader.words import clean

STARTS, IDLE, WORKS, DEAD, ENDED = "starts", "idle", "works", "killed", "ended"
WORK = (WORK_STARTED, WORK_FINISHED, WORK_FAILED)
HOUSEKEEPING = ("SET", "EVAL", "EXISTS", "LMOVE")
HARDLY_DONE = 0.95  # what a bar shows at most while the work goes on


@dataclass(frozen=True)
class WorkerView:
    """One worker. task: the one that it works on, or was at when it was killed; share: how far it is, 0 to 1.

    heartbeat: seconds until its heartbeat key expires; 0 when it has; None when it never had one.
    """

    name: str
    state: str
    task: int = 0
    share: float = 0.0
    heartbeat: float | None = None


@dataclass(frozen=True)
class Sent:
    """One command on the wire, and what came of it."""

    at: float
    who: str
    command: str
    outcome: str


@dataclass(frozen=True)
class View:
    """One moment. Tasks are given by number, those in the queue in the order in which they will be taken.

    elsewhere: tasks that were sent, are not done, and lie in no list at all (perhaps in a process's memory).
    """

    at: float
    total: int
    waiting: list[int]
    in_hand: dict[str, list[int]]
    done: list[int]
    rejected: list[int]
    elsewhere: list[int]
    workers: list[WorkerView]
    wire: list[Sent]
    finished: list[tuple[Event, float]] = field(default_factory=list)  # with the seconds of work


def look(scene: Scene, workers: list[str], expected_seconds: float) -> View:
    """Look at everything now. expected_seconds: how long one task is likely to take, for the bars."""
    where = scene.where()  # first: what is taken off a list after this look is done in the history below
    rejected = sorted(scene.dead())
    heartbeats = {name: scene.ask("PTTL", f"{scene.queue}:heartbeat:{name}") for name in workers}
    events = scene.history.events()
    sent = [number for event in events if event.what == SENT for number in event.tasks]
    done = list(dict.fromkeys(n for event in events if event.what == WORK_FINISHED for n in event.tasks))
    queue = scene.run.lab.queue
    waiting = [number for number, keys in where.items() if queue in keys][::-1]  # taken from the right
    return View(
        at=scene.history.now(),
        total=len(sent),
        waiting=waiting,
        in_hand={
            name: [n for n, keys in where.items() if f"{queue}:processing:{name}" in keys] for name in workers
        },
        done=done,
        rejected=rejected,
        elsewhere=[n for n in sent if n not in where and n not in done and n not in rejected],
        workers=[
            _worker(name, events, scene.history.now(), expected_seconds, heartbeats[name]) for name in workers
        ],
        wire=wire(events, workers),
        finished=finished(events),
    )


def _worker(name: str, events: list[Event], now: float, expected_seconds: float, pttl: int) -> WorkerView:
    own = [event for event in events if event.who == name]
    heartbeat = pttl / 1000 if pttl >= 0 else 0.0 if any(event.verb == "SET" for event in own) else None
    ends = {event.what: event.at for event in own if event.what in (KILLED, EXITED)}
    last = next((event for event in reversed(own) if event.what in WORK), None)
    working = last is not None and last.what == WORK_STARTED and bool(last.tasks)
    if not ends and not working:
        return WorkerView(name, IDLE if any(event.verb for event in own) else STARTS, heartbeat=heartbeat)
    state = DEAD if KILLED in ends else ENDED if ends else WORKS
    if not working:
        return WorkerView(name, state, heartbeat=heartbeat)
    share = min(HARDLY_DONE, (ends.get(KILLED, now) - last.at) / expected_seconds)
    return WorkerView(name, state, last.tasks[0], share, heartbeat)


def finished(events: list[Event]) -> list[tuple[Event, float]]:
    """The ends of all work, each with the seconds that it took."""
    began: dict[str, float] = {}
    ends = []
    for event in events:
        if event.what == WORK_STARTED:
            began[event.who] = event.at
        elif event.what == WORK_FINISHED:
            ends.append((event, event.at - began.get(event.who, event.at)))
    return ends


def wire(events: list[Event], workers: list[str]) -> list[Sent]:
    """The commands of producer and workers, oldest first.

    A room cannot follow everything: housekeeping is left out until a kill makes it matter.
    """
    answers = {(event.who, event.number): event for event in events if event.what == REPLY}
    killed = next((event.at for event in events if event.what == KILLED), math.inf)
    sent = []
    for event in events:
        if event.what != COMMAND or event.who not in ("producer", *workers) or event.verb in ("PING", "SCAN"):
            continue
        if event.at > killed or event.tasks or event.who == "producer" or event.verb not in HOUSEKEEPING:
            answer = answers.get((event.who, event.number))
            sent.append(Sent(event.at, event.who, command(event), _outcome(event, answer)))
    return sent


def command(event: Event) -> str:
    """A command as one types it, its script's text left out."""
    args = [" ".join(arg.split()) for arg in event.args]
    if event.verb == "EVAL" and args:
        args[0] = "(script)"
    return clean(" ".join([event.verb, *args]))


def _outcome(event: Event, answer: Event | None) -> str:
    if answer is None:
        return "waits …" if event.blocking else ""
    brought = [number for number in answer.tasks if number not in event.tasks]
    if brought:
        return f"→ task {brought[0]}"
    return "→ none" if answer.empty and event.verb in TAKING and event.verb != "EVAL" else ""


def called(scene: Scene, number: int, pattern: str) -> str:
    """A task in a few words, such as "rotate dawn.jpg": the pattern, filled in from the task's own fields."""
    fields = scene.json(scene.tasks[number].body)
    try:
        return clean(pattern.format(**fields)).encode("utf-8", "replace").decode()
    except (TypeError, LookupError, ValueError):
        return clean(json.dumps(fields))
