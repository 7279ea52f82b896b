"""What there is to see at one moment: panels of rows of cells, which say what they mean and not how they look.

An act makes views, a stage draws them, and neither knows the other.
"""

from dataclasses import dataclass, field

PLAIN, STRONG, FAINT = "plain", "strong", "faint"
BROKER, WORKERS, MONITOR = "broker", "workers", "monitor"  # the terminals of a stage that has several
WAITING, IN_HAND, DONE, GONE = "waiting", "in hand", "done", "gone"  # what a task, or its worker, has come to


@dataclass(frozen=True)
class Words:
    """Text that means something beyond its letters: `look` is one of the words above.

    tail: stands behind the text, and is not cut where the text is.
    """

    text: str
    look: str = PLAIN
    tail: str = ""


@dataclass(frozen=True)
class Tiles:
    """Tasks by number, a tile each: a bar that says what it counts. `sign` stands before each number.

    Where not all fit, the first are shown, or with `newest` the last.
    """

    tasks: tuple[int, ...]
    look: str
    sign: str = ""
    newest: bool = False


@dataclass(frozen=True)
class Bar:
    """How far something is, or how much there is of it: a share from 0 to 1. told: whether it is also written."""

    share: float
    look: str = IN_HAND
    told: bool = True


@dataclass(frozen=True)
class Strip:
    """What happened, in its order: a tile each, of text and look."""

    tiles: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Points:
    """Marks on a line that is `reach` long, each a text at its place; all are shares of the cell, from 0 to 1."""

    marks: tuple[tuple[float, str], ...]
    reach: float
    look: str = WAITING


Cell = str | Words | Tiles | Bar | Strip | Points


@dataclass(frozen=True)
class Panel:
    """A titled table. Nothing in it wraps; what is too long is cut.

    widths: of its columns, in characters; 0 for the one that takes what is left. note: stands at the title's right.
    lines: how many rows it has room for (default: for all). log: it takes spare lines, and shows its last rows.
    spare: it is only shown where there is room to spare. copied: its text is there to be copied, so it has no
    frame at its sides, and stands at the foot of the screen. pane: where it is shown, on a stage of several terminals.
    """

    title: str
    widths: tuple[int, ...]
    rows: tuple[tuple[Cell, ...], ...]
    heads: tuple[str, ...] = ()
    note: str = ""
    lines: int = 0
    log: bool = False
    spare: bool = False
    copied: bool = False
    pane: str = MONITOR


@dataclass(frozen=True)
class View:
    """One moment, `at` seconds after the beginning. news: all that has happened so far, a line each."""

    at: float
    panels: tuple[Panel, ...]
    news: tuple[str, ...] = field(default=())
