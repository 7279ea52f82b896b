"""Grade one submission: fetch it, play the labs' graders on it, and keep one record of all that came of it."""

import json
import time
from dataclasses import dataclass
from pathlib import Path

from labkit import course
from labkit.brokers import InfrastructureError
from labkit.course import Lab
from labkit.grade.play import play
from labkit.grade.refused import BadSource
from labkit.grade.sources import Handed, fetch, lab_folder, labs_in, scripts_of, told_as
from labkit.grade.ungraded import ungraded
from labkit.grader.record import now, replace
from labkit.grader.schedule import FAILED, INFRASTRUCTURE, PASSED, TIMED_OUT
from labkit.grader.words import clean
from labkit.janitor import janitor, remove_tree, temporary_folder

SCHEMA = "task-queue-labs/grade"
VERSION = 1
TIMEOUT_SECONDS = 300.0
TRIES = 2  # of a grading in which something of ours did not work


@dataclass(frozen=True)
class Request:
    """How submissions are to be graded. Without labs: each on those that it holds. timeout: seconds for one lab."""

    labs: tuple[Lab, ...] = ()
    brokers: str = "embedded"
    isolation: str = "bubblewrap"
    timeout: float = TIMEOUT_SECONDS
    seed: int = 0


def grade(source: str, name: str, request: Request, out: Path) -> dict:
    """Grade what `source` names (see labkit.grade.sources); return the grade record, also written to out/name/.

    What is wrong with the submission, or with the machine, is told by the record, and raises nothing.
    """
    began, started = now()
    folder = out / name
    place = temporary_folder()
    handed, notes = None, []
    try:
        _clear(folder)
        try:
            handed = _fetched(source, place)
            notes += handed.notes
            wanted = request.labs or labs_in(handed.folder)
            results = [_lab_of(handed, lab, request, folder) for lab in wanted]
            if not results:
                notes.append(f"It holds none of the labs: {', '.join(lab.slug for lab in course.labs())}.")
        except BadSource as refusal:
            notes.append(str(refusal))
            results = [_without(lab, FAILED, str(refusal), source) for lab in request.labs]
        except (InfrastructureError, OSError) as trouble:  # the network, or no room on the disk
            notes.append(f"The grader could not do its part: {trouble}.")
            results = [_without(lab, INFRASTRUCTURE, str(trouble), source) for lab in request.labs]
            results = results or [{"points": 0, "max_points": 0, "outcome": INFRASTRUCTURE}]
    finally:
        remove_tree(place)
        janitor().forget_folder(place)
    graded = {
        "schema": SCHEMA,
        "version": VERSION,
        "name": name,
        "source": clean(told_as(source)),
        "digest": handed.digest if handed else "",
        "commit": handed.commit if handed else "",
        "committed": handed.committed if handed else "",
        "started": started,
        "seconds": round(time.monotonic() - began, 3),
        "isolation": next((result["isolation"] for result in results if result.get("isolation")), ""),
        "points": sum(result["points"] for result in results),
        "max_points": sum(result["max_points"] for result in results),
        "outcome": outcome_of(results),
        "notes": [clean(note) for note in notes],
        "labs": [result for result in results if "lab" in result],
    }
    folder.mkdir(parents=True, exist_ok=True)
    replace(folder / "grade.json", json.dumps(graded, indent=2, ensure_ascii=False) + "\n")
    return graded


def outcome_of(results: list[dict]) -> str:
    """The outcome of several labs: the worst of theirs; of none at all, failed."""
    outcomes = {result["outcome"] for result in results} or {FAILED}
    return next(one for one in (INFRASTRUCTURE, TIMED_OUT, FAILED, PASSED) if one in outcomes)


def _clear(folder: Path) -> None:
    """Take away what an earlier grading left; the record goes first, so that nothing looks finished that is not."""
    (folder / "grade.json").unlink(missing_ok=True)
    remove_tree(folder)


def _fetched(source: str, place: Path) -> Handed:
    """The submission, in `place`; what failed of the network or of the machine is tried once more."""
    (first := place / "first").mkdir()
    try:
        return fetch(source, first)
    except InfrastructureError:
        remove_tree(first)
        (second := place / "second").mkdir()
        return fetch(source, second)


def _lab_of(handed: Handed, lab: Lab, request: Request, folder: Path) -> dict:
    """The result record of one lab; when something of the grader's own fails, that lab is graded once more."""
    submitted = lab_folder(handed.folder, lab)
    if submitted is None:
        return _without(lab, FAILED, f"{lab.slug} is not in what was handed in.", handed.source)
    scripts = scripts_of(lab)
    if not any((submitted / name).is_file() for name in scripts):
        return _without(lab, FAILED, f"{lab.slug} holds none of {', '.join(scripts)}.", handed.source)
    where = lab.state.name
    tries, result = 0, None
    while tries < TRIES and (result is None or result["outcome"] == INFRASTRUCTURE):
        tries += 1
        result = play(
            lab,
            submitted,
            folder / where,
            brokers=request.brokers,
            isolation=request.isolation,
            timeout=request.timeout,
            seed=request.seed,
        )
    if tries > 1:
        result["notes"].append(f"It was graded {tries} times: something of the grader's own had failed.")
    return result | {"submission": clean(handed.source), "folder": where}


def _without(lab: Lab, outcome: str, why: str, source: str) -> dict:
    return ungraded(lab, outcome, clean(why), clean(told_as(source))) | {"folder": ""}
