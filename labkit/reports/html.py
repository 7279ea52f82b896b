"""A page for a person: self-contained, without a script, for light and dark.

It holds the stories, and a picture of what each failure's story tells; the whole timelines are linked, as they lie
beside it. What came from a submission is escaped, and the page's own policy forbids everything that is not in it.
"""

from collections.abc import Iterator
from html import escape
from pathlib import Path

from labkit.grader import picture
from labkit.grader.schedule import FAILED, INFRASTRUCTURE, NOT_RUN, PASSED, TIMED_OUT
from labkit.grader.words import counted
from labkit.reports.files import fitting
from labkit.reports.pictures import of_failures
from labkit.reports.view import AGAIN, SIGNS, Check, Lab, View
from labkit.safe_page import safe_page

CSS = Path(__file__).with_name("html.css")
MOST_BYTES = 2_500_000
FOR_PICTURES = 1_500_000  # characters of these
OPEN = (FAILED, TIMED_OUT, INFRASTRUCTURE)


def files(grade: dict, folder: Path) -> dict[str, str | bytes]:
    drawn = _that_fit(of_failures(View(grade), folder))
    return {"report.html": fitting(lambda longest: page(View(grade, longest), drawn), MOST_BYTES)}


def _that_fit(drawn: dict[str, str]) -> dict[str, str]:
    """As many pictures as there is room for, in the order of the checks."""
    room, kept = FOR_PICTURES, {}
    for name, svg in drawn.items():
        if len(svg) <= room:
            room -= len(svg)
            kept[name] = svg
    return kept


def page(view: View, drawn: dict[str, str]) -> str:
    """The whole page; drawn: pictures for some checks, by their names, as SVG elements."""
    css = picture.style() + CSS.read_text()
    shapes = (
        f'<svg class="defs" width="0" height="0" aria-hidden="true">{picture.defs()}</svg>' if drawn else ""
    )
    body = [
        shapes,
        _header(view),
        *([_table(view)] if len(view.labs) > 1 else []),
        *(_lab(view, lab, drawn) for lab in view.labs),
        _footer(view),
    ]
    return safe_page(f"{view.name}: {view.headline()}", body, css=css)


def _header(view: View) -> str:
    points = f"<b>{view.points}</b> of {view.max_points} points" if view.graded else "<b>Not graded</b>"
    facts = {
        "handed in": view.source,
        "commit": view.commit[:12],
        "graded": view.started.replace("T", " ").replace("+00:00", " UTC"),
        "took": f"{view.seconds:.1f} s",
        "isolation": view.isolation,
    }
    rows = "".join(
        f"<div><dt>{name}</dt><dd>{escape(value)}</dd></div>" for name, value in facts.items() if value
    )
    said = [] if view.graded else [f"Not graded: {view.trouble()}"]
    said += view.remarks()
    kind = _kind(view.outcome)
    remarks = "".join(f"<li>{escape(each)}</li>" for each in said)
    notes = "".join(f"<li>{escape(each)}</li>" for each in view.notes)
    return (
        f'<header class="{kind}"><p class="kicker">Grade report</p><h1>{escape(view.name)}</h1>'
        f'<p class="result"><span class="sum">{points}</span> {_badge(_words(view.outcome, view.hidden), kind)}</p>'
        f"<dl>{rows}</dl></header>"
        + (f'<ul class="remarks">{remarks}</ul>' if remarks else "")
        + (f'<ul class="notes">{notes}</ul>' if notes else "")
    )


def _words(outcome: str, hidden: int) -> str:
    """An outcome; while some checks are hidden, no word that could be read as that all have passed."""
    if outcome == INFRASTRUCTURE:
        return "infrastructure"
    return "what is shown passed" if outcome == PASSED and hidden else outcome


def _badge(words: str, kind: str) -> str:
    return f'<span class="badge {kind}">{words}</span>'


def _kind(outcome: str) -> str:
    return outcome.replace(" ", "-")


