"""The live demonstration of a lab: `./lab demo [N] [--auto] [--tmux|--single|--plain]`.

A *script* (the lab's demo.toml) says what is said, done and then seen. A *player* plays it: the lab's *act* (act.py,
acts/) does what is to be done on a scene of the grader and says what there is to see, and a *stage* (stages.py) shows
that. A *presenter* goes on with a key, goes to another step, or lays hands on the scene; or all goes on by itself.
What is seen is checked: a demonstration that does not show what it says ends with status 1.
"""

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from labkit.course import Lab
from labkit.demo import script, stages
from labkit.demo.acts import act_of
from labkit.demo.by_hand import ByHand
from labkit.demo.cast import BadRecording, RecordedStage, Recording
from labkit.demo.keep import keep
from labkit.demo.player import Player
from labkit.demo.presenter import Jump, Presenter, Quit
from labkit.demo.props import BadProps
from labkit.demo.report import Report
from labkit.demo.script import NoScript
from labkit.demo.signals import Signals, Stopped
from labkit.demo.stage import Stage, write
from labkit.demo.watch import Watch
from labkit.grader.failure import InfrastructureError, NotApplicable, TooSlow
from labkit.grader.run import BadBroker, Run
from labkit.grader.scene import Scene
from labkit.grader.submission import BadSubmission
from labkit.grader.submission import read as read_submission
from labkit.resp import ReplyError

PASSED, NOT_SEEN, WRONG_COMMAND, INFRASTRUCTURE = 0, 1, 2, 3
SLOWEST = 0.25  # times the usual speed: still slower, and what is waited for would not come in time


@dataclass(frozen=True)
class Request:
    """What is asked for.

    photos: a folder of photographs to work on, which is only read (default: the lab's own; for labs 3 and 6).
    submission: the folder whose scripts are played (default: the lab's solution, or where there is none labs/).
    stage: one of the kinds in stages.py (default: the best that there can be).
    auto: go on by itself; otherwise the presenter goes on with a key.
    speed: 2 plays twice as fast (default: LAB_DEMO_SPEED, or 1).
    results: where what was made and the timeline stay (default: .lab/labNN/demo).
    record: a file to record it into, for people who were not there; cast.py tells what it holds.
    """

    lab: Lab
    photos: Path | None = None
    submission: Path | None = None
    brokers: str = "embedded"
    stage: str = ""
    auto: bool = False
    speed: float | None = None
    results: Path | None = None
    record: Path | None = None


def play(request: Request) -> int:
    """Play the lab's demonstration and return the exit status.

    Status 0: everything was seen; 1: something was not; 2: the command was wrong; 3: infrastructure;
    128 + N: ended by signal N.
    """
    with Signals() as signals:
        try:
            return Performance(request).run(signals)
        except Stopped as stopped:
            status, words = stopped.status, "the demonstration was stopped; nothing of it is left running"
        except (NoScript, BadProps, BadSubmission, BadSpeed, BadRecording, BadBroker) as wrong:
            status, words = WRONG_COMMAND, str(wrong)
        except (InfrastructureError, OSError, ReplyError, TooSlow) as trouble:
            status, words = INFRASTRUCTURE, str(trouble)
        with contextlib.suppress(Stopped):
            write(sys.stderr, f"lab: {words}")
        return status


class BadSpeed(Exception):
    """LAB_DEMO_SPEED is no speed. Its text is one line for the user."""


