"""One look at a scene: where its tasks are, and what its processes are at. Panels are made from it."""

import functools
import json
import math
from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass

from labkit.grader.actor import Actor
from labkit.grader.commands import AMQP_WORDS, DELIVERIES, PUBLISHING, TAKING
from labkit.grader.history import (
    COMMAND,
    EXITED,
    KILLED,
    PAUSED,
    REPLY,
    RESUMED,
    SENT,
    STARTED,
    WORK_FAILED,
    WORK_FINISHED,
    WORK_STARTED,
    Event,
)
from labkit.grader.lane import SHOWN_CHARACTERS
from labkit.grader.scene import Scene
from labkit.grader.verdict import in_hand
from labkit.grader.words import clean

STARTS, WAITS, PAUSES, WORKS = "starts", "waits", "pauses", "works"  # it pauses between two looks, by itself
FROZEN, DEAD, ENDED = "frozen", "killed", "ended"  # by SIGSTOP, by SIGKILL, or on its own
WORK = (WORK_STARTED, WORK_FINISHED, WORK_FAILED)
HOUSEKEEPING = ("SET", "EVAL", "EXISTS", "LMOVE", "INCR", "INCRBY")
NEVER_SHOWN = ("PING", "SCAN", "queue.declare", "confirm.select")
HARDLY_DONE = 0.95  # what a bar shows at most while the work goes on
RATE_SECONDS = 4.0  # over which commands are counted for their rate

# For each task the lists that hold it, and the tasks that are set aside.
Census = Callable[[], tuple[dict[int, list[str]], set[int]]]


@dataclass(frozen=True)
class WorkerView:
    """One worker. task: the one that it works on, or was at when it was stopped; share: how far it is, 0 to 1."""

    name: str
    state: str
    task: int = 0
    share: float = 0.0


@dataclass(frozen=True)
class OnTheWire:
    """One command, and what came of it."""

    at: float
    who: str
    command: str
    outcome: str


