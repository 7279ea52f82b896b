"""A submission's folder: copied aside, the course's own files laid over it, and planted files spoken of.

Nothing of it is ever imported here.
"""

import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from labkit.course import Lab
from labkit.grader.words import clean
from labkit.stubs import originals

REPORT_WORK = Path(__file__).with_name("report_work.py")
PLANTED = {
    "conftest.py", "sitecustomize.py", "usercustomize.py", "pytest.ini", "tox.ini", "setup.cfg", "pyproject.toml",
    "pytest.py",
}  # fmt: skip
CLIENTS = {"redis", "valkey", "pika", "PIL", "fastapi", "uvicorn", "pydantic", "starlette", "fpdf", "labkit"}
LARGEST_FILE = 1024 * 1024
MOST_FILES = 200
MOST_NOTES = 20
DEEPEST = 12  # folders in folders


class BadSubmission(Exception):
    """There is nothing to grade in that folder. Its text is one line for the user."""


@dataclass
class Submission:
    """Where the submission's files came from, what is graded, and what its owner should know."""

    lab: Lab
    source: Path
    files: dict[str, bytes] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    cold: bool = (
        False  # a module of its own hides one of Python's: only a fresh interpreter shows what that does
    )

    def lay_out(self, folder: Path) -> Path:
        """Write the files to be graded into `folder`: the submission's, then the course's over them."""
        for name, content in self.files.items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        return folder


def read(lab: Lab, source: Path) -> Submission:
    """Read the submission of `lab` in folder `source`.

    Raises:
        BadSubmission: no folder, or none of the lab's scripts in it.
    """
    if not source.is_dir():
        raise BadSubmission(f"{source} is not a folder. Name the one that holds your {lab.slug} files.")
    ours = originals(lab)
    scripts = [name for name in ours if name.endswith(".py") and name not in lab.given]
    if not any((source / name).is_file() for name in scripts):
        raise BadSubmission(
            f"{source} holds none of {', '.join(scripts)}. Is it the folder of lab {lab.number}?"
        )
    submission = Submission(lab, source)
    _collect(submission)
    for name in lab.given:
        if name in submission.files and submission.files[name] != ours[name]:
            submission.notes.append(
                f"{name} was changed; it is the lab's given work, so the course's own was used."
            )
    for name in scripts:
        if name not in submission.files:
            submission.notes.append(f"{name} is missing.")
    submission.files |= {name: ours[name] for name in lab.given}
    if lab.work:
        module, function = lab.work.split(".")
        reporting = REPORT_WORK.read_text().replace("WORK_FUNCTION", function)
        submission.files[f"{module}.py"] = ours[f"{module}.py"] + b"\n\n" + reporting.encode()
    more = len(submission.notes) - MOST_NOTES
    submission.notes = [
        clean(note.replace("\n", " ")) for note in submission.notes[:MOST_NOTES]
    ]  # names hold anything
    submission.notes += [f"And {more} more of the kind."] if more > 0 else []
    return submission


def _collect(submission: Submission) -> None:
    scripts = originals(submission.lab)
    for path in sorted(_files_in(submission), key=lambda path: _rank(submission, path, scripts)):
        name = path.relative_to(submission.source)
        if path.is_symlink():
            submission.notes.append(f"{name} is a link; it was not followed.")
        elif not path.is_file():
            continue
        elif name.name in PLANTED or path.suffix == ".pth":
            submission.notes.append(
                f"{name} was not run and not read: the grader takes no settings from a submission."
            )
        elif path.suffix not in (".py", ".toml", ".json", ".lua", ".txt"):
            continue  # photographs, outputs, notes: the scripts get the grader's own
        elif len(name.parts) > 1 and f"{name.parts[0]}.py" in submission.lab.given:
            submission.notes.append(
                f"{name} stands in the way of the given {name.parts[0]}.py; it was left out."
            )
        elif path.stat().st_size > LARGEST_FILE:
            submission.notes.append(f"{name} has more than {LARGEST_FILE:,} bytes; it was left out.")
        elif len(submission.files) >= MOST_FILES:
            submission.notes.append(f"More than {MOST_FILES} files: {name} and the rest were left out.")
            return
        else:
            submission.files[str(name)] = path.read_bytes()
            if module := _module_hidden_by(name):
                submission.cold = True
                submission.notes.append(f"{name} hides Python's own module {module}; rename it.")


def _files_in(submission: Submission) -> Iterator[Path]:
    """All files and links of a submission that are not hidden, as deep as a program's folders are."""
    top = str(submission.source)
    for parent, folders, files in os.walk(top):
        deep = parent.count(os.sep) - top.count(os.sep)
        links = [name for name in folders if os.path.islink(os.path.join(parent, name))]
        folders[:] = [
            name for name in folders if name not in links and not name.startswith((".", "__pycache__"))
        ]
        if deep >= DEEPEST and folders:
            folders.clear()
            submission.notes.append(f"Folders more than {DEEPEST} deep were left out.")
        yield from (Path(parent, name) for name in files + links if not name.startswith((".", "__pycache__")))


def _rank(submission: Submission, path: Path, scripts: Iterable[str]) -> tuple:
    """Where a file stands in line: the lab's own scripts first, then what lies beside them, then what lies deeper."""
    name = path.relative_to(submission.source)
    return str(name) not in scripts, len(name.parts), str(name)


def _module_hidden_by(name: Path) -> str:
    """The module of Python, or of a client, in whose place `import` would find this file; "" if there is none."""
    is_package = len(name.parts) == 2 and name.name == "__init__.py"
    module = (
        name.parts[0] if is_package else name.stem if len(name.parts) == 1 and name.suffix == ".py" else ""
    )
    return module if module in CLIENTS | sys.stdlib_module_names else ""