class Performance:
    """One demonstration, from its command line to its report."""

    def __init__(self, request: Request) -> None:
        """What is wrong with the request is raised before anything is started."""
        self.lab, self.brokers = request.lab, request.brokers
        self.script = script.read(self.lab)
        self.act = act_of(self.lab)
        self.code = read_submission(self.lab, (request.submission or _default(self.lab)).resolve())
        self.props = self.act.PROPS(
            self.lab, self.script, request.photos.resolve() if request.photos else None
        )
        self.code.files |= self.props.files
        self.speed = request.speed or _speed(os.environ.get("LAB_DEMO_SPEED", "1"))
        self.results = request.results or self.lab.state / "demo"
        self.kind, self.console = stages.choose(request.stage)
        self.auto = request.auto or self.kind == stages.PLAIN or not sys.stdin.isatty()
        self.title = f"Lab {self.lab.number}: {self.lab.title}"
        self.recording = None
        if request.record:
            self.recording = Recording(request.record, self.title, f"./lab demo {self.lab.number}")

    def run(self, signals: Signals) -> int:
        """Play it; return the exit status. Whatever happens, the terminal is restored and all else ended."""
        with self.recording or contextlib.nullcontext():
            return self._perform(signals)

    def _perform(self, signals: Signals) -> int:
        with contextlib.ExitStack() as leaving:
            leaving.enter_context(contextlib.closing(self.props)).open()
            run = leaving.enter_context(Run(self.lab, self.code, brokers=self.brokers))
            stage = stages.make(self.kind, self.title, self.script.last, self.console)
            if self.recording:
                stage = RecordedStage(stage, self.recording, self.script.last)
            leaving.enter_context(contextlib.closing(stage))
            signals.check()
            stage.open()
            presenter = Presenter(stage, self.script.last, auto=self.auto)
            first, report = 1, None
            while report is None:
                try:
                    report = self._play(run, stage, signals, presenter, first)
                except Jump as jump:
                    first = jump.step
                except Quit:
                    return PASSED
        self._report(report)
        return NOT_SEEN if report.story else PASSED

    def _play(self, run: Run, stage: Stage, signals: Signals, presenter: Presenter, first: int) -> Report:
        """Play on a new scene, shown from this step on.

        Raises:
            Jump: the presenter wants to go on at another step.
            Quit: the presenter wants to end.
        """
        with self._scene(run) as scene:
            watch = Watch(scene, stage, signals, self.speed, presenter)
            act = self.act(scene, self.script, watch, self.props)
            act.owns_broker = scene.broker.can_kill  # then it is the run's own, or the scene's
            watch.view = act.view
            presenter.hand = ByHand(act, watch)
            player = Player(self.script, act, watch)
            player.play(first)
            act.lay_out()
            kept = keep(scene, self.results, self.script)
            facts = act.facts() if player.passed else ()
        story = "" if player.passed else f"The demonstration did not show what it should.\n{player.story}"
        ask = tuple(line.format(**act.words()) for line in self.script.ask) if player.passed else ()
        return Report(act.verdict, story.rstrip(), kept, ask, facts, act.LEFT, act.ASIDE, act.AGAIN)

    @contextlib.contextmanager
    def _scene(self, run: Run) -> Iterator[Scene]:
        """A scene with a broker of its own if there can be one and it may be killed, by the script or by hand."""
        scene = None
        if self.script.own_broker or self.kind != stages.PLAIN:  # with plain lines no key is heard
            with contextlib.suppress(NotApplicable):
                scene = run.scene(self.lab.title, seed=0, own_broker=True)
        scene = scene or run.scene(self.lab.title, seed=0)
        try:
            yield scene
        except Jump:
            if scene.broker is run.broker:
                scene.restart_broker()  # the next scene needs it
            raise
        finally:
            scene.close()
            if scene.broker is not run.broker:
                run.end_broker(scene.broker)

    def _report(self, report: Report) -> None:
        if self.console is None:
            report.print_lines()
        else:
            report.print_table(self.console)
        if self.recording:
            report.print_table(self.recording.console)


def _default(lab: Lab) -> Path:
    return lab.solution if lab.solution.is_dir() else lab.folder


def _speed(text: str) -> float:
    try:
        speed = float(text)
    except ValueError:
        speed = 0
    if not SLOWEST <= speed <= 100:
        raise BadSpeed(f"LAB_DEMO_SPEED is {text!r}; it is a number such as 0.5 (slower) or 2 (faster).")
    return speed


__all__ = ["Request", "play"]
