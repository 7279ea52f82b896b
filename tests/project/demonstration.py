"""A demonstration in a process of its own, for the tests: run to its end, read line by line, or in a terminal."""

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from labkit import course
from labkit.demo.live import HEIGHT, WIDTH
from labkit.janitor import is_running, process_mark

LABS = [lab.number for lab in course.labs()]
WITHIN_SECONDS = 90  # a whole demonstration, at SPEED, on a machine that is busy
SPEED = 20
SIZES = ((WIDTH, HEIGHT), (120, 40))
PLAY = """
import io, json, sys
from pathlib import Path
from rich.console import Console
from labkit import course, demo
from labkit.demo import stages
from labkit.demo.live import LiveStage
asked = json.loads(sys.argv[1])
course.STATE = Path(asked.pop("state"))  # not the student's own .lab
folders = {name: Path(asked.pop(name)) for name in ("photos", "submission", "record") if asked.get(name)}
lab, frames, sizes = course.lab(asked.pop("lab")), open(asked.pop("frames"), "w", buffering=1), asked.pop("sizes")

class Both(stages.PlainStage):
    # prints lines, and notes beside them what the live view has on its screen at this moment
    def __init__(self, clock):
        super().__init__(clock)
        self.live = LiveStage(lab.title, Console(file=io.StringIO(), width=80, height=24))
    def line(self, kind, text):
        super().line(kind, text)
        self.live.line(kind, text)
        self.note()
    def show(self, view):
        super().show(view)
        self.live.show(view)
        self.note()
    def note(self):
        for width, height in sizes:
            lines = [line.plain for line in self.live.screen(width, height)]
            frames.write(json.dumps([width, height, lines]) + chr(10))

stages.PlainStage = Both
sys.exit(demo.play(demo.Request(lab, **folders, **asked)))
"""


class Demo:
    """One demonstration in a process of its own, with temporary folders of its own."""

    def __init__(self, home, lab=3, **asked):
        self.lab = course.lab(lab)
        self.state, self.temporary, self.frames = home / "state", home / "tmp", home / "frames"
        self.temporary.mkdir(exist_ok=True)
        self.folder = self.state / f"lab{lab:02}"
        self.out = self.folder / "demo" / "out"
        own = {
            "state": self.state,
            "lab": lab,
            "frames": self.frames,
            "sizes": SIZES,
            "stage": "plain",
            "auto": True,
            "speed": SPEED,
        }
        asked = {
            name: str(value) if isinstance(value, Path) else value for name, value in (own | asked).items()
        }
        self.command = [sys.executable, "-c", PLAY, json.dumps(asked)]
        self.environment = {name: text for name, text in os.environ.items() if name != "LAB_DEMO_SPEED"}
        self.environment |= {"TMPDIR": str(self.temporary), "PYTHONPATH": str(course.ROOT)}

    def run(self, **environment):
        """Play it to its end; return the finished process, with its status and what it said."""
        return subprocess.run(
            self.command,
            env=self.environment | environment,
            capture_output=True,
            text=True,
            timeout=WITHIN_SECONDS,
        )

    @contextlib.contextmanager
    def playing(self):
        """Play it, with pipes to read from; ended at the latest after WITHIN_SECONDS."""
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        with subprocess.Popen(self.command, env=self.environment, **pipes) as process:
            alarm = threading.Timer(WITHIN_SECONDS, process.kill)
            alarm.start()
            try:
                yield process
            finally:
                process.kill()
                alarm.cancel()

    def screens(self, size):
        """What the live view had on a screen of this size, moment by moment: lists of lines."""
        moments = map(json.loads, self.frames.read_text().splitlines())
        return [lines for width, height, lines in moments if (width, height) == size]

    def leaves_nothing(self, family):
        """Tell whether no process of the family and no temporary folder is there any more."""

        def gone():
            folders = [*self.temporary.iterdir(), *self.folder.glob(".*")]
            return not folders and not any(still_there(pid, mark) for pid, mark in family.items())

        return wait_until(gone)


def wait_until(event, within=10):
    """Wait for the event; tell whether it came in time."""
    deadline = time.monotonic() + within
    while not event():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def read_until(stream, words):
    """Read lines until one holds the words; return all that were read."""
    seen = []
    for line in stream:
        seen.append(line)
        if words in line:
            return "".join(seen)
    raise AssertionError(f"{words!r} was never said; this was: {''.join(seen)}")


def family_of(pid):
    """The process and all that descend from it, each with its mark."""
    listing = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True)
    children = {}
    for line in listing.stdout.splitlines():
        child, parent = map(int, line.split())
        children.setdefault(parent, []).append(child)
    family, left = {}, [pid]
    while left:
        each = left.pop()
        family[each] = process_mark(each)
        left += children.get(each, [])
    return family


def still_there(pid, mark):
    return is_running(pid) and process_mark(pid) == mark


class Terminal:
    """A demonstration in a terminal of its own: what it writes is collected, and one can type."""

    def __init__(self, demo):
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            with contextlib.suppress(BaseException):
                os.system(f"stty rows {HEIGHT} columns {WIDTH}")
                settings = {"TERM": "xterm-256color", "LANG": "C.UTF-8", "PYTHONUTF8": "1"}
                os.execve(sys.executable, demo.command, demo.environment | settings)
            os._exit(127)
        self.seen = b""
        self._alarm = threading.Timer(WITHIN_SECONDS, os.kill, (self.pid, signal.SIGKILL))
        self._alarm.start()

    def read(self):
        """Take what was written; False at the end."""
        with contextlib.suppress(OSError):  # how Linux tells that nobody holds the other end
            written = os.read(self.master, 65536)
            self.seen += written
            return bool(written)
        return False

    def read_until(self, words):
        while words not in self.seen:
            assert self.read(), f"{words!r} was never shown; the end was: {self.seen[-2000:]!r}"

    def status(self):
        """Wait for its end; return its exit status."""
        _, status = os.waitpid(self.pid, 0)
        self._alarm.cancel()
        return os.waitstatus_to_exitcode(status)

    def is_restored(self):
        """Whether its last words on screen and cursor were to leave its own screen and show the cursor."""
        ends = [re.findall(pattern, self.seen)[-1] for pattern in (rb"\x1b\[\?1049[hl]", rb"\x1b\[\?25[hl]")]
        return ends == [b"\x1b[?1049l", b"\x1b[?25h"]
