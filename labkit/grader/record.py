"""The native result of a grading run: one JSON object, from which every report is made. Schema: result.schema.json."""

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from labkit.grader import timeline
from labkit.grader.schedule import FAILED, INFRASTRUCTURE, NOT_RUN, PASSED, TIMED_OUT
from labkit.replacing import replace

if TYPE_CHECKING:
    from labkit.grader.plugin import Grading

SCHEMA = "task-queue-labs/result"
VERSION = 1


class BadReplay(Exception):
    """The file given with --replay is none that a failure left. Its text is one line for the user."""


def now() -> tuple[float, str]:
    """The monotonic clock, and the time of day in UTC as ISO 8601."""
    return time.monotonic(), datetime.now(UTC).isoformat(timespec="seconds")


def read_replay(path: Path) -> dict:
    """Read what a failed check left.

    Raises:
        BadReplay: no such file, or not one of ours.
    """
    try:
        found = json.loads(path.read_text())
        return {**found, "lab": int(found["lab"]), "check": str(found["check"]), "seed": int(found["seed"])}
    except (OSError, ValueError, LookupError, TypeError):
        raise BadReplay(f"{path} is not the file of a failure; they are in .lab/labNN/failures/.") from None


def write(grading: "Grading", folder: str | None) -> dict:
    """Make the record of a finished run; write it, the timeline and the failures' files; return the record."""
    target = Path(folder) if folder else grading.lab.state
    target.mkdir(parents=True, exist_ok=True)
    result = make(grading, target)
    replace(target / "result.json", json.dumps(result, indent=2, ensure_ascii=False) + "\n")
    replace(target / "timeline.html", timeline.page(grading, result))
    return result


def make(grading: "Grading", target: Path) -> dict:
    checks = [_check(grading, check, target) for check in grading.checks if check.id in grading.outcomes]
    outcomes = {check["outcome"] for check in checks}
    began, started = getattr(grading, "began", now())
    kind, version = getattr(grading, "broker", ("", ""))
    if INFRASTRUCTURE in outcomes:
        outcome = INFRASTRUCTURE
    elif grading.out_of_time:
        outcome = TIMED_OUT
    elif all(grading.outcomes[check["id"]].lets_others_play for check in checks):
        outcome = PASSED
    else:
        outcome = FAILED
    return {
        "schema": SCHEMA,
        "version": VERSION,
        "lab": grading.lab.slug,
        "submission": str(grading.submission.source) if hasattr(grading, "submission") else "",
        "started": started,
        "seconds": round(time.monotonic() - began, 3),
        "broker": {"kind": kind, "version": version},
        "isolation": grading.isolation,
        "seed": getattr(grading, "seed", 0),
        "points": sum(check["points"] for check in checks),
        "max_points": sum(check["max_points"] for check in checks),
        "outcome": outcome,
        "notes": grading.notes,
        "checks": checks,
    }


def _check(grading: "Grading", check, target: Path) -> dict:
    outcome = grading.outcomes[check.id]
    failure = ""
    (target / f"failures/{check.id}.json").unlink(missing_ok=True)  # of an earlier run
    if outcome.outcome in (FAILED, TIMED_OUT):
        failure = f"failures/{check.id}.json"
        (target / "failures").mkdir(exist_ok=True)
        kept = {"lab": grading.lab.number, "check": check.id, "submission": str(grading.submission.source)}
        kept |= outcome.schedule
        replace(target / failure, json.dumps(kept, indent=2) + "\n")
    return {
        "id": check.id,
        "title": check.title,
        "task": check.todo,
        "points": check.points if outcome.outcome == PASSED else 0,
        "max_points": 0 if outcome.not_applicable else check.points,
        "outcome": outcome.outcome,
        "message": outcome.message,
        "waits_for": outcome.waits_for,
        "hidden": check.hidden,
        "seconds": round(outcome.seconds, 3),
        "verdict": outcome.counts,
        "facts": outcome.facts,
        "timeline": "" if outcome.outcome in (NOT_RUN, INFRASTRUCTURE) else f"timeline.html#{check.id}",
        "replay": failure,
    }
