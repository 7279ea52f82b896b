"""The half of a scene that waits and judges: for events, with deadlines, and with a story when they do not come."""

import shutil
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

from labkit.grader import commands, story
from labkit.grader.actor import PATIENCE_SECONDS, Actor
from labkit.grader.failure import CheckFailed, CheckTimedOut, InfrastructureError, TooSlow
from labkit.grader.history import COMMAND, REPLY, SENT, WORK_FINISHED, WORK_STARTED, Event, History
from labkit.grader.hold_ups import HoldUps
from labkit.grader.holdings import Holdings
from labkit.grader.ledger import WorkControl
from labkit.grader.tasks import Task
from labkit.grader.verdict import Verdict, judge
from labkit.grader.words import names

if TYPE_CHECKING:
    from labkit.grader.run import Run

ON_ITS_WAY_SECONDS = 0.3
SLOW_BOOT_SECONDS = 8.0  # a client may give up a broker that takes longer
LEAST_ROOM = 1024**2  # bytes of the disk; with less, nobody can write what they would
BOOT_SECONDS = 120.0  # a broker that starts in the background says itself when it cannot


class Waiting:
    """What a check calls to wait for its scene, and to say that it is not as it should be."""

    run: "Run"
    history: History
    holdings: Holdings
    work: WorkControl
    actors: list[Actor]
    schedule: dict
    hold_ups: HoldUps
    kept: bool
    left_out = False  # whether it does not count, since another was played in its place
    too_slow = ""  # why the scene shows nothing about the submission, if the machine was too slow for it
    # When something moved last, and how long the actor had stood in line for a processor by then.
    _starved: dict[Actor, tuple[float, float]]
    _late: tuple[float, float] = (-1.0, 0.0)  # the same of the loop of the proxies
    _minded: dict[Actor, float]  # how long an actor may have stood in line for a processor by the end

    def verdict(self) -> Verdict:
        """What has become of each task that was sent."""
        return self._verdict_and_left()[0]

    def _verdict_and_left(self) -> tuple[Verdict, dict[int, list[str]]]:
        """The verdict, and for each task that is left the keys that hold it, at the same moment."""
        left, dead = self.holdings.where_and_dead()
        return judge(self.history, sorted(self.history.tasks(SENT)), left, dead), left

    def wait(self, condition: Callable[[], object], within: float = PATIENCE_SECONDS) -> object:
        """Wait until the condition is true and return its value; None in the end. Judges nothing."""
        if not self.holdings.is_ready():  # a broker that starts is waited for besides
            self.history.wait_until(lambda: self.holdings.is_ready() or condition(), BOOT_SECONDS)
        return self.history.wait_until(condition, within)

    def wait_until(self, condition: Callable[[], object], expected: str, *, within: float = PATIENCE_SECONDS,
                   question: str = "", task: int | None = 0) -> object:  # fmt: skip
        """Wait until the condition is true and return its value; fail with a story when it is not, in time.

        A script that dies, or whose TODO is not written, ends the wait at once.
        """
        value = self.wait(lambda: condition() or self._casualty(), within)
        if casualty := self._casualty():
            self._end(story.casualty(self, casualty))
        if not value:
            self.time_out(expected, question=question, task=task)
        return value

    def wait_started(self, *tasks: Task, within: float = PATIENCE_SECONDS, question: str = "") -> None:
        """Wait until work has begun on each of these tasks."""
        numbers = {task.number for task in tasks}
        expected = f"work was to begin on {names(numbers)}"
        begun = lambda: numbers <= self.history.tasks(WORK_STARTED)  # noqa: E731
        self.wait_until(begun, expected, within=within, question=question)

    def wait_done(self, *, question: str = "", quiet: float = 1.5, within: float = 20.0,
                  at_most_once: bool = False) -> Verdict:  # fmt: skip
        """Wait until every task sent is done or set aside and no queue holds any; fail with a story otherwise.

        The wait ends early when nothing moves any more: no work, and every worker has looked in vain for `quiet`
        seconds. Then a task that is nowhere is lost, and one that still lies somewhere has been forgotten.
        at_most_once: a task that was in hand at a fault may be lost.
        """
        self.wait(lambda: self.holdings.is_ready() or self._casualty(), BOOT_SECONDS)
        deadline = time.monotonic() + within
        while True:
            left_to_wait = deadline - time.monotonic()
            self.history.wait_until(
                lambda: self.all_is_done() or self._casualty() or self._at_rest(quiet), left_to_wait
            )
            if casualty := self._casualty():
                self._end(story.casualty(self, casualty))
            verdict, left = self._verdict_and_left()
            if not (left or verdict.lost) or self._at_rest(quiet) or time.monotonic() > deadline:
                break  # else a task that somebody had in mid-air has just come down again
        if verdict.lost:  # it may have been on its way from a queue to a worker while both were looked at
            self.history.wait_until(lambda: None, ON_ITS_WAY_SECONDS)
            verdict, left = self._verdict_and_left()
        lost = verdict.lost_without_cause if at_most_once else verdict.lost
        bad = lost or verdict.repeated_without_cause or verdict.unexpected or verdict.waiting or left
        bad = bad or verdict.done_and_dead
        if bad:
            looping = "" if self._at_rest(quiet) else story.without_end(self)
            self._end(story.of_verdict(self, verdict, left, looping, question), timed_out=bool(looping))
        return verdict

    def mind(self, actor: Actor, starving: float) -> None:
        """Judge nothing if from now on the actor stands in line for a processor for `starving` seconds or more."""
        self._minded[actor] = actor.process.starved_seconds() + starving

    def is_over(self, quiet: float) -> bool:
        """Whether every task is done or set aside, and nothing has moved for `quiet` seconds."""
        return self._at_rest(quiet) and self.all_is_done()

    def all_is_done(self) -> bool:
        """Whether every task is done or set aside, and none lies anywhere else."""
        finished, sent = self.history.tasks(WORK_FINISHED), self.history.tasks(SENT)
        return (sent <= finished or sent <= finished | self.holdings.dead()) and not self.holdings.holds_any()

    def _at_rest(self, quiet: float) -> bool:
        """Whether nothing has moved for `quiet` seconds, nobody is at work, and a worker has looked in vain since.

        Since: a worker that lost its connection may have looked in vain before, and is only on its way back. On a
        machine with much to do the quiet lasts longer, by what the processes have stood in line for a processor.
        """
        moved = self._moved_last()
        running = [actor for actor in self.actors if actor.running]
        for actor in running:
            if self._starved.get(actor, (-1.0, 0.0))[0] != moved:
                self._starved[actor] = moved, actor.process.starved_seconds()
        if self._late[0] != moved:
            self._late = moved, self.run.loop.late
        still = self.history.now() - moved
        if self.at_work() or still < quiet or still < quiet + self._longest_held_up(running):
            return False
        in_vain = any(actor.looks_in_vain(moved) for actor in running)
        return in_vain and moved == self._moved_last()  # a consumer may have come while we looked

    def _moved_last(self) -> float:
        """When something went on last."""
        return max((event.at for event in self.history.events() if _moves(event)), default=0)

    def _longest_held_up(self, actors: list[Actor]) -> float:
        """Seconds since something moved last in which one of these, or the proxy, stood in line for a processor."""
        starved = (each.process.starved_seconds() - self._starved[each][1] for each in actors)
        return max(starved, default=0.0) + self.run.loop.late - self._late[1]

    def _casualty(self) -> Actor | None:
        """A process that died of itself, or met a TODO that is not written."""
        for actor in self.actors:
            if actor.process.killed:
                continue
            if actor.process.exited.is_set() and actor.process.status != 0 and not actor.process.excused:
                return actor
            if "NotImplementedError: TODO" in actor.process.errors():
                return actor
        return None

    def fail(self, summary: str, *, question: str = "", task: int | None = 0) -> None:
        """End the check: the submission did something else than was asked."""
        self._end(story.told(self, summary, question=question, task=task))

    def _end(self, text: str, *, timed_out: bool = False) -> NoReturn:
        """End the check with this story, unless something of ours has died: that is no failure of the submission."""
        if not self.run.starter.alive:
            if self.run.starter.blame:
                raise CheckFailed(self.run.starter.blame, schedule=self.schedule)
            raise InfrastructureError("the process that starts the scripts has died")
        if any(self.holdings.seconds_unready(actor.began) > SLOW_BOOT_SECONDS for actor in self.actors):
            raise TooSlow("the broker took too long to start")
        self.holdings.expect_alive()
        if shutil.disk_usage(self.run.folder).free < LEAST_ROOM:
            raise InfrastructureError(f"the disk is full: no room in {self.run.folder.parent}")
        for actor, allowed in self._minded.items():
            if actor.process.starved_seconds() > allowed:
                self.too_slow = f"{actor.name} stood in line for a processor for too long"
        if self.too_slow:
            self.leave_out()
            raise TooSlow(self.too_slow)
        in_doubt = self if self.hold_ups.make_doubtful(self.actors) else None
        raise (CheckTimedOut if timed_out else CheckFailed)(text, schedule=self.schedule, in_doubt=in_doubt)

    def leave_out(self) -> None:
        """The scene is played again: what became of its tasks is told nowhere."""
        self.kept, self.left_out = False, True

    def time_out(self, expected: str, *, question: str = "", task: int | None = 0) -> None:
        """End the check: what was expected did not come. An endless loop is named as one."""
        looping = story.without_end(self)
        summary = f"{expected[:1].upper()}{expected[1:]}; it did not happen in time."
        text = story.told(self, f"{summary}{looping}", question=question, task=task)
        self._end(text, timed_out=bool(looping))

    def expect(self, condition: object, summary: str, *, question: str = "", task: int | None = 0) -> None:
        """Fail with this summary unless the condition is true."""
        if not condition:
            self.fail(summary, question=question, task=task)

    def at_work(self) -> set[str]:
        """Who is at work just now."""
        return self.history.at_work()

    def held(self) -> set[str]:
        """Who is at a task that the grader holds: that one does nothing is then not its own doing."""
        return self.at_work() if self.work.holds() else set()

    def finished(self, task: Task) -> bool:
        return task.number in self.history.tasks(WORK_FINISHED)

    def done_order(self) -> list[int]:
        """The numbers of the tasks in the order in which work on them began."""
        return [n for e in self.history.events(WORK_STARTED) for n in e.tasks]


def _moves(event: Event) -> bool:
    """Whether the event says that something goes on: with a task, with a process, or that a consumer has come."""
    return bool(event.tasks) or event.what not in (COMMAND, REPLY) or event.verb in commands.CONSUMING
