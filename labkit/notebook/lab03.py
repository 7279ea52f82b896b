"""What lab 3's notebook needs: its sample pictures, and its two charts."""

import importlib.util
import os
import pathlib

from labkit.course import labs
from labkit.notebook import BLUE, GREEN, TEXT_SIZE, VERMILION, Worker


def fill_with_samples(folder: str | os.PathLike, slug: str) -> list[str]:
    """Put the lab's sample pictures into the folder; return their names."""
    path = next(lab for lab in labs() if lab.slug == slug).given_folder / "samples.py"
    spec = importlib.util.spec_from_file_location("samples", path)
    samples = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(samples)
    samples.fill(folder)
    return sorted(path.name for path in pathlib.Path(folder).iterdir())


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
