"""The live view in a terminal: it has a screen of its own, on which only the lines that change are written anew.

So a text on it can be selected and copied while the demonstration goes on.
"""

import contextlib
import signal
from collections.abc import Iterator

from rich.console import Console
from rich.control import Control
from rich.style import Style
from rich.text import Text

from labkit.demo.draw import GREEN, VERMILION, screen
from labkit.demo.keyboard import Keyboard
from labkit.demo.signals import Stopped
from labkit.demo.stage import NOT_SEEN, NOTE, SAY, SEEN
from labkit.demo.view import View

WIDTH, HEIGHT = 80, 24  # the least that the view needs
LINES = {
    SAY: ("", Style(bold=True)),
    SEEN: ("  ✓ ", Style(color=GREEN, bold=True)),
    NOT_SEEN: ("  ✗ NOT SEEN: ", Style(color=VERMILION, bold=True)),
    NOTE: ("  ", Style(dim=True)),
}


class LiveStage:
    """See the module."""

    def __init__(
        self, title: str, console: Console, steps: int = 0, keyboard: Keyboard | None = None, note: str = ""
    ) -> None:
        """steps: how many there are; keyboard: where the presenter types; note: said before all else."""
        self._title, self._console, self._steps, self._keyboard = title, console, steps, keyboard
        self._step, self._prompt = 0, ""
        mark, style = LINES[NOTE]
        self._said = [Text(f"{mark}{note}", style)] if note else []
        self._view: View | None = None
        self._painted: list[Text] = []
        self._size = (0, 0)
        self._open = False

    def open(self) -> None:
        with audience():
            self._open = True
            self._console.set_alt_screen(True)
            self._console.show_cursor(False)
            if self._keyboard:
                self._keyboard.open()

    def step(self, number: int) -> None:
        if number <= self._step:
            self._said.clear()
        self._step = number

    def prompt(self, words: str) -> None:
        self._prompt = words
        self._draw()

    def typed(self) -> str:
        return self._keyboard.typed() if self._keyboard else ""

    def line(self, kind: str, text: str) -> None:
        mark, style = LINES[kind]
        self._said.append(Text(f"{mark}{text}", style))
        self._draw()

    def show(self, view: View) -> None:
        self._view = view
        self._draw()

    def close(self) -> None:
        if self._open:
            self._open = False
            if self._keyboard:
                self._keyboard.close()
            with contextlib.suppress(OSError):  # a terminal that is gone needs no restoring
                self._console.set_alt_screen(False)
                self._console.show_cursor(True)

    def screen(self, width: int, height: int) -> list[Text]:
        """What is on the screen now, line by line; nothing before the first moment was shown."""
        if not self._view:
            return []
        title = f"{self._title} · step {self._step} of {self._steps}" if self._steps else self._title
        if width < WIDTH or height < HEIGHT:
            return [Text(too_small(width, height), "bold")]
        return screen(self._view, self._said, title, width, height, self._prompt)

    def _draw(self) -> None:
        width, height = size = tuple(self._console.size)
        lines = self.screen(width, height)[:height]
        with audience(), self._console:  # written at once, when the context is left
            if size != self._size:
                self._console.control(Control.clear())
                self._size, self._painted = size, []
            for number, line in enumerate(lines):
                if self._painted[number : number + 1] != [line]:
                    self._console.control(Control.move_to(0, number))
                    self._console.print(line, end="", no_wrap=True, crop=True)
        self._painted = lines


def too_small(width: int, height: int) -> str:
    """What is said on a terminal that is smaller than the view needs; it goes on when there is room again."""
    return f"This needs {WIDTH} × {HEIGHT}; there are {width} × {height}."


@contextlib.contextmanager
def audience() -> Iterator[None]:
    """A terminal that is gone ends the demonstration."""
    try:
        yield
    except OSError:
        raise Stopped(signal.SIGHUP) from None
