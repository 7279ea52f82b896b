"""How long a grading takes, whole processes, for each lab: its solution and its stub."""

import json
import statistics
import subprocess
import sys
from pathlib import Path

from labkit.bench import Row, ended, seconds, timed
from labkit.course import Lab, labs
from labkit.janitor import temporary_folder


def grading(rounds: int) -> list[Row]:
    """Grading each lab: the solution with all crash points, and the stub; whole processes, in turns."""
    rounds = max(3, rounds // 3)
    python = [
        timed(lambda: subprocess.run([sys.executable, "-c", "import pytest, typer"])) for _ in range(rounds)
    ]
    rows = []
    for lab in labs():
        results = temporary_folder()
        solution, stub, megabytes = [], [], []
        for _ in range(rounds):
            took, peak = graded(lab, lab.solution, results)
            solution.append(took)
            megabytes.append(peak)
            checks = json.loads((results / "result.json").read_text())["checks"]
            points = sum(check["facts"].get("crash points", 0) for check in checks)
            stub.append(graded(lab, lab.folder, results)[0])
        times = statistics.median(stub) / statistics.median(python)
        rows += [
            (f"check {lab.number} on the solution", seconds(solution), f"{points} crash points"),
            (
                f"check {lab.number} on the stub",
                seconds(stub, 2),
                f"{times:.1f} of importing pytest and typer",
            ),
            (f"check {lab.number}, peak memory of the grader", f"{statistics.median(megabytes):.0f} MB", ""),
        ]
    return rows


def graded(lab: Lab, folder: Path, results: Path) -> tuple[float, float]:
    """Grade a folder in a process of its own; return its seconds and its peak memory in MB."""
    options = ["--submission", str(folder), "--results", str(results)]
    seconds, megabytes, _ = ended(["check", str(lab.number), *options])
    return seconds, megabytes
