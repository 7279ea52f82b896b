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
TEXT_SIZE = 12  # points; readable on a projector
# Okabe and Ito's palette: told apart by people with any color vision, and on a gray projector by their lightness
BLUE, ORANGE, GREEN, VERMILION, GRAY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#8a8a8a"

_workers: list["Worker"] = []


def open_broker(lab: str) -> tuple[str, str]:
    """Return the URL of a broker and a prefix for the notebook's keys; both are cleared away at the end.

    The broker is the one at VALKEY_URL, which others may be using as well, or else an embedded one.
    """
    broker = choose(os.environ.get("VALKEY_URL") or "embedded")
    broker.start()
    prefix = f"{lab}-notebook-{secrets.token_hex(4)}:"
    atexit.register(_clear_away, broker, prefix)
    return broker.url, prefix


def _clear_away(broker, prefix: str) -> None:
    for worker in _workers:
        worker.end()  # first: a worker that lives on would write more keys
    broker.clear(prefix)
    broker.close()


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
        _workers.append(self)

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
        """Return the next event of this kind, or one that was seen already; TimeoutError after so many seconds."""
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
    """Draw one timeline below the other, each with its title, a lane a worker and a bar a task; return the figure."""
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
        started, task = 0.0, None
        for event in worker.events:
            at = event.at - begin
            if event.what == "takes":
                started, task = at, event.task
            elif event.what == "done":
                again = task in unfinished
                unfinished.discard(task)
                _bar(ax, lane, started, at, GREEN if again else BLUE, f"{task}\n{'again' if again else 'done'}", "")
                task = None
            elif event.what == "killed" and task:
                unfinished.add(task)
                _bar(ax, lane, started, at, VERMILION, f"{task}\nin hand", "//")
            if event.what == "killed":
                ax.plot([at], [lane], marker="X", markersize=19, color="black", markeredgecolor="white", zorder=4)
                ax.text(at + 0.09, lane, "SIGKILL", va="center", weight="bold")
            if event.what == "recovers":
                ax.axvline(at, color="black", linestyle="--", linewidth=1.5)
                ax.text(at, -0.42, f" heartbeat gone:\n {event.task} goes back", va="top", fontsize=TEXT_SIZE - 1)
    if unfinished:
        ax.text(0.99, 0.93, f"{', '.join(sorted(unfinished))}: lost", transform=ax.transAxes, ha="right", va="top")
        ax.texts[-1].set(color=VERMILION, weight="bold", fontsize=TEXT_SIZE + 3)
    ax.set_title(title, loc="left", weight="bold")
    ax.set_yticks(range(len(workers)), [worker.name for worker in workers])
    ax.set_ylim(len(workers) - 0.5, -0.5)
    ax.tick_params(labelbottom=True)
    ax.grid(axis="x", color="#dddddd")
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)


def _bar(ax, lane: int, start: float, end: float, color: str, label: str, hatch: str) -> None:
    shown = "white" if hatch else color
    ax.barh(lane, end - start, left=start, height=0.62, color=shown, edgecolor=color, hatch=hatch, linewidth=2)
    ink = "black" if hatch else "white"
    text = ax.text((start + end) / 2, lane, label, ha="center", va="center", color=ink, fontsize=TEXT_SIZE - 2)
    if hatch:
        text.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 1})


def draw_cost(lengths: list[int], curves: dict[str, list[float]]):
    """Draw microseconds against list length, both on logarithmic axes, a curve an end; return the figure."""
    import matplotlib.pyplot as plt

    styles = [(VERMILION, "o", "-"), (BLUE, "s", "--")]
    with plt.rc_context({"font.size": TEXT_SIZE}):
        figure, ax = plt.subplots(figsize=(8.5, 4.4), dpi=80)
        for (name, values), (color, marker, line) in zip(curves.items(), styles, strict=True):
            ax.loglog(lengths, values, color=color, marker=marker, linestyle=line, linewidth=2.5, markersize=9)
            above = 14 if values[-1] == max(max(each) for each in curves.values()) else -24
            ax.annotate(name, (lengths[-1], values[-1]), (0, above), textcoords="offset points", ha="right")
            ax.texts[-1].set(color=color, weight="bold")
        ax.set_xlabel("entries in the processing list")
        ax.set_ylabel("one LREM, microseconds")
        ax.grid(which="major", color="#dddddd")
        ax.spines[["top", "right"]].set_visible(False)
        ax.margins(y=0.18)
        figure.tight_layout()
        plt.close(figure)
    return figure