class Moment:
    """See the module. Tasks are given by number; keys are called as the lab calls them.

    While the broker is down, or still starting, (`broker_up` is false) nobody knows where the tasks are: no list holds
    any.
    """

    def __init__(self, scene: Scene, seconds_each: float, census: Census | None) -> None:
        """Look now. seconds_each: how long one task takes before any is done, for the bars.

        census: looks where the tasks are; without one they are nowhere, since with very many that takes too long.
        """
        self.scene = scene
        self.broker_up = scene.holdings.is_ready() and not scene.holdings.broker_down
        census = census if self.broker_up else None
        sent = (
            scene.history.tasks(SENT) if census else set()
        )  # first: what is sent later may not be there yet
        self.where, dead = census() if census else ({}, set())
        self.rejected = sorted(dead)
        self.events = scene.history.events()  # last: what has left a list by now is done, or in hand
        self.at = scene.history.now()
        self.total = len(scene.tasks)
        self.finished = finished(self.events)
        self.done = list(dict.fromkeys(n for event, _ in self.finished for n in event.tasks))
        gone = sent.difference(self.where, self.done, self.rejected)
        self.elsewhere = sorted(gone)  # sent, not done, and in no list: perhaps in a process's memory
        took = [seconds for _, seconds in self.finished]
        self._expected = sum(took) / len(took) if took else seconds_each
        self._own: dict[str, list[Event]] = defaultdict(list)  # since the last start of each process
        for event in self.events:
            if event.what == STARTED:
                self._own[event.who].clear()
            self._own[event.who].append(event)

    def waiting(self, key: str) -> list[int]:
        """The tasks in a queue that is taken from at its right end, the next one first."""
        return [number for number, keys in self.where.items() if key in keys][::-1]

    def in_list(self, key: str) -> list[int]:
        """The tasks in a list."""
        return [number for number, keys in self.where.items() if key in keys]

    def in_memory(self, names: Collection[str]) -> list[int]:
        """The tasks that are in no list because one of these processes, alive, has them in its hands."""
        alive = [name for name in names if self.worker(name).state not in (DEAD, ENDED)]
        held = set().union(*(in_hand(self._own[name], name) for name in alive))
        return [number for number in self.elsewhere if number in held]

    def worker(self, name: str) -> WorkerView:
        """What a worker is at."""
        own = self._own[name]
        last = next((event for event in reversed(own) if event.what in WORK), None)
        working = last is not None and last.what == WORK_STARTED and bool(last.tasks)
        halt, until = self._halt(own)
        if not working:
            return WorkerView(name, halt or self._idle(own))
        share = (until - last.at) / self._expected
        return WorkerView(name, halt or WORKS, last.tasks[0], min(max(0.0, share), HARDLY_DONE))

    def _halt(self, own: list[Event]) -> tuple[str, float]:
        """What keeps a worker from going on, if anything, and the time up to which it went on."""
        last = {event.what: event.at for event in own}
        for what, state in ((KILLED, DEAD), (EXITED, ENDED)):
            if what in last:
                return state, last[what]
        if last.get(PAUSED, -1.0) > last.get(RESUMED, -1.0):
            return FROZEN, last[PAUSED]
        return "", self.at

    @staticmethod
    def _idle(own: list[Event]) -> str:
        """Whether it still starts, takes with a command that waits at the broker, or pauses by itself."""
        if not any(event.verb for event in own):
            return STARTS
        takes = [event for event in own if event.what == COMMAND and event.verb in TAKING - {"EVAL"}]
        return WAITS if takes and takes[-1].blocking else PAUSES

    def commands(self, name: str) -> int:
        """How many commands a process has sent since its start."""
        return sum(event.what == COMMAND for event in self._own[name])

    def looks_in_vain(self, name: str) -> int:
        """How many of its takes since its start have brought it nothing."""
        return sum(map(is_in_vain, self._own[name]))

    def rate(self, name: str) -> float:
        """Commands a second over the last RATE_SECONDS; 0 for a process that has ended."""
        times = [event.at for event in self._own[name] if event.what == COMMAND]
        if not times or self.worker(name).state in (DEAD, ENDED):
            return 0.0
        span = max(0.5, min(RATE_SECONDS, self.at - times[0]))
        return sum(at > self.at - span for at in times) / span

    def wire(self, names: Collection[str], last: int = 40) -> list[OnTheWire]:
        """The last commands of these processes, oldest first.

        A room cannot follow everything: housekeeping is left out until a kill makes it matter.
        """
        killed = next((event.at for event in self.events if event.what == KILLED), math.inf)
        answers: dict[tuple[str, int], Event] = {}
        sent: list[OnTheWire] = []
        for event in reversed(self.events):
            if event.what == REPLY and event.verb in DELIVERIES:
                if event.who in names:
                    sent.append(_delivery(event))
            elif event.what == REPLY:
                answers[event.who, event.number] = event
            elif event.what == COMMAND and event.who in names and _matters(event, killed):
                answer = answers.get((event.who, event.number))
                sent.append(
                    OnTheWire(event.at, event.who, self._command(event), self._outcome(event, answer))
                )
            if len(sent) == last:
                break
        return sent[::-1]

    @functools.cached_property
    def _bodies(self) -> dict[str, str]:
        """What stands in place of a task's body."""
        return {_recorded(task.body): f"‹task {task.number}›" for task in self.scene.tasks}

    def _command(self, event: Event) -> str:
        """A command as one types it, its script's text left out, and a task in place of its body."""
        args = [self._bodies.get(arg, " ".join(arg.split())) for arg in event.args]
        if event.verb == "EVAL" and args:
            args[0] = "(script)"
        if event.verb in AMQP_WORDS:  # the body is no argument, and the default exchange has no name
            args = [*filter(None, args), *(f"‹task {number}›" for number in event.tasks)]
        return clean(" ".join([event.verb, *args]))

    def _outcome(self, event: Event, answer: Event | None) -> str:
        """What the broker answered to a command, as far as it matters to a task."""
        if answer is None:
            waits = event.blocking and event.number in self._actor(event.who).lane.in_flight
            return "waits …" if waits else "cut off" if event.blocking else ""
        if event.verb in PUBLISHING:
            return answer.detail or "confirmed"
        brought = [number for number in answer.tasks if number not in event.tasks]
        if brought:
            return f"→ task {brought[0]}"
        return "→ none" if answer.empty and event.verb in TAKING and event.verb != "EVAL" else ""

    def _actor(self, name: str) -> Actor:
        """The process that has this name now."""
        return next(actor for actor in reversed(self.scene.actors) if actor.name == name)


@functools.lru_cache(maxsize=20_000)
def _recorded(body: bytes) -> str:
    """A body as it stands in the record of a command that was sent before anyone knew that it is a task's."""
    return " ".join(body[:400].decode("utf-8", "backslashreplace").split())[:SHOWN_CHARACTERS]


def _delivery(event: Event) -> OnTheWire:
    """A task that the broker hands to a consumer, which has asked for it once and for all."""
    again = ", redelivered" if "redelivered" in event.args else ""
    outcome = f"→ task {event.tasks[0] if event.tasks else '?'}{again}"
    return OnTheWire(event.at, event.who, clean(" ".join([event.verb, *event.args[:1]])), outcome)


def _matters(event: Event, killed: float) -> bool:
    if event.verb in NEVER_SHOWN:
        return False
    return event.at > killed or event.tasks or event.verb not in HOUSEKEEPING or event.who == "producer"


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


def is_in_vain(event: Event) -> bool:
    """Whether this is the answer to a take, and brought nothing; an error is no look."""
    return event.what == REPLY and event.verb in TAKING and event.empty and not event.detail


def called(scene: Scene, number: int, pattern: str) -> str:
    """A task in a few words, such as "rotate dawn.jpg": the pattern, filled in from the task's own fields."""
    fields = scene.json(scene.tasks[number].body)
    try:
        return clean(pattern.format(**fields)).encode("utf-8", "replace").decode()
    except (TypeError, LookupError, ValueError):
        return clean(json.dumps(fields))
