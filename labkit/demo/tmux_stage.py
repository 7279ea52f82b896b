"""A stage of several terminals: the panes of a tmux in the user's own one.

What is shown is drawn here; a small program in each pane (pane.py) shows it there, and tells what is typed.
"""

import contextlib
import io
import os
import re
import signal
import socket
import sys
import time

from rich.console import Console
from rich.control import Control
from rich.text import Text

from labkit.brokers import InfrastructureError
from labkit.demo import layout, pane
from labkit.demo.draw import fitted
from labkit.demo.layout import NARRATION, PANES, Content, Layout
from labkit.demo.live import HEIGHT, WIDTH, LiveStage, audience, too_small
from labkit.demo.signals import Stopped
from labkit.demo.tmux import SEPARATOR, Tmux, layout_text
from labkit.demo.view import View
from labkit.janitor import janitor, remove_folder, temporary_folder

PANES_OPEN_WITHIN_SECONDS = 30.0
ENDINGS = {"\x03": signal.SIGINT, "\x1c": signal.SIGQUIT}  # what a terminal makes of Ctrl-C and Ctrl-\
ESCAPE_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|O.|[^\x1b])")


class TmuxStage(LiveStage):
    """See the module."""

    def __init__(self, title: str, console: Console, steps: int, program: str) -> None:
        """console: the user's terminal; program: the path of a tmux that is new enough."""
        super().__init__(title, console, steps)
        self._program = program
        self._folder = None
        self._tmux: Tmux | None = None
        self._panes: dict[str, PaneTerminal] = {}
        self._laid: tuple[Layout | None, int, int] | None = None
        self._shown = PANES

    def open(self) -> None:
        """Raises InfrastructureError where tmux does not start."""
        self._folder = temporary_folder()
        self._tmux = Tmux(self._program, self._folder)
        with audience():
            width, height = self._terminal_size()
        nothing = layout.lay_out(View(0, ()), width, height)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door:
            path = str(self._folder / "stage")
            door.bind(path)
            door.listen(len(PANES))
            program = [sys.executable, "-I", "-S", os.path.abspath(pane.__file__), path]
            self._tmux.start([[*program, name] for name in PANES], width, height, layout_text(nothing.cells))
            self._welcome(door)
        self._tmux.attach()
        self._open = True

    def typed(self) -> str:
        """What was typed in any pane. Raises Stopped for Ctrl-C, and when nobody sees the stage any more."""
        self._hear()
        typed = "".join(self._panes[name].typed() for name in PANES)
        for key, number in ENDINGS.items():
            if key in typed:
                raise Stopped(number)
        return typed

    def close(self) -> None:
        self._open = False
        if self._tmux:
            self._tmux.close()
        for each in self._panes.values():
            each.close()
        if self._folder:
            remove_folder(os.fsencode(self._folder), "-")
            janitor().forget_folder(self._folder)
            self._folder = None

    def _welcome(self, door: socket.socket) -> None:
        """Wait until every pane has said its name and its size."""
        deadline = time.monotonic() + PANES_OPEN_WITHIN_SECONDS
        strangers: list[PaneTerminal] = []
        door.settimeout(0.05)
        while len(self._panes) < len(PANES):
            with contextlib.suppress(TimeoutError):
                strangers.append(PaneTerminal(door.accept()[0], self._console))
            for each in strangers:
                if each.hear() and each.name in PANES and each.size[0]:
                    self._panes[each.name] = each
            if time.monotonic() > deadline:
                raise InfrastructureError(
                    "tmux has started, but no program in its panes; --single does without it"
                )

    def _hear(self) -> None:
        """Take what the panes say. Raises Stopped when one of them has gone, or the client that shows them."""
        if self._open:
            heard = [each.hear() for each in self._panes.values()]
            if self._tmux.has_ended() or not all(heard):
                raise Stopped(signal.SIGHUP)

    def _draw(self) -> None:
        if not self._open or not self._view:
            return
        self._hear()
        with audience():
            width, height = self._terminal_size()
        try:
            enough = self._fit(width, height)
        except InfrastructureError:
            raise Stopped(signal.SIGHUP) from None
        if not enough:
            self._tell_size(width, height)
            return
        title = f"{self._title} · step {self._step} of {self._steps}"
        for name in self._shown:
            terminal = self._panes[name]
            terminal.paint(layout.content(name, self._view, self._said, title, self._prompt, *terminal.size))

    def _fit(self, width: int, height: int) -> bool:
        """Lay the panes out anew if they have to be; return whether there is room for them."""
        enough = width >= WIDTH and height >= HEIGHT
        wanted = layout.lay_out(self._view, width, height) if enough else None
        if self._laid == (wanted, width, height):
            return enough
        orders = [["resize-window", "-t", "%0", "-x", str(width), "-y", str(height)]]
        if wanted:
            last, hidden = (f"%{len(PANES) - count}" for count in (2, 1))
            if len(wanted.shown) > len(self._shown):
                orders.append(["join-pane", "-d", "-v", "-l", "1", "-s", hidden, "-t", last])
            elif len(wanted.shown) < len(self._shown):
                orders.append(["break-pane", "-d", "-s", hidden])
            orders.append(["select-layout", "-t", "%0", layout_text(wanted.cells)])
            self._shown = wanted.shown
        elif self._laid is None or self._laid[0]:
            orders.append(["resize-pane", "-Z", "-t", "%0"])
        self._tmux.tell(*orders)
        self._laid = (wanted, width, height)
        return enough

    def _tell_size(self, width: int, height: int) -> None:
        """Say in the one pane that is left how large the terminal must be."""
        words = Text(too_small(width, height), "bold")
        terminal = self._panes[NARRATION]
        terminal.paint(Content(self._title, "", [words, *[Text()] * (terminal.size[1] - 1)]))

    def _terminal_size(self) -> tuple[int, int]:
        return tuple(os.get_terminal_size(sys.stdout.fileno()))


