"""What became of each task. The words are those of Jepsen's queue checkers."""

from collections import Counter
from dataclasses import dataclass, field

from labkit.grader.commands import REMOVING_FROM_BROKER
from labkit.grader.history import (
    BROKER_KILLED,
    COMMAND,
    KILLED,
    REPLY,
    WORK_FAILED,
    WORK_FINISHED,
    WORK_STARTED,
    Event,
    History,
)


@dataclass
class Verdict:
    """The numbers of the tasks by what became of them. Every task sent is in exactly one of the first five.

    excused are those of `duplicated` that were in hand, done and not yet acknowledged, at each fault that could
    explain a repeat: at-least-once allows these and no others.
    unexpected are ids that were worked on and never sent. hit were in somebody's hands at a fault; recovered are those
    of them that were done all the same.
    """

    sent: int = 0
    done_once: list[int] = field(default_factory=list)
    duplicated: list[int] = field(default_factory=list)
    lost: list[int] = field(default_factory=list)
    waiting: list[int] = field(default_factory=list)
    dead: list[int] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    recovered: list[int] = field(default_factory=list)
    excused: list[int] = field(default_factory=list)
    hit: set[int] = field(default_factory=set)

    @property
    def done(self) -> int:
        return len(self.done_once) + len(self.duplicated)

    @property
    def repeated_without_cause(self) -> list[int]:
        return [number for number in self.duplicated if number not in self.excused]

    @property
    def lost_in_hand(self) -> list[int]:
        """Those lost that were in somebody's hands at a fault: what a queue costs that promises at-most-once."""
        return [number for number in self.lost if number in self.hit]

    @property
    def lost_without_cause(self) -> list[int]:
        """Those lost that no fault hit: at-most-once allows no such loss."""
        return [number for number in self.lost if number not in self.hit]

    def counts(self) -> dict[str, int]:
        """The numbers for a report."""
        return {
            "sent": self.sent,
            "done_once": len(self.done_once),
            "duplicated": len(self.duplicated),
            "lost": len(self.lost),
            "waiting": len(self.waiting),
            "dead": len(self.dead),
            "unexpected": len(self.unexpected),
            "recovered": len(self.recovered),
        }


def judge(history: History, numbers: list[int], where: dict[int, list[str]], dead: set[int]) -> Verdict:
    """Say what became of the tasks `numbers`.

    where: the keys at the broker that still hold each task, dead-letter lists left out; dead: those in such a list.
    A task that was done and is also still in a queue counts as done; that it will be done again is for the caller.
    """
    finished = Counter(number for e in history.events(WORK_FINISHED) for number in e.tasks)
    hit, excuses = faults_and_excuses(history)
    verdict = Verdict(sent=len(numbers), hit=hit)
    for number in numbers:
        if finished[number]:
            group = verdict.done_once if finished[number] == 1 else verdict.duplicated
            if number in hit:
                verdict.recovered.append(number)
            if 1 < finished[number] <= 1 + excuses[number]:
                verdict.excused.append(number)
        elif number in dead:
            group = verdict.dead
        elif where.get(number):
            group = verdict.waiting
        else:
            group = verdict.lost
        group.append(number)
    verdict.unexpected = [e.detail for e in history.events(WORK_FINISHED) if not e.tasks]
    return verdict


def faults_and_excuses(history: History) -> tuple[set[int], Counter[int]]:
    """The tasks that were in somebody's hands at a fault, and how often each may have been done again because of one.

    A killed worker excuses a repeat of the task whose work it had finished. A killed broker excuses one of every
    task in hand: a worker that lives on may finish the work and then cannot acknowledge it.
    """
    hit: set[int] = set()
    excuses: Counter[int] = Counter()
    events = history.events()
    for position, event in enumerate(events):
        before = events[:position]
        if event.what == KILLED:
            held = in_hand(before, event.who)
            hit |= held
            excuses.update(n for n in held if _work_finished(before, event.who, n))
        elif event.what == BROKER_KILLED:
            for who in {e.who for e in before}:
                held = in_hand(before, who)
                hit |= held
                excuses.update(held)
    return hit, excuses


def _work_finished(events: list[Event], who: str, number: int) -> bool:
    """Whether the last thing that `who` did on this task was to finish the work."""
    works = (WORK_STARTED, WORK_FINISHED, WORK_FAILED)
    own = [e.what for e in events if e.who == who and number in e.tasks and e.what in works]
    return bool(own) and own[-1] == WORK_FINISHED


def in_hand(events: list[Event], who: str) -> set[int]:
    """The tasks that `who` had been handed, or was working on, and had not yet parted with.

    A task is handed over by the reply to a command that does not itself name it (a take), or when its work starts.
    It is parted with by an answered command that names it (an acknowledgement, a rejection, a retry); one that its
    take has removed from the broker, also by the end of its work, since nothing is left to be said.
    """
    held: set[int] = set()
    removed: set[int] = set()
    naming: dict[int, tuple[int, ...]] = {}
    queued: set[int] = set()  # named within MULTI: nothing has happened to them until EXEC is answered
    for event in events:
        if event.who != who:
            continue
        if event.what == COMMAND:
            naming[event.number] = event.tasks
        elif event.what == REPLY:
            named = set(naming.get(event.number, ()))
            if event.detail == "QUEUED":
                queued |= named
                continue
            if event.detail and event.verb != "EXEC":
                continue  # an error: nothing has happened
            if event.verb in ("EXEC", "DISCARD"):
                named = queued if event.verb == "EXEC" and not event.empty else set()
                queued = set()
            held -= named
            held |= set(event.tasks) - named
            if event.verb in REMOVING_FROM_BROKER:
                removed |= set(event.tasks)
        elif event.what in (WORK_STARTED, WORK_FINISHED, WORK_FAILED):
            held |= set(event.tasks)
            if event.what == WORK_FINISHED:
                held -= removed
        elif event.what == KILLED:
            held.clear()
    return held
