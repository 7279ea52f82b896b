"""The live view in a terminal: made for the last row of a lecture room, at 80 columns and 24 lines.

Nothing is told by color alone, and the colors are those of Okabe and Ito, which people with any color vision
can tell apart (https://jfly.uni-koeln.de/color/). A larger terminal shows more lines of the same.
"""

import contextlib
import re
import signal
from collections.abc import Callable, Iterable
from pathlib import Path

from rich import box
from rich.console import Console, RenderableType
from rich.layout import Layout
from rich.live import Live
from rich.panel import Panel
from rich.style import Style
from rich.table import Table
from rich.text import Text

from labkit.demo.keep import Row
from labkit.demo.signals import Stopped
from labkit.demo.stage import NOT_SEEN, NOTE, SAY, SEEN
from labkit.demo.view import DEAD, ENDED, IDLE, STARTS, WORKS, View, WorkerView

WIDTH, HEIGHT = 80, 24  # the least that the view needs
WIDEST_REPORT = 100
BLUE, ORANGE, GREEN, VERMILION = "#56B4E9", "#E69F00", "#009E73", "#D55E00"
WAITING, IN_HAND, DONE, GONE = (
    Style(color="black", bgcolor=each, bold=True) for each in (BLUE, ORANGE, GREEN, VERMILION)
)
FRAME = Style(dim=True)
STATES = {
    STARTS: ("…", "starts", Style(dim=True)),
    IDLE: ("○", "waits", Style()),
    WORKS: ("●", "works", Style(color=ORANGE, bold=True)),
    DEAD: ("✗", "KILLED", GONE),
    ENDED: ("–", "ended", Style(dim=True)),
}
LINES = {
    SAY: ("", Style(bold=True)),
    SEEN: ("  ✓ ", Style(color=GREEN, bold=True)),
    NOT_SEEN: ("  ✗ NOT SEEN: ", Style(color=VERMILION, bold=True)),
    NOTE: ("  ", Style(dim=True)),
}


