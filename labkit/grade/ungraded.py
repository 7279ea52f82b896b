"""The result record of a lab that was not played: nothing was handed in for it, or the grader could not do its part.

The checks are read off the grader's file without running it: what is wrong with the machine does not matter here.
"""

import ast
from collections.abc import Iterator

from labkit.course import Lab
from labkit.grader import record
from labkit.grader.schedule import INFRASTRUCTURE, NOT_RUN


def ungraded(lab: Lab, outcome: str, why: str, source: str = "") -> dict:
    """A result record without any points, as `labkit.grader.record` makes them.

    outcome: FAILED or INFRASTRUCTURE of labkit.grader.schedule; why: one line, said by the record and by each check.
    """
    of_each = INFRASTRUCTURE if outcome == INFRASTRUCTURE else NOT_RUN
    checks = [_unplayed(check, of_each, why) for check in checks_of(lab)]
    return {
        "schema": record.SCHEMA,
        "version": record.VERSION,
        "lab": lab.slug,
        "submission": source,
        "started": record.now()[1],
        "seconds": 0.0,
        "broker": {"kind": "", "version": ""},
        "isolation": "",
        "seed": 0,
        "points": 0,
        "max_points": sum(check["max_points"] for check in checks),
        "outcome": outcome,
        "notes": [why],
        "checks": checks,
    }


def _unplayed(check: dict, outcome: str, why: str) -> dict:
    return {
        "id": check["id"],
        "title": check["title"],
        "task": check["todo"],
        "points": 0,
        "max_points": check["points"],
        "outcome": outcome,
        "message": why,
        "waits_for": "",
        "hidden": check["hidden"],
        "seconds": 0.0,
        "verdict": {},
        "facts": {},
        "timeline": "",
        "replay": "",
    }


def checks_of(lab: Lab) -> list[dict]:
    """The checks of a lab, in the file's order: id, title, points, todo, hidden."""
    return list(_checks_in(ast.parse(lab.grader.read_text())))


def _checks_in(module: ast.Module) -> Iterator[dict]:
    for function in module.body:
        for mark in getattr(function, "decorator_list", ()):
            if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.check":
                facts = {word.arg: ast.literal_eval(word.value) for word in mark.keywords}
                yield {
                    "id": function.name.removeprefix("test_"),
                    "title": (ast.get_docstring(function) or function.name).splitlines()[0].rstrip("."),
                    "points": facts["points"],
                    "todo": facts.get("todo", 0),
                    "hidden": facts.get("hidden", False),
                }
