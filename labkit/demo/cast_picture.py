"""Draws one moment of a recording as an SVG: python -m labkit.demo.cast_picture FILE.cast OUT.svg --step N

The moment is the end of step N, just before the next one. Every character has its place by row and column, frames and
bars are lines and areas: so it looks the same with any font. It is dark, with an edge, on light pages and on dark ones.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from html import escape
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from rich.color import Color
from rich.style import Style

from labkit.demo.cast import BadRecording
from labkit.demo.replay import Cast, Cell, Terminal, at_end_of_step, read
from labkit.replacing import replace

CELL, LINE, LETTERS = 9, 20, 15  # pixels: a character's width, a line's height, the size of the letters
EDGE, BAR, FOOT = 20, 44, 16  # around the screen: at its sides, the title bar, below
ASCENT = LINE / 2 + LETTERS * 0.35  # from a line's top to the letters' base
INK, FAINT, LINES, PAPER, TOP, BORDER = "#e6edf3", "#9aa4af", "#4b5560", "#12161d", "#1c222b", "#39424d"
CSS = f"""text {{ font: {LETTERS}px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", \
"Liberation Mono", monospace; fill: {INK}; white-space: pre; }}
.b {{ font-weight: 700; }}
.f {{ fill: {FAINT}; }}
.m {{ text-anchor: middle; }}
.lines {{ fill: none; stroke: {LINES}; stroke-width: 1.5; }}
.dots {{ fill: none; stroke-width: 2.4; stroke-linecap: round; stroke-dasharray: 0 {CELL}; }}"""
# From the middle of a cell to the middles of its sides, in pixels.
X, Y = CELL / 2, LINE / 2
CORNERS = {
    "╭": "m0 {Y}v-{b}q0-{r} {r}-{r}",
    "╮": "m0 {Y}v-{b}q0-{r}-{r}-{r}",
    "╰": "m0-{Y}v{b}q0 {r} {r} {r}",
    "╯": "m0-{Y}v{b}q0 {r}-{r} {r}",
}
CORNERS = {sign: path.format(Y=Y, r=X, b=Y - X) for sign, path in CORNERS.items()}
SIDES = {"─": "─", "│": "│", "├": "│", "┤": "│"}  # the line that runs through the whole cell
HALVES = {"├": f"h{X}", "┤": f"h-{X}"}
FULL, SHADED, DOT = "█", "░", "·"
DRAWN = {*CORNERS, *SIDES, FULL, SHADED, DOT}


class Run(NamedTuple):
    """Cells beside each other that are alike: the first one's column, how many, what they have in common."""

    column: int
    count: int
    key: object


def picture(cast: Cast, step: int) -> str:
    """The screen at the end of a step.

    Raises:
        BadRecording: there is no such moment.
    """
    terminal = at_end_of_step(cast, step)
    width, height = terminal.width * CELL + 2 * EDGE, terminal.height * LINE + BAR + FOOT
    command = str(cast.header.get("command", cast.title))
    read_out = (line.translate(dict.fromkeys(map(ord, DRAWN), " ")).split() for line in terminal.lines())
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        ' role="img" aria-labelledby="title text">',
        f'<title id="title">{_text(cast.title)}: the end of step {step}</title>',
        f'<desc id="text">{_text(chr(10).join(" ".join(words) for words in read_out if words))}</desc>',
        f"<style>{CSS}</style>",
        f'<rect x=".5" y=".5" width="{width - 1}" height="{height - 1}" rx="9" fill="{PAPER}" stroke="{BORDER}"/>',
        f'<path d="M1 32V9.5q0-8.5 8.5-8.5H{width - 9.5}q8.5 0 8.5 8.5V32z" fill="{TOP}"/>',
        *(f'<circle cx="{EDGE + 18 * place}" cy="16.5" r="5" fill="{BORDER}"/>' for place in range(3)),
        f'<text class="f m" x="{width / 2:g}" y="21.5">{_text(command)}</text>',
        f'<g transform="translate({EDGE} {BAR})">',
        *_screen(terminal),
        "</g>",
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _screen(terminal: Terminal) -> Iterator[str]:
    for number, row in enumerate(terminal.rows):
        yield from _grounds(row, number * LINE)
    yield f'<path class="lines" d="{"".join(_frames(terminal.rows))}"/>'
    for number, row in enumerate(terminal.rows):
        yield from _bars(row, number * LINE)
        yield from _words(row, number * LINE)


def _runs(row: list[Cell], key: Callable[[Cell], object]) -> Iterator[Run]:
    """Cells beside each other for which key(cell) is the same, and something."""
    for value, cells in groupby(enumerate(row), lambda place: key(place[1])):
        columns = [column for column, _ in cells]
        if value:
            yield Run(columns[0], len(columns), value)


def _grounds(row: list[Cell], y: int) -> Iterator[str]:
    """The areas behind words: a task's tile, a state."""
    for run in _runs(row, _ground):
        x, width = run.column * CELL - 2, run.count * CELL + 4
        area = f'x="{x}" y="{y + 1.5}" width="{width}" height="{LINE - 3}" rx="3"'
        yield f'<rect {area} fill="{run.key}"/>'


def _frames(rows: list[list[Cell]]) -> Iterator[str]:
    """Lines of frames: what runs on is one line."""
    for number, row in enumerate(rows):
        for run in _runs(row, lambda cell: SIDES.get(cell.text) == "─"):
            yield f"M{run.column * CELL} {number * LINE + Y:g}h{run.count * CELL}"
        for column, cell in enumerate(row):
            if ends := CORNERS.get(cell.text) or HALVES.get(cell.text):
                yield f"M{column * CELL + X:g} {number * LINE + Y:g}{ends}"
    for column, cells in enumerate(zip(*rows, strict=True)):
        for run in _runs(list(cells), lambda cell: SIDES.get(cell.text) == "│"):
            yield f"M{column * CELL + X:g} {run.column * LINE}v{run.count * LINE}"


def _bars(row: list[Cell], y: int) -> Iterator[str]:
    """How far something is: full and not full; and the line of small points on which marks stand."""
    for run in _runs(row, lambda cell: cell.text in (FULL, SHADED, DOT) and (cell.text, _ink(cell.style))):
        sign, ink = run.key
        x, width = run.column * CELL, run.count * CELL
        if sign == DOT:
            points = f"M{x + X:g} {y + Y:g}h{width - CELL + 0.1:g}"
            yield f'<path class="dots" stroke="{ink}" d="{points}"/>'
        else:
            pale = ' fill-opacity=".28"' if sign == SHADED else ""
            yield f'<rect x="{x}" y="{y + 4}" width="{width}" height="{LINE - 8}" fill="{ink}"{pale}/>'


def _words(row: list[Cell], y: int) -> Iterator[str]:
    shifts, base = _shifts(row), f"{y + ASCENT:g}"
    for run in _runs(row, lambda cell: cell.text not in DRAWN and cell.text != "" and _look(cell)):
        simple, look, _ = run.key
        # A sign that a font lacks is drawn wider by another one: each of those stands by itself, in its own place.
        for begin, words in _apart(row, run) if simple else _one_by_one(row, run):
            x = begin * CELL + shifts[run.column]
            if simple:
                where = f'{_classes(look)} x="{x:g}" y="{base}" textLength="{len(words) * CELL}"'
            else:
                where = f'{_classes(look, "m")} x="{x:g}" y="{base}"'
            yield f"<text{where}>{_text(words)}</text>"


def _apart(row: list[Cell], run: Run) -> Iterator[tuple[float, str]]:
    """Words with not more than one space between them, each with its first column."""
    place = run.column
    for words in "".join(cell.text for cell in row[place : place + run.count]).split("  "):
        if words.strip():
            yield place + len(words) - len(words.lstrip()), words.strip()
        place += len(words) + 2


def _one_by_one(row: list[Cell], run: Run) -> Iterator[tuple[float, str]]:
    """Signs, each with its middle, in columns; that of a wide one is between its two."""
    for place in range(run.column, run.column + run.count):
        wide = place + 1 < len(row) and row[place + 1].text == ""
        yield place + (1 if wide else 0.5), row[place].text


def _shifts(row: list[Cell]) -> list[float]:
    """For each column the pixels by which its text moves to the right: a word on an area stands in its middle."""
    shifts = [0.0] * len(row)
    for run in _runs(row, _ground):
        text = "".join(cell.text or " " for cell in row[run.column : run.column + run.count])
        before, after = (len(text) - len(part) for part in (text.lstrip(), text.rstrip()))
        shifts[run.column : run.column + run.count] = [(after - before) / 2 * CELL] * run.count
    return shifts


def _look(cell: Cell) -> tuple[bool, tuple[str, str], str]:
    """Whether the character is in every font; its color and weight; what it stands on."""
    simple = len(cell.text) == 1 and ord(cell.text) < 0x180
    return simple, (_ink(cell.style), "b" if cell.style.bold else ""), _ground(cell)


def _classes(look: tuple[str, str], *more: str) -> str:
    ink, weight = look
    names = [name for name in (weight, "f" if ink == FAINT else "", *more) if name]
    named = f' class="{" ".join(names)}"' if names else ""
    return named if ink in (INK, FAINT) else f'{named} style="fill:{ink}"'


def _ground(cell: Cell) -> str:
    return _hex(cell.style.bgcolor, "")


def _ink(style: Style) -> str:
    return _hex(style.color, FAINT if style.dim else INK)


def _hex(color: Color | None, default: str) -> str:
    return default if color is None or color.is_default else color.get_truecolor().hex


def _text(text: str) -> str:
    """For XML, in which some characters may not stand at all."""
    return escape("".join(sign for sign in text if sign.isprintable() or sign == "\n"))


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m labkit.demo.cast_picture", description=__doc__.split(":")[0]
    )
    parser.add_argument("cast", type=Path, metavar="FILE.cast")
    parser.add_argument("out", type=Path, metavar="OUT.svg")
    parser.add_argument(
        "--step", type=int, required=True, metavar="N", help="the step at whose end it is drawn"
    )
    asked = parser.parse_args(arguments)
    try:
        replace(asked.out, picture(read(asked.cast), asked.step))
    except (BadRecording, OSError) as trouble:
        print(f"cast_picture: {trouble}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
