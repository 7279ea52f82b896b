"""Submissions made for the tests of the graders, and the grader run on them: one process for each grading."""

import runpy
import shutil
import tomllib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from labkit.course import ROOT, Lab
from labkit.grade.play import play
from labkit.stubs import originals, stub_of

CAUGHT = ("failed", "timed out")


class EditDoesNotFit(Exception):
    """The text that an edit is to replace is not in its file exactly once."""


@dataclass(frozen=True)
class Edit:
    """Replace the text `before`, which must be in `file` exactly once, by `after`."""

    file: str
    before: str
    after: str

    def apply(self, folder: Path) -> None:
        """Edit the file in this folder, or raise EditDoesNotFit."""
        path = folder / self.file
        text = path.read_text()
        if (found := text.count(self.before)) != 1:
            raise EditDoesNotFit(f"{self.file} has this text {found} times, not once:\n{self.before}")
        path.write_text(text.replace(self.before, self.after))


@dataclass(frozen=True)
class Wrong:
    """A wrong submission: the solution with some edits. `check` must catch it, with `says` in its message."""

    name: str
    check: str
    says: tuple[str, ...]
    edits: tuple[Edit, ...]


@dataclass(frozen=True)
class Mistake:
    """One of the mistakes of the program found in the wild: what shows it, and the edits that mend it."""

    check: str
    says: tuple[str, ...]
    edits: tuple[Edit, ...]


@dataclass(frozen=True)
class Submission:
    """What is to be graded: `make` lays it out in an empty folder; `checks` are to be played (none: all)."""

    lab: Lab
    name: str
    make: Callable[[Path], None]
    checks: tuple[str, ...] = ()

    def grade(self, folder: Path, brokers: str = "embedded") -> dict:
        """Lay it out and grade it, all in `folder`; return the result record, with the checks by their id."""
        work = folder / "submission"
        work.mkdir()
        self.make(work)
        result = grade(self.lab, work, folder / "result", self.checks, brokers)
        result["checks"] = {check["id"]: check for check in result["checks"]}
        return result


# ---- what there is to grade --------------------------------------------------------------------------------


def wrong_ones(lab: Lab) -> list[Wrong]:
    """The wrong submissions of a lab, as tests/wrong/ describes them."""
    return [
        Wrong(one["name"], one["check"], tuple(one["says"]), edits_in(one))
        for one in facts(lab).get("wrong", [])
    ]


def mistakes_in_the_wild(lab: Lab) -> list[Mistake]:
    """The mistakes of the lab's wild/ program, in the order in which the grader shows them."""
    return [Mistake(one["check"], tuple(one["says"]), edits_in(one)) for one in facts(lab).get("wild", [])]


def facts(lab: Lab) -> dict:
    return tomllib.loads((ROOT / "tests" / "wrong" / f"{lab.slug}.toml").read_text())


def edits_in(entry: dict) -> tuple[Edit, ...]:
    """An entry's edits: one in the entry itself, or several as [[….edit]]."""
    return tuple(Edit(each["file"], each["before"], each["after"]) for each in entry.get("edit", [entry]))


def variants(lab: Lab) -> list[Path]:
    """The folders of the right answers that are written differently."""
    folder = ROOT / "tests" / "variants" / lab.slug
    return sorted(path for path in folder.glob("*") if path.is_dir() and not path.name.startswith((".", "_")))


def checks(lab: Lab) -> dict[str, tuple[str, ...]]:
    """The ids of a lab's checks, each with those that it waits for."""
    found = {}
    for name, value in runpy.run_path(str(lab.grader)).items():
        for mark in getattr(value, "pytestmark", ()):
            if mark.name == "check":
                after = mark.kwargs.get("after", ())
                found[name.removeprefix("test_")] = (after,) if isinstance(after, str) else tuple(after)
    return found


def with_those_before(lab: Lab, *wanted: str) -> tuple[str, ...]:
    """These checks and all that they wait for, directly or not, in the file's order."""
    after = checks(lab)
    needed, todo = set(), list(wanted)
    while todo:
        needed.add(check := todo.pop())
        todo += after[check]
    return tuple(check for check in after if check in needed)


# ---- laying out --------------------------------------------------------------------------------------------


def the_solution(lab: Lab) -> Callable[[Path], None]:
    return lambda folder: lay_out(lab.solution, folder)


def the_stub(lab: Lab) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        for name, content in originals(lab).items():
            (folder / name).write_bytes(content)

    return make


def a_solution_without(lab: Lab, number: int) -> Callable[[Path], None]:
    """The solution with the function of this TODO a stub again."""

    def make(folder: Path) -> None:
        lay_out(lab.solution, folder)
        todo = next(todo for todo in lab.todos if todo.number == number)
        script = folder / f"{todo.module}.py"
        script.write_text(stub_of(script.read_text(), [todo]))

    return make


def edited(source: Path, edits: Iterable[Edit], over: Path | None = None) -> Callable[[Path], None]:
    """The files of `source`, laid over those of `over`, with these edits."""

    def make(folder: Path) -> None:
        for layer in filter(None, (over, source)):
            lay_out(layer, folder)
        for edit in edits:
            edit.apply(folder)

    return make


def a_variant(lab: Lab, variant: Path) -> Callable[[Path], None]:
    """The solution with the variant's files laid over it."""

    def make(folder: Path) -> None:
        lay_out(lab.solution, folder)
        lay_out(variant, folder)

    return make


def lay_out(source: Path, folder: Path) -> None:
    for path in source.glob("*.py"):
        shutil.copy(path, folder)


# ---- grading -----------------------------------------------------------------------------------------------


def grade(
    lab: Lab, submission: Path, results: Path, wanted: Iterable[str] = (), brokers: str = "embedded"
) -> dict:
    """Run the lab's grader on a folder, as `./lab grade` would, and return its result record."""
    return play(lab, submission, results, checks=wanted, brokers=brokers)


def told(result: dict, *wanted: str) -> str:
    """What a test shows of a result: each check that did not pass, or these, with its story."""
    shown = [result["checks"][check] for check in wanted] or [
        check for check in result["checks"].values() if check["outcome"] != "passed"
    ]
    lines = []
    for check in shown:
        waits = f" (waits for {check['waits_for']})" if check["waits_for"] else ""
        lines.append(f"{check['outcome']}: {check['id']}{waits}")
        lines += [f"    {line}" for line in check["message"].splitlines()]
    return "\n".join(lines)
