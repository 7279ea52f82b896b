"""How fast a class is graded: one submission at a time and two, at each level of isolation, and in how much memory."""

import shutil
import statistics
from collections.abc import Sequence
from pathlib import Path

from labkit.bench import Row, ended
from labkit.course import lab
from labkit.grader import bubblewrap
from labkit.grader.sandbox import BUBBLEWRAP, NONE, PROCESS
from labkit.janitor import temporary_folder

LAB = lab(
    2
)  # no broker of its own to boot, and few crash points: what grading a submission costs besides shows


def class_grading(rounds: int, handed_in: Path = LAB.solution) -> list[Row]:
    """Grading a class: by one and by two at a time, in turns; one submission at each level of isolation.

    rounds: the class is twice as large, and is graded a third as often. handed_in: what everybody hands in.
    """
    place = temporary_folder()
    students = [place / f"student-{number:03}" for number in range(1, 2 * rounds + 1)]
    for student in students:
        shutil.copytree(handed_in, student / LAB.slug, ignore=shutil.ignore_patterns("__pycache__"))
    rounds = max(1, rounds // 3)
    jobs: dict[int, list[float]] = {1: [], 2: []}
    missing = bubblewrap.trouble()
    levels: dict[str, list[float]] = {
        level: [] for level in (NONE, PROCESS, *([] if missing else [BUBBLEWRAP]))
    }
    peaks = []
    for _ in range(rounds):
        for at_a_time, rates in jobs.items():
            seconds, megabytes = graded(students, place, "--jobs", str(at_a_time))
            rates.append(60 * len(students) / seconds)
            peaks.append(megabytes)
        for level, times in levels.items():
            times.append(graded(students[:1], place, "--isolation", level)[0])
    one, two = (statistics.median(rates) for rates in jobs.values())
    each = {level: statistics.median(times) for level, times in levels.items()}
    rows = [
        (f"a class of {len(students)}, --jobs 1", f"{one:.1f} a minute", ""),
        (f"a class of {len(students)}, --jobs 2", f"{two:.1f} a minute", f"{two / one:.2f} of --jobs 1"),
        (f"a class of {len(students)}, largest process", f"{max(peaks):.0f} MB", ""),
        *(
            (f"one submission, --isolation {level}", f"{took:.1f} s", f"{took / each[NONE]:.2f} of {NONE}")
            for level, took in each.items()
        ),
    ]
    return [*rows, (f"one submission, --isolation {BUBBLEWRAP}", "-", missing)] if missing else rows


def graded(students: Sequence[Path], place: Path, *options: str) -> tuple[float, float]:
    """Grade these submissions anew; return the seconds that it took, and the MB of the largest process.

    Raises:
        RuntimeError: they could not be graded, so that there is nothing to measure.
    """
    words = [
        "grade",
        *map(str, students),
        "--lab",
        str(LAB.number),
        "--fresh",
        "--out",
        str(place / "grades"),
    ]
    seconds, megabytes, status = ended([*words, *options])
    if status:
        raise RuntimeError(f"./lab grade {' '.join(options)} ended with status {status}")
    return seconds, megabytes
