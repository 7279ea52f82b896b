"""One lab's grader as a process: pytest on the lab's checks, whatever the submission does to it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from labkit.course import ROOT, Lab
from labkit.grade.ungraded import ungraded
from labkit.grader.schedule import INFRASTRUCTURE
from labkit.janitor import janitor

# Nothing of a submission is read by pytest: its settings are the course's own, and the tests come first.
PYTEST = [
    *(sys.executable, "-m", "pytest", "-q", "--noconftest", "-p", "no:unraisableexception"),
    *("-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT)),
]
GRACE_SECONDS = 90.0  # for a grading whose time is over, to end its plays and to write its record
HEARD_CHARACTERS = 20_000  # of what a grading prints


def play(
    lab: Lab,
    submission: Path,
    results: Path,
    *,
    checks: Iterable[str] = (),
    brokers: str = "embedded",
    isolation: str = "none",
    timeout: float = 300.0,
    seed: int = 0,
) -> dict:
    """Grade the folder `submission` and return the result record; results/ gets the record, timeline and failures.

    checks: ids of those to be played (default: all). timeout: in seconds; what has not ended by then is timed out.
    A grading that leaves no record, or does not end, is told of as infrastructure.
    """
    results.mkdir(parents=True, exist_ok=True)
    kept = results / "result.json"
    kept.unlink(missing_ok=True)
    tests = [f"{lab.grader}::test_{check}" for check in checks] or [str(lab.grader)]
    options = [
        f"--submission={submission}",
        f"--result-folder={results}",
        f"--brokers={brokers}",
        f"--isolation={isolation}",
        f"--timeout={timeout}",
        f"--seed={seed}",
    ]
    output, in_time = _run([*PYTEST, *tests, *options], timeout + GRACE_SECONDS)
    try:
        return json.loads(kept.read_text())
    except (OSError, ValueError):
        return ungraded(lab, INFRASTRUCTURE, _why(output, in_time), str(submission))


def _run(command: list[str], within: float) -> tuple[str, bool]:
    """Run a grading to its end, or for so many seconds; return what it printed and whether it ended by itself."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment |= {"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    grading = janitor().start_process(
        command,
        cwd=ROOT,
        env=environment,
        text=True,
        errors="replace",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        output, in_time = grading.communicate(timeout=within)[0], True
    except subprocess.TimeoutExpired:
        output, in_time = "", False
    finally:
        if grading.poll() is None:
            grading.kill()  # its own janitor ends what it has started
            grading.communicate()
        janitor().forget_process(grading.pid)
    return output[-HEARD_CHARACTERS:], in_time


def _why(output: str, in_time: bool) -> str:
    """One line about a grading that left no record."""
    if not in_time:
        return "the grading did not end, and was stopped"
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    said = next((line for line in reversed(lines) if line.startswith(("!", "E ", "Error", "lab:"))), None)
    return f"the grading left no result: {(said or (lines or ['it said nothing'])[-1])[:300]}"
