"""Reads a scene's history as what a picture shows of it: marks, bars of work, lives of processes, tasks in hand.

Positions and colors are picture.py's; here everything is in seconds and words.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from labkit.grader import commands
from labkit.grader.history import (
    BROKER_KILLED,
    BROKER_RESTARTED,
    COMMAND,
    EXITED,
    KILLED,
    PAUSED,
    REPLY,
    REQUESTED,
    RESUMED,
    SENT,
    STARTED,
    STOPPED,
    WORK_FAILED,
    WORK_FINISHED,
    WORK_STARTED,
    Event,
)
from labkit.grader.holdings import DEAD_LETTERS, DELAYED
from labkit.grader.words import moment, names

# The kinds of marks; each has a shape of its own.
SEND, TAKE, AGAIN, ACK, ASIDE, BACK, PUSH = "send", "take", "again", "ack", "aside", "back", "push"
LATER, REQUEST = "later", "request"
KILL, TERM, PAUSE, RESUME = "kill", "term", "pause", "resume"
START, EXIT, CRASH, DOWN, UP, ERROR = "start", "exit", "crash", "down", "up", "error"
# How the work on a task ended; OPEN: it had not when the scene was over.
DONE, FAILED, CUT, OPEN = "done", "failed", "cut", "open"

GRADER, BROKER, ENDPOINT = "grader", "broker", "endpoint"
PUSHING = {"LPUSH", "RPUSH", "LPUSHX", "RPUSHX", "ZADD", "XADD", *commands.PUBLISHING}
SHOWN_OF_ARGUMENT = 48
MOST_ROWS = 6  # of bars in one lane
MOST_STEPS = 360  # marks and bars of one scene; more (a worker in an endless loop) are left out of the middle


@dataclass(frozen=True)
class Mark:
    """Something done at one moment. `label` stands beside it, `words` come up when one points at it."""

    at: float
    lane: str
    kind: str
    words: str
    tasks: tuple[int, ...] = ()
    label: str = ""
    answered: bool = True


@dataclass
class Bar:
    """The work of one process on one task (0: on an id that was never sent)."""

    lane: str
    task: int
    began: float
    ended: float
    ending: str = OPEN
    again: bool = False
    row: int = 0
    detail: str = ""


@dataclass
class Span:
    """A stretch of time on a lane: a process's life, a task in its hands (`task`), a pause, the broker's absence."""

    lane: str
    began: float
    ended: float
    task: int = 0


@dataclass(frozen=True)
class Handover:
    """A task that was handed out before, on its way from one hand to the next."""

    task: int
    origin: tuple[str, float]
    goal: tuple[str, float]


@dataclass
class Picture:
    """All that is drawn of one scene. `quiet` are commands that moved no task: (lane, seconds, command)."""

    lanes: dict[str, str] = field(default_factory=dict)  # each with what it runs
    marks: list[Mark] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)
    lives: list[Span] = field(default_factory=list)
    hands: list[Span] = field(default_factory=list)
    pauses: list[Span] = field(default_factory=list)
    outages: list[Span] = field(default_factory=list)
    handovers: list[Handover] = field(default_factory=list)
    quiet: list[tuple[str, float, str]] = field(default_factory=list)
    end: float = 0.0
    left_out: int = 0

    def fates(self) -> dict[int, str]:
        """What is known of each task that was sent: done, done twice, set aside; "" for anything else."""
        sent = {task for mark in self.marks if mark.kind == SEND for task in mark.tasks}
        done = Counter(bar.task for bar in self.bars if bar.ending == DONE)
        aside = {task for mark in self.marks if mark.kind == ASIDE and mark.answered for task in mark.tasks}
        words = {0: "", 1: "done", 2: "done twice"}
        fates = {task: words.get(done[task], f"done {done[task]} times") for task in sorted(sent)}
        return {task: "set aside" if task in aside and not fate else fate for task, fate in fates.items()}


def read(events: Iterable[Event], queue: str) -> Picture:
    """Read the events of a scene, in order. `queue` is the name under which the events speak of the queue."""
    return _Reader(queue).read(list(events))


class _Reader:
    def __init__(self, queue: str) -> None:
        self.queue = queue
        self.picture = Picture()
        self.lives: dict[str, Span] = {}  # what is open just now, by process …
        self.pauses: dict[str, Span] = {}
        self.bars: dict[tuple[str, int], Bar] = {}  # … or by process and task
        self.hands: dict[tuple[str, int], Span] = {}
        self.removed: set[tuple[str, int]] = (
            set()
        )  # of those, what the broker no longer has: the work's end is the end
        self.outage: Span | None = None
        self.pending: dict[tuple[str, int], Event] = {}
        self.queued: dict[str, list[Event]] = {}  # commands within MULTI, until EXEC
        self.taken: Counter[int] = Counter()
        self.worked: Counter[int] = Counter()
        self.origin: dict[int, tuple[str, float]] = {}  # where a task was seen last
        self.dead: set[str] = set()

    def read(self, events: list[Event]) -> Picture:
        picture = self.picture
        picture.end = events[-1].at if events else 0.0
        for position, event in enumerate(events):
            self._lane(event)
            if event.what in (KILLED, BROKER_KILLED):
                self._death(event, events[:position])
            else:
                self._read.get(event.what, _Reader._pass_over)(self, event)
        for command in self.pending.values():
            self._deed([command], None)
        for bar in self.bars.values():
            bar.ended = picture.end
        for span in [*self.lives.values(), *self.hands.values(), *self.pauses.values()]:
            span.ended = picture.end
        if self.outage:
            self.outage.ended = picture.end
        picture.marks.sort(key=lambda mark: mark.at)
        _rows(picture.bars)
        _leave_out(picture)
        return picture

    def _lane(self, event: Event) -> None:
        who = GRADER if event.what == SENT else event.who
        runs = {
            GRADER: "sends tasks" if event.who == GRADER else "finds tasks",
            BROKER: "the server",
            ENDPOINT: "answers",
        }
        self.picture.lanes.setdefault(who, runs.get(who, ""))
        if event.what == STARTED:
            self.picture.lanes[who] = Path(event.detail).name
            self.dead.discard(who)
        if event.what not in (SENT, BROKER_KILLED, BROKER_RESTARTED, EXITED, KILLED):
            self._live(who, event.at)

    def _live(self, who: str, at: float) -> None:
        if who not in self.lives and who not in self.dead:
            self.lives[who] = Span(who, at, at)
            self.picture.lives.append(self.lives[who])

    def _mark(self, event: Event, kind: str, words: str, *, command: str = "", **more: object) -> Mark:
        said = "  ".join(part for part in (f"+{event.at:.3f} s", event.who, command) if part)
        mark = Mark(event.at, event.who, kind, f"{said}\n{words}".rstrip(), **more)
        self.picture.marks.append(mark)
        return mark

    # ---- processes and the broker ---------------------------------------------------------------------------

    def _sent(self, event: Event) -> None:
        marks = self.picture.marks
        level = f" ({event.detail})" if event.detail else ""
        words = f"+{event.at:.3f} s  {event.who}  {names(event.tasks)}{level} put into {self.queue}"
        if marks and marks[-1].kind == SEND and (self._last_sender == event.who):
            before = marks.pop()
            words, event_at, tasks = f"{before.words}\n{words}", before.at, (*before.tasks, *event.tasks)
        else:
            event_at, tasks = event.at, event.tasks
        self._last_sender = event.who
        marks.append(Mark(event_at, GRADER, SEND, words, tasks, ranges(tasks)))

    _last_sender = ""

    def _pass_over(self, event: Event) -> None:
        """An event of a kind that has no picture yet."""

    def _started(self, event: Event) -> None:
        self._mark(event, START, f"started: python {Path(event.detail).name}")

    def _exited(self, event: Event) -> None:
        life = self.lives.pop(event.who, None)
        self._let_go(event, CUT if event.detail else OPEN)
        if life is None:
            return  # it was killed, and that has been said
        life.ended = event.at
        if event.detail in ("", "exited"):
            self._mark(event, EXIT, event.detail or "ended by the grader: the scene was over")
        else:
            self._mark(event, CRASH, event.detail, label=event.detail.removeprefix("exited with "))

    def _death(self, event: Event, before: list[Event]) -> None:
        point = f" ({event.detail})" if event.detail else ""
        if event.what == BROKER_KILLED:
            self._mark(event, DOWN, f"killed (SIGKILL){point}", label="killed")
            self.outage = Span(BROKER, event.at, event.at)
            self.picture.outages.append(self.outage)
            return
        words = moment(before, event.who)
        point = "" if event.detail == words else point
        self._mark(event, KILL, f"killed (SIGKILL) {words}{point}", label="SIGKILL")
        if life := self.lives.pop(event.who, None):
            life.ended = event.at
        self.dead.add(event.who)
        self._let_go(event, CUT)

    def _let_go(self, event: Event, ending: str) -> None:
        """A process is no more: what it had in hand is cut off."""
        for key in [key for key in self.bars if key[0] == event.who]:
            bar = self.bars.pop(key)
            bar.ended, bar.ending = event.at, ending
        for key in [key for key in self.hands if key[0] == event.who]:
            self.hands.pop(key).ended = event.at
            self.origin[key[1]] = (event.who, event.at)
        if pause := self.pauses.pop(event.who, None):
            pause.ended = event.at

    def _requested(self, event: Event) -> None:
        asked = f"a request for {names(event.tasks)}" if event.tasks else "a request without a task's key"
        self._mark(
            event, REQUEST, f"{asked}; the answer: {event.detail}", tasks=event.tasks, label=event.detail
        )

    def _stopped(self, event: Event) -> None:
        self._mark(event, TERM, f"was asked to stop ({event.detail})", label=event.detail)

    def _paused(self, event: Event) -> None:
        self._mark(event, PAUSE, f"paused ({event.detail}): it lives and does nothing", label="paused")
        self.pauses[event.who] = Span(event.who, event.at, event.at)
        self.picture.pauses.append(self.pauses[event.who])

    def _resumed(self, event: Event) -> None:
        self._mark(event, RESUME, f"goes on ({event.detail})")
        if pause := self.pauses.pop(event.who, None):
            pause.ended = event.at

    def _restarted(self, event: Event) -> None:
        self._mark(event, UP, "restarted on the data that it had written", label="restarted")
        if self.outage:
            self.outage.ended, self.outage = event.at, None

    # ---- work -----------------------------------------------------------------------------------------------

    def _work_started(self, event: Event) -> None:
        for task in event.tasks or (0,):
            self.worked[task] += 1
            again = task > 0 and self.worked[task] > 1
            bar = Bar(event.who, task, event.at, event.at, again=again, detail=event.detail)
            self.bars[event.who, task] = bar
            self.picture.bars.append(bar)
            if again and (event.who, task) not in self.hands and task in self.origin:
                self.picture.handovers.append(Handover(task, self.origin[task], (event.who, event.at)))
            if task not in self.taken:
                self.origin[task] = (event.who, event.at)

    def _work_ended(self, event: Event) -> None:
        for task in event.tasks or (0,):
            bar = self.bars.pop((event.who, task), None)
            if bar is not None:
                bar.ended, bar.ending = event.at, DONE if event.what == WORK_FINISHED else FAILED
                bar.detail = event.detail or bar.detail
            if event.what == WORK_FINISHED and (event.who, task) in self.removed:
                self._part_with(event, task)

    # ---- commands -------------------------------------------------------------------------------------------

    def _command(self, event: Event) -> None:
        self.pending[event.who, event.number] = event

    def _reply(self, event: Event) -> None:
        if event.verb in commands.DELIVERIES:  # one of many answers to a consume, which goes on
            self._deed([replace(event, tasks=())], event)
            return
        command = self.pending.pop((event.who, event.number), event)
        if event.detail == "QUEUED":
            self.queued.setdefault(event.who, []).append(command)
        elif event.verb in ("EXEC", "DISCARD"):
            together = self.queued.pop(event.who, [])
            if event.verb == "EXEC" and not event.empty and together:
                self._deed(together, event)
            else:
                self._note(command, event)
        else:
            self._deed([command], event)

    def _deed(self, together: list[Event], reply: Event | None) -> None:
        """What a command did, or the commands of one transaction, or a command that was never answered (None)."""
        first, when = together[0], reply or together[-1]
        named = tuple(dict.fromkeys(task for command in together for task in command.tasks))
        given = tuple(task for task in reply.tasks if task not in named) if reply else ()
        text = " · ".join(map(spoken, together))
        text = f"MULTI · {text} · EXEC" if len(together) > 1 else text
        if reply and reply.detail and reply.detail != "QUEUED":
            self._mark(when, ERROR, f"the broker refused: {reply.detail[:160]}", command=text)
            return
        kind = self._kind(together, named, given)
        if not kind or (reply is None and not named):
            self._note(first, reply)
            return
        tasks = given if kind in (TAKE, BACK) and given else named
        if kind == TAKE:
            self._take(when, tasks, text, together[0])
            return
        words = [self._describe(command, tasks, kind) for command in together]
        said = "; ".join(dict.fromkeys(filter(None, words))) or {PUSH: "sent a task"}.get(kind, "")
        said += "" if reply else ": never answered"
        label = ranges(tasks) if kind in (ASIDE, BACK, ACK, LATER) else ""
        self._mark(when, kind, said, command=text, tasks=tasks, label=label, answered=reply is not None)
        if reply is not None:
            for task in tasks:
                self._part_with(when, task)

    def _part_with(self, event: Event, task: int) -> None:
        self.removed.discard((event.who, task))
        if hand := self.hands.pop((event.who, task), None):
            hand.ended = event.at
        self.origin[task] = (event.who, event.at)

    def _kind(self, together: list[Event], named: tuple[int, ...], given: tuple[int, ...]) -> str:
        verbs = {command.verb for command in together}
        keys = {arg for command in together for arg in command.args if not arg.startswith("{")}
        if given and verbs & commands.TAKING:
            target = together[0].args[1:2]
            return BACK if verbs & commands.MOVING and target == (self.queue,) else TAKE
        if verbs & (PUSHING | commands.SCRIPTS) and any(key.endswith(DEAD_LETTERS) for key in keys):
            if self.queue in keys and named:
                return BACK
            if verbs & PUSHING or (verbs & commands.SCRIPTS and named):
                return ASIDE
        if named and verbs & (PUSHING | commands.SCRIPTS) and any(DELAYED.search(key) for key in keys):
            return BACK if self.queue in keys else LATER
        if named:
            mine = any((together[0].who, task) in self.hands for task in named)
            to = lambda c: commands.goes_to(c.verb, c.args)  # noqa: E731
            pushed_back = any(c.verb in PUSHING and c.tasks and to(c) == self.queue for c in together)
            if verbs & commands.GIVING_BACK:
                return BACK if commands.REQUEUE in keys else ASIDE
            if pushed_back:
                return BACK if mine else PUSH
            if verbs & commands.REMOVING_A_TASK or (verbs & commands.SCRIPTS and mine):
                return ACK
            return PUSH if verbs & (PUSHING | commands.SCRIPTS) else ""
        if verbs & commands.PUBLISHING:
            return PUSH
        carries = any(arg.startswith("{") for command in together for arg in command.args)
        return PUSH if verbs & (PUSHING | commands.SCRIPTS) and carries else ""

    def _describe(self, command: Event, tasks: tuple[int, ...], kind: str) -> str:
        named = [task for task in tasks if task in command.tasks]
        if named:
            return commands.describe(command.verb, command.args, named[0], reply=False)
        if kind == BACK and tasks:
            return commands.describe(command.verb, command.args, tasks[0], reply=True)
        if kind == ASIDE and command.verb in PUSHING:
            return f"set aside in {command.args[0]}"
        return ""

    def _take(self, when: Event, tasks: tuple[int, ...], text: str, command: Event) -> None:
        self.taken.update(tasks)
        again = [task for task in tasks if self.taken[task] > 1]
        said = (commands.describe(command.verb, command.args, task, reply=True) for task in tasks[:3])
        words = "; ".join(said)
        if again:
            words += f"\nhanded out again: {names(again)}"
        self._mark(when, AGAIN if again else TAKE, words, command=text, tasks=tasks, label=ranges(tasks))
        for task in tasks:
            if task in again and task in self.origin:
                self.picture.handovers.append(Handover(task, self.origin[task], (when.who, when.at)))
            self.origin[task] = (when.who, when.at)
            self.hands[when.who, task] = Span(when.who, when.at, when.at, task)
            self.picture.hands.append(self.hands[when.who, task])
            if command.verb in commands.REMOVING_FROM_BROKER:
                self.removed.add((when.who, task))

    def _note(self, command: Event, reply: Event | None) -> None:
        if reply is None:
            self.picture.quiet.append((command.who, command.at, f"{spoken(command)}: no answer"))
        else:
            said = ": nothing there" if reply.empty and command.blocking else ""
            self.picture.quiet.append((command.who, reply.at, f"{spoken(command)}{said}"))

    _read = {  # noqa: RUF012
        SENT: _sent, STARTED: _started, EXITED: _exited, STOPPED: _stopped, PAUSED: _paused, RESUMED: _resumed,
        REQUESTED: _requested, BROKER_RESTARTED: _restarted, WORK_STARTED: _work_started, WORK_FINISHED: _work_ended,
        WORK_FAILED: _work_ended, COMMAND: _command, REPLY: _reply,
    }  # fmt: skip


def spoken(command: Event) -> str:
    """A command on one line, its arguments shortened."""
    parts = [" ".join(arg.split())[:SHOWN_OF_ARGUMENT] for arg in command.args]
    return " ".join([command.verb, *parts])[:160]


def ranges(tasks: tuple[int, ...]) -> str:
    """Task numbers, short: 1-14, 16."""
    parts: list[list[int]] = []
    for task in sorted(set(tasks)):
        if parts and task == parts[-1][-1] + 1:
            parts[-1] = [parts[-1][0], task]
        else:
            parts.append([task])
    shown = ["–".join(map(str, part)) for part in parts[:6]]
    return ", ".join(shown) + (", …" if len(parts) > 6 else "")


def _rows(bars: list[Bar]) -> None:
    """Give a row of its own to work that a process does while it does other work."""
    busy: dict[str, list[float]] = {}
    for bar in bars:
        rows = busy.setdefault(bar.lane, [])
        free = (row for row, until in enumerate(rows) if until <= bar.began)
        row = next(free, min(len(rows), MOST_ROWS - 1))
        rows.extend([0.0] * (row + 1 - len(rows)))
        bar.row, rows[row] = row, bar.ended


def _leave_out(picture: Picture) -> None:
    """Thin out the middle of a scene in which more happened than a picture can hold."""
    moments = sorted([mark.at for mark in picture.marks] + [bar.began for bar in picture.bars])
    if len(moments) <= MOST_STEPS:
        return
    first, last = moments[MOST_STEPS // 2], moments[-MOST_STEPS // 2]
    seen = lambda at: at <= first or at >= last  # noqa: E731
    total = len(moments)
    picture.marks = [mark for mark in picture.marks if seen(mark.at)]
    picture.bars = [bar for bar in picture.bars if seen(bar.began)]
    picture.hands = [hand for hand in picture.hands if seen(hand.began)]
    picture.handovers = [each for each in picture.handovers if seen(each.goal[1]) and seen(each.origin[1])]
    picture.left_out = total - len(picture.marks) - len(picture.bars)
