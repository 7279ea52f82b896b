"""What became of each task. The words are those of Jepsen's queue checkers."""

from collections import Counter
from dataclasses import dataclass, field

from labkit.grader.commands import PUBLISHING, READING, REMOVING_FROM_BROKER, TAKING
from labkit.grader.history import (
    BROKER_KILLED,
    BROKER_RESTARTED,
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
    explain a repeat: at-least-once allows these and no others. done_and_dead are done and also in the dead letters.
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
    done_and_dead: list[int] = field(default_factory=list)

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
            if number in dead:
                verdict.done_and_dead.append(number)
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

    A killed worker excuses a repeat of the task whose work it had finished, or of which it had put a copy into the
    broker. A killed broker excuses one of every task in hand (a worker that lives on may finish the work and then not
    be able to acknowledge it), of each whose publish it had not confirmed (it may have it, and be given it again), and,
    if it is RabbitMQ, of each that was acknowledged, and of each copy (it may not have written down that it is gone).
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
            excuses.update(n for n in held if _copied(before, event.who, n))
        elif event.what == BROKER_KILLED:
            held = {n for who in {e.who for e in before} for n in in_hand(before, who)}
            held |= _still_handed_out(events[position:])
            removed = _removed_lazily(before)
            hit |= held.union(removed)
            excuses.update(held)
            excuses.update(removed)
            excuses.update(_unconfirmed(before))
    return hit, excuses


def _still_handed_out(events: list[Event]) -> set[int]:
    """The tasks that were handed out between the decision to kill the broker, the first event, and its restart."""
    up_again = next((at for at, e in enumerate(events) if e.what == BROKER_RESTARTED), len(events))
    return {n for e in events[:up_again] if e.what == REPLY and e.verb in TAKING for n in e.tasks}


def _removed_lazily(events: list[Event]) -> list[int]:
    """The tasks that RabbitMQ has taken out of a queue, as often as it has, since it was told that they are done.

    It writes that to disk a moment later, and a kill may come first. A worker's copy in a retry queue is another one to
    take out, when its time is over.
    """
    handed_out: set[int] = set()
    removed: list[int] = []
    for e in events:
        if e.what == REPLY and e.verb in TAKING:
            handed_out.update(e.tasks)
        elif e.what == COMMAND and e.verb == "basic.ack":
            removed += e.tasks
        elif e.what == COMMAND and e.verb in PUBLISHING:
            removed += handed_out.intersection(e.tasks)
    return removed


def _copied(events: list[Event], who: str, number: int) -> bool:
    """Whether `who` has published the task since it was handed it."""
    own = [e for e in events if e.who == who and number in e.tasks]
    taken = max((at for at, e in enumerate(own) if e.what == REPLY), default=-1)
    return any(e.what == COMMAND and e.verb in PUBLISHING for e in own[taken + 1 :])


def _unconfirmed(events: list[Event]) -> list[int]:
    """The tasks of each publish that the broker has not answered."""
    answered = {(e.who, e.number) for e in events if e.what == REPLY}
    published = [e for e in events if e.what == COMMAND and e.verb in PUBLISHING]
    return [n for e in published if (e.who, e.number) not in answered for n in e.tasks]


def _work_finished(events: list[Event], who: str, number: int) -> bool:
    """Whether the last thing that `who` did on this task was to finish the work."""
    works = (WORK_STARTED, WORK_FINISHED, WORK_FAILED)
    own = [e.what for e in events if e.who == who and number in e.tasks and e.what in works]
    return bool(own) and own[-1] == WORK_FINISHED


def in_hand(events: list[Event], who: str) -> set[int]:
    """The tasks that `who` had been handed, or was working on, and had not yet parted with.

    A task is handed over by the reply to a command that does not itself name it (a take), or when its work starts.
    It is parted with by an answered command that names it and does more than read (an acknowledgement, a rejection,
    a retry); one that its take has removed from the broker, also by the end of its work, since nothing is left to be
    said.
    """
    held: set[int] = set()
    removed: set[int] = set()
    naming: dict[int, tuple[int, ...]] = {}
    queued: dict[int, set[int]] = {}  # named within MULTI, by connection: nothing happens to them before EXEC
    for event in events:
        if event.who != who:
            continue
        if event.what == COMMAND:
            naming[event.number] = event.tasks
        elif event.what == REPLY:
            named = set(naming.get(event.number, ()))
            if event.detail == "QUEUED":
                queued.setdefault(event.link, set()).update(named)
                continue
            if event.verb in READING | PUBLISHING or (event.detail and event.verb != "EXEC"):
                continue  # only looked at, or an error: nothing has happened
            if event.verb in ("EXEC", "DISCARD"):
                within = queued.pop(event.link, set())
                named = within if event.verb == "EXEC" and not event.empty else set()
            held -= named
            held |= set(event.tasks) - named
            removed -= named | set(event.tasks)  # put back, or taken again in another way
            if event.verb in REMOVING_FROM_BROKER:
                removed |= set(event.tasks)
        elif event.what in (WORK_STARTED, WORK_FINISHED, WORK_FAILED):
            held |= set(event.tasks)
            if event.what == WORK_FINISHED:
                held -= removed
        elif event.what == KILLED:
            held.clear()
    return held
