"""Which stage a demonstration has: several terminals, a live view in one, or plain lines."""

import os
import sys
import time
from typing import TYPE_CHECKING

from labkit.brokers import InfrastructureError
from labkit.demo import tmux
from labkit.demo.keyboard import Keyboard
from labkit.demo.stage import PlainStage, Stage, write

if TYPE_CHECKING:
    from rich.console import Console

PLAIN, SINGLE, TMUX = "plain", "single", "tmux"
NO_TMUX = "single, since there is no tmux"
NOT_LIVE = "plain lines: a live stage"
IN_ONE = "(everything is in one terminal: tmux, for several, is not installed)"


def choose(asked: str) -> tuple[str, "Console | None"]:
    """The kind of stage to have, and the terminal that it needs; asked: a kind, or "" for the best that can be.

    Who sits at a terminal that will not do for more than plain lines is told what is missing.

    Raises:
        InfrastructureError: what was asked for cannot be, or the tmux that there is will not do.
    """
    if asked == PLAIN:
        return PLAIN, None
    console, trouble = _terminal()
    if console is None:
        if asked:
            raise InfrastructureError(f"--{asked} {trouble}; --plain prints lines")
        if sys.stdout.isatty():
            write(sys.stderr, f"lab: {NOT_LIVE} {trouble}")
        return PLAIN, None
    if asked == SINGLE:
        return SINGLE, console
    program = tmux.find()
    if program is None and not asked:
        return NO_TMUX, console
    tmux.require(program or tmux.install(may_install=False))
    return TMUX, console


def make(kind: str, title: str, steps: int, console: "Console | None") -> Stage:
    """A stage of this kind; console: the terminal, for all but plain lines. steps: how many the script has."""
    if kind == PLAIN:
        began = time.monotonic()
        return PlainStage(lambda: time.monotonic() - began)
    if kind == TMUX:
        from labkit.demo.tmux_stage import TmuxStage

        return TmuxStage(title, console, steps, tmux.find())
    from labkit.demo.live import LiveStage

    return LiveStage(title, console, steps, Keyboard(), IN_ONE if kind == NO_TMUX else "")


def _terminal() -> "tuple[Console | None, str]":
    """The terminal, if there is one that can show a live view; otherwise None, and what such a view needs."""
    from rich.console import Console

    from labkit.demo.live import HEIGHT, WIDTH

    if not sys.stdout.isatty():
        return None, "needs a terminal"
    if "utf" not in (sys.stdout.encoding or "").lower():
        return None, f"needs a terminal with UTF-8, and this has {sys.stdout.encoding}"
    console = Console(highlight=False)
    if console.is_dumb_terminal or not console.is_terminal:
        return None, f"needs a terminal that can move its cursor, and TERM is {os.environ.get('TERM', '')!r}"
    if console.width < WIDTH or console.height < HEIGHT:
        has = f"{console.width} × {console.height}"
        return None, f"needs a terminal of {WIDTH} × {HEIGHT} characters, and this has {has}"
    return console, ""