class PaneTerminal:
    """The director's side of one pane: how large it is, what is typed there, and what it shows already.

    A pane that does not read delays nobody: what it has not been sent is drawn as it is when it reads again.
    """

    def __init__(self, connection: socket.socket, console: Console) -> None:
        """console: the user's terminal; what it wants in the way of colors holds here too."""
        connection.setblocking(False)
        self._connection = connection
        self._drawn = io.StringIO()
        self._console = Console(
            file=self._drawn,
            force_terminal=True,
            color_system="truecolor",
            no_color=console.no_color,
            highlight=False,
            legacy_windows=False,
        )
        self._keys = ""
        self._heard = self._unsent = b""
        self._painted: list[Text] = []
        self._title = ""
        self.name, self.size = "", (0, 0)

    def hear(self) -> bool:
        """Take what has come from it, and send what is left over; False once it has gone."""
        try:
            while heard := self._connection.recv(65536):
                self._heard += heard
            return False
        except BlockingIOError:
            pass
        except OSError:
            return False
        *lines, self._heard = self._heard.split(b"\n")
        for line in lines:
            word, *rest = line.decode().split(" ")
            if word == "name":
                self.name = rest[0]
            elif word == "size":
                self.size, self._painted = (int(rest[0]), int(rest[1])), []
                self._unsent += b"\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J"
            elif word == "keys":
                self._keys += _keys(bytes.fromhex(rest[0]))
        return self._send()

    def typed(self) -> str:
        typed, self._keys = self._keys, ""
        return typed

    def paint(self, content: Content) -> None:
        """Show this; of its lines only those are written that have changed."""
        if self._unsent:
            return
        self._console.size = self.size
        title = SEPARATOR.join(map(_printable, (content.title, content.note)))
        if title != self._title:
            self._drawn.write(f"\x1b]2;{title}\x1b\\")
        lines = content.lines[: self.size[1]]
        for number, line in enumerate(lines):
            if self._painted[number : number + 1] != [line]:
                self._console.control(Control.move_to(0, number))
                self._console.print(fitted(line, self.size[0]), end="", no_wrap=True, crop=True)
        self._title, self._painted = title, lines
        self._unsent = self._drawn.getvalue().encode()
        self._drawn.seek(0)
        self._drawn.truncate()
        self._send()

    def close(self) -> None:
        self._connection.close()

    def _send(self) -> bool:
        try:
            while self._unsent:
                self._unsent = self._unsent[self._connection.send(self._unsent) :]
        except BlockingIOError:
            pass
        except OSError:
            return False
        return True


def _keys(typed: bytes) -> str:
    """What was typed, without escape sequences, such as an arrow's: they are no keys here."""
    return ESCAPE_SEQUENCE.sub("", typed.decode("utf-8", "ignore"))


def _printable(text: str) -> str:
    """Part of a title, without what a terminal or tmux takes for an order."""
    shown = "".join(letter for letter in text if letter.isprintable() and letter not in f"#{SEPARATOR}")
    return f" {shown} " if shown else ""
