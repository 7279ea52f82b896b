"""The course without its solutions, as files: what a student works with, and what an autograder grades with."""

import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from labkit.course import ROOT, Lab, labs
from labkit.stubs import originals

# All that is needed is named: a new folder at the top is in no package until somebody puts it here.
AT_THE_TOP = (
    "lab", "pyproject.toml", "requirements.txt", "LICENSE", "README.md", "CONTRIBUTING.md", "docker-compose.yml",
    ".env.example", ".gitignore",
)  # fmt: skip
TO_GRADE_WITH = ("lab", "pyproject.toml", "LICENSE")
NOT_TO_GRADE_WITH = {"demo", "notebook", "bench", "packages"}  # folders of labkit/
NOT_TO_GRADE = {"jupyterlab", "ipykernel", "nbval", "ruff"}  # requirements
MADE_WHEN_RUN = {"__pycache__", ".ipynb_checkpoints", "photos", "out", "originals"}


@dataclass(frozen=True)
class File:
    """What is in a file of a package, and whether it is a program."""

    content: bytes
    executable: bool = False


Files = dict[str, File]  # by path within the package, with slashes


def for_students() -> Files:
    """The course to work in. Without: solutions, wrong submissions, variants, attacks, and the tests that need them.

    What has been written into labs/ stays where it is: the package has the stubs.
    """
    files = {name: _read(ROOT / name) for name in AT_THE_TOP}
    for folder in ("labkit", "docs", ".devcontainer", ".github"):
        files |= _tree(ROOT / folder)
    files |= {f"notebooks/{path.name}": _read(path) for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}
    files |= {
        f"{folder}/README.md": _read(ROOT / folder / "README.md") for folder in ("labs", "notebooks", "tests")
    }
    files["labs/INSTRUCTORS.md"] = _read(
        ROOT / "labs" / "INSTRUCTORS.md"
    )  # whoever has the course may show it
    for lab in labs():
        files |= _graders([lab])
        files |= {f"labs/{lab.slug}/{name}": file for name, file in _beside_the_scripts(lab)}
        files |= {f"labs/{lab.slug}/{name}": file for name, file in _originals(lab)}
        files |= _kept_originals(lab)
    return files


def for_grading() -> Files:
    """The graders and the machinery, for a computer that only grades."""
    files = {name: _read(ROOT / name) for name in TO_GRADE_WITH}
    files |= {
        name: file
        for name, file in _tree(ROOT / "labkit").items()
        if name.split("/")[1] not in NOT_TO_GRADE_WITH
    }
    files["requirements.txt"] = File(_requirements((ROOT / "requirements.txt").read_text()).encode())
    for lab in labs():  # all: a lab may be compared with another one
        files |= _graders([lab]) | _kept_originals(lab)
    return files


def settings(chosen: Collection[Lab]) -> File:
    """What an autograder is told: the numbers of the labs."""
    return File((json.dumps({"labs": [lab.number for lab in chosen]}) + "\n").encode())


def within(folder: str, files: Files) -> Files:
    return {f"{folder}/{name}": file for name, file in files.items()}


def template(name: str) -> File:
    """One of our own files for a package, from labkit/packages/files/. Programs begin with #!."""
    content = (Path(__file__).with_name("files") / name).read_bytes()
    return File(content, executable=content.startswith(b"#!"))


def _graders(chosen: Collection[Lab]) -> Files:
    return {f"tests/{lab.grader.name}": _read(lab.grader) for lab in chosen}


def _originals(lab: Lab) -> Iterator[tuple[str, File]]:
    for name, content in originals(lab).items():
        yield name, File(content, _is_program(lab.given_folder / name))


def _kept_originals(lab: Lab) -> Files:
    return {f"labkit/originals/{lab.slug}/{name}": file for name, file in _originals(lab)}


def _beside_the_scripts(lab: Lab) -> Iterator[tuple[str, File]]:
    """What authors write into a lab's folder by hand."""
    for path in (
        lab.folder / "README.md",
        lab.folder / "demo.toml",
        *sorted((lab.folder / "wild").glob("*.py")),
    ):
        yield str(path.relative_to(lab.folder)), _read(path)


def _tree(folder: Path) -> Files:
    files = {}
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder).parts
        if path.is_file() and not MADE_WHEN_RUN.intersection(inside) and path.suffix != ".pyc":
            files[path.relative_to(ROOT).as_posix()] = _read(path)
    return files


def _read(path: Path) -> File:
    return File(path.read_bytes(), _is_program(path))


def _is_program(path: Path) -> bool:
    return bool(path.stat().st_mode & 0o100)


def _requirements(text: str) -> str:
    kept = [line for line in text.splitlines() if re.match(r"[\w.-]*", line)[0] not in NOT_TO_GRADE]
    return "\n".join(kept) + "\n"