class LiveStage:
    """See the module. `task` tells a task in a few words."""

    def __init__(self, title: str, task: Callable[[int], str], console: Console) -> None:
        self._title, self._task, self._console = title, task, console
        self._lines: list[Text] = []
        self._view: View | None = None
        as_they_are = {"redirect_stdout": False, "redirect_stderr": False}
        self._live = Live(console=console, screen=True, auto_refresh=False, **as_they_are)

    def open(self) -> None:
        with _audience():
            self._live.start()

    def line(self, kind: str, text: str) -> None:
        mark, style = LINES[kind]
        self._lines.append(Text(f"{mark}{text}", style, no_wrap=True, overflow="ellipsis"))
        self._draw()

    def show(self, view: View) -> None:
        self._view = view
        self._draw()

    def close(self) -> None:
        with contextlib.suppress(OSError):  # a terminal that is gone needs no restoring
            self._live.stop()

    def _draw(self) -> None:
        if self._view is not None:
            with _audience():
                self._live.update(self._screen(self._view), refresh=True)

    def _screen(self, view: View) -> RenderableType:
        width, height = self._console.size
        workers, queue = _workers(view, self._task, width - 4), _queue(view)
        for_workers, for_queue = max(2, len(view.workers)) + 3, max(2, len(view.workers)) + 5
        rest = max(2, height - for_workers - for_queue - 4)
        for_wire = max(2, min(rest * 2 // 5, 12))
        said = _last(self._lines, rest - for_wire)
        screen = Layout()
        screen.split_column(
            Layout(_panel(said, self._title, f"{view.at:.0f} s"), size=rest - for_wire + 2),
            Layout(_panel(workers, "workers"), size=for_workers),
            Layout(_panel(queue, f"tasks: {view.total}"), size=for_queue),
            Layout(_panel(_wire(view, for_wire, width - 4), "on the wire")),
        )
        return screen


@contextlib.contextmanager
def _audience():
    try:
        yield
    except OSError:
        raise Stopped(signal.SIGHUP) from None


def _panel(content: RenderableType, title: str, right: str = "") -> Panel:
    return Panel(
        content, box=box.ROUNDED, title=Text(title, Style(bold=True, dim=False)), title_align="left",
        subtitle=Text(right) if right else None, subtitle_align="right", border_style=FRAME, padding=(0, 1),
    )  # fmt: skip


def _last(lines: list[Text], count: int) -> Text:
    return Text("\n", no_wrap=True, overflow="ellipsis").join(lines[-count:])


def _grid(*widths: int) -> Table:
    """Columns of fixed widths (0: what is left), in which nothing wraps."""
    grid = Table.grid(padding=(0, 1), expand=True)
    for width in widths:
        grid.add_column(width=width or None, ratio=None if width else 1, no_wrap=True, overflow="ellipsis")
    return grid


def _workers(view: View, task: Callable[[int], str], width: int) -> Table:
    bar = min(26, max(14, width - 62))
    grid = _grid(8, 8, 0, bar, 9)
    grid.add_row(*(Text(words, Style(dim=True)) for words in ("", "", "in hand", "progress", "heartbeat")))
    for worker in view.workers:
        sign, word, style = STATES[worker.state]
        had = view.in_hand[worker.name] + view.elsewhere  # what a dead worker had may be another's by now
        holds = worker.task and (worker.state != DEAD or worker.task in had)
        grid.add_row(
            Text(worker.name, Style(bold=True)),
            Text(f"{sign} {word}", style),
            Text(f"{worker.task:>2}  {task(worker.task)}") if holds else Text("nothing", Style(dim=True)),
            _bar(worker, bar) if holds else Text(),
            _heartbeat(worker),
        )
    if not view.workers:
        grid.add_row(Text("nobody", Style(dim=True)))
    return grid


def _bar(worker: WorkerView, width: int) -> Text:
    cells = width - 5
    full = round(worker.share * cells)
    color = VERMILION if worker.state == DEAD else ORANGE
    return Text.assemble(("█" * full, color), ("░" * (cells - full), color), f" {worker.share:3.0%}")


def _heartbeat(worker: WorkerView) -> Text:
    if worker.heartbeat is None:
        return Text("-", Style(dim=True))
    if worker.heartbeat == 0:
        return Text(" EXPIRED ", GONE)
    return Text(f"♥ {worker.heartbeat:.1f} s", Style(bold=worker.state == DEAD))


def _queue(view: View) -> Table:
    dead = {worker.name for worker in view.workers if worker.state == DEAD}
    grid = _grid(17, 3, 0)
    _row(grid, "waiting", view.waiting, WAITING)
    for name, tasks in view.in_hand.items():
        style, sign = (GONE, "✗") if name in dead else (IN_HAND, "")
        _row(grid, f"processing:{name}", tasks, style, sign)
    for _ in range(2 - len(view.in_hand)):
        grid.add_row("")
    _row(grid, "done", view.done, DONE)
    if view.elsewhere and not view.rejected:
        _row(grid, "in no list!", view.elsewhere, GONE, "?")
    else:
        _row(grid, "rejected", view.rejected, GONE, "!")
    return grid


def _row(grid: Table, label: str, tasks: list[int], style: Style, sign: str = "") -> None:
    grid.add_row(Text(label), Text(f"{len(tasks):>3}", Style(bold=True)), _tiles(tasks, style, sign))


def _tiles(tasks: list[int], style: Style, sign: str = "") -> Text:
    """A tile for each task: a bar that says what it counts."""
    return Text(" ").join(Text(f"{sign}{number:<2}" if sign else f"{number:^3}", style) for number in tasks)


def _wire(view: View, count: int, width: int) -> Table:
    grid = _grid(4, 8, 0)
    for sent in view.wire[-count:]:
        command = Text(sent.command)
        command.truncate(width - 14 - len(sent.outcome) - 2, overflow="ellipsis")
        words = Text.assemble(command, ("  " + sent.outcome, Style(bold=True)))
        grid.add_row(Text(f"{sent.at:4.1f}", Style(dim=True)), Text(sent.who), words)
    return grid


def report(
    console: Console, rows: Iterable[Row], sent: int, kept: Iterable[tuple[str, Path]], story: str
) -> None:
    """The verdict, and where everything is: printed on the terminal's own screen, where it stays."""
    colors = {"done once": DONE, "recovered": DONE, "set aside": WAITING}
    grid = _grid(12, 4, 0)
    grid.add_row(Text("sent", Style(bold=True)), Text(f"{sent:>3}"))
    for word, tasks, meaning in rows:
        tiles = _tiles(tasks, colors.get(word, GONE)) if tasks else Text("none", Style(dim=True))
        words = Text.assemble(tiles, f"  {meaning if tasks else ''}")
        grid.add_row(Text(word, Style(bold=True)), Text(f"{len(tasks):>3}"), words)
    with _audience():
        for line in story.splitlines():
            narrow = line if len(line) <= console.width else re.sub(r"(?<=\S) {3,}", "  ", line)
            console.print(Text(narrow))
        console.print(_panel(grid, "what became of the tasks"), width=min(console.width, WIDEST_REPORT))
        for what, where in kept:
            console.print(Text(f"{what:13}{where}"), soft_wrap=True)
