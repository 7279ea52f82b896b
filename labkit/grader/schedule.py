"""Plays the checks of a lab: several at once, each only after those that it waits for have passed."""

import inspect
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field

from labkit.grader.failure import CheckFailed, CheckTimedOut, InfrastructureError, NotApplicable
from labkit.grader.run import Run
from labkit.grader.stage import Stage
from labkit.grader.words import clean
from labkit.resp import ReplyError

CHECKS_AT_ONCE = 8
PASSED, FAILED, TIMED_OUT, NOT_RUN, INFRASTRUCTURE = (
    "passed",
    "failed",
    "timed out",
    "not run",
    "infrastructure",
)


@dataclass(frozen=True)
class Check:
    """One check of a lab: a test function with its points, and the checks that have to pass before it."""

    id: str
    title: str
    points: int
    after: tuple[str, ...]
    play: Callable[..., None]
    todo: int = 0
    hidden: bool = False


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

    def __init__(self, run: Run, checks: list[Check], replay: dict | None = None) -> None:
        self._run, self._replay = run, replay
        self._outcomes: dict[str, Outcome] = {}
        self._ended = {check.id: threading.Event() for check in checks}
        self._room = threading.Semaphore(CHECKS_AT_ONCE)
        self._stopped = False
        for check in checks:
            threading.Thread(target=self._play, args=(check,), name=check.id, daemon=True).start()

    def outcome(self, check_id: str) -> Outcome:
        self._ended[check_id].wait()
        return self._outcomes[check_id]

    def stop(self) -> None:
        """Start no further check."""
        self._stopped = True

    def _play(self, check: Check) -> None:
        for other in check.after:
            if other in self._ended and not self.outcome(other).lets_others_play:
                waits_for = self.outcome(other).waits_for or other
                self._end(check, Outcome(NOT_RUN, waits_for=waits_for))
                return
        with self._room:
            if self._stopped:
                self._end(check, Outcome(NOT_RUN, "The run was stopped."))
            else:
                self._end(check, self._judge(check))

    def _judge(self, check: Check) -> Outcome:
        began = time.monotonic()
        stage = Stage(self._run, check.id, self._replay)
        try:
            check.play(**_arguments(check.play, stage))
            outcome = Outcome(PASSED)
        except CheckFailed as failure:
            kind = TIMED_OUT if isinstance(failure, CheckTimedOut) else FAILED
            outcome = Outcome(
                kind, clean(str(failure)), schedule={"seed": self._run.seed, **failure.schedule}
            )
        except NotApplicable as reason:
            outcome = Outcome(NOT_RUN, f"Not run here: {reason}.")
        except (InfrastructureError, OSError, ReplyError) as error:
            outcome = Outcome(INFRASTRUCTURE, str(error) or type(error).__name__)
        except Exception:
            outcome = Outcome(INFRASTRUCTURE, f"A fault of the grader's own:\n{traceback.format_exc()}")
        outcome.counts = _counts(stage)
        outcome.facts = dict(stage.facts)
        try:
            stage.close()
        except Exception:
            outcome = Outcome(INFRASTRUCTURE, f"A fault of the grader's own:\n{traceback.format_exc()}")
        outcome.scenes = [scene for scene in stage.scenes if scene.kept]
        outcome.seconds = time.monotonic() - began
        return outcome

    def _end(self, check: Check, outcome: Outcome) -> None:
        self._outcomes[check.id] = outcome
        self._ended[check.id].set()


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
        for word, number in scene.final_verdict().counts().items():
            total[word] = total.get(word, 0) + number
    return total
