"""What lab 2's notebook needs: a look at who is blocked, short turns for what it measures, and its charts."""

import ctypes
import os
import platform
import struct
import sys
import time

import valkey

from labkit.notebook import BLUE, GREEN, TEXT_SIZE, VERMILION, Event

GRID = "#dddddd"
SECONDS_BEFORE, SECONDS_AFTER = 0.5, 0.35  # what the picture of an outage shows around it
SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}  # the number of this system call of Linux
LOOK = {"font.size": TEXT_SIZE + 1, "hatch.linewidth": 1.5}


def wait_until_blocked(broker: valkey.Valkey, clients: int, within: float = 20) -> None:
    """Return when so many clients stand in a blocking command; TimeoutError after `within` seconds."""
    deadline = time.monotonic() + within
    while (seen := broker.info("clients")["blocked_clients"]) != clients:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{seen} clients are blocked, not {clients}")
        time.sleep(0.005)


def ask_for_short_turns(microseconds: int = 100) -> None:
    """Ask for turns of this length on a processor, for this thread and the processes that it starts.

    On a busy machine, a process that wakes up waits for its turn: for milliseconds, where a task's way through
    the broker takes half of one. Who asks for short turns gets the next one sooner, and no more time in all.
    Any user may ask. Linux does so since 6.12; elsewhere nothing happens.
    https://docs.kernel.org/scheduler/sched-eevdf.html, and sched_setattr(2) for the structure
    """
    number = SCHED_SETATTR.get(platform.machine())
    if sys.platform != "linux" or number is None or os.sched_getscheduler(0) != os.SCHED_OTHER:
        return
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    wanted = struct.pack("=IIQiIQQQ", 48, os.SCHED_OTHER, 0, nice, 0, 1000 * microseconds, 0, 0)
    ctypes.CDLL(None).syscall(ctypes.c_long(number), 0, wanted, 0)


def draw_choice(idle: dict[float | str, float], latency: dict[float | str, float]):
    """Draw the median wait (ms) against the commands of an idle worker (a second); return the figure.

    The keys are polling intervals, in seconds, and "blocking". Both axes are logarithmic.
    """
    import matplotlib.pyplot as plt

    intervals = [key for key in idle if key != "blocking"]
    xs, ys = ([values[key] for key in intervals] for values in (idle, latency))
    with plt.rc_context(LOOK):
        figure, ax = plt.subplots(figsize=(9.5, 5.4), dpi=80)
        ax.loglog(xs, ys, color=VERMILION, marker="o", linewidth=2.5, markersize=9)
        for key, x, y in zip(intervals, xs, ys, strict=True):
            words = f"{key:g} s" if key >= 0.1 else f"{1000 * key:g} ms"
            _beside(ax, words, (x, y), (9, 9), color=VERMILION)
        middle = len(intervals) // 2
        title = "polling, at seven intervals:\nlate, or wasteful"
        _beside(ax, title, (xs[middle], ys[middle]), (55, 42), color=VERMILION, weight="bold")
        here = (idle["blocking"], latency["blocking"])
        ax.plot(*here, color=BLUE, marker="D", markersize=15)
        _beside(ax, "blocking:\nneither", here, (17, 0), color=BLUE, weight="bold")
        ax.set_xlabel("commands a second of a worker that has nothing to do")
        ax.set_ylabel("median wait, milliseconds")
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_formatter(lambda value, _: f"{value:,g}")
        ax.set_xlim(0.5, 2.2 * max(idle.values()))
        ax.set_ylim(0.5 * min(latency.values()), 2.2 * max(latency.values()))
        ax.grid(which="major", color=GRID)
        return _finished(figure, ax)


def draw_outage(killed: float, restarted: float, pushed: float, events: list[Event]):
    """Draw how a worker goes through an outage of its broker, and how long a task pushed after it waits.

    Times are in seconds, on the clock of the events.
    """
    import matplotlib.pyplot as plt

    at = {event.what: event.at - killed for event in events if event.at > killed - SECONDS_BEFORE}
    begin, end = -SECONDS_BEFORE, at["takes"] + SECONDS_AFTER
    with plt.rc_context(LOOK):
        figure, ax = plt.subplots(figsize=(11, 3.6), dpi=80)
        _bar(ax, 0, begin, 0, "up", GREEN)
        _bar(ax, 0, 0, restarted - killed, "killed", VERMILION, hatch="//")
        _bar(ax, 0, restarted - killed, end, "up", GREEN)
        ax.plot(0, 0, marker="X", markersize=17, color="black", markeredgecolor="white")
        _bar(ax, 1, begin, at["gone"], "blocked", BLUE)
        _bar(ax, 1, at["back"], end, "blocked", BLUE)
        for what, moment in at.items():
            if what.startswith("try-"):
                ax.plot(moment, 1, marker="x", markersize=12, markeredgewidth=3, color=VERMILION)
                _beside(ax, f"{what.replace('-', ' ')}:\nin vain", (moment, 1), (11, 0))
        _bar(ax, 2, pushed - killed, at["takes"], "report-2\nwaits", VERMILION, hatch="//")
        ax.set_yticks(range(3), ["broker", "alice", "queue"])
        ax.set(xlim=(begin, end), ylim=(2.5, -0.5), xlabel="seconds since the broker was killed")
        ax.grid(axis="x", color=GRID)
        return _finished(figure, ax)


def draw_kept(kept: dict[str, tuple[int, float]], of: int):
    """Draw how many of so many tasks each setting kept; beside it, what a push took there, in milliseconds."""
    import matplotlib.pyplot as plt

    with plt.rc_context(LOOK):
        figure, ax = plt.subplots(figsize=(11, 3.6), dpi=80)
        for lane, (tasks, milliseconds) in enumerate(kept.values()):
            if tasks:
                _bar(ax, lane, 0, tasks, f"{tasks:,} kept", BLUE)
            if tasks < of:
                _bar(ax, lane, tasks, of, f"{of - tasks:,} lost", VERMILION, hatch="//")
            _beside(ax, f"{milliseconds:.2f} ms", (of, lane), (14, 0))
        _beside(ax, "one push takes", (of, -0.62), (14, 0), weight="bold")
        ax.set_yticks(range(len(kept)), kept)
        ax.set(xlim=(0, 1.22 * of), ylim=(len(kept) - 0.5, -0.9), xlabel=f"of {of:,} tasks, after the kill")
        ticks = [0, of // 4, of // 2, 3 * of // 4, of]
        ax.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        ax.spines["bottom"].set_bounds(0, of)
        return _finished(figure, ax)


def _bar(ax, lane: int, start: float, end: float, label: str, color: str, hatch: str = "") -> None:
    """Draw a full bar, or a hatched one, with its label in the middle."""
    fill, ink = ("white", "black") if hatch else (color, "white")
    edge = color if hatch else "white"
    ax.barh(lane, end - start, left=start, height=0.62, color=fill, edgecolor=edge, hatch=hatch, linewidth=2)
    behind = {"facecolor": fill, "edgecolor": "none", "pad": 2}
    ax.text((start + end) / 2, lane, label, ha="center", va="center", color=ink, weight="bold", bbox=behind)


def _beside(ax, words: str, place: tuple[float, float], points: tuple[float, float], **look) -> None:
    ax.annotate(words, place, points, textcoords="offset points", va="center", annotation_clip=False, **look)


def _finished(figure, ax):
    """Take away what is not needed, and keep the figure from being shown twice."""
    import matplotlib.pyplot as plt

    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    plt.close(figure)  # it is shown once, as the value of the cell
    return figure
