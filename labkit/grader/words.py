"""Small words of the grader's stories: numbers with their nouns, and what a process was at when it was killed."""

from collections.abc import Iterable

from labkit.grader import commands
from labkit.grader.history import WORK_FAILED, WORK_FINISHED, WORK_STARTED, Event
from labkit.grader.verdict import in_hand


def counted(number: int, noun: str) -> str:
    """A number with its noun: "1 task", "3 tasks"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def moment(before: list[Event], who: str, task: int = 0) -> str:
    """In words, what a process was at when it was killed: the named crash points."""
    held = in_hand(before, who)
    number = task if task in held else min(held, default=0)
    if not number:
        own = [e for e in before if e.who == who and e.tasks]
        last = own[-1] if own else None
        if last and last.verb in commands.REMOVING_A_TASK and not _worked_on(own, last.tasks[0]):
            return f"after acknowledging task {last.tasks[0]}, before the work on it"
        return "with nothing in hand"
    work = [e.what for e in before if e.who == who and number in e.tasks and e.what.startswith("work")]
    if not work:
        return f"after the take of task {number}"
    if work[-1] == WORK_STARTED:
        return f"during the work on task {number}"
    if work[-1] == WORK_FAILED:
        return f"after the work on task {number} failed"
    return f"after the work on task {number}, before the acknowledgement"


def _worked_on(events: list[Event], task: int) -> bool:
    return any(e.what == WORK_FINISHED and task in e.tasks for e in events)


def names(numbers: Iterable[int]) -> str:
    """Task numbers in words: "task 7", "tasks 3 and 7"."""
    listed = [str(number) for number in sorted(numbers)]
    if len(listed) < 2:
        return f"task {listed[0]}" if listed else "no task"
    return f"tasks {', '.join(listed[:-1])} and {listed[-1]}"


def clean(text: str) -> str:
    """Text without control characters: what a submission says must not steer a terminal or a report."""
    return "".join(
        char if char.isprintable() or char == "\n" else "\N{REPLACEMENT CHARACTER}" for char in text
    )
