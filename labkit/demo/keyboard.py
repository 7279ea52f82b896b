"""Keys as they are typed in a terminal, which meanwhile neither shows them nor waits for Enter."""

import contextlib
import os
import select
import sys
import termios
import tty

NEVER = b"\x00"  # in place of Ctrl-Z's character: a stage that sleeps in the background helps nobody


class Keyboard:
    """Of the standard input; one that is no terminal never types."""

    def __init__(self) -> None:
        self._number = sys.stdin.fileno() if sys.stdin is not None and sys.stdin.isatty() else -1
        self._before: list | None = None

    def open(self) -> None:
        if self._number < 0:
            return
        self._before = termios.tcgetattr(self._number)
        tty.setcbreak(self._number)
        now = termios.tcgetattr(self._number)
        now[6][termios.VSUSP] = NEVER
        termios.tcsetattr(self._number, termios.TCSANOW, now)

    def typed(self) -> str:
        """What was typed since the last call. An escape sequence, such as an arrow's, is no key here."""
        if self._before is None or not select.select([self._number], [], [], 0)[0]:
            return ""
        with contextlib.suppress(OSError):
            typed = os.read(self._number, 1024).decode("utf-8", "ignore")
            return "" if len(typed) > 1 and typed.startswith("\x1b") else typed
        return ""

    def close(self) -> None:
        """Leave the terminal as it was. Closing twice is allowed."""
        if self._before is not None:
            with contextlib.suppress(OSError, termios.error):  # it is gone: there is nothing to restore
                termios.tcsetattr(self._number, termios.TCSADRAIN, self._before)
            self._before = None
