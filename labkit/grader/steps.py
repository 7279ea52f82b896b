"""The steps of a story: what happened to one task, a line a step, with time, process, command and words."""

import re
from typing import TYPE_CHECKING

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
    STOPPED,
    WORK_FAILED,
    WORK_FINISHED,
    WORK_STARTED,
    Event,
)
from labkit.grader.words import moment

if TYPE_CHECKING:
    from labkit.grader.scene import Scene

ERROR_OF_AMQP = re.compile(
    r"[345]\d\d [A-Z_]+"
)  # it ends a channel, or a connection, and all that was in hand on it
MOST_STEPS = 20
COMMAND_WIDTH = 40
Row = tuple[Event, str, str]  # the event, its command, the words for it


def steps(scene: "Scene", task: int) -> list[str]:
    """The steps of a task, as lines. For task 0: the last things that anybody did in the scene."""
    rows = together(Steps(scene, task).rows())
    gap: list[Row | None] = [None]
    if len(rows) > MOST_STEPS:
        rows = [*rows[: MOST_STEPS // 2], *gap, *rows[-MOST_STEPS // 2 :]]
    width = max([len(row[0].who) for row in rows if row], default=0)
    return [line(row, width) if row else "    …" for row in rows]


def together(rows: list[Row]) -> list[Row]:
    """The rows, with what one process did many times in a row (looks into an empty queue) told once, with its count."""
    runs: list[tuple[Row, int]] = []
    for row in rows:
        last = runs[-1][0] if runs else None
        if last and (last[0].who, *last[1:]) == (row[0].who, *row[1:]):
            runs[-1] = (last, runs[-1][1] + 1)
        else:
            runs.append((row, 1))
    return [
        (event, command, f"{words} ({times} times)".strip() if times > 1 else words)
        for (event, command, words), times in runs
    ]


def line(row: Row, width: int) -> str:
    event, command, words = row
    command = command if len(command) <= COMMAND_WIDTH else command[: COMMAND_WIDTH - 1] + "…"
    return f"    +{event.at:.3f} s  {event.who:{width}}  {command:{COMMAND_WIDTH}}  {words}".rstrip()


class Steps:
    """Goes through a history once and picks what belongs to the story of one task."""

    def __init__(self, scene: "Scene", task: int) -> None:
        self.task = task
        self.queue = scene.run.lab.queue
        self.events = scene.history.events()
        self.answers = {(e.who, e.number): e for e in self.events if e.what == REPLY}
        self.lies_in = ""  # the key that holds the task, as far as the commands have told

    def rows(self) -> list[Row]:
        rows = []
        for position, event in enumerate(self.events):
            if words := self._words(event, self.events[:position]):
                rows.append((event, *words))
        return rows

    def _words(self, event: Event, before: list[Event]) -> tuple[str, str] | None:
        """The command and the words for an event; None if it is not part of the story."""
        if event.what in (BROKER_KILLED, BROKER_RESTARTED):
            return event.what.removeprefix("broker "), event.detail
        if event.what == KILLED:
            return "killed (SIGKILL)", moment(before, event.who, self.task)
        if event.what == EXITED:
            was_killed = any(e.what == KILLED and e.who == event.who for e in before)
            return None if was_killed else (event.detail, "")
        if event.what in (STOPPED, PAUSED, RESUMED):
            return f"{event.what} {event.detail}".strip(), ""
        if event.what == REPLY and ERROR_OF_AMQP.match(event.detail):
            return event.verb, f"the broker says: {event.detail}"
        if not self.task:
            return (command_line(event), self._answer_to(event)) if event.what == COMMAND else None
        if (
            event.what == COMMAND
            and event.verb in commands.DELETING
            and self.lies_in
            and self.lies_in in event.args
        ):
            return command_line(event), f"deleted {self.lies_in}, with task {self.task} in it"
        if self.task not in event.tasks:
            return None
        return self._words_on_the_task(event, before)

    def _words_on_the_task(self, event: Event, before: list[Event]) -> tuple[str, str] | None:
        if event.what == SENT:
            self.lies_in = self.queue
            level = f" ({event.detail})" if event.detail else ""
            return "", f"task {self.task}{level} goes into {self.queue}"
        if event.what in (WORK_STARTED, WORK_FINISHED, WORK_FAILED):
            did = event.what.removeprefix("work ")
            return "", f"work on task {self.task} {did} {event.detail}".rstrip()
        if event.what == REQUESTED:
            return "", f"is asked to take task {self.task}; its answer: {event.detail}"
        if event.what == COMMAND:
            self.lies_in = commands.goes_to(event.verb, event.args) or self.lies_in
            words = commands.describe(event.verb, event.args, self.task, reply=False)
            answered = (event.who, event.number) in self.answers
            return command_line(event), words if answered else f"{words}: never answered"
        named = [e for e in before if e.what == COMMAND and (e.who, e.number) == (event.who, event.number)]
        if event.what != REPLY or any(self.task in e.tasks for e in named):
            return None  # the command has said it
        self.lies_in = commands.goes_to(event.verb, event.args)
        return command_line(event), commands.describe(event.verb, event.args, self.task, reply=True)

    def _answer_to(self, event: Event) -> str:
        reply = self.answers.get((event.who, event.number))
        if reply is None:
            return "no answer"
        return reply.detail or ("nothing there" if reply.empty else "")


def command_line(event: Event) -> str:
    """A command as it was sent, its arguments shortened."""
    return f"{event.verb} {' '.join(' '.join(arg.split())[:40] for arg in event.args)}"
