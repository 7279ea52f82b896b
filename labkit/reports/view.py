"""What a student may see of a grade record.

Of hidden checks that is their number, and nothing else: their points are in no sum here, and an outcome is that of the
checks that are shown. All words are plain text already (see text.py); a format escapes them once more as it must.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from labkit import course
from labkit.grader.schedule import FAILED, INFRASTRUCTURE, NOT_RUN, PASSED, TIMED_OUT
from labkit.grader.words import counted
from labkit.reports.text import LONGEST_LINE, first_line, line, plain

MOST_NOTES = 20
SILENT = "The time was over, and nothing is known of what the submission did last."
NO_REASON = "The grader could not do its part, and left no reason."
RERUN = "This says nothing about the work that was handed in: grade it again."
AGAIN = (
    "To see a failure again, type its command in the course's folder: DIR is the folder that was handed in, and the "
    "file after --replay lies in the folder of the grade record."
)
SIGNS = {PASSED: "✓", FAILED: "✗", TIMED_OUT: "⧗", NOT_RUN: "–", INFRASTRUCTURE: "!"}


@dataclass(frozen=True)
class Check:
    """One check, as it is told. lab: its number, 0 for none; story: why it did not pass, of one or more lines.

    name: unique in its report. place: "2.1" for the first check of lab 2. waits_for: the name of the check that has to
    pass first, or "". replay: the failure's file, within the record's folder, or "".
    """

    lab: int
    slug: str
    id: str
    name: str
    place: str
    title: str
    todo: int
    points: int
    max_points: int
    outcome: str
    story: str
    waits_for: str
    seconds: float
    counts: str
    replay: str

    @property
    def short_title(self) -> str:
        """Without the lab, for where that is said already."""
        return self.title.removeprefix(f"Lab {self.lab}: ")

    @property
    def counts_at_all(self) -> bool:
        """False for what could not be made on this broker: it counts neither way."""
        return self.outcome != NOT_RUN or self.max_points > 0

    @property
    def first_line(self) -> str:
        return line(first_line(self.story))

    @property
    def rest(self) -> list[str]:
        """The lines of the story after the first one."""
        lines = [each.rstrip() for each in self.story.splitlines()]
        return lines[next((at for at, each in enumerate(lines) if each.strip()), 0) + 1 :]

    def commands(self) -> list[str]:
        """What to type to learn more; DIR stands for the folder that was handed in."""
        if not self.lab or self.outcome not in (FAILED, TIMED_OUT):
            return []
        again = [f"./lab check {self.lab} --submission DIR --replay {self.replay}"] if self.replay else []
        return [f"./lab hint {self.lab}", *again]


@dataclass(frozen=True)
class Lab:
    """One lab. hidden: how many checks of it are not shown. timeline: within the record's folder, or ""."""

    number: int
    slug: str
    title: str
    outcome: str
    seconds: float
    broker: str
    started: str
    checks: tuple[Check, ...]
    hidden: int
    notes: tuple[str, ...]
    timeline: str

    @property
    def points(self) -> int:
        return sum(check.points for check in self.checks)

    @property
    def max_points(self) -> int:
        return sum(check.max_points for check in self.checks)


