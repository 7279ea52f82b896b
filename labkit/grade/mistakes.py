"""Similar wrong answers, put together: what a class did not understand.

Two failures are the same mistake if the same check tells the same story, whichever task, process and moment it tells
of. Checks that were not run, since they wait for another one, say nothing of their own and are left out.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from labkit.grader.schedule import FAILED, TIMED_OUT

LONGEST_EXAMPLE = 4_000  # characters of a story that is shown
STEP = re.compile(r"\s+[+-]\d+\.\d+ s\b")  # "    +0.412 s  alice  BRPOP images"
PEOPLE = "alice|bob|carol|zoe|ada|grace|hedy|katherine|margaret|radia|everybody|worker ?\\d+"

# What differs between two tellings of one mistake, and what stands for it. The order matters.
SAME = [
    (
        re.compile(r"(?<=in the queue: ).*|(?<=it begins: ).*|(?<=the queue holds: ).*"),
        "…",
    ),  # what was handed in
    (re.compile(r"(its last command was).*?(?=\.$|\. [A-Z]|$)"), r"\1 …"),  # where an endless loop was seen
    (re.compile(r"\{.*?\}|\[[^\]]*\]"), "{…}"),  # a task, a list
    (re.compile(r"\b[0-9a-f]{8}(-[0-9a-f…]+)+|\b(?=[a-f]*\d)(?=\d*[a-f])[0-9a-f]{7,}\b"), "ID"),
    (re.compile(r"0x[0-9a-f]+"), "ADDRESS"),
    (re.compile(r"\w+://[^\s,)]+"), "URL"),
    (re.compile(rf"\b({PEOPLE})( again)?\b"), "SOMEBODY"),
    (re.compile(r"\b(sales|visits|stock|[\w-]+\.(jpg|jpeg|png|pdf|part))\b"), "FILE"),
    (re.compile(r"[+-]?\d+(\.\d+)? ?(ms|s|seconds?|minutes?)\b"), "TIME"),
    (re.compile(r"\btasks? \d+(, \d+)*( and \d+)?"), "tasks"),
    (re.compile(r"\(\w+\) ended\b"), "ended"),
    (
        re.compile(r" \((before|after|during) [^)]*\)"),
        "",
    ),  # the point by command: the words before it say it, too
    (re.compile(r"\bline \d+"), "line"),
]
PLURALS = [
    (re.compile(r"\bwere\b"), "was"),
    (re.compile(r"\bhave\b"), "has"),
    (re.compile(r"\b(task|file|report|command|second|retr|process|worker)(ie|e)?s\b"), r"\1"),
]
NUMBER = re.compile(r"(?<![\w.])\d+(\.\d+)?(?![\w])")


@dataclass
class Mistake:
    """What some submissions have in common. story: as one of them was told it, `example`; names: all, sorted."""

    lab: str
    check: str
    title: str
    story: str
    example: str
    names: list[str] = field(default_factory=list)


class Mistakes:
    """All that went wrong in a batch, grouped. It keeps one story for each group, and the names."""

    def __init__(self) -> None:
        self._groups: dict[tuple[str, str, str], Mistake] = {}

    def add(self, grade: dict) -> None:
        """Sort what failed in this grade record into its groups."""
        for lab, check in failures(grade):
            story = check["message"][:LONGEST_EXAMPLE]
            key = (lab, check["id"], shape(story))
            group = self._groups.setdefault(
                key, Mistake(lab, check["id"], check["title"], story, grade["name"])
            )
            if grade["name"] not in group.names:
                group.names.append(grade["name"])
                group.names.sort()
            if grade["name"] == group.names[0]:  # whoever came first: the page is the same from run to run
                group.story, group.example = story, grade["name"]

    def commonest_first(self) -> list[Mistake]:
        return sorted(self._groups.values(), key=lambda one: (-len(one.names), one.lab, one.check, one.story))


def failures(grade: dict) -> Iterator[tuple[str, dict]]:
    """The checks of a grade record that failed, each with its lab's slug: the causes, not what waits for them."""
    for lab in grade["labs"]:
        for check in lab["checks"]:
            if check["outcome"] in (FAILED, TIMED_OUT):
                yield lab["lab"], check


def shape(story: str) -> str:
    """What is left of a story when tasks, processes, numbers and moments are taken out of it.

    Steps are not looked at: they differ from run to run. Of a traceback, only the error counts.
    """
    told, words = sentences(story)
    return "\n".join(_without_chance(line) for line in (*told, *words[-1:]))


def sentences(story: str) -> tuple[list[str], list[str]]:
    """The lines of a story that tell something, without its steps; and the last words of a script, if there are any."""
    lines = [line for line in story.splitlines() if line.strip(" …") and not STEP.match(line)]
    told = [line.strip() for line in lines if not line.startswith("    ")]
    return told, [line.strip() for line in lines if line.startswith("    ")]


def _without_chance(line: str) -> str:
    for pattern, instead in SAME:
        line = pattern.sub(instead, line)
    for pattern, instead in PLURALS:
        line = pattern.sub(instead, line)
    first = NUMBER.search(line)
    return NUMBER.sub(lambda found: _kind(found.group(), first.group()), line)


def _kind(number: str, first: str) -> str:
    """A number as none, all (the first that is named) or some: that 0 of 12 were done is not what 11 of 12 means."""
    if float(number) == 0:
        return "none"
    return "all" if number == first else "some"
