"""The live demonstration of a lab: `./lab demo [N] [--photos DIR] [--plain]`. It ends by itself.

A *script* (the lab's demo.toml) says what is said, done and then seen; the *act* (act.py) does it on a scene
of the grader; a *stage* shows it: plain lines (stage.py) or a live view (live.py). What is seen is checked:
a demonstration that does not show what it says ends with status 1.
"""

import contextlib
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from labkit.course import Lab
from labkit.demo import keep, script
from labkit.demo.act import Act
from labkit.demo.photographs import Drawing, NoPhotographs, usable
from labkit.demo.script import NoScript
from labkit.demo.signals import Signals, Stopped
from labkit.demo.stage import PlainStage, Stage, write
from labkit.demo.view import called
from labkit.grader.failure import InfrastructureError
from labkit.grader.run import Run
from labkit.grader.scene import Scene
from labkit.grader.submission import BadSubmission
from labkit.grader.submission import read as read_submission

if TYPE_CHECKING:
    from rich.console import Console

PASSED, NOT_SEEN, WRONG_COMMAND, INFRASTRUCTURE = 0, 1, 2, 3


def play(
    lab: Lab,
    photos: Path | None,
    submission: Path | None,
    brokers: str = "embedded",
    plain: bool | None = None,
    *,
    speed: float | None = None,
    results: Path | None = None,
) -> int:
    """Play the lab's demonstration and return the exit status.

    photos: a folder of photographs to work on, which is only read (default: the lab's own).
    submission: the folder whose scripts are played (default: the lab's solution).
    plain: print lines (default: unless in a terminal).
    speed: 2 plays twice as fast (default: LAB_DEMO_SPEED, or 1).
    results: where the images and the timeline stay (default: .lab/labNN/demo).

    Status 0: everything was seen; 1: something was not; 2: the command was wrong; 3: infrastructure;
    128 + N: ended by signal N.
    """
    with Signals() as signals:
        try:
            performance = Performance(lab, photos, submission, plain, speed, results)
            return performance.run(brokers, signals)
        except Stopped as stopped:
            status, words = stopped.status, "the demonstration was stopped; nothing of it is left running"
        except (NoScript, NoPhotographs, BadSubmission, BadSpeed) as wrong:
            status, words = WRONG_COMMAND, str(wrong)
        except (InfrastructureError, OSError) as trouble:
            status, words = INFRASTRUCTURE, str(trouble)
        with contextlib.suppress(Stopped):
            write(sys.stderr, f"lab: {words}")
        return status


class BadSpeed(Exception):
    """LAB_DEMO_SPEED is no speed. Its text is one line for the user."""


class Performance:
    """One demonstration, from its command line to its report."""

    def __init__(
        self,
        lab: Lab,
        photos: Path | None,
        submission: Path | None,
        plain: bool | None,
        speed: float | None,
        results: Path | None,
    ) -> None:
        """The arguments are those of `play`; what is wrong with them is raised before anything is started."""
        self.lab = lab
        self.script = script.read(lab)
        self.code = read_submission(lab, (submission or lab.solution).resolve())
        self.photos = photos.resolve() if photos else None
        self.names = usable(self.photos, self.script.tasks) if self.photos else []
        self.speed = speed or _speed(os.environ.get("LAB_DEMO_SPEED", "1"))
        self.results = results or lab.state / "demo"
        self.console = None if plain else _terminal()
        self.began = time.monotonic()

    def run(self, brokers: str, signals: Signals) -> int:
        """Play it; return the exit status. Whatever happens, the terminal is restored and all else ended."""
        with contextlib.ExitStack() as leaving:
            drawing = None if self.photos else leaving.enter_context(contextlib.closing(Drawing(self.lab)))
            run = leaving.enter_context(Run(self.lab, self.code, brokers=brokers))
            scene = leaving.enter_context(contextlib.closing(run.scene(self.lab.title, seed=0)))
            scene.settings["INPUT_DIR"] = str(self.photos or drawing.folder)
            stage = leaving.enter_context(contextlib.closing(self._stage(scene)))
            signals.check()
            stage.open()
            options = {"drawing": drawing, "photographs": self.names, "speed": self.speed}
            act = Act(scene, self.script, stage, signals, **options)
            act.play()
            kept = keep.keep(scene, self.results, self.script.task)
        self._report(act, kept)
        return PASSED if act.passed else NOT_SEEN

    def _stage(self, scene: Scene) -> Stage:
        def task(number: int) -> str:
            return called(scene, number, self.script.task)

        if self.console is None:
            return PlainStage(lambda: time.monotonic() - self.began, task)
        from labkit.demo.live import LiveStage

        return LiveStage(f"Lab {self.lab.number}: {self.lab.title}", task, self.console)

    def _report(self, act: Act, kept: list[tuple[str, Path]]) -> None:
        rows, sent, story = keep.table(act.verdict), act.verdict.sent, act.story
        if story:
            story = f"The demonstration did not show what it should.\n{story}"
        if self.console is not None:
            from labkit.demo.live import report

            report(self.console, rows, sent, kept, story)
            return
        counts = ", ".join(f"{word} {len(tasks)}" for word, tasks, _ in rows)
        places = [f"{what}: {where}" for what, where in kept]
        for line in (*story.splitlines(), f"verdict: sent {sent}, {counts}", *places):
            write(sys.stdout, line)


def _terminal() -> "Console | None":
    """The terminal, if there is one that can show the live view; otherwise None."""
    from rich.console import Console

    from labkit.demo.live import HEIGHT, WIDTH

    if not sys.stdout.isatty() or "utf" not in (sys.stdout.encoding or "").lower():
        return None
    console = Console(highlight=False)
    small = console.width < WIDTH or console.height < HEIGHT
    return None if console.is_dumb_terminal or not console.is_terminal or small else console


def _speed(text: str) -> float:
    try:
        speed = float(text)
    except ValueError:
        speed = 0
    if not 0.05 <= speed <= 100:
        raise BadSpeed(f"LAB_DEMO_SPEED is {text!r}; it is a number such as 0.5 (slower) or 2 (faster).")
    return speed


__all__ = ["play"]