class View:
    """A whole record; longest: characters of each story."""

    def __init__(self, grade: dict, longest: int = 20_000) -> None:
        self._longest = longest
        self.name = line(grade["name"], 64)
        self.source = line(grade["source"])
        self.commit = line(grade["commit"], 64)
        self.started = line(grade["started"], 40)
        self.seconds = grade["seconds"]
        self.isolation = line(grade["isolation"], 40)
        self.graded = grade["outcome"] != INFRASTRUCTURE
        self.notes = _notes(grade["notes"], longest)
        several = len(grade["labs"]) > 1
        self.labs = tuple(self._lab(result, several) for result in grade["labs"])
        self.hidden = sum(lab.hidden for lab in self.labs)
        if not any(lab.checks or lab.hidden for lab in self.labs):
            self.labs += (self._nothing(grade),)
        outcomes = {lab.outcome for lab in self.labs}
        order = (INFRASTRUCTURE, TIMED_OUT, FAILED, PASSED)
        self.outcome = next(each for each in order if each in outcomes) if self.graded else INFRASTRUCTURE

    @property
    def checks(self) -> list[Check]:
        return [check for lab in self.labs for check in lab.checks]

    @property
    def points(self) -> int:
        return sum(lab.points for lab in self.labs)

    @property
    def max_points(self) -> int:
        return sum(lab.max_points for lab in self.labs)

    def headline(self) -> str:
        """The result in a few words."""
        return f"{self.points} of {self.max_points} points" if self.graded else "Not graded"

    def remarks(self) -> list[str]:
        """What has to be said beside the points, each in one line; nothing in it came from a submission."""
        said = []
        if not self.graded:
            said.append(f"Something of the grader's own failed. {RERUN}")
            said += [
                f"Lab {lab.number} was graded all the same: {lab.points} of {lab.max_points} points."
                for lab in self.labs
                if lab.outcome != INFRASTRUCTURE
            ]
        if any(check.outcome == TIMED_OUT for check in self.checks):
            said.append("A time limit was reached; what had ended by then is graded and counts.")
        if self.hidden:
            said.append(hidden_words(self.hidden))
        if left := sum(not check.counts_at_all for check in self.checks):
            said.append(f"{counted(left, 'check')} could not be made on this broker and counts neither way.")
        return said

    def trouble(self) -> str:
        """Of a grading that failed for the grader's reasons: the reason, in one line."""
        told = [check.first_line for check in self.checks if check.outcome == INFRASTRUCTURE]
        return next(iter([*told, *self.notes]), NO_REASON)

    def _lab(self, result: dict, several: bool) -> Lab:
        number = int(result["lab"][3:5])
        shown = [check for check in result["checks"] if not check["hidden"]]
        checks = tuple(
            self._check(result, check, number, f"{number}.{place}", several)
            for place, check in enumerate(result["checks"], 1)
            if not check["hidden"]
        )
        hidden = len(result["checks"]) - len(shown)
        folder = result.get("folder", "")
        broker = result.get("broker", {})
        return Lab(
            number=number,
            slug=result["lab"],
            title=_title(number, result["lab"]),
            outcome=_outcome(result["outcome"], checks),
            seconds=result["seconds"],
            broker=line(f"{broker.get('kind', '')} {broker.get('version', '')}".strip(), 60),
            started=line(result["started"], 40),
            checks=checks,
            hidden=hidden,
            notes=_notes(result["notes"], self._longest),
            # The page's head counts the hidden checks' points, too.
            timeline=f"{folder}/timeline.html" if re.fullmatch(r"lab\d\d", folder) and not hidden else "",
        )

    def _check(self, result: dict, check: dict, number: int, place: str, several: bool) -> Check:
        others = {other["id"]: other for other in result["checks"] if not other["hidden"]}
        before = others.get(check["waits_for"])
        prefix = f"Lab {number}: " if several else ""
        name = f"{result['lab'][:5]}_{check['id']}" if several else check["id"]
        waits = (
            f"{result['lab'][:5]}_{before['id']}" if several and before else before["id"] if before else ""
        )
        folder = result.get("folder", "")
        return Check(
            lab=number,
            slug=result["lab"],
            id=check["id"],
            name=name,
            place=place,
            title=prefix + line(check["title"]),
            todo=check["task"],
            points=check["points"],
            max_points=check["max_points"],
            outcome=check["outcome"],
            story=self._story(check, before),
            waits_for=waits,
            seconds=check["seconds"],
            counts=_counts(check),
            replay=f"{folder}/{check['replay']}" if check["replay"] and folder else "",
        )

    def _story(self, check: dict, before: dict | None) -> str:
        told = plain(check["message"], self._longest).strip("\n")
        if check["outcome"] == TIMED_OUT:
            return told or SILENT
        if check["outcome"] == NOT_RUN:
            return told or (f"Not run until “{line(before['title'])}” passes." if before else "Not run.")
        if check["outcome"] == INFRASTRUCTURE:
            return told or NO_REASON
        return told

    def _nothing(self, grade: dict) -> Lab:
        """Stands for a submission of which no check could be played at all, so that no report looks empty."""
        why = "\n".join(self.notes) or "Nothing of it was graded."
        outcome = FAILED if self.graded else INFRASTRUCTURE
        check = Check(
            0, "no_lab", "submission", "submission", "0.1", "What was handed in can be graded", 0, 0, 0,
            outcome, why, "", 0.0, "", "",
        )  # fmt: skip
        return Lab(0, "no_lab", "", outcome, 0.0, "", line(grade["started"], 40), (check,), 0, (), "")


def hidden_words(number: int) -> str:
    """Of hidden checks, all that may be said."""
    are, is_it = ("is", "it is") if number == 1 else ("are", "they are")
    return f"{counted(number, 'more check')} {are} hidden: {is_it} not counted in the points shown here."


def _outcome(recorded: str, checks: Iterable[Check]) -> str:
    """The outcome of a lab without its hidden checks."""
    outcomes = {check.outcome for check in checks if check.counts_at_all}
    if INFRASTRUCTURE in (recorded, *outcomes):
        return INFRASTRUCTURE
    if recorded == TIMED_OUT and TIMED_OUT in outcomes:
        return TIMED_OUT
    return FAILED if outcomes - {PASSED} else PASSED


def _notes(notes: list[str], longest: int) -> tuple[str, ...]:
    shown = [line(note, min(LONGEST_LINE, longest)) for note in notes[:MOST_NOTES]]
    more = [f"{len(notes) - MOST_NOTES} more notes are left out."] if len(notes) > MOST_NOTES else []
    return tuple(shown + more)


def _counts(check: dict) -> str:
    """What became of the tasks, and what was tried, in one line."""
    verdict = {word.replace("_", " "): number for word, number in check["verdict"].items() if number}
    parts = [f"{number} {word}" for word, number in verdict.items()] if "sent" in verdict else []
    tried = [f"{line(str(what), 80)}: {number}" for what, number in check["facts"].items()]
    return line("; ".join(filter(None, [f"Tasks: {', '.join(parts)}" if parts else "", ", ".join(tried)])))


def _title(number: int, slug: str) -> str:
    try:
        return course.lab(number).title
    except course.NoSuchLab:
        return slug