def _table(view: View) -> str:
    rows = []
    for lab in view.labs:
        kind, passed = _kind(lab.outcome), sum(check.outcome == PASSED for check in lab.checks)
        points = f"{lab.points} of {lab.max_points}" if view.graded else "–"
        rows.append(
            f'<tr class="{kind}"><td><a href="#{lab.slug}">Lab {lab.number}: {escape(lab.title)}</a></td>'
            f"<td>{_badge(_words(lab.outcome, lab.hidden), kind)}</td>"
            f'<td class="number">{passed} of {len(lab.checks)}</td><td class="number">{points}</td></tr>'
        )
    head = '<tr><th>Lab</th><th>Outcome</th><th class="number">Checks passed</th><th class="number">Points</th></tr>'
    total = f"{view.points} of {view.max_points}" if view.graded else "–"
    foot = f'<tr><th colspan="3">Together</th><td class="number">{total}</td></tr>'
    return f"<table><thead>{head}</thead><tbody>{''.join(rows)}</tbody><tfoot>{foot}</tfoot></table>"


def _lab(view: View, lab: Lab, drawn: dict[str, str]) -> str:
    points = f'<span class="points">{lab.points} of {lab.max_points} points</span>' if view.graded else ""
    title = f"Lab {lab.number}: {escape(lab.title)}" if lab.number else "The submission"
    notes = "".join(f"<li>{escape(note)}</li>" for note in lab.notes)
    about = [f"on {escape(lab.broker)}"] if lab.broker else []
    about += [f"{lab.seconds:.1f} s"] if lab.seconds else []
    if lab.timeline:
        about.append(f'<a href="../{lab.timeline}">the whole timeline</a>, where this page lies beside it')
    return "\n".join(
        [
            f'<section id="{lab.slug}"><h2>{title} {points}</h2>',
            f'<p class="about">{" · ".join(about)}</p>' if about else "",
            f'<ul class="notes">{notes}</ul>' if notes else "",
            '<div class="checks">',
            *_checks(view, lab, drawn),
            "</div>",
            f'<p class="hidden">{counted(lab.hidden, "hidden check")}: not shown, and not counted here.</p>'
            if lab.hidden
            else "",
            "</section>",
        ]
    )


def _checks(view: View, lab: Lab, drawn: dict[str, str]) -> Iterator[str]:
    told = ""
    for check in lab.checks:
        again = check.outcome == INFRASTRUCTURE and check.story == told  # one dead broker ends many checks
        yield _check(view, check, drawn.get(check.name, ""), check.outcome in OPEN and not again)
        told = check.story


def _check(view: View, check: Check, drawn: str, opened: bool) -> str:
    kind = _kind(check.outcome)
    points = f"{check.points} of {check.max_points}" if view.graded and check.max_points else ""
    head = (
        f'<span class="sign" aria-hidden="true">{SIGNS[check.outcome]}</span> '
        f'<span class="title">{escape(check.short_title)}</span> <span class="outcome">{check.outcome}</span> '
        f'<span class="points">{points}</span>'
    )
    inside = _inside(check, drawn)
    if not inside:
        return f'<div class="check {kind}" id="{check.name}"><div class="head">{head}</div></div>'
    state = " open" if opened else ""
    return (
        f'<details class="check {kind}" id="{check.name}"{state}><summary class="head">{head}</summary>\n'
        f"{inside}\n</details>"
    )


def _inside(check: Check, drawn: str) -> str:
    parts = []
    if check.outcome == NOT_RUN:
        parts.append(f"<p>{escape(check.story)}</p>")
    elif check.story:
        parts.append(f'<pre class="story">{escape(check.story)}</pre>')
    if drawn:
        parts.append(f'<div class="scroll">{drawn}</div>')
    if commands := check.commands():
        parts.append(f'<pre class="commands">{escape(chr(10).join(commands))}</pre>')
    return "\n".join(parts)


def _footer(view: View) -> str:
    """How to see a failure again, if there is one."""
    if not any(check.replay for check in view.checks):
        return ""
    return f"<footer><p>{escape(AGAIN)}</p></footer>"
