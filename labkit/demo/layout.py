"""Where the panes of a stage of several terminals lie, and what each shows: for one moment, and one size.

Each pane has a line of its own for its title, which is that of its first panel. A panel of the broker that is only for
room to spare has its pane as soon as there is room for one line of it; without that, there is no such pane.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.text import Text

from labkit.demo.draw import LEAST_SAID, MOST_LOGGED, edge, fitted, line_count, panel_height, panel_rows
from labkit.demo.view import BROKER, MONITOR, WORKERS, Panel, View

NARRATION = "narration"
PANES = (NARRATION, WORKERS, MONITOR, BROKER)  # from top to bottom, and from left to right
WIDE = 150  # from here on the broker is beside the others
LEAST_LEFT = 80  # characters of its width that go to what is beside the broker: half of it, or more
LEAST_NARRATION = 2  # lines, however small: the last that was said, and what the keys do


@dataclass(frozen=True)
class Layout:
    """cells: as tmux writes a layout, without its checksum. shown: the panes that have a place, in order."""

    cells: str
    shown: tuple[str, ...]


@dataclass(frozen=True)
class Content:
    """What a pane shows: a title at the left, a note at the right, and lines that fill it."""

    title: str
    note: str
    lines: list[Text]


def lay_out(view: View, width: int, height: int) -> Layout:
    """The layout for this moment, on a terminal of this size."""
    copied = any(panel.copied for panel in view.panels)  # nothing may stand beside what is copied
    if width >= WIDE and not copied:
        left = max(LEAST_LEFT, width // 2)
        stacked = _stack(PANES[:-1], _heights(PANES[:-1], view, height), left)
        beside = f"{width - left - 1}x{height},{left + 1},0,{len(PANES) - 1}"
        return Layout(f"{width}x{height},0,0{{{stacked},{beside}}}", PANES)
    heights = _heights(PANES, view, height)
    shown = PANES if heights[NARRATION] > LEAST_SAID or not _all_spare(view) else PANES[:-1]
    if shown != PANES:
        heights = _heights(shown, view, height)
    return Layout(_stack(shown, heights, width), shown)


def content(
    name: str, view: View, said: Sequence[Text], title: str, prompt: str, width: int, height: int
) -> Content:
    """What this pane shows, if it has so many columns and lines. title, prompt: those of the demonstration."""
    if name == NARRATION:
        count = height - 1
        last = [*said[max(0, len(said) - count) :], *[Text()] * (count - len(said))]
        lines = [*(fitted(line, width) for line in last), edge("──", prompt, "", width)]
        return Content(title, f"{view.at:.0f} s", lines)
    panels, copied = (
        _panels(name, view),
        [panel for panel in view.panels if panel.copied and panel.pane == name],
    )
    more = height - _needed(panels, copied)
    if not panels:
        return Content(name, "", [Text(" " * width)] * height)
    logs = sum(panel.log for panel in panels)
    lines: list[Text] = []
    for place, panel in enumerate(panels):
        extra = 0
        if panel.log:
            extra = max(
                1 - line_count(panel), more // logs
            )  # of a log its last line stays, in the smallest place
            more, logs = more - extra, logs - 1
        lines += [edge("──", panel.title, panel.note, width)] if place else []
        lines += panel_rows(panel, line_count(panel) + extra, width)
    foot: list[Text] = []
    for panel in copied:
        foot += [edge("──", panel.title, panel.note, width), *panel_rows(panel, line_count(panel), width)]
    room = max(0, height - len(foot))
    lines = [*lines[:room], *[Text(" " * width)] * (room - len(lines)), *foot]
    return Content(panels[0].title, panels[0].note, lines[:height])


def _panels(name: str, view: View) -> list[Panel]:
    """The panels of a pane; those for room to spare only where it has no others."""
    own = [panel for panel in view.panels if panel.pane == name and not panel.copied]
    return [panel for panel in own if not panel.spare] or own


def _all_spare(view: View) -> bool:
    return all(panel.spare for panel in _panels(BROKER, view))


def _needed(panels: Sequence[Panel], copied: Sequence[Panel]) -> int:
    """The lines that these take in a pane; the title of the first is on its border."""
    return max(1, sum(map(panel_height, [*panels, *copied])) - 1)


def _heights(names: Sequence[str], view: View, height: int) -> dict[str, int]:
    """The lines of each pane, without that of its title, for panes one above the other."""
    left = height - len(names)
    heights, logs = {NARRATION: LEAST_SAID + 1}, []
    for name in names[1:]:
        panels = _panels(name, view)
        copied = [panel for panel in view.panels if panel.copied and panel.pane == name]
        heights[name] = 1 if all(panel.spare for panel in panels) else _needed(panels, copied)
        logs += [name] if any(panel.log for panel in panels) else []
    spare = left - sum(heights.values())
    more = min(max(0, spare) // (len(logs) + 1), MOST_LOGGED)
    for name in logs:
        heights[name] += more
    for name, least in ((NARRATION, LEAST_NARRATION), *((name, 1) for name in reversed(names))):
        over = sum(heights.values()) - left
        heights[name] -= max(0, min(over, heights[name] - least))
    heights[NARRATION] += left - sum(heights.values())
    return heights


def _stack(names: Sequence[str], heights: dict[str, int], width: int) -> str:
    """These panes from top to bottom, as tmux writes it: the border above the first is a line of it."""
    cells, top = [], 0
    for place, name in enumerate(names):
        lines = heights[name] + (1 if place == 0 else 0)
        cells.append(f"{width}x{lines},0,{top},{place}")
        top += lines + 1
    return f"{width}x{top - 1},0,0[{','.join(cells)}]"
