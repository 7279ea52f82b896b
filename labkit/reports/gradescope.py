"""Gradescope's results.json.

Gradescope can hide a test from students, and then hides their total, too: so a hidden check is a whole test here, with
the visibility "hidden", and the instructor sees it graded. Nothing that a student sees counts it.
A grading that failed for the grader's own reasons has no test and no score: a zero would be taken for a grade.
"""

from pathlib import Path

from labkit.grader.schedule import NOT_RUN, PASSED
from labkit.reports.files import fitting, to_json
from labkit.reports.text import code, fence, line, plain, prose
from labkit.reports.view import Check, View

MOST_BYTES = 1_000_000


def files(grade: dict, folder: Path) -> dict[str, str | bytes]:
    return {"results.json": fitting(lambda longest: to_json(results(grade, longest)), MOST_BYTES)}


def results(grade: dict, longest: int) -> dict:
    """The whole content; longest: characters of each story."""
    view = View(grade, longest)
    return {
        "execution_time": round(view.seconds, 3),
        "output": _output(view),
        "output_format": "md",
        "test_output_format": "md",
        "test_name_format": "text",
        "visibility": "visible",
        "stdout_visibility": "hidden",
        "extra_data": {"record": grade["schema"], "digest": line(grade["digest"]), "commit": view.commit},
        "tests": _tests(grade, view, longest) if view.graded else [],
    }


def _output(view: View) -> str:
    lines = [f"**{view.headline()}**" if view.graded else f"**Not graded:** {code(view.trouble())}"]
    lines += [prose(remark) for remark in view.remarks()]
    if not view.graded:
        lines.append(prose("For the instructor: run the autograder on this submission again."))
    notes = [*view.notes, *(note for lab in view.labs for note in lab.notes)]
    return "\n\n".join([*lines, *(f"Note: {code(note)}" for note in notes)])


def _tests(grade: dict, view: View, longest: int) -> list[dict]:
    """In the order of the record, the hidden ones in their places."""
    shown = {check.place: check for check in view.checks}
    tests = []
    for result in grade["labs"]:
        number = int(result["lab"][3:5])
        for place, check in enumerate(result["checks"], 1):
            if check["hidden"]:
                prefix = f"Lab {number}: " if len(grade["labs"]) > 1 else ""
                tests.append(_hidden(check, f"{number}.{place}", prefix, longest))
            else:
                tests.append(_test(shown[f"{number}.{place}"]))
    return tests or [_test(check) for check in view.checks]


def _test(check: Check) -> dict:
    test = _common(check.points, check.max_points, check.outcome, check.title, check.place)
    parts = [fence(check.story)] if check.story else []
    parts += [f"`{command}`" for command in check.commands()]
    return test | {
        "output": "\n\n".join(parts),
        "output_format": "md",
        "tags": [check.slug, check.outcome],
        "visibility": "visible",
    }


def _hidden(check: dict, place: str, prefix: str, longest: int) -> dict:
    test = _common(
        check["points"], check["max_points"], check["outcome"], prefix + line(check["title"]), place
    )
    story = plain(check["message"], longest).strip("\n")
    return test | {
        "output": fence(story) if story else "",
        "output_format": "md",
        "tags": ["hidden", check["outcome"]],
        "visibility": "hidden",
    }


def _common(points: int, max_points: int, outcome: str, title: str, place: str) -> dict:
    test = {"score": points, "max_score": max_points}
    if outcome != NOT_RUN or max_points:  # else it counts neither way
        test["status"] = "passed" if outcome == PASSED else "failed"
    return test | {"name": title, "name_format": "text", "number": place}
