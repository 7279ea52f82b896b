"""index.html: a batch on one page, for a screen or a projector. What the class did not understand stands first.

It needs no network and no script. All that came from a submission is escaped, and the page's own policy forbids
everything that is not in it. Names of students in the groups are folded away, so that these can be projected.
"""

import statistics
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from labkit import course
from labkit.grade.mistakes import Mistake, sentences
from labkit.grader.schedule import INFRASTRUCTURE, PASSED
from labkit.grader.words import clean, counted
from labkit.safe_page import safe_page

if TYPE_CHECKING:
    from labkit.grade.gradebook import Gradebook, LabRow, Row

CSS = Path(__file__).with_name("class_page.css")
SIGNS = {"passed": "✓", "failed": "✗", "timed out": "⧗", "infrastructure": "!"}
MOST_GROUPS = 60  # on the page; groups.md has them all
LONGEST_SAID = 400


def page(book: "Gradebook", groups: list[Mistake]) -> str:
    """The whole page of a gradebook, with its mistakes, the commonest first."""
    body = [_header(book), _mistakes(book, groups), _table(book)]
    return safe_page("Grades of a class", body, css=CSS.read_text())


def _header(book: "Gradebook") -> str:
    rows = book.in_order
    counts = [sum(row.points is not None for row in rows), len(book.names)]
    graded = str(counts[0]) if counts[0] == counts[1] else f"{counts[0]} <small>of {counts[1]}</small>"
    facts = {"submissions graded": graded}
    shares = [row.points / row.max_points for row in rows if row.points is not None and row.max_points]
    if shares:
        facts["with all points"] = str(sum(row.outcome == PASSED for row in rows))
        facts["half of them have at least"] = f"{statistics.median(shares):.0%} <small>of the points</small>"
    troubled = sum(row.outcome == INFRASTRUCTURE for row in rows)
    if troubled:
        facts["not graded: the grader’s own trouble"] = str(troubled)
    told = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts.items())
    labs = ", ".join(_lab_title(slug) for slug in book.labs)
    return f'<header><p class="kicker">{labs}</p><h1>Grades of a class</h1><dl>{told}</dl>{_spread(shares)}</header>'


def _spread(shares: list[float]) -> str:
    """How the points are spread over the class: a bar for each tenth of them."""
    if len(shares) < 3:
        return ""
    tenths = [0] * 10
    for share in shares:
        tenths[min(int(share * 10), 9)] += 1
    bars, highest = [], max(tenths)
    for place, many in enumerate(tenths):
        left, height = place * 72 + 20, 90 * many / highest
        bars.append(f'<text x="{left + 32}" y="132">{place * 10}–{place * 10 + 10}%</text>')
        if many:
            bars.append(
                f'<rect class="bar" x="{left}" y="{112 - height:.1f}" width="64" height="{height:.1f}" rx="3"/>'
            )
            bars.append(f'<text class="many" x="{left + 32}" y="{106 - height:.1f}">{many}</text>')
    words = "Submissions by their share of the points"
    return (
        f'<svg class="spread" viewBox="0 0 760 140" role="img" aria-label="{words}"><title>{words}</title>'
        f'<path class="axis" d="M12 112.5H748"/>{"".join(bars)}</svg>'
    )


def _mistakes(book: "Gradebook", groups: list[Mistake]) -> str:
    if not groups:
        return ""
    shared = [group for group in groups if len(group.names) > 1] or groups
    alone = [group for group in groups if group not in shared]
    shown = "\n".join(_mistake(book, group) for group in shared[:MOST_GROUPS])
    more = f"<p>{len(shared) - MOST_GROUPS} more are in groups.md.</p>" if len(shared) > MOST_GROUPS else ""
    if alone:
        told = "\n".join(_mistake(book, group) for group in alone[:MOST_GROUPS])
        more += f"<details><summary>{counted(len(alone), 'mistake')} of one submission each</summary>\n{told}</details>"
    return (
        f'<section id="mistakes"><h2>What was not understood</h2><p class="about">'
        f"{counted(len(groups), 'mistake')}, the commonest first: the same check failed with the same story. "
        "Each is told with the story of one submission. Checks that only wait for another one are not counted.</p>"
        f"\n{shown}\n{more}</section>"
    )


