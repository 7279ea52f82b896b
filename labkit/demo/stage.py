"""A stage shows a demonstration. This one prints plain lines; live.py shows a live view in a terminal."""

import contextlib
import os
import signal
import sys
from collections.abc import Callable
from typing import Protocol, TextIO

from labkit.demo.signals import Stopped
from labkit.demo.view import View

SAY, SEEN, NOT_SEEN, NOTE = "say", "seen", "not seen", "note"
MARKS = {SAY: "", SEEN: "  [seen] ", NOT_SEEN: "  [NOT SEEN] ", NOTE: "  "}


class Stage(Protocol):
    """What a stage does. All of it raises Stopped when the audience has gone (a closed terminal or pipe)."""

    def open(self) -> None: ...

    def line(self, kind: str, text: str) -> None:
        """Show one line: SAY (the instructor's words), SEEN, NOT_SEEN, or NOTE (what a program said)."""

    def show(self, view: View) -> None:
        """Show one moment; called several times a second."""

    def step(self, number: int) -> None:
        """A step begins, counted from 1. After one with a lower number, or the same, all is told once more."""

    def prompt(self, words: str) -> None:
        """Show what the keys do now, or what is waited for."""

    def typed(self) -> str:
        """What the presenter has typed since the last call."""

    def close(self) -> None:
        """Leave the terminal as it was. Never raises; closing twice is allowed."""


class PlainStage:
    """A line for everything, with its time; no control characters, and ASCII marks for any encoding."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """clock: seconds since the beginning."""
        self._clock = clock
        self._told = 0
        self._step = 0

    def open(self) -> None: ...

    def line(self, kind: str, text: str) -> None:
        write(sys.stdout, f"{self._clock():6.1f} s  {MARKS[kind]}{text}")

    def show(self, view: View) -> None:
        for news in view.news[self._told :]:
            self.line(NOTE, news)
        self._told = len(view.news)

    def step(self, number: int) -> None:
        if number <= self._step:
            self._told = 0  # another scene, with news of its own
        self._step = number

    def prompt(self, words: str) -> None: ...

    def typed(self) -> str:
        return ""

    def close(self) -> None: ...


def write(out: TextIO, text: str) -> None:
    """Print a line, in whatever encoding; Stopped when nobody reads it any more."""
    encoding = out.encoding or "ascii"
    try:
        print(text.encode(encoding, "backslashreplace").decode(encoding), file=out, flush=True)
    except OSError:
        with contextlib.suppress(OSError, ValueError):  # or Python complains of the unwritten rest
            os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
        raise Stopped(signal.SIGPIPE) from None
