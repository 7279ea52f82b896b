#!/usr/bin/env python3
"""Classroom 50's runner calls this in the student's checkout: it grades what was committed, and leaves ./result.json.

Beside it, with the same checkout as working directory: release-body.md, and labNN-timeline.html for each lab, which the
assignment may name as its release_assets. Status 0: grading ran to the end; otherwise something of the grader's own
failed, and there is no result.json. Standard library only; it needs Python 3.11 and installs the course's packages.

For trying it elsewhere: LAB_PYTHON is a Python that has these packages.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

BUNDLE = Path(__file__).resolve().parent
CHECKOUT = Path.cwd()
LAB_SECONDS = 240  # for one lab; a grading takes 30 at most, on two cores
MOST_SECONDS = 1800  # for the whole, with the installation
INFRASTRUCTURE = 3


def main():
    labs = json.loads((BUNDLE / "settings.json").read_text())["labs"]
    timelines = [f"lab{number:02}-timeline.html" for number in labs]
    for name in ("result.json", "release-body.md", *timelines):
        take_away(CHECKOUT / name)  # what a student has committed under this name is no result
    with tempfile.TemporaryDirectory() as out:
        status = grade(labs, out)
        made = {path.name: path for path in Path(out).glob("*/classroom50/*") if path.is_file()}
        if status or "result.json" not in made:
            print(
                f"::error::not graded: the grader ended with status {status}; run it again", file=sys.stderr
            )
            return INFRASTRUCTURE
        for name, path in made.items():
            shutil.copyfile(path, CHECKOUT / name)
    return 0


def grade(labs, out):
    """Grade into the folder `out`; return the grader's exit status."""
    command = [sys.executable, str(BUNDLE / "course" / "lab")]
    environment = dict(os.environ)
    if python := os.environ.get("LAB_PYTHON"):
        command = [python, "-P", "-m", "labkit"]
        environment["PYTHONPATH"] = str(BUNDLE / "course")
    committed = f"{CHECKOUT}@HEAD" if (CHECKOUT / ".git").is_dir() else str(CHECKOUT)
    command += ["grade", committed, "--format", "classroom50", "--out", out]
    command += [f"--timeout={LAB_SECONDS}", *(f"--lab={number}" for number in labs)]
    grader = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        return grader.wait(MOST_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(grader.pid, signal.SIGKILL)
        return grader.wait()


def take_away(path):
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
