"""Plays the checks of a lab, several at once.

A check that waits for others is begun as soon as any check has passed, since mostly they pass, too. Its outcome counts
when they have; when one of them has not, the play is given up, and the check is "not run". As long as nothing has
passed, nothing may be written yet, and it is not begun.
"""

import inspect
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field

from labkit.grader import story
from labkit.grader.blame import Blame
from labkit.grader.failure import (
    CheckFailed,
    CheckTimedOut,
    GivenUp,
    InfrastructureError,
    NotApplicable,
    TooSlow,
)
from labkit.grader.run import Run
from labkit.grader.stage import IN_DOUBT, TRIES, Stage
from labkit.grader.words import clean
from labkit.resp import ReplyError

CHECKS_AT_ONCE = 6
GIVEN_UP_WITHIN_SECONDS = 15.0  # a check whose time is over tidies up, and tells how far it had come
STOPPED_WITHIN_SECONDS = 3.0  # what is given up ends at its next look; who pressed Ctrl-C waits no longer
PASSED, FAILED, TIMED_OUT, NOT_RUN, INFRASTRUCTURE = (
    "passed",
    "failed",
    "timed out",
    "not run",
    "infrastructure",
)


@dataclass(frozen=True)
class Check:
    """One check of a lab: a test function with its points, and the checks that have to pass before it.

    alone: it is played when all others have ended, since it does something to the broker that they share.
    """

    id: str
    title: str
    points: int
    after: tuple[str, ...]
    play: Callable[..., None]
    todo: int = 0
    hidden: bool = False
    alone: bool = False


@dataclass
class Outcome:
    """How a check ended. `message` is the story; `facts` is what was counted on the way."""

    outcome: str
    message: str = ""
    waits_for: str = ""
    seconds: float = 0.0
    counts: dict[str, int] = field(default_factory=dict)
    facts: dict[str, int] = field(default_factory=dict)
    schedule: dict = field(default_factory=dict)
    scenes: list = field(default_factory=list)

    @property
    def not_applicable(self) -> bool:
        """Whether the check cannot be made on this broker: nobody's fault, and no points are given or taken."""
        return self.outcome == NOT_RUN and not self.waits_for

    @property
    def lets_others_play(self) -> bool:
        return self.outcome == PASSED or self.not_applicable


