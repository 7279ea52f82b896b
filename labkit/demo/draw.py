"""Draws a view as lines of text, each just as wide as the terminal: made for the last row of a lecture room.

Nothing is told by color alone, and the colors are those of Okabe and Ito, which people with any color vision
can tell apart (https://jfly.uni-koeln.de/color/). A larger terminal shows more lines of the same.
"""

from collections.abc import Iterable, Sequence

from rich.style import Style
from rich.text import Text

from labkit.demo.view import (
    DONE,
    FAINT,
    GONE,
    IN_HAND,
    PLAIN,
    STRONG,
    WAITING,
    Bar,
    Cell,
    Panel,
    Points,
    Strip,
    Tiles,
    View,
    Words,
)

BLUE, ORANGE, GREEN, VERMILION = "#56B4E9", "#E69F00", "#009E73", "#D55E00"
COLORS = {WAITING: BLUE, IN_HAND: ORANGE, DONE: GREEN, GONE: VERMILION}
TILES = {look: Style(color="#000000", bgcolor=color, bold=True) for look, color in COLORS.items()}
LOOKS = {
    PLAIN: Style(),
    STRONG: Style(bold=True),
    FAINT: Style(dim=True),
    **{look: Style(color=color, bold=True) for look, color in COLORS.items()},
    GONE: TILES[GONE],
}
FRAME = Style(dim=True)
LEAST_SAID = 4  # lines of narration, whatever else there is to see
MOST_LOGGED = 12  # spare lines that one log is given


def screen(
    view: View, said: Sequence[Text], title: str, width: int, height: int, prompt: str = ""
) -> list[Text]:
    """The whole screen: the last lines of what was said, the panels below, and at the foot what the keys do."""
    framed = [panel for panel in view.panels if not panel.copied]
    copied = [panel for panel in view.panels if panel.copied]
    spare = height - 2 - LEAST_SAID - sum(map(panel_height, copied))
    spare -= sum(panel_height(panel) for panel in framed if not panel.spare)
    for panel in [panel for panel in framed if panel.spare]:
        if spare >= panel_height(panel) + LEAST_SAID:
            spare -= panel_height(panel)
        else:
            framed.remove(panel)
    logs = sum(panel.log for panel in framed)
    more = min(max(0, spare) // (logs + 1), MOST_LOGGED) if logs else 0
    count = max(1, LEAST_SAID + spare - logs * more)
    lines = [edge("╭╮", title, f"{view.at:.0f} s", width)]
    lines += _framed([*said[-count:], *[Text()] * (count - len(said))], width)
    for panel in framed:
        lines.append(edge("├┤", panel.title, panel.note, width))
        lines += _framed(panel_rows(panel, line_count(panel) + (more if panel.log else 0), width - 4), width)
    lines.append(edge("╰╯", prompt, "", width))
    for panel in copied:
        lines.append(edge("──", panel.title, panel.note, width))
        lines += panel_rows(panel, line_count(panel), width)
    return lines


def line_count(panel: Panel) -> int:
    return max(panel.lines, 0 if panel.log else len(panel.rows))


def panel_height(panel: Panel) -> int:
    return 1 + bool(panel.heads) + line_count(panel)


def edge(corners: str, title: str, note: str, width: int) -> Text:
    """The line above a panel, with its title at the left and its note at the right."""
    left = (
        Text.assemble((f"{corners[0]}─ ", FRAME), (title, "bold"), (" ", FRAME))
        if title
        else Text(corners[0], FRAME)
    )
    right = (
        Text.assemble((" ", FRAME), (note, "bold"), (f" ─{corners[1]}", FRAME))
        if note
        else Text(corners[1], FRAME)
    )
    left.truncate(max(2, width - right.cell_len), overflow="ellipsis")
    return Text.assemble(left, ("─" * (width - left.cell_len - right.cell_len), FRAME), right)


def _framed(lines: Iterable[Text], width: int) -> list[Text]:
    return [Text.assemble(("│ ", FRAME), fitted(line, width - 4), (" │", FRAME)) for line in lines]


def panel_rows(panel: Panel, count: int, width: int) -> list[Text]:
    heads = (
        [table_row([Words(head, FAINT) for head in panel.heads], panel.widths, width)] if panel.heads else []
    )
    shown = panel.rows[-count:] if panel.log else panel.rows[:count]
    rows = [table_row(row, panel.widths, width) for row in shown]
    return [*heads, *rows, *[Text(" " * width)] * (count - len(rows))]


def table_row(cells: Sequence[Cell], widths: Sequence[int], width: int) -> Text:
    """One row of a table: columns of fixed widths (0: what is left), in which nothing wraps."""
    rest = width - sum(widths) - len(widths) + 1
    line = Text()
    for place, column in enumerate(widths):
        room = column or rest
        cell = _cell(cells[place], room) if place < len(cells) else Text()
        line.append_text(fitted(cell, room))
        line.append(" " if place < len(widths) - 1 else "")
    return fitted(line, width)


def fitted(line: Text, width: int) -> Text:
    """The line, cut or filled to this many cells."""
    line = line.copy()
    line.truncate(width, overflow="ellipsis", pad=True)
    return line


def _cell(cell: Cell, width: int) -> Text:
    if isinstance(cell, str):
        return Text(cell)
    if isinstance(cell, Words):
        return _words(cell, width)
    if isinstance(cell, Bar):
        return _bar(cell, width)
    if isinstance(cell, Strip):
        return Text(" ").join(Text(f"{text:^3}", TILES[look]) for text, look in cell.tiles)
    return _points(cell, width) if isinstance(cell, Points) else tiles(cell, width)


def _words(cell: Words, width: int) -> Text:
    text = Text(cell.text, LOOKS[cell.look])
    if cell.tail:
        text.truncate(width - len(cell.tail) - 2, overflow="ellipsis")
        text.append(f"  {cell.tail}", LOOKS[STRONG])
    return text


def _bar(bar: Bar, width: int) -> Text:
    cells = width - 5 if bar.told else width
    full = max(round(bar.share * cells), bar.share > 0)
    color = Style(color=COLORS[bar.look])
    if not bar.told:
        return Text("█" * full, color)
    return Text.assemble(("█" * full, color), ("░" * (cells - full), color), f" {bar.share:3.0%}")


def _points(cell: Points, width: int) -> Text:
    """The line, and the marks on it; one whose place is taken stands at the next that is free."""
    line = Text("·" * max(1, round(cell.reach * width)), COLORS[cell.look])
    line.truncate(width, pad=True)
    marks, taken = [], set()
    for share, text in sorted(cell.marks):
        place = min(round(share * width), width - len(text))
        while taken & set(range(place, place + len(text))):
            place += 1
        taken |= set(range(place, place + len(text) + 1))
        marks.append((place, text))
    for place, text in marks:
        before, after = line[:place], line[place + len(text) :]
        line = Text.assemble(before, (text, TILES[cell.look]), after)
    return line


def tiles(cell: Tiles, width: int) -> Text:
    """A tile of three cells for each task, as many as fit, with … where some are left out."""
    words = [f"{cell.sign}{number:<2}" if cell.sign else f"{number:^3}" for number in cell.tasks]
    each = 1 + max(map(len, words), default=3)
    fit = (width + 1) // each
    if len(words) > fit:
        fit = max(0, (width - 1) // each)
        words = words[len(words) - fit :] if cell.newest else words[:fit]
    line = Text(" ").join(Text(word, TILES[cell.look]) for word in words)
    if len(words) == len(cell.tasks):
        return line
    return Text.assemble("… ", line) if cell.newest else Text.assemble(line, " …")
