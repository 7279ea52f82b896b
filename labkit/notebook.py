"""What the notebooks keep out of sight: a broker, worker processes whose output is followed, and the drawing.

Everything that is started or made here is gone when the notebook's kernel is, however it ends.
"""

import atexit
import dataclasses
import importlib.util
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

ROOT = pathlib.Path(__file__).resolve().parent.parent
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


def _clear_when_the_kernel_is_gone() -> None:
    url, prefix = (sys.stdin.readline().strip() for _ in range(2))
    sys.stdin.read()  # until the kernel's end of the pipe is closed
    while choose(url).clear(prefix):
        time.sleep(0.2)  # and look again: a worker that was just being killed may have added a key


def work_folder() -> pathlib.Path:
    """Make a temporary folder and go into it: files that the notebook writes land there."""
    folder = temporary_folder("notebook-")
    os.chdir(folder)
    return folder


def fill_with_samples(folder: str | os.PathLike, slug: str) -> list[str]:
    """Put the lab's sample pictures into the folder; return their names."""
    path = ROOT / "solutions" / slug / "samples.py"
    spec = importlib.util.spec_from_file_location("samples", path)
    samples = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(samples)
    samples.fill(folder)
    return sorted(path.name for path in pathlib.Path(folder).iterdir())


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


def draw_timelines(stories: dict[str, list[Worker]]):
    """Draw timelines below one another, with a lane a worker and a bar a task; return the figure."""
    import matplotlib.pyplot as plt

    with plt.rc_context({"font.size": TEXT_SIZE, "hatch.linewidth": 1.5, "axes.titlesize": TEXT_SIZE + 2}):
        figure, axes = plt.subplots(len(stories), figsize=(11, 2.9 * len(stories)), dpi=80, sharex=True)
        for ax, (title, workers) in zip(axes, stories.items(), strict=True):
            _draw_timeline(ax, title, workers)
        axes[-1].set_xlabel("seconds since the first task was taken")
        figure.tight_layout()
        plt.close(figure)  # shown once, as the value of the cell
    return figure


def _draw_timeline(ax, title: str, workers: list[Worker]) -> None:
    begin = min(event.at for worker in workers for event in worker.events if event.what == "takes")
    unfinished: set[str] = set()
    for lane, worker in enumerate(workers):
        taken = None
        for event in worker.events:
            at = event.at - begin
            if event.what == "takes":
                taken = event
            elif event.what == "done":
                words, color = ("again", GREEN) if event.task in unfinished else ("done", BLUE)
                unfinished.discard(event.task)
                _bar(ax, lane, taken.at - begin, at, f"{event.task}\n{words}", color)
                taken = None
            elif event.what == "recovers":
                ax.axvline(at, color="black", linestyle="--", linewidth=1.5)
                _note(ax, f"heartbeat gone:\n{event.task} goes back", (at, -0.17), (5, 0))
            elif event.what == "killed":
                if taken:
                    unfinished.add(taken.task)
                    _bar(ax, lane, taken.at - begin, at, f"{taken.task}\nin hand", VERMILION, hatch="//")
                ax.plot(at, lane, marker="X", markersize=17, color="black", markeredgecolor="white")
                _note(ax, "SIGKILL", (at, lane), (13, 0), weight="bold")
    outcome, color = (
        (f"{', '.join(sorted(unfinished))}: lost", VERMILION) if unfinished else ("none lost", GREEN)
    )
    ax.set_title(outcome, loc="right", weight="bold", color=color)
    ax.set_title(title, loc="left", weight="bold")
    ax.set_yticks(range(len(workers)), [worker.name for worker in workers])
    ax.set_ylim(len(workers) - 0.5, -0.5)
    ax.tick_params(labelbottom=True)
    ax.grid(axis="x", color="#dddddd")
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)


def _bar(ax, lane: int, start: float, end: float, label: str, color: str, hatch: str = "") -> None:
    """Draw a full bar, or a hatched one, with its label in the middle."""
    fill, edge, ink = ("white", color, "black") if hatch else (color, "white", "white")
    ax.barh(lane, end - start, left=start, height=0.62, color=fill, edgecolor=edge, hatch=hatch, linewidth=2)
    behind = {"facecolor": fill, "edgecolor": "none", "pad": 1}
    middle = (start + end) / 2
    ax.text(middle, lane, label, ha="center", va="center", color=ink, size=TEXT_SIZE - 2, bbox=behind)


def _note(ax, words: str, place: tuple, points_beside: tuple, **look) -> None:
    ax.annotate(words, place, points_beside, textcoords="offset points", va="center", **look)


def draw_cost(lengths: list[int], curves: dict[str, list[float]]):
    """Draw microseconds against five list lengths, both logarithmic: the slow curve, then the flat one."""
    import matplotlib.pyplot as plt

    looks = [(VERMILION, "o", "-", 4, (-16, 0), "right"), (BLUE, "s", "--", 2, (0, -26), "center")]
    with plt.rc_context({"font.size": TEXT_SIZE}):
        figure, ax = plt.subplots(figsize=(8.5, 4.4), dpi=80)
        for (name, values), (color, marker, line, at, beside, align) in zip(
            curves.items(), looks, strict=True
        ):
            ax.loglog(
                lengths, values, color=color, marker=marker, linestyle=line, linewidth=2.5, markersize=9
            )
            place = (lengths[at], values[at])
            label = ax.annotate(name, place, beside, textcoords="offset points", ha=align, va="center")
            label.set(color=color, weight="bold")
        ax.set_xlabel("entries in the processing list")
        ax.set_ylabel("one LREM, microseconds")
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        ax.grid(which="major", color="#dddddd")
        ax.spines[["top", "right"]].set_visible(False)
        ax.margins(y=0.22)
        figure.tight_layout()
        plt.close(figure)
    return figure


if __name__ == "__main__":
    _clear_when_the_kernel_is_gone()
