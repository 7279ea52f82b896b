"""The reports: every format that an instructor, a student or another system reads, made from the one grade record.

One module a format; each makes its files from a record and the folder that holds it, and writes nothing itself. All
but `native` may be shown to students: of a hidden check they say only that there is one (see view.py). What came from
a submission is made harmless in text.py, and once more for the format that it goes into.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

from labkit.replacing import replace
from labkit.reports import (
    check50,
    classroom50,
    exercism,
    gradescope,
    html,
    junit,
    markdown,
    native,
    prairielearn,
)
from labkit.reports.classroom50 import exit_status

__all__ = ["FORMATS", "exit_status", "write"]

# Of each format: makes {file name: content} from a grade record and the folder that it lies in.
FORMATS: dict[str, Callable[[dict, Path], dict[str, str | bytes]]] = {
    "native": native.files,
    "gradescope": gradescope.files,
    "classroom50": classroom50.files,
    "prairielearn": prairielearn.files,
    "check50": check50.files,
    "exercism": exercism.files,
    "junit": junit.files,
    "markdown": markdown.files,
    "html": html.files,
}


def write(grade: dict, folder: Path, formats: Iterable[str]) -> None:
    """Write folder/FORMAT/… for each of these formats; files of an earlier report that are none of it now are removed.

    Raises:
        KeyError: there is no such format.
        OSError: a file cannot be written.
    """
    for name in dict.fromkeys(formats):
        made = FORMATS[name](grade, folder)
        target = folder / name
        target.mkdir(parents=True, exist_ok=True)
        for file, content in made.items():
            replace(target / file, content)
        for old in target.iterdir():
            if old.name not in made and not old.is_dir():
                old.unlink()
