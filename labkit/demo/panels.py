"""Panels that several labs show, made from one look at the scene."""

import math
from collections.abc import Callable, Collection, Sequence

from labkit.demo.moment import DEAD, ENDED, FROZEN, PAUSES, STARTS, WAITS, WORKS, Moment, WorkerView
from labkit.demo.view import (
    BROKER,
    FAINT,
    GONE,
    IN_HAND,
    PLAIN,
    STRONG,
    WORKERS,
    Bar,
    Cell,
    Panel,
    Tiles,
    Words,
)

NOTHING = Words("nothing", FAINT)
STATES = {
    STARTS: Words("… starts", FAINT),
    WAITS: Words("○ waits"),
    PAUSES: Words("○ pauses"),
    WORKS: Words("● works", IN_HAND),
    FROZEN: Words("‖ PAUSED", GONE),
    DEAD: Words("✗ KILLED", GONE),
    ENDED: Words("– ended", FAINT),
}


def worker_cells(
    worker: WorkerView, task: Callable[[int], str], *, holds: bool = True
) -> tuple[Cell, Cell, Cell, Cell]:
    """Name, state, the task in hand and how far it is. holds: whether a dead worker's task is still its own."""
    name, state = Words(worker.name, STRONG), STATES[worker.state]
    if not worker.task or not holds:
        return name, state, NOTHING, ""
    bar = Bar(worker.share, GONE if worker.state == DEAD else IN_HAND)
    return name, state, f"{worker.task:>2}  {task(worker.task)}", bar


def workers_panel(
    widths: tuple[int, ...],
    rows: Sequence[tuple[Cell, ...]],
    heads: tuple[str, ...],
    note: str = "",
    *,
    lines: int,
) -> Panel:
    """A row for each worker, of cells that begin with those of worker_cells; room for so many lines at least."""
    shown = tuple(rows) or ((Words("nobody", FAINT),),)
    return Panel("workers", widths, shown, heads, note, lines, pane=WORKERS)


def task_row(
    label: str, tasks: Sequence[int], look: str, sign: str = "", *, newest: bool = False
) -> tuple[Cell, Cell, Cell]:
    """A row of a task panel: what they are, how many, and a tile for each."""
    return label, Words(f"{len(tasks):>3}", STRONG), Tiles(tuple(tasks), look, sign, newest)


def task_panel(title: str, rows: Sequence[tuple[Cell, Cell, Cell]], note: str = "") -> Panel:
    """Where the tasks are: rows made by task_row."""
    return Panel(title, (17, 3, 0), tuple(rows), note=note)


def wire_panel(moment: Moment, names: Collection[str], *, lines: int = 3, spare: bool = False) -> Panel:
    """The last commands of these processes, with what came of them."""
    rows = tuple(
        (Words(f"{sent.at:4.1f}", FAINT), sent.who, Words(sent.command, tail=sent.outcome))
        for sent in moment.wire(names)
    )
    return Panel("on the wire", (4, 8, 0), rows, lines=lines, log=True, spare=spare, pane=BROKER)


def number(value: float, digits: int = 0, width: int = 7) -> Words:
    """A number at the right of its column; a dash for one that is not known."""
    return Words("-".rjust(width), FAINT) if math.isnan(value) else Words(f"{value:{width}.{digits}f}", PLAIN)
