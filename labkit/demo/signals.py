"""Ctrl-C, SIGTERM and a closed terminal end a demonstration when it next looks, never within a call.

An exception raised by a signal handler can strike inside the very code that cleans up. Here a handler only
takes note; all waiting of a demonstration looks at the note every 50 ms.
"""

import signal
import threading
from types import FrameType
from typing import Self

ENDING = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT")


class Stopped(Exception):
    """The demonstration was asked to end by this signal."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.status = 128 + number  # as a shell tells it


class Signals:
    """Within its context, the ENDING signals are only noted. A signal that was ignored stays ignored."""

    def __init__(self) -> None:
        self.noted = 0
        self._before: dict[int, object] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for name in ENDING:
                number = getattr(signal, name)
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.noted = self.noted or number

    def check(self) -> None:
        """Raise Stopped once a signal has come."""
        if self.noted:
            raise Stopped(self.noted)
