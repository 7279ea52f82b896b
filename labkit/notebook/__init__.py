"""What the notebooks keep out of sight: a broker, and worker processes whose output is followed.

What one notebook alone needs, its pictures above all, is in the module of its lab beside this file.

Everything that is started or made here is gone when the notebook's kernel is, however it ends.
"""

import atexit
import dataclasses
import os
import pathlib
import secrets
import signal
import subprocess
import sys
import threading
import time

from labkit.brokers import choose
from labkit.janitor import janitor, temporary_folder

ROOT = pathlib.Path(__file__).resolve().parents[2]
CLEARED_WITHIN_SECONDS = 10
TEXT_SIZE = 12  # points; readable on a projector
# From the palette of Okabe and Ito, which people with any color vision can tell apart
BLUE, GREEN, VERMILION = "#0072B2", "#009E73", "#D55E00"


def open_broker(lab: str) -> tuple[str, str]:
    """Return the URL of a broker and a prefix for the notebook's keys; both are cleared away at the end.

    The broker is the one at VALKEY_URL, which others may be using as well, or else an embedded one.
    """
    given = os.environ.get("VALKEY_URL")
    broker = choose(given or "embedded")
    broker.start()
    atexit.register(broker.close)
    prefix = f"{lab}-notebook-{secrets.token_hex(4)}:"
    if given:
        _clear_at_the_end(broker.url, prefix)
    return broker.url, prefix


def _clear_at_the_end(url: str, prefix: str) -> None:
    """Have our keys deleted by another process when this one ends: a kernel is often ended with SIGKILL."""
    helper = subprocess.Popen(
        [sys.executable, "-m", "labkit.notebook"],
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # the broker may have gone first
        cwd=ROOT,
        start_new_session=True,  # Ctrl-C is not meant for it
        text=True,
    )
    # not as arguments: everyone on the machine can read those, and there may be a password in the URL
    helper.stdin.write(f"{url}\n{prefix}\n")
    helper.stdin.flush()
    atexit.register(helper.communicate, timeout=CLEARED_WITHIN_SECONDS)


def clear_when_the_kernel_is_gone() -> None:
    url, prefix = (sys.stdin.readline().strip() for _ in range(2))
    sys.stdin.read()  # until the kernel's end of the pipe is closed
    while choose(url).clear(prefix):
        time.sleep(0.2)  # and look again: a worker that was just being killed may have added a key


def work_folder() -> pathlib.Path:
    """Make a temporary folder and go into it: files that the notebook writes land there."""
    folder = temporary_folder("notebook-")
    os.chdir(folder)
    return folder


@dataclasses.dataclass(frozen=True)
class Event:
    """A line that a worker printed, or its end: seconds on a clock that all events share."""

    at: float
    what: str
    task: str


class Worker:
    """A script that runs as a process of its own, and the events seen of it.

    Each line that the script prints is one event: a word, and possibly a task.
    """

    def __init__(self, script: str, name: str, **settings: str) -> None:
        """Start `python SCRIPT NAME` with these settings in its environment."""
        self.name = name
        self.events: list[Event] = []
        self._news = threading.Condition()
        self._ended = False
        self._process = janitor().start_process(
            [sys.executable, script, name],
            env={**os.environ, **settings},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.pid = self._process.pid
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        atexit.register(self.end)

    def _read(self) -> None:
        for line in self._process.stdout:
            what, _, task = line.strip().partition(" ")
            self._add(what, task)
        status = self._process.wait()
        janitor().forget_process(self.pid)
        self._add("killed" if status == -signal.SIGKILL else "ended", "", ended=True)

    def _add(self, what: str, task: str, ended: bool = False) -> None:
        with self._news:
            self.events.append(Event(time.monotonic(), what, task))
            self._ended = ended
            self._news.notify_all()

    def wait_for(self, what: str, task: str = "", within: float = 60) -> Event:
        """Return the first event of this kind, waiting for it so many seconds; else TimeoutError."""
        deadline = time.monotonic() + within
        with self._news:
            while True:
                for event in self.events:
                    if event.what == what and task in ("", event.task):
                        return event
                left = deadline - time.monotonic()
                if left <= 0 or self._ended:
                    seen = "\n  ".join(f"{event.what} {event.task}" for event in self.events)
                    raise TimeoutError(f"{self.name} never said {what!r} {task}; it said:\n  {seen}")
                self._news.wait(left)

    def wait_until_idle(self, within: float = 60) -> None:
        """Return when the worker says `idle` after everything that it has said so far."""
        with self._news:
            self.events = [event for event in self.events if event.what != "idle"]
        self.wait_for("idle", within=within)

    def end(self) -> None:
        """End the process and return when it has gone."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(3)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._reader.join(5)
