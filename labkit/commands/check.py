"""`./lab check N`: grade a lab and tell the story of what failed."""

import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import textwrap
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.console import Console
from rich.text import Text

from labkit.course import ROOT, Lab
from labkit.grader.record import BadReplay, read_replay
from labkit.grader.schedule import INFRASTRUCTURE, NOT_RUN, PASSED, Check, Outcome
from labkit.grader.words import counted
from labkit.janitor import janitor, temporary_folder
from labkit.replacing import replace

LOOK_EVERY_SECONDS = 0.3  # for a save, with --watch
# Without pytest's own last look for errors that nobody caught: it goes through all that a grading records five times.
PYTEST = [
    *("-s", "-p", "no:terminal", "-p", "no:unraisableexception"),
    *("-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT)),
]
TITLE_WIDTH = 70
BURNER = "while True: pass"
WRONG_COMMAND = {pytest.ExitCode.INTERRUPTED, pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.NO_TESTS_COLLECTED}


@dataclass(frozen=True)
class Request:
    """What is to be graded, and how."""

    lab: Lab
    submission: Path | None
    replay: Path | None
    brokers: str
    seed: int
    results: Path | None = None  # where the record and the timeline go; default: the lab's folder under .lab/
    isolation: str = "none"

    @property
    def target(self) -> Path:
        if self.results:
            return self.results.resolve()
        return self.lab.state / "replay" if self.replay else self.lab.state

    @property
    def folder(self) -> Path:
        if self.submission is None and self.replay:
            return Path(read_replay(self.replay).get("submission", self.lab.folder))
        return (self.submission or self.lab.folder).resolve()

    @property
    def is_own(self) -> bool:
        """Whether this is the student's own work, and so counts as progress."""
        return self.folder == self.lab.folder.resolve() and self.replay is None and self.results is None

    def options(self, results: Path) -> list[str]:
        """The grader's options, as its pytest plugin takes them."""
        return [
            f"--submission={self.folder}", f"--brokers={self.brokers}", f"--seed={self.seed}",
            f"--result-folder={results}", f"--isolation={self.isolation}",
            *([f"--replay={self.replay.resolve()}"] if self.replay else []),
        ]  # fmt: skip

    def tests(self) -> str:
        """What pytest is to run: the lab's grader, or the one check of a failure that is played again.

        Raises:
            BadReplay: the failure's file is none, or is of another lab.
        """
        if not self.replay:
            return str(self.lab.grader)
        failure = read_replay(self.replay)
        if failure["lab"] != self.lab.number:
            raise BadReplay(
                f"{self.replay} is a failure of lab {failure['lab']}, not of lab {self.lab.number}."
            )
        return f"{self.lab.grader}::test_{failure['check']}"


class Reporter:
    """A pytest plugin that prints each check as it ends."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.console = Console(highlight=False, soft_wrap=True)
        self.live = self.console.status("setting the stage") if self.console.is_terminal else None
        self.titles: dict[str, str] = {}
        self.result: dict | None = None
        self.trouble = ""
        self.told = ""
        self.waiting: dict[
            str, list[Check]
        ] = {}  # the checks that are not run, by the one that they wait for

    def pytest_lab_started(self, checks: list[Check]) -> None:
        self.titles = {check.id: check.title for check in checks}
        if self.live:
            self.live.start()
            self.live.update(f"playing {len(checks)} checks")

    def pytest_lab_outcome(self, check: Check, outcome: Outcome) -> None:
        if check.hidden:
            return
        points = f"{check.points if outcome.outcome == PASSED else 0} of {check.points}"
        if outcome.not_applicable:
            points = ""
        if outcome.outcome == PASSED:
            self._line("✓", "green", check.title, points)
        elif outcome.waits_for:
            self.waiting.setdefault(outcome.waits_for, []).append(check)
        elif outcome.outcome == NOT_RUN:
            self._line("–", "dim", check.title, points, f"  {outcome.message}")
        else:
            self._line("✗" if outcome.outcome != INFRASTRUCTURE else "!", "red", check.title, points)
            if (
                outcome.outcome != INFRASTRUCTURE or outcome.message != self.told
            ):  # one dead broker ends many checks
                self.console.print(Text(textwrap.indent(outcome.message, "  ")))
            self.told = outcome.message
            if outcome.outcome != INFRASTRUCTURE:
                where = f"timeline: {shown(self.results / 'timeline.html')}#{check.id}"
                self.console.print(
                    Text(f"  ./lab hint {self.request.lab.number}      {where}\n", style="dim")
                )

    @property
    def results(self) -> Path:
        return self.request.target

    def _line(self, mark: str, color: str, title: str, points: str, more: str = "") -> None:
        line = Text.assemble(
            (f"{mark} {title}", color), " " * (TITLE_WIDTH - len(title)), (f"{points:>7}", "bold")
        )
        self.console.print(line)
        if more:
            self.console.print(Text(more, style="dim"))

    def pytest_lab_result(self, result: dict) -> None:
        self.result = result

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.trouble = str(report.longrepr)

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo) -> None:
        if isinstance(excinfo.value, pytest.exit.Exception):
            self.trouble = excinfo.value.msg  # the grader refused the command; Ctrl-C has nothing to say

    def pytest_internalerror(self, excrepr: object) -> None:
        self.trouble = str(excrepr)

    def close(self) -> None:
        if self.live:
            self.live.stop()

    def summary(self) -> None:
        """The last lines: points, what the owner should know, where to look on."""
        result = self.result
        for waits_for, checks in self.waiting.items():
            title = self.titles.get(waits_for, waits_for)
            points = sum(check.points for check in checks)
            self.console.print(
                f"– {counted(len(checks), 'check')} ({counted(points, 'point')}) not run until “{title}” passes"
            )
        for note in result["notes"]:
            self.console.print(Text(f"Note: {note}"))
        seen = [check for check in result["checks"] if not check["hidden"]]
        hidden = len(result["checks"]) - len(seen)
        points, most = (sum(check[key] for check in seen) for key in ("points", "max_points"))
        text = f"{points} of {most} points in {result['seconds']:.1f} s"
        text += (
            f", on {result['broker']['kind']} {result['broker']['version']}"
            if result["broker"]["kind"]
            else ""
        )
        self.console.print(Text(text, style="bold"))
        apart = sum(check["outcome"] == NOT_RUN and not check["waits_for"] for check in result["checks"])
        if apart:
            self.console.print(f"{apart} could not be made on this broker (–) and counts neither way.")
        if hidden:
            self.console.print(f"{hidden} more checks are hidden; their points are not among these.")
        if result["outcome"] == INFRASTRUCTURE:
            self.console.print(
                "Something of the grader's own failed (!). It says nothing about your work: try again."
            )
        elif result["outcome"] == PASSED and not hidden:
            self.console.print(f"timeline: {shown(self.results / 'timeline.html')}")


def shown(path: Path) -> str:
    """A path as short as it can be typed from here."""
    return os.path.relpath(path)


def once(request: Request) -> int:
    """Grade once, in this process; return the exit status."""
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    for name in ("PYTEST_ADDOPTS", "PYTEST_PLUGINS"):
        os.environ.pop(name, None)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    reporter = Reporter(request)
    try:
        status = pytest.main([*PYTEST, request.tests(), *request.options(request.target)], plugins=[reporter])
    except BadReplay as error:
        print(f"lab: {error}", file=sys.stderr)
        return 2
    reporter.close()
    if status == pytest.ExitCode.INTERRUPTED and not reporter.trouble:
        print("lab: stopped; nothing was graded.", file=sys.stderr)
        leave(130)
    if reporter.result is None:
        print(f"lab: {reporter.trouble or 'there is no result.'}", file=sys.stderr)
        return 2 if status in WRONG_COMMAND else 3
    reporter.summary()
    if request.is_own:
        replace(request.lab.state / "own.json", json.dumps(reporter.result))
    return {PASSED: 0, INFRASTRUCTURE: 3}.get(reporter.result["outcome"], 1)


def leave(status: int) -> None:
    """End at once, everything cleaned up: the threads of an interrupted run may still be waiting for something."""
    janitor().close()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def watch(request: Request) -> int:
    """Grade now and again at each save, until Ctrl-C."""
    seen = None
    try:
        while True:
            stamp = saved(request.folder)
            if stamp != seen:
                seen = stamp
                subprocess.call(again(request), cwd=os.getcwd())
                print("Waiting for the next save (Ctrl-C ends).", flush=True)
            time.sleep(LOOK_EVERY_SECONDS)
    except KeyboardInterrupt:
        return 130


def again(request: Request) -> list[str]:
    """The command that grades the same once more."""
    return [
        sys.executable, "-m", "labkit", "check", str(request.lab.number), "--submission", str(request.folder),
        f"--brokers={request.brokers}", f"--seed={request.seed}", f"--isolation={request.isolation}",
        *(["--replay", str(request.replay)] if request.replay else []),
    ]  # fmt: skip


def saved(folder: Path) -> dict[str, int]:
    """When each file of a submission was last written."""
    return {str(path): path.stat().st_mtime_ns for path in folder.glob("*.py")}


def repeat(request: Request, times: int, *, under_load: bool) -> int:
    """Grade several times and count the runs and checks that did not pass; the answer should always be the same."""
    results = temporary_folder()
    burners = [
        janitor().start_process([sys.executable, "-c", BURNER])
        for _ in range(os.cpu_count() if under_load else 0)
    ]
    failed, seconds = Counter(), []
    statuses = Counter()
    try:
        for number in range(1, times + 1):
            (results / "result.json").unlink(missing_ok=True)
            grader = janitor().start_process(
                [*again(request), "--results", str(results)], stdout=subprocess.DEVNULL
            )
            status = grader.wait()
            janitor().forget_process(grader.pid)
            if not (results / "result.json").exists():
                return status if status in (2, 3) else 3  # it has said why
            result = json.loads((results / "result.json").read_text())
            seconds.append(result["seconds"])
            statuses[result["outcome"]] += 1
            bad = [check for check in result["checks"] if check["outcome"] != PASSED and check["max_points"]]
            failed.update(check["id"] for check in bad)
            print(
                f"{number:3}  {result['points']} of {result['max_points']} points  {result['seconds']:.1f} s",
                flush=True,
            )
            for check in bad:
                print(f"     {check['outcome']}: {check['id']}\n{check['message']}", flush=True)
    except KeyboardInterrupt:
        leave(130)
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()
        shutil.rmtree(results, ignore_errors=True)
    load = f", {len(burners)} other processes computing" if under_load else ""
    print(f"{times} runs{load}: {statuses[PASSED]} passed; seconds: median {statistics.median(seconds):.1f}, "
          f"longest {max(seconds):.1f}")  # fmt: skip
    for check, count in failed.most_common():
        print(f"  {check}: {count} times not passed")
    return 3 if statuses[INFRASTRUCTURE] else 0 if not failed else 1
