"""The live demonstration of a lab: `./lab demo [N] [--photos DIR] [--plain]`. It ends by itself.

A *script* (the lab's demo.toml) says what is said, done and then seen. A *player* plays it: the lab's *act* (act.py,
acts/) does what is to be done on a scene of the grader and says what there is to see, and a *stage* shows that: plain
lines (stage.py) or a live view (live.py). What is seen is checked: a demonstration that does not show what it says
ends with status 1.
"""

import contextlib
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from labkit.course import Lab
from labkit.demo import script
from labkit.demo.acts import act_of
from labkit.demo.keep import keep
from labkit.demo.player import Player
from labkit.demo.props import BadProps
from labkit.demo.report import Report
from labkit.demo.script import NoScript
from labkit.demo.signals import Signals, Stopped
from labkit.demo.stage import PlainStage, Stage, write
from labkit.demo.watch import Watch
from labkit.grader.failure import InfrastructureError, NotApplicable
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

    photos: a folder of photographs to work on, which is only read (default: the lab's own; for lab 3 alone).
    submission: the folder whose scripts are played (default: the lab's solution).
    plain: print lines (default: unless in a terminal).
    speed: 2 plays twice as fast (default: LAB_DEMO_SPEED, or 1).
    results: where what was made and the timeline stay (default: .lab/labNN/demo).

    Status 0: everything was seen; 1: something was not; 2: the command was wrong; 3: infrastructure;
    128 + N: ended by signal N.
    """
    with Signals() as signals:
        try:
            performance = Performance(lab, photos, submission, plain, speed, results)
            return performance.run(brokers, signals)
        except Stopped as stopped:
            status, words = stopped.status, "the demonstration was stopped; nothing of it is left running"
        except (NoScript, BadProps, BadSubmission, BadSpeed) as wrong:
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
        self.act = act_of(lab)
        self.code = read_submission(lab, (submission or lab.solution).resolve())
        self.props = self.act.PROPS(lab, self.script, photos.resolve() if photos else None)
        self.code.files |= self.props.files
        self.speed = speed or _speed(os.environ.get("LAB_DEMO_SPEED", "1"))
        self.results = results or lab.state / "demo"
        self.console = None if plain else _terminal()
        self.began = time.monotonic()

    def run(self, brokers: str, signals: Signals) -> int:
        """Play it; return the exit status. Whatever happens, the terminal is restored and all else ended."""
        with contextlib.ExitStack() as leaving:
            leaving.enter_context(contextlib.closing(self.props)).open()
            run = leaving.enter_context(Run(self.lab, self.code, brokers=brokers))
            scene = leaving.enter_context(contextlib.closing(self._scene(run)))
            stage = leaving.enter_context(contextlib.closing(self._stage()))
            signals.check()
            watch = Watch(scene, stage, signals, self.speed)
            act = self.act(scene, self.script, watch, self.props)
            act.owns_broker = scene.broker is not run.broker
            watch.view = act.view
            stage.open()
            player = Player(self.script, act, watch)
            player.play()
            act.lay_out()
            kept = keep(scene, self.results, self.script)
        story = "" if player.passed else f"The demonstration did not show what it should.\n{player.story}"
        ask = tuple(line.format(**act.words()) for line in self.script.ask) if player.passed else ()
        self._report(Report(act.verdict, story.rstrip(), kept, ask))
        return PASSED if player.passed else NOT_SEEN

    def _scene(self, run: Run) -> Scene:
        """A scene with a broker of its own if the script needs one, and there can be one."""
        if self.script.own_broker:
            with contextlib.suppress(NotApplicable):
                return run.scene(self.lab.title, seed=0, own_broker=True)
        return run.scene(self.lab.title, seed=0)

    def _stage(self) -> Stage:
        if self.console is None:
            return PlainStage(lambda: time.monotonic() - self.began)
        from labkit.demo.live import LiveStage

        return LiveStage(f"Lab {self.lab.number}: {self.lab.title}", self.console)

    def _report(self, report: Report) -> None:
        if self.console is None:
            report.print_lines()
        else:
            report.print_table(self.console)


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