class Schedule:
    """Starts as soon as it is made; `outcome` waits for one check."""

    def __init__(
        self, run: Run, checks: list[Check], replay: dict | None = None, timeout: float | None = None
    ) -> None:
        """timeout: seconds for all checks together; what has not ended by then is timed out."""
        self._run, self._replay, self._checks, self._timeout = run, replay, checks, timeout
        self._outcomes: dict[str, Outcome] = {}
        self._stages: dict[str, Stage] = {}
        self._by_id = {check.id: check for check in checks}
        self._ended = {check.id: threading.Event() for check in checks}
        self._ending = threading.Lock()
        self._room = threading.Semaphore(CHECKS_AT_ONCE)
        self._stopped = False
        self.out_of_time = False
        self._under_way = threading.Event()  # a check has passed, or all have ended that wait for no other
        self._threads = [
            threading.Thread(target=self._play, args=(check,), name=check.id, daemon=True) for check in checks
        ]
        for thread in self._threads:
            thread.start()
        if timeout is not None:
            threading.Thread(target=self._watch_the_time, name="timeout", daemon=True).start()

    def outcome(self, check_id: str) -> Outcome:
        self._ended[check_id].wait()
        return self._outcomes[check_id]

    def stop(self) -> None:
        """Start no further check and end those that are played; then nothing here needs the run any more."""
        self._stopped = True
        self._under_way.set()
        for stage in list(self._stages.values()):
            stage.give_up()
        deadline = time.monotonic() + STOPPED_WITHIN_SECONDS
        for thread in self._threads:
            thread.join(max(0, deadline - time.monotonic()))

    def _watch_the_time(self) -> None:
        """End all plays when the time is over; each keeps a story of how far it had come."""
        deadline = time.monotonic() + self._timeout
        if all(ended.wait(max(0, deadline - time.monotonic())) for ended in self._ended.values()):
            return
        self.out_of_time = True
        self._under_way.set()
        for stage in list(self._stages.values()):
            stage.give_up()
        deadline = time.monotonic() + GIVEN_UP_WITHIN_SECONDS
        for check in self._checks:
            if not self._ended[check.id].wait(max(0, deadline - time.monotonic())):
                # What the others found out is not lost for its sake.
                words = f"The time of the grading, {self._timeout:g} s, was over."
                self._end(check, Outcome(TIMED_OUT, words))

    def _play(self, check: Check) -> None:
        try:
            outcome = self._outcome_of(check)
        except Exception:
            outcome = Outcome(INFRASTRUCTURE, f"A fault of the grader's own:\n{traceback.format_exc()}")
        self._end(check, outcome)

    def _outcome_of(self, check: Check) -> Outcome:
        """Wait until it is the check's turn, and judge it."""
        if self._awaited_by(check):
            self._under_way.wait()
        for other in self._checks if check.alone else ():
            if not other.alone:
                self._ended[other.id].wait()
        with self._room:
            outcome = self._too_late() or self._judge(check)
        for other in self._awaited_by(check):
            self._ended[other].wait()
        return self._not_run_after(check) or outcome

    def _too_late(self) -> Outcome | None:
        """The outcome of a check that is not begun any more."""
        if self.out_of_time:
            return Outcome(
                TIMED_OUT, f"The time of the grading, {self._timeout:g} s, was over before this began."
            )
        return Outcome(NOT_RUN, "The run was stopped.") if self._stopped else None

    def _awaited_by(self, check: Check) -> list[str]:
        """Those that the check waits for and that are played here."""
        return [other for other in check.after if other in self._ended]

    def _not_run_after(self, check: Check) -> Outcome | None:
        """The outcome of a check for which one that it waits for, directly or not, has not passed; otherwise None."""
        for other in self._awaited_by(check):
            outcome = self._outcomes.get(other) or self._not_run_after(self._by_id[other])
            if outcome and not outcome.lets_others_play:
                return Outcome(NOT_RUN, waits_for=outcome.waits_for or other)
        return None

    def _judge(self, check: Check) -> Outcome:
        """Play a check, and again when the machine was too slow for it to show anything, or its failure is in doubt."""
        doubted = False
        for _ in range(TRIES):
            try:
                return self._judge_once(check, doubted)
            except TooSlow as reason:
                trouble = str(reason)
            except CheckFailed:
                doubted, trouble = True, IN_DOUBT
        return Outcome(INFRASTRUCTURE, f"this machine is too busy: {trouble}")

    def _judge_once(self, check: Check, doubted: bool) -> Outcome:
        """doubted: whether a failure counts, though it is in doubt; otherwise that raises CheckFailed."""
        began = time.monotonic()
        stage = self._stages[check.id] = Stage(self._run, check.id, self._replay)
        if not_run := self._too_late() or self._not_run_after(check):
            return not_run
        try:
            check.play(**_arguments(check.play, stage))
            outcome = Outcome(PASSED)
        except CheckFailed as failure:
            if failure.in_doubt and not doubted and not self._too_late():
                stage.close()
                raise
            kind = TIMED_OUT if isinstance(failure, CheckTimedOut) else FAILED
            outcome = Outcome(
                kind, clean(str(failure)), schedule={"seed": self._run.seed, **failure.schedule}
            )
        except GivenUp:
            outcome = Outcome(NOT_RUN)
            if self.out_of_time:
                outcome = Outcome(TIMED_OUT, story.out_of_time(stage.scenes, self._timeout))
        except NotApplicable as reason:
            outcome = Outcome(NOT_RUN, f"Not run here: {reason}.")
        except TooSlow:
            stage.close()
            raise
        except (InfrastructureError, OSError, ReplyError) as error:
            outcome = self._of_trouble(error, stage)
        except Exception:
            outcome = Outcome(INFRASTRUCTURE, f"A fault of the grader's own:\n{traceback.format_exc()}")
        try:
            outcome.counts = _counts(stage)
            outcome.facts = dict(stage.facts)
            stage.close()
        except Exception:
            outcome = Outcome(INFRASTRUCTURE, f"A fault of the grader's own:\n{traceback.format_exc()}")
        outcome.scenes = [scene for scene in stage.scenes if scene.kept]
        outcome.seconds = time.monotonic() - began
        return outcome

    def _of_trouble(self, error: Exception, stage: Stage) -> Outcome:
        """The outcome when something of ours did not answer as it should: it may be the submission's own doing."""
        if isinstance(error, ReplyError) and str(error).startswith("WRONGTYPE"):
            return Outcome(FAILED, f"A key of this lab holds another type than its contract says: {error}")
        alive = {scene.broker for scene in stage.scenes if not scene.holdings.broker_down}
        for blame in (self._run.blame, *map(Blame, alive - {self._run.broker})):
            if blamed := blame.find():
                return Outcome(TIMED_OUT, blamed)
        return Outcome(INFRASTRUCTURE, _words(error))

    def _end(self, check: Check, outcome: Outcome) -> None:
        with self._ending:
            if self._ended[check.id].is_set():
                return  # its time was over
            self._outcomes[check.id] = outcome
            self._ended[check.id].set()
        first = (each for each in self._checks if not self._awaited_by(each))
        if outcome.lets_others_play or all(self._ended[each.id].is_set() for each in first):
            self._under_way.set()
        for other in self._checks:
            if check.id in other.after and not outcome.lets_others_play and other.id in self._stages:
                self._stages[other.id].give_up()


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__


def _arguments(play: Callable[..., None], stage: Stage) -> dict[str, object]:
    """The check's arguments by name: the stage, or one scene of it."""
    wanted = inspect.signature(play).parameters
    given: dict[str, object] = {}
    if "stage" in wanted:
        given["stage"] = stage
    if "scene" in wanted:
        given["scene"] = stage.scene()
    return given


def _counts(stage: Stage) -> dict[str, int]:
    """The verdicts of all scenes of a check, added up."""
    total: dict[str, int] = {}
    for scene in stage.scenes:
        if scene.left_out:
            continue
        for word, number in scene.final_verdict().counts().items():
            total[word] = total.get(word, 0) + number
    return total
