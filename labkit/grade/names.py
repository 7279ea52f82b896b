"""A folder name for each submission of a batch: unique, and the same from run to run."""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from labkit.grade.sources import LONGEST_NAME, URL, name_of, told_as
from labkit.grader.record import replace

KEPT = "names.json"
OURS = {KEPT, "gradebook.csv", "index.html", "groups.md"}  # what lies beside the submissions' folders
OF_A_LAB = re.compile(r"lab\d\d(_[a-z0-9_]+)?|labs|submission|src")  # says nothing about whose it is


def identity(source: str) -> str:
    """What two words for the same submission have in common: a URL as it is, a path from the root."""
    is_url = URL.match(source) and not os.path.lexists(source)
    return told_as(source) if is_url else os.path.abspath(source)


def unique_names(
    sources: Iterable[str], kept: dict[str, str] | None = None, there: Iterable[str] = ()
) -> dict[str, str]:
    """A name for each source, by its identity; a source that is given twice has one.

    kept: names that an earlier run gave, by identity; they stay. Otherwise a name depends on the source and on those
    before it only: one more source at the end changes none.
    there: what lies where the grades go. What no earlier run has put there is somebody's, perhaps a submission itself;
    no name is given that would write over it.
    """
    wanted = {identity(source): source for source in sources}
    names = {each: name for each, name in (kept or {}).items() if each in wanted}
    taken = {name.casefold() for name in (*OURS, *there, *(kept or {}).values())}
    for each, source in wanted.items():
        if each not in names:
            names[each] = next(name for name in _candidates(source) if name.casefold() not in taken)
            taken.add(names[each].casefold())
    return {each: names[each] for each in wanted}


def _candidates(source: str) -> Iterator[str]:
    """Its own name, unless that is only a lab's; with the folder's that it is in; with a digest of the source."""
    name = name_of(source)
    place = identity(source)
    parent = place.rstrip("/").rpartition("/")[0]
    inside = f"{name_of(parent)}-{name}"[:LONGEST_NAME].rstrip("-.") if parent.strip("/") else name
    if not OF_A_LAB.fullmatch(name):
        yield name
    yield inside
    digest = hashlib.sha256(place.encode("utf-8", "surrogateescape")).hexdigest()
    for length in (6, 12, 24):
        yield f"{name[: LONGEST_NAME - 1 - length].rstrip('-.')}-{digest[:length]}"


def read_kept(out: Path) -> dict[str, str]:
    """The names that an earlier run gave in this folder."""
    try:
        kept = json.loads((out / KEPT).read_text())
    except (OSError, ValueError):
        return {}
    return {str(each): str(name) for each, name in kept.items()} if isinstance(kept, dict) else {}


def keep(out: Path, names: dict[str, str]) -> None:
    """Have these names given again by the next run; those of sources that are not in this one stay, too."""
    replace(out / KEPT, json.dumps(read_kept(out) | names, indent=1) + "\n")
