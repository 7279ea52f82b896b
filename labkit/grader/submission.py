"""A submission's folder: copied aside, the course's own files laid over it, and planted files spoken of.

Nothing of it is ever imported here.
"""

import sys
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
    submission.notes = [clean(note) for note in submission.notes]  # a file's name may hold anything
    return submission


def _collect(submission: Submission) -> None:
    for path in sorted(submission.source.rglob("*")):
        name = path.relative_to(submission.source)
        if path.is_symlink():
            submission.notes.append(f"{name} is a link; it was not followed.")
        elif not path.is_file() or any(part.startswith((".", "__pycache__")) for part in name.parts):
            continue
        elif name.name in PLANTED or path.suffix == ".pth":
            submission.notes.append(
                f"{name} was not run and not read: the grader takes no settings from a submission."
            )
        elif path.suffix not in (".py", ".toml", ".json", ".lua", ".txt"):
            continue  # photographs, outputs, notes: the scripts get the grader's own
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


def _module_hidden_by(name: Path) -> str:
    """The module of Python, or of a client, in whose place `import` would find this file; "" if there is none."""
    is_package = len(name.parts) == 2 and name.name == "__init__.py"
    module = (
        name.parts[0] if is_package else name.stem if len(name.parts) == 1 and name.suffix == ".py" else ""
    )
    return module if module in CLIENTS | sys.stdlib_module_names else ""
