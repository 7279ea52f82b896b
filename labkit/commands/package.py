"""`./lab package student|gradescope|classroom50`: what an instructor hands out or uploads."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from labkit.course import Lab
from labkit.packages import course
from labkit.packages.course import Files
from labkit.packages.write import NotEmpty, write

# In the end: what to do with it.
NEXT = {
    "student": "Unpack it, `cd` into it, and begin with ./lab.",
    "gradescope": "Upload it as the autograder of a programming assignment, with Ubuntu 24.04 as its system.",
    "classroom50": "Unpack it as autograders/ASSIGNMENT/ in the classroom50 repository; to attach the timelines, name "
    "{timelines} as the assignment's release_assets.",
}


def run(kind: str, labs: Sequence[Lab] = (), out: Path | None = None) -> int:
    """Make a package; return the exit status.

    kind: student, gradescope or classroom50. labs: what the last two grade. out: a zip's name, or a new folder
    (default: queue-course-KIND.zip, here).
    """
    if kind not in KINDS:
        return _refuse(f"there is no package {kind!r}; there are {', '.join(KINDS)}")
    if not all(lab.solution.is_dir() for lab in course.labs()):
        return _refuse("packages are made from the whole course, and the solutions are not here")
    if kind == "student" and labs:
        return _refuse("the package for students holds all labs; leave --lab out")
    if kind != "student" and not labs:
        return _refuse(f"say what is to be graded, such as ./lab package {kind} --lab 2")
    target = out or Path(f"queue-course-{'-'.join([kind, *(f'lab{lab.number:02}' for lab in labs)])}.zip")
    try:
        files = KINDS[kind](labs)
        write(files, target)
    except (NotEmpty, OSError) as trouble:
        return _refuse(str(trouble))
    print(f"{target}: {len(files)} files. Nothing in it tells a solution.")
    print(NEXT[kind].format(timelines=" and ".join(f"lab{lab.number:02}-timeline.html" for lab in labs)))
    return 0


def student(labs: Sequence[Lab]) -> Files:
    """The course, to work in."""
    return course.for_students()


def gradescope(labs: Sequence[Lab]) -> Files:
    """What Gradescope unpacks into /autograder/source."""
    return course.within("course", course.for_grading()) | {
        "setup.sh": course.template("gradescope_setup.sh"),
        "run_autograder": course.template("gradescope_run_autograder.py"),
        "settings.json": course.settings(labs),
    }


def classroom50(labs: Sequence[Lab]) -> Files:
    """What Classroom 50's runner unpacks, and calls autograder.py of."""
    return course.within("course", course.for_grading()) | {
        "autograder.py": course.template("classroom50_autograder.py"),
        "settings.json": course.settings(labs),
    }


KINDS: dict[str, Callable[[Sequence[Lab]], Files]] = {
    "student": student,
    "gradescope": gradescope,
    "classroom50": classroom50,
}


def _refuse(why: str) -> int:
    print(f"lab: {why}", file=sys.stderr)
    return 2
