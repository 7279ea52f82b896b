"""The labs of the course: where their files are, and what the machinery has to know about each."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STATE = (
    ROOT / ".lab"
)  # what the course keeps on this machine: results, timelines, kept versions, the broker's data


VALKEY, RABBITMQ = "valkey", "rabbitmq"  # the brokers that labs are played on


class NoSuchLab(Exception):
    """There is no lab of this number. Its text is one line for the user."""


@dataclass(frozen=True)
class Todo:
    """A gap in a lab's stub: function `function` of `module`.py, and what to do there."""

    number: int
    module: str
    function: str
    say: str


@dataclass(frozen=True)
class Lab:
    """One lab. `given` are the files that a student does not change.

    broker: VALKEY (which Redis may stand in for) or RABBITMQ.
    work: "module.function", whose starts and finishes the grader's ledger is told of; "" for a lab whose work shows
    outside, such as mail that arrives.
    """

    number: int
    slug: str
    title: str
    subject: str
    queue: str
    work: str
    given: tuple[str, ...]
    clients: tuple[str, ...]
    todos: tuple[Todo, ...]
    broker: str = VALKEY

    @property
    def folder(self) -> Path:
        return ROOT / "labs" / self.slug

    @property
    def solution(self) -> Path:
        return ROOT / "solutions" / self.slug

    @property
    def originals(self) -> Path:
        """Where a package without solutions keeps the files as a student first gets them (labkit/packages/)."""
        return ROOT / "labkit" / "originals" / self.slug

    @property
    def given_folder(self) -> Path:
        """A folder with the lab's given files in it, as they must be."""
        return self.solution if self.solution.is_dir() else self.originals

    @property
    def notebook(self) -> Path:
        return ROOT / "notebooks" / f"{self.slug}.ipynb"

    @property
    def grader(self) -> Path:
        return ROOT / "tests" / f"test_{self.slug}.py"

    @property
    def state(self) -> Path:
        """Where results, timelines and kept versions of this lab go."""
        return STATE / self.slug.partition("_")[0]


def labs() -> list[Lab]:
    """All labs, in order."""
    return [_read(path) for path in sorted((ROOT / "labkit" / "labs").glob("lab*.toml"))]


def lab(number: int) -> Lab:
    """The lab of this number.

    Raises:
        NoSuchLab: there is none.
    """
    found = {one.number: one for one in labs()}
    if number not in found:
        there = ", ".join(map(str, found))
        raise NoSuchLab(f"There is no lab {number}. These are there: {there}.")
    return found[number]


def _read(path: Path) -> Lab:
    facts = tomllib.loads(path.read_text())
    todos = tuple(
        Todo(todo["number"], *todo["function"].split("."), todo["say"]) for todo in facts.get("todo", ())
    )
    return Lab(
        number=int(path.stem[3:5]),
        slug=path.stem,
        title=facts["title"],
        subject=facts["subject"],
        queue=facts["queue"],
        work=facts.get("work", ""),
        given=tuple(facts["given"]),
        clients=tuple(facts["clients"]),
        todos=todos,
        broker=facts.get("broker", VALKEY),
    )
