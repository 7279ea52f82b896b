"""Plays a recording on a terminal that is only in memory, for pictures and for tests.

It understands what cast.py records, which is little: a screen of its own for the live view, the cursor put to a place,
styled text, new lines. Anything else is not drawn wrongly but refused.
"""

import copy
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from rich.ansi import AnsiDecoder
from rich.cells import get_character_cell_size
from rich.style import Style

from labkit.demo.cast import BadRecording

TEXT = re.compile(r"(?:\x1b\[[\d;]*m|[^\x00-\x1f\x7f])+")
CONTROL = re.compile(r"\x1b\[[?\d;]*[A-Za-z]|\r|\n")
MOVE = re.compile(r"\x1b\[(?:(\d+);(\d+))?H")
ENTER, LEAVE, CLEAR, CURSOR = "\x1b[?1049h", "\x1b[?1049l", "\x1b[2J", ("\x1b[?25h", "\x1b[?25l")
STEP = re.compile(r"step (\d+)")


class Event(NamedTuple):
    """What happened, seconds after the beginning. kind: "o" for output, "m" for a marker."""

    seconds: float
    kind: str
    text: str


@dataclass(frozen=True)
class Cast:
    """A recording. header: its first line."""

    path: Path
    header: dict
    events: tuple[Event, ...]

    @property
    def title(self) -> str:
        return str(self.header.get("title", ""))


class Cell(NamedTuple):
    """One place of the screen. text: a character; nothing where a wide one beside it takes the place, too."""

    text: str = " "
    style: Style = Style.null()


def read(path: Path) -> Cast:
    """Read a recording; half a line at its end, of one that was killed, is left out.

    Raises:
        BadRecording: it is none.
    """
    try:
        *lines, _ = path.read_text(encoding="utf-8").split("\n")
        header, *events = map(json.loads, lines)
        cast = Cast(
            path, dict(header), tuple(Event(float(at), str(kind), str(text)) for at, kind, text in events)
        )
        width, height = cast.header["width"], cast.header["height"]
        if cast.header["version"] != 2 or not (1 <= width <= 1000 and 1 <= height <= 1000):
            raise ValueError
    except OSError as error:
        raise BadRecording(f"{path} cannot be read: {error.strerror}.") from None
    except (ValueError, TypeError, KeyError):
        raise BadRecording(f"{path} is no asciinema recording of version 2.") from None
    return cast


def screens(cast: Cast) -> Iterator[tuple[Event, "Terminal"]]:
    """The terminal before each event, in its order, and once more after the last one. It is one and the same.

    Raises:
        BadRecording: there is something in it that no demonstration shows.
    """
    terminal = Terminal(cast.header["width"], cast.header["height"])
    for number, event in enumerate(cast.events, 2):
        yield event, terminal
        try:
            if event.kind == "o":
                terminal.write(event.text)
        except NotUnderstood as what:
            raise BadRecording(
                f"{cast.path}, line {number}: {what} is in no recording of ./lab demo."
            ) from None
    yield Event(cast.events[-1].seconds if cast.events else 0.0, "end", ""), terminal


def at_end_of_step(cast: Cast, step: int) -> "Terminal":
    """The terminal as it was before the next step began, or before the live view ended; the last time, if several.

    Raises:
        BadRecording: the step was not played, or it is no recording of a demonstration.
    """
    found, during = None, False
    for event, terminal in screens(cast):
        ends = event.kind in ("m", "end") or (terminal.is_live and LEAVE in event.text)
        if during and ends:
            found, during = copy.deepcopy(terminal), False
        if event.kind == "m":
            named = STEP.match(event.text)
            during = named is not None and int(named[1]) == step
    if found is None:
        raise BadRecording(f"{cast.path} has no step {step}.")
    return found


class NotUnderstood(Exception):
    """Something else was written than our recordings have. Its text says what."""


class Terminal:
    """What is on the screen: `rows` of cells. is_live: it is the live view's own one."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.rows = self._empty()
        self._below: list[list[Cell]] | None = None  # the shell's screen, while another lies over it
        self._x = self._y = 0
        self._styles = AnsiDecoder()

    @property
    def is_live(self) -> bool:
        return self._below is not None

    def lines(self) -> list[str]:
        """What there is to read, without the spaces at the end of each line."""
        return ["".join(cell.text for cell in row).rstrip() for row in self.rows]

    def write(self, text: str) -> None:
        """Raises NotUnderstood."""
        place = 0
        while place < len(text):
            written = TEXT.match(text, place)
            control = CONTROL.match(text, place)
            if written:
                self._put(written[0])
            elif not control or not self._control(control[0]):
                raise NotUnderstood(repr(control[0] if control else text[place : place + 8]))
            place = (written or control).end()

    def _control(self, code: str) -> bool:
        """Do what a control code says; whether it is understood."""
        known: dict[str, Callable[[], None]] = {
            "\r": self._return, "\n": self._new_line, ENTER: self._enter, LEAVE: self._leave, CLEAR: self._clear,
        }  # fmt: skip
        if code in known:
            known[code]()
        elif move := MOVE.fullmatch(code):
            self._y = min(int(move[1] or 1), self.height) - 1
            self._x = min(int(move[2] or 1), self.width) - 1
        else:
            return code in CURSOR
        return True

    def _put(self, text: str) -> None:
        styled = self._styles.decode_line(text)
        styles = [Style.null()] * len(styled.plain)
        for start, end, style in styled.spans:
            styles[start:end] = [style] * (end - start)
        for character, style in zip(styled.plain, styles, strict=True):
            wide = get_character_cell_size(character)
            if not wide:
                self._combine(character)
                continue
            if self._x + wide > self.width:  # only now: a full line stays a line until more is written
                self._x = 0
                self._new_line()
            self.rows[self._y][self._x : self._x + wide] = [
                Cell(character, style),
                *[Cell("", style)] * (wide - 1),
            ]
            self._x += wide

    def _combine(self, mark: str) -> None:
        """Put an accent on the character before it."""
        before = max(0, self._x - 1)
        while before and not self.rows[self._y][before].text:
            before -= 1
        cell = self.rows[self._y][before]
        self.rows[self._y][before] = cell._replace(text=cell.text + mark)

    def _return(self) -> None:
        self._x = 0

    def _new_line(self) -> None:
        if self._y + 1 < self.height:
            self._y += 1
        else:
            self.rows = [*self.rows[1:], self._empty()[0]]

    def _enter(self) -> None:
        self._below, self.rows = self._below or self.rows, self._empty()

    def _leave(self) -> None:
        """Back on the shell's screen, where its cursor was: at the beginning, since nothing was written before."""
        self.rows, self._below = self._below or self.rows, None
        self._x = self._y = 0

    def _clear(self) -> None:
        self.rows = self._empty()

    def _empty(self) -> list[list[Cell]]:
        return [[Cell()] * self.width for _ in range(self.height)]
