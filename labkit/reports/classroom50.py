"""Classroom 50's result.json, with what its release may carry: the report as its text, and the timelines.

Who submitted what is told by the environment that its runner sets; outside of it the record's own names stand in.
A grading that failed for the grader's own reasons leaves no result.json: the autograder ends with a status that is not
zero (exit_status), and the runner then publishes an error and no score.
"""

import os
from datetime import UTC, datetime
from pathlib import Path

from labkit.grader.schedule import INFRASTRUCTURE, PASSED
from labkit.reports import markdown
from labkit.reports.files import fitting, to_json
from labkit.reports.text import line
from labkit.reports.view import Check, View, hidden_words

SCHEMA = "classroom50/result/v1"
MOST_BYTES = 500_000
EXIT_INFRASTRUCTURE = 3


def exit_status(grade: dict) -> int:
    """What an autograder ends with: 0 whenever grading ran to its end, 3 for infrastructure."""
    return EXIT_INFRASTRUCTURE if grade["outcome"] == INFRASTRUCTURE else 0


def files(grade: dict, folder: Path) -> dict[str, str | bytes]:
    view = View(grade)
    made: dict[str, str | bytes] = {"release-body.md": markdown.report(grade, folder, linked=False)}
    if not view.graded:
        return made
    made["result.json"] = fitting(lambda longest: to_json(result(grade, longest)), MOST_BYTES)
    for lab in view.labs:
        timeline = folder / lab.timeline
        if lab.timeline and timeline.is_file():
            made[f"{lab.slug[:5]}-timeline.html"] = timeline.read_bytes()
    return made


def result(grade: dict, longest: int) -> dict:
    """The whole content; longest: characters of each story. Its values come from the environment where it has them."""
    view = View(grade, longest)
    tests = [_test(check) for check in view.checks if check.counts_at_all]
    if view.hidden:  # without it, all of the tests listed might have passed
        tests.append({"test-name": hidden_words(view.hidden), "passed": False, "score": 0, "max-score": 0})
    said = {
        "classroom": _from("CLASSROOM") or "none",
        "assignment": _from("ASSIGNMENT") or ",".join(lab.slug for lab in view.labs),
        "assignment_type": _from("ASSIGNMENT_TYPE") or "individual",
        "owner": _from("OWNER") or _from("USERNAME") or view.name,
        "submission": _from("SUBMISSION_TAG") or view.name,
        "commit": _from("COMMIT_URL") or view.commit or "none",
        "release": _from("RELEASE_URL") or "none",
        "review": _from("REVIEW_URL") or _from("COMMIT_URL") or "none",
    }
    return {
        "schema": SCHEMA,
        **said,
        "datetime": _in_utc(grade["committed"]) or _in_utc(grade["started"]),
        "graded_at": _in_utc(grade["started"]),
        "score": view.points,
        "max-score": view.max_points,
        "tests": tests,
    }


def _test(check: Check) -> dict:
    return {
        "test-name": check.title,
        "passed": check.outcome == PASSED,
        "score": check.points,
        "max-score": check.max_points,
        "outcome": check.outcome,
        "story": check.story,
    }


def _from(name: str) -> str:
    return line(os.environ.get(name, ""), 2_000)


def _in_utc(moment: str) -> str:
    """ISO 8601 in UTC with a Z, whole seconds; "" for what is no moment."""
    try:
        return datetime.fromisoformat(moment).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except ValueError:
        return ""
