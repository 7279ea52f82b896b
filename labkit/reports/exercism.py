"""Exercism's results.json, version 3, which its test runners write.

A test that was not run is an error there, and so is the one that stands for hidden checks: with it the status is never
"pass". What counts neither way is no test.
"""

import ast
from functools import cache
from pathlib import Path

from labkit import course
from labkit.grader.schedule import FAILED, PASSED, TIMED_OUT
from labkit.reports.files import fitting, to_json
from labkit.reports.text import cut
from labkit.reports.view import Check, View, hidden_words

MOST_BYTES = 1_000_000
LONGEST_MESSAGE = 65_535
LONGEST_OUTPUT = 500
LONGEST_CODE = 20_000
STATUS = {PASSED: "pass", FAILED: "fail", TIMED_OUT: "fail"}  # all others are errors


def files(grade: dict, folder: Path) -> dict[str, str | bytes]:
    return {"results.json": fitting(lambda longest: to_json(results(View(grade, longest))), MOST_BYTES)}


def results(view: View) -> dict:
    notes = [*view.notes, *(note for lab in view.labs for note in lab.notes)]
    lines = [*view.remarks(), *(f"Note: {note}" for note in notes)]
    if not view.graded:
        message = "\n".join([f"Not graded: {view.trouble()}", *lines])
        return {"version": 3, "status": "error", "message": cut(message, LONGEST_MESSAGE), "tests": []}
    several = len(view.labs) > 1
    tests = [_test(check, several) for check in view.checks if check.counts_at_all]
    if view.hidden:
        words = hidden_words(view.hidden)
        tests.append({"name": words, "status": "error", "message": words})
    passed = all(test["status"] == "pass" for test in tests)
    return {
        "version": 3,
        "status": "pass" if passed else "fail",
        "message": cut("\n".join([view.headline(), *lines]), LONGEST_MESSAGE),
        "tests": tests,
    }


def _test(check: Check, several: bool) -> dict:
    """Exercism's task_id is the TODO; TODOs of several labs would have the same numbers."""
    test = {"name": check.title, "status": STATUS.get(check.outcome, "error")}
    if check.outcome != PASSED:
        test["message"] = cut(check.story, LONGEST_MESSAGE)
    if output := "\n".join(filter(None, [check.counts, *check.commands()])):
        test["output"] = cut(output, LONGEST_OUTPUT)
    if code := _source(check.slug).get(check.id):
        test["test_code"] = cut(code, LONGEST_CODE)
    if check.todo and not several:
        test["task_id"] = check.todo
    return test


@cache
def _source(slug: str) -> dict[str, str]:
    """The code of a lab's checks, by their ids; nothing where the course has no such grader."""
    path = course.ROOT / "tests" / f"test_{slug}.py"
    try:
        text = path.read_text()
    except OSError:
        return {}
    lines = text.splitlines()
    return {
        each.name.removeprefix("test_"): "\n".join(lines[each.lineno - 1 : each.end_lineno])
        for each in ast.parse(text).body
        if isinstance(each, ast.FunctionDef)
    }
