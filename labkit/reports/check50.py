"""check50's results.json, as check50 3 writes it with --output json.

A check that was not run, and one of a grading that failed for the grader's own reasons, is null: neither passed nor
failed. So is the one that stands for the checks that are hidden.
"""

from pathlib import Path

from labkit.grader.schedule import FAILED, INFRASTRUCTURE, PASSED, TIMED_OUT
from labkit.reports.files import fitting, to_json
from labkit.reports.view import RERUN, Check, View, hidden_words

VERSION = "3.5.0"  # of check50, whose form this is
SLUG = "task-queue-labs"
MOST_BYTES = 1_000_000
PASS_WORDS = {PASSED: True, FAILED: False, TIMED_OUT: False}  # all others are null


def files(grade: dict, folder: Path) -> dict[str, str | bytes]:
    return {"results.json": fitting(lambda longest: to_json(results(View(grade, longest))), MOST_BYTES)}


def results(view: View) -> dict:
    slug = f"{SLUG}/{view.labs[0].slug}" if len(view.labs) == 1 else SLUG
    head = {"slug": slug, "version": VERSION}
    if not view.graded and not any(check.lab for check in view.checks):
        return head | {
            "error": _error(view.trouble()) | {"actions": {"show_traceback": False, "message": RERUN}}
        }
    listed = [_result(check) for check in view.checks]
    if view.hidden:
        words = hidden_words(view.hidden)
        listed.append(_common("hidden", words, None) | {"cause": {"rationale": words, "help": None}})
    return head | {"results": listed}


def _result(check: Check) -> dict:
    result = _common(check.name, check.title, PASS_WORDS.get(check.outcome))
    result["dependency"] = check.waits_for or None
    result["data"] = {"points": check.points, "max_points": check.max_points, "outcome": check.outcome}
    if check.outcome == PASSED:
        return result
    result["log"] = check.rest
    result["cause"] = {"rationale": check.first_line, "help": "\n".join(check.commands()) or None}
    if check.outcome == INFRASTRUCTURE:
        result["cause"] |= {"help": RERUN, "error": _error(check.first_line)}
    return result


def _common(name: str, description: str, passed: bool | None) -> dict:
    return {
        "name": name,
        "description": description,
        "passed": passed,
        "log": [],
        "cause": None,
        "data": {},
        "dependency": None,
    }


def _error(why: str) -> dict:
    return {"type": "InfrastructureError", "value": why, "traceback": [], "data": {}}
