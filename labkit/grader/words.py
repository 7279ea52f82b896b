"""Small words of the grader's stories: numbers with their nouns, and what a process was at when it was killed."""

import re
from collections.abc import Iterable

from labkit.grader import commands
from labkit.grader.history import COMMAND, REPLY, WORK_FAILED, WORK_FINISHED, WORK_STARTED, Event
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
            return f"after {_did(last)}, before any work on it"
        if last and last.verb in commands.REMOVING_A_TASK | commands.PUTTING and _spoke_last(before, last):
            return f"after {_did(last)}"
        return "with nothing in hand"
    work = [e.what for e in before if e.who == who and number in e.tasks and e.what.startswith("work")]
    if not work:
        return f"after the take of task {number}"
    if work[-1] == WORK_STARTED:
        return f"during the work on task {number}"
    if work[-1] == WORK_FAILED:
        return f"after the work on task {number} failed"
    return f"after the work on task {number}, before the acknowledgement"


def _did(command: Event) -> str:
    """What a command did with its task: "putting task 3 into images", "acknowledging task 3"."""
    task = command.tasks[0]
    if command.verb in commands.PUTTING:
        return f"putting task {task} into {commands.goes_to(command.verb, command.args)}"
    if command.verb in commands.GIVING_BACK:
        return f"{'giving back' if commands.REQUEUE in command.args else 'refusing'} task {task}"
    return f"removing task {task} from {command.args[0]}" if command.args else f"acknowledging task {task}"


def _worked_on(events: list[Event], task: int) -> bool:
    return any(e.what in (WORK_STARTED, WORK_FAILED, WORK_FINISHED) and task in e.tasks for e in events)


def _spoke_last(before: list[Event], event: Event) -> bool:
    """Whether this command, or its answer, is the last thing that its process said to the broker."""
    said = [e for e in before if e.who == event.who and e.what in (COMMAND, REPLY)]
    return bool(said) and (said[-1].number, event.what) in ((event.number, COMMAND), (event.number, REPLY))


def names(numbers: Iterable[int]) -> str:
    """Task numbers in words: "task 7", "tasks 3 and 7"."""
    listed = [str(number) for number in sorted(numbers)]
    if len(listed) < 2:
        return f"task {listed[0]}" if listed else "no task"
    return f"tasks {', '.join(listed[:-1])} and {listed[-1]}"


def clean(text: str) -> str:
    """Text without control characters: what a submission says must not steer a terminal, a report or a CI.

    A CI takes a line that begins with `::`, or that holds `##[` or `##vso[`, for a command: signs that look alike
    stand in.
    """
    text = "".join(
        char if char.isprintable() or char == "\n" else "\N{REPLACEMENT CHARACTER}" for char in text
    )
    text = _COMMAND_OF_A_CI.sub("\\1\N{RATIO}\N{RATIO}", text)
    return re.sub(r"##(\w*)\[", "##\\1\N{FULLWIDTH LEFT SQUARE BRACKET}", text)


_COMMAND_OF_A_CI = re.compile(r"^(\s*)::", re.MULTILINE)
