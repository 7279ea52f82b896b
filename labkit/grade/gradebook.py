"""What an instructor reads in the end: gradebook.csv, index.html and groups.md, whole at each moment of a batch.

Of each submission only a row is kept here, and of each mistake one story: memory hardly grows with the class.
"""

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from labkit.grade.mistakes import Mistake, Mistakes, failures
from labkit.grader.record import replace
from labkit.grader.schedule import INFRASTRUCTURE, PASSED, TIMED_OUT
from labkit.grader.words import clean, counted

AFTER_A_SEPARATOR = re.compile(r";(?=\s*[=+\-@])")
BEGINS_A_FORMULA = ("=", "+", "-", "@", "\t", "\r")
LONGEST_LOOK = 200
FORMATS_FIRST = ("html", "markdown")  # of the reports that a link may lead to


@dataclass(frozen=True)
class LabRow:
    """One lab of one submission. points: None where they say nothing; folder: where its timeline is, or ""."""

    slug: str
    points: int | None
    max_points: int
    outcome: str
    folder: str


@dataclass(frozen=True)
class Row:
    """One submission in the gradebook. points: None where they say nothing; look: one line of what to look at."""

    name: str
    source: str
    points: int | None
    max_points: int
    outcome: str
    look: str
    seconds: float = 0.0
    labs: tuple[LabRow, ...] = ()
    report: str = ""  # its page, seen from the gradebook's folder


def row_of(grade: dict, folder: Path) -> Row:
    """The row of a grade record whose folder is `folder`."""
    reports = (path for kind in FORMATS_FIRST for path in (folder / kind).glob("report.*"))
    report = next((f"{grade['name']}/{path.parent.name}/{path.name}" for path in reports), "")
    labs = tuple(
        LabRow(
            lab["lab"],
            _points(lab),
            lab["max_points"],
            lab["outcome"],
            lab["folder"] if lab["folder"] and (folder / lab["folder"] / "timeline.html").is_file() else "",
        )
        for lab in grade["labs"]
    )
    return Row(
        grade["name"],
        grade["source"],
        _points(grade),
        grade["max_points"],
        grade["outcome"],
        look_of(grade),
        grade["seconds"],
        labs,
        report,
    )


def _points(record: dict) -> int | None:
    return None if record["outcome"] == INFRASTRUCTURE else record["points"]


def look_of(grade: dict) -> str:
    """One line: where to begin to look at this submission; "" if everything passed."""
    if grade["outcome"] == PASSED:
        return ""
    if grade["outcome"] == INFRASTRUCTURE:
        told = [check["message"] for lab in grade["labs"] for check in lab["checks"]
                if check["outcome"] == INFRASTRUCTURE]  # fmt: skip
        return _one_line(
            f"not graded: {(told or grade['notes'] or ['something of the grader’s own failed'])[0]}"
        )
    found = list(failures(grade))
    if not found:
        notes = [*grade["notes"], *(note for lab in grade["labs"] for note in lab["notes"])]
        return _one_line((notes or ["nothing of it passed"])[0])
    lab, check = next((one for one in found if one[1]["outcome"] == TIMED_OUT), found[0])
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return _one_line(f"{lab.partition('_')[0]}, {check['title']}: {check['message']}", more)


def _one_line(text: str, more: str = "") -> str:
    line = clean(text.strip().partition("\n")[0])
    return (line if len(line) <= LONGEST_LOOK else f"{line[: LONGEST_LOOK - 1]}…") + more


class Gradebook:
    """The rows of a batch, in the order in which the submissions were given, and its mistakes."""

    def __init__(self, out: Path, names: Sequence[str]) -> None:
        self.out, self.names = out, list(names)
        self.rows: dict[str, Row] = {}
        self.mistakes = Mistakes()

    def add(self, row: Row, grade: dict | None = None) -> None:
        """Enter a submission that has ended. Without a grade record, the row is all there is."""
        self.rows[row.name] = row
        if grade:
            self.mistakes.add(grade)

    @property
    def in_order(self) -> list[Row]:
        return [self.rows[name] for name in self.names if name in self.rows]

    @property
    def labs(self) -> list[str]:
        """The slugs of all labs that anybody was graded on."""
        return sorted({lab.slug for row in self.rows.values() for lab in row.labs})

    def write(self) -> None:
        """Write all three files, each whole.

        Raises:
            OSError: such as a full disk; what was there before is still there.
        """
        from labkit.grade.class_page import page

        replace(self.out / "gradebook.csv", self.csv())
        groups = self.mistakes.commonest_first()
        replace(self.out / "groups.md", markdown(groups, len(self.rows)))
        replace(self.out / "index.html", page(self, groups))

    def csv(self) -> str:
        """The gradebook as CSV: a row each, `lab01` and so on for the points of a lab; what says nothing is empty."""
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\r\n")
        labs = self.labs
        short = [slug.partition("_")[0] for slug in labs]
        table.writerow(["name", "source", "points", "max", "outcome", *short, "look at"])
        for row in self.in_order:
            of = {lab.slug: lab.points for lab in row.labs}
            points = [row.points, row.max_points]
            cells = [row.name, row.source, *points, row.outcome, *(of.get(slug) for slug in labs), row.look]
            table.writerow([_cell(value) for value in cells])
        return text.getvalue()


def _cell(value: object) -> object:
    """A cell that a spreadsheet takes for text: no formula can begin in what somebody has handed in.

    Nor after a semicolon in it: where the comma is a decimal sign, that is what parts the cells for a spreadsheet.
    """
    if not isinstance(value, str):
        return value
    text = AFTER_A_SEPARATOR.sub(r";'", clean(value).replace("\n", " "))
    return f"'{text}" if text.lstrip().startswith(BEGINS_A_FORMULA) or value.startswith("\t") else text


def markdown(groups: list[Mistake], submissions: int) -> str:
    """groups.md: the mistakes of the class, the commonest first, each with one story and whose it is."""
    lines = [f"# What went wrong in {counted(submissions, 'submission')}", ""]
    if not groups:
        lines += ["Nothing: no check failed.", ""]
    for group in groups:
        lines += [
            f"## {len(group.names)} × {_plain(group.title)} ({group.lab.partition('_')[0]})",
            "",
            *(f"    {line}" for line in clean(group.story).split("\n")),
            "",
            f"As {_plain(group.example)} was told it. The same: {', '.join(map(_plain, group.names))}.",
            "",
        ]
    return "\n".join(lines)


def _plain(text: str) -> str:
    """Text that Markdown shows as it is."""
    return "".join(
        f"\\{char}" if char in "\\`*_[]<>#|!&" else char for char in clean(text).replace("\n", " ")
    )
