"""`./lab grade SUBMISSION…`: grade what was handed in, by one student or by a class, and report on it."""

import json
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.text import Text

from labkit import course
from labkit.course import ROOT
from labkit.grade import batch, names
from labkit.grade.one import Request
from labkit.grade.refused import BadSource
from labkit.grade.sources import fetch, is_there, lab_folder
from labkit.grader.record import BadReplay, read_replay
from labkit.grader.words import counted
from labkit.janitor import janitor, remove_tree, temporary_folder
from labkit.reports import FORMATS


@dataclass(frozen=True)
class Order:
    """What was typed. celery: the URL of the broker that the workers on other machines listen to, or ""."""

    sources: Sequence[str]
    request: Request
    out: Path
    formats: Sequence[str]
    jobs: int
    explain: bool = False
    fresh: bool = False
    celery: str = ""


def run(order: Order) -> int:
    """Grade them all; return the exit status: 0 when grading ran to the end, 2, 3 or 130."""
    if unknown := [name for name in order.formats if name not in FORMATS]:
        return _refuse(f"there is no format {unknown[0]}; there are {', '.join(FORMATS)}")
    if missing := [source for source in order.sources if not is_there(source)]:
        return _refuse(f"{missing[0]} is not there. Name a folder, an archive, or a git URL.")
    status = batch.run(
        list(order.sources),
        order.request,
        order.out,
        jobs=order.jobs,
        formats=order.formats,
        fresh=order.fresh,
        celery=order.celery,
    )
    if order.explain and status in (0, 3):
        for folder in _graded(order):
            explain(json.loads((folder / "grade.json").read_text()), folder)
    return status


def _graded(order: Order) -> list[Path]:
    """The folders of the submissions that were just graded."""
    called = names.read_kept(order.out)
    folders = [order.out / called[place] for place in dict.fromkeys(map(names.identity, order.sources))]
    return [folder for folder in folders if (folder / "grade.json").is_file()]


def explain(grade: dict, folder: Path) -> None:
    """For each point that a submission has not got: the story of the check, and how to play it again."""
    console = Console(highlight=False, soft_wrap=True)
    console.print(Text(f"\n{grade['name']}: {grade['points']} of {grade['max_points']} points", style="bold"))
    for note in grade["notes"]:
        console.print(Text(f"  {note}"))
    for result in grade["labs"]:
        for check in result["checks"]:
            _explain(console, grade, result, check, folder)


def _explain(console: Console, grade: dict, result: dict, check: dict, folder: Path) -> None:
    lost = check["max_points"] - check["points"]
    if not lost or check["hidden"]:
        return
    lab = int(result["lab"][3:5])
    outcome = (
        f"not run until “{_title(result, check['waits_for'])}” passes"
        if check["waits_for"]
        else check["outcome"]
    )
    console.print(Text(f"\n  lab {lab}, {check['title']}: {counted(lost, 'point')} not got, {outcome}"))
    if check["message"]:
        console.print(Text("\n".join(f"    {line}" for line in check["message"].splitlines())))
    if check["replay"]:
        failure = os.path.relpath(folder / result["folder"] / check["replay"])
        command = shlex.join(["./lab", "grade", grade["source"], "--replay", failure])
        console.print(Text(f"    {command}", style="dim"))


def _title(result: dict, check_id: str) -> str:
    return next((check["title"] for check in result["checks"] if check["id"] == check_id), check_id)


def replay(source: str, failure: Path, request: Request) -> int:
    """Play one failure of a submission again, and tell its story; the exit status is that of `./lab check`."""
    from labkit.commands import check

    place = temporary_folder()
    try:
        lab = course.lab(read_replay(failure)["lab"])
        handed = fetch(source, place)
        folder = lab_folder(handed.folder, lab)
        if folder is None:
            return _refuse(f"{lab.slug} is not in {source}.")
        wanted = check.Request(
            lab, folder, failure, request.brokers, request.seed, isolation=request.isolation
        )
        return check.once(wanted)
    except (BadReplay, BadSource) as error:
        return _refuse(str(error))
    finally:
        remove_tree(place)
        janitor().forget_folder(place)


def default_out() -> Path:
    """Where the grades go if nobody says where."""
    return ROOT / ".lab" / "grades"


def _refuse(why: str) -> int:
    print(f"lab: {why}", file=sys.stderr)
    return 2
