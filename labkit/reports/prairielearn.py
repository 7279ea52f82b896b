"""PrairieLearn's results.json, at most 1 MB whole.

PrairieLearn shows messages and outputs in a fixed-width font, and escapes them. A check that counts neither way, and
the one that stands for those that are hidden, have 0 of 0 points: they are shown gray. gradable is false for what is
infrastructure: that costs no attempt.
"""

from pathlib import Path

from labkit.grader.words import counted
from labkit.reports.files import fitting, to_json
from labkit.reports.pictures import data_url, of_failures
from labkit.reports.view import Check, View, hidden_words

MOST_BYTES = 1_000_000
FOR_PICTURES = 600_000  # bytes of these
LABEL = "What the story tells, drawn"


def files(grade: dict, folder: Path) -> dict[str, str | bytes]:
    drawn = of_failures(View(grade), folder)
    urls = _that_fit({name: data_url(picture) for name, picture in drawn.items()})
    left_out = len(drawn) - len(urls)
    return {
        "results.json": fitting(
            lambda longest: to_json(results(View(grade, longest), urls, left_out)), MOST_BYTES
        )
    }


def _that_fit(urls: dict[str, str]) -> dict[str, str]:
    """As many pictures as there is room for, in the order of the checks."""
    room, kept = FOR_PICTURES, {}
    for name, url in urls.items():
        if len(url) <= room:
            room -= len(url)
            kept[name] = url
    return kept


def results(view: View, urls: dict[str, str], left_out: int) -> dict:
    """The whole content; urls: a picture for some checks, by their names; left_out: how many did not fit."""
    lines = view.remarks()
    lines += [f"Note: {note}" for note in (*view.notes, *(note for lab in view.labs for note in lab.notes))]
    if left_out:
        are = "is" if left_out == 1 else "are"
        lines.append(f"{counted(left_out, 'picture')} {are} left out: the report would be larger than 1 MB.")
    if not view.graded:
        trouble = f"Not graded: {view.trouble()}"
        return {
            "gradable": False,
            "message": trouble,
            "output": "\n".join(lines),
            "format_errors": [trouble, *view.remarks()],
        }
    tests = [_test(check, urls.get(check.name, "")) for check in view.checks]
    if view.hidden:
        words = hidden_words(view.hidden)
        tests.append({"name": words, "points": 0, "max_points": 0, "message": words})
    return {
        "gradable": True,
        "score": view.points / view.max_points if view.max_points else 0,
        "message": view.headline(),
        "output": "\n".join(lines),
        "tests": tests,
    }


def _test(check: Check, url: str) -> dict:
    test = {
        "name": check.title,
        "points": check.points,
        "max_points": check.max_points,
        "message": check.story or check.outcome,
    }
    if commands := check.commands():
        test["output"] = "\n".join(commands)
    if url:
        test["images"] = [{"label": LABEL, "url": url}]
    return test