def _mistake(book: "Gradebook", group: Mistake) -> str:
    many = len(group.names)
    whole = sum(any(lab.slug == group.lab for lab in row.labs) for row in book.rows.values())
    summary, question = _ends(group.story)
    asked = f'<p class="asked">{_text(question)}</p>' if question else ""
    listed = "".join(f"<li>{_link(book, name, group)}</li>" for name in group.names)
    return (
        f'<article class="mistake"><div class="count">{many}<small>of {whole}</small>'
        '<svg class="share" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="of" width="100" height="8"/><rect class="part" width="{100 * many / whole:.1f}" height="8"/>'
        f'</svg></div><div><p class="lab">{_lab_title(group.lab)}</p><h3>{_text(group.title)}</h3>'
        f'<p class="said">{_text(summary)}</p>{asked}'
        f'<div class="more"><details><summary>the whole story</summary><pre>{_text(group.story)}</pre></details>'
        f'<details><summary>whose</summary><ul class="names">{listed}</ul></details></div></div></article>'
    )


def _ends(story: str) -> tuple[str, str]:
    """The summary of a story, with its last words if there are any, and its question."""
    told, words = sentences(story)
    question = told.pop() if len(told) > 1 and told[-1].endswith("?") else ""
    said = "\n".join([*told, *words[-1:]])
    return (said if len(said) <= LONGEST_SAID else f"{said[:LONGEST_SAID]}…"), question


def _link(book: "Gradebook", name: str, group: Mistake) -> str:
    row = book.rows.get(name)
    lab = next((lab for lab in row.labs if lab.slug == group.lab), None) if row else None
    where = _timeline(row, lab) if lab else ""
    return f'<a href="{where}#{quote(group.check)}">{_text(name)}</a>' if where else _text(name)


def _timeline(row: "Row", lab: "LabRow") -> str:
    """Where a lab's timeline is, seen from this page; "" if there is none."""
    return quote(f"{row.name}/{lab.folder}/timeline.html") if lab.folder else ""


def _table(book: "Gradebook") -> str:
    labs = book.labs
    heads = "".join(f'<th class="n" scope="col">{slug.partition("_")[0]}</th>' for slug in labs)
    rows = "\n".join(
        _row(book.rows[name], labs) if name in book.rows else _open(name, labs) for name in book.names
    )
    return (
        f'<section id="submissions"><h2>{counted(len(book.names), "submission")}</h2>'
        '<p class="about">A lab’s points lead to its timeline, a name to its report.</p>'
        '<div class="scroll"><table><thead><tr><th scope="col">submission</th><th class="n" scope="col">points</th>'
        f'{heads}<th scope="col">outcome</th><th scope="col">what to look at</th></tr></thead>\n<tbody>\n{rows}\n'
        "</tbody></table></div></section>"
    )


def _row(row: "Row", labs: list[str]) -> str:
    of = {lab.slug: lab for lab in row.labs}
    cells = "".join(f'<td class="n">{_points(row, of.get(slug))}</td>' for slug in labs)
    name = f'<a href="{quote(row.report)}">{_text(row.name)}</a>' if row.report else _text(row.name)
    points = "–" if row.points is None else f"{row.points} of {row.max_points}"
    kind = row.outcome.replace(" ", "-")
    return (
        f'<tr><td class="name">{name}<small>{_text(row.source)}</small></td><td class="n">{points}</td>{cells}'
        f'<td class="outcome {kind}">{SIGNS.get(row.outcome, "?")} {row.outcome}</td>'
        f'<td class="look">{_text(row.look)}</td></tr>'
    )


def _points(row: "Row", lab: "LabRow | None") -> str:
    if lab is None:
        return ""
    points = "–" if lab.points is None else str(lab.points)
    where = _timeline(row, lab)
    return f'<a href="{where}">{points}</a>' if where else points


def _open(name: str, labs: list[str]) -> str:
    """The row of a submission that has not been graded yet."""
    return (
        f'<tr class="open"><td class="name">{_text(name)}</td><td class="n"></td>{"<td></td>" * len(labs)}'
        '<td class="outcome notyet">not yet graded</td><td></td></tr>'
    )


def _lab_title(slug: str) -> str:
    lab = next((lab for lab in course.labs() if lab.slug == slug), None)
    return _text(f"Lab {lab.number}: {lab.title}" if lab else slug)


def _text(words: str) -> str:
    return escape(clean(words))
