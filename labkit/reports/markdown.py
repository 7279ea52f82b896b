"""A report in Markdown, as GitHub shows it: it fits into a comment on a pull request, or a job's summary."""

from pathlib import Path

from labkit.grader.schedule import FAILED, INFRASTRUCTURE, NOT_RUN, PASSED, TIMED_OUT
from labkit.grader.words import counted
from labkit.reports.files import fitting
from labkit.reports.text import code, fence, in_html, prose
from labkit.reports.view import AGAIN, Check, Lab, View

MOST_BYTES = 65_000  # a comment may have 65,536 characters
ICONS = {PASSED: "✅", FAILED: "❌", TIMED_OUT: "⏳", NOT_RUN: "➖", INFRASTRUCTURE: "⚠️"}


def files(grade: dict, folder: Path) -> dict[str, str | bytes]:
    return {"report.md": report(grade, folder)}


def report(grade: dict, folder: Path, *, linked: bool = True) -> str:
    """The whole report; linked: whether the timelines lie where the record's folder has them."""
    return fitting(lambda longest: _report(View(grade, longest), linked), MOST_BYTES)


def _report(view: View, linked: bool) -> str:
    parts = [f"## {prose(view.name)}: {view.headline()}"]
    if not view.graded:
        parts.append(f"> {ICONS[INFRASTRUCTURE]} **Not graded:** {code(view.trouble())}")
    parts += [f"> {prose(remark)}" for remark in view.remarks()]
    parts += [f"> Note: {code(note)}" for note in view.notes]
    if len(view.labs) > 1:
        parts.append(_table_of_labs(view))
    parts += [_lab(view, lab, linked) for lab in view.labs]
    parts.append(_about(view))
    return "\n\n".join(parts) + "\n"


def _table_of_labs(view: View) -> str:
    rows = ["| | Lab | Points |", "|---|---|---:|"]
    for lab in view.labs:
        points = f"{lab.points} of {lab.max_points}" if view.graded else ""
        rows.append(f"| {ICONS[lab.outcome]} | {_name(lab)} | {points} |")
    return "\n".join(rows)


def _name(lab: Lab) -> str:
    return f"Lab {lab.number}: {prose(lab.title)}" if lab.number else "The submission"


def _lab(view: View, lab: Lab, linked: bool) -> str:
    points = f", {lab.points} of {lab.max_points} points" if view.graded else ""
    parts = [f"### {_name(lab)}{points}"]
    parts += [f"> Note: {code(note)}" for note in lab.notes]
    rows = ["| | Check | Points |", "|---|---|---:|"]
    for check in lab.checks:
        won = f"{check.points} of {check.max_points}" if view.graded and check.counts_at_all else ""
        rows.append(f"| {ICONS[check.outcome]} | {prose(check.short_title)} | {won} |")
    parts.append("\n".join(rows))
    if lab.hidden:
        parts.append(f"{counted(lab.hidden, 'hidden check')}: not shown, and not counted here.")
    parts += [_story(check) for check in _told(lab)]
    if lab.timeline and linked:
        parts.append(f"What happened, drawn step by step: [{lab.timeline}](../{lab.timeline})")
    return "\n\n".join(parts)


def _told(lab: Lab) -> list[Check]:
    """The checks whose stories are told. One dead broker, or one refused archive, ends many: it is told once."""
    told, seen = [], set()
    for check in lab.checks:
        once = check.outcome in (NOT_RUN, INFRASTRUCTURE)
        if check.story and not check.waits_for and not (once and check.story in seen):
            told.append(check)
            seen.add(check.story)
    return told


def _story(check: Check) -> str:
    commands = "\n".join(check.commands())
    inside = "\n\n".join([fence(check.story), *([fence(commands)] if commands else [])])
    return f"<details><summary>{ICONS[check.outcome]} {in_html(check.short_title)}</summary>\n\n{inside}\n\n</details>"


def _about(view: View) -> str:
    facts = [f"Handed in as {code(view.source)}", f"commit {code(view.commit)}" if view.commit else ""]
    facts += [f"graded {prose(view.started)} in {view.seconds:.0f} s"]
    facts += [f"isolation: {prose(view.isolation)}" if view.isolation else ""]
    again = f" {prose(AGAIN)}" if any(check.replay for check in view.checks) else ""
    return "; ".join(filter(None, facts)) + "." + again
