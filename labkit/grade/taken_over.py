"""What an earlier run has graded already, and need not be graded again."""

import dataclasses
import hashlib
import json
import shutil
from functools import cache
from pathlib import Path

from labkit.brokers import InfrastructureError
from labkit.course import ROOT, labs
from labkit.grade.one import SCHEMA, VERSION, Request
from labkit.grade.sources import BadSource, fetch, told_as
from labkit.grader.record import replace
from labkit.grader.schedule import INFRASTRUCTURE, TIMED_OUT
from labkit.janitor import janitor, temporary_folder
from labkit.stubs import originals

STAMP = "request.json"  # beside grade.json: how that was asked for; written last
# What decides how something is graded. Reports, demonstrations and the command line do not.
GRADERS = ("labkit/*.py", "labkit/grader/**/*", "labkit/brokers/**/*", "labkit/labs/*", "labkit/grade/*.py",
           "tests/test_lab*.py", "requirements.txt", "pyproject.toml")  # fmt: skip


@cache
def course_version() -> str:
    """A digest of the files that decide how submissions are graded. A student's own work in labs/ is none of them."""
    ours = {path for pattern in GRADERS for path in ROOT.glob(pattern) if path.is_file()}
    files = {path.relative_to(ROOT).as_posix(): path for path in ours if "__pycache__" not in path.parts}
    contents = {name: path.read_bytes() for name, path in files.items()}
    contents |= {f"{lab.slug}/{name}": originals(lab)[name] for lab in labs() for name in lab.given}
    digest = hashlib.sha256()
    for name, content in sorted(contents.items()):
        digest.update(f"{len(name)} {name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def asked(request: Request) -> dict:
    """A request as JSON has it: its labs as numbers, and the course's version."""
    fields = {field.name: getattr(request, field.name) for field in dataclasses.fields(request)}
    return fields | {"labs": [lab.number for lab in request.labs], "course": course_version()}


def stamp(folder: Path, request: Request) -> None:
    """Note how the submission of this folder was graded; without it, nothing is taken over."""
    replace(folder / STAMP, json.dumps(asked(request), indent=1) + "\n")


def finished(source: str, folder: Path, request: Request) -> dict | None:
    """The grade record of an earlier run, if the same was handed in and the same asked for; otherwise None."""
    grade = _read(folder / "grade.json")
    same = grade.get("schema") == SCHEMA and grade.get("version") == VERSION and grade.get("digest")
    if not same or grade.get("source") != told_as(source) or grade.get("outcome") in (None, INFRASTRUCTURE):
        return None
    then, now = _read(folder / STAMP), json.loads(json.dumps(asked(request)))
    if grade["outcome"] != TIMED_OUT:  # then the time that it has makes no difference
        then, now = then | {"timeout": 0}, now | {"timeout": 0}
    return grade if then == now and digest_now(source) == grade["digest"] else None


def _read(path: Path) -> dict:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def digest_now(source: str) -> str:
    """The digest of what a source holds now, or "" if it cannot be had."""
    place = temporary_folder()
    try:
        return fetch(source, place).digest
    except (BadSource, InfrastructureError, OSError):
        return ""
    finally:
        shutil.rmtree(place, ignore_errors=True)
        janitor().forget_folder(place)
