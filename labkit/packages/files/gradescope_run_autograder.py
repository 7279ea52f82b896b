#!/usr/bin/env python3
"""Gradescope runs this for each submission: it grades /autograder/submission, and leaves results/results.json.

That file is there and valid from the first moment on, whatever happens to this program. Standard library only.

For trying it elsewhere: LAB_AUTOGRADER takes the place of /autograder, and LAB_PYTHON is a Python that has the course's
packages, in place of the one that setup.sh has made.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HOME = Path(os.environ.get("LAB_AUTOGRADER", "/autograder"))
COURSE = HOME / "source" / "course"
RESULTS = HOME / "results" / "results.json"
LAB_SECONDS = 240  # for one lab; a grading takes 30 at most, on two cores
MOST_SECONDS = 900  # for the whole; Gradescope's own limit may be shorter


def main():
    began = time.monotonic()
    leave(not_graded("the grading was cut off, most likely by Gradescope's time limit"))
    try:
        labs = json.loads((HOME / "source" / "settings.json").read_text())["labs"]
        with tempfile.TemporaryDirectory() as out:
            said = grade(labs, out)
            found = sorted(Path(out).glob("*/gradescope/results.json"))
            results = json.loads(found[0].read_text()) if found else not_graded(said)
    except Exception as error:  # of whatever kind: the student and the instructor have to be told
        results = not_graded(f"{type(error).__name__}: {error}")
    results["execution_time"] = round(time.monotonic() - began, 1)
    leave(results)


def grade(labs, out):
    """Grade into the folder `out`; return the last line that the grader said."""
    command = [sys.executable, str(COURSE / "lab")]
    environment = dict(os.environ)
    if python := os.environ.get("LAB_PYTHON"):
        command = [python, "-P", "-m", "labkit"]
        environment["PYTHONPATH"] = str(COURSE)
    command += ["grade", str(HOME / "submission"), "--format", "gradescope", "--out", out, "--no-install"]
    command += [f"--timeout={LAB_SECONDS}", *(f"--lab={number}" for number in labs)]
    grader = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        output, _ = grader.communicate(timeout=MOST_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(grader.pid, signal.SIGKILL)
        grader.wait()
        return f"the grading was not done within {MOST_SECONDS} s"
    print(output)  # for the instructor: students do not see it
    return (output.strip().splitlines() or ["the grader said nothing"])[-1]


def not_graded(why):
    """Without a score and without tests: nobody takes it for a zero."""
    return {
        "output": f"Not graded: {why}.\n\nThis says nothing about the submission. "
        "For the instructor: run the autograder on it again.",
        "output_format": "text",
        "stdout_visibility": "hidden",
        "visibility": "visible",
        "tests": [],
    }


def leave(results):
    """Replace results.json, in one step."""
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    draft = RESULTS.with_name(".results.json")
    draft.write_text(json.dumps(results))
    os.replace(draft, RESULTS)


if __name__ == "__main__":
    main()
