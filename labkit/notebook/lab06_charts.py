"""The charts of lab 6's notebook. A lab has the same color in all of them."""

from collections.abc import Callable
from statistics import median

from labkit.notebook import BLUE, GREEN, TEXT_SIZE, VERMILION

GRID = "#dddddd"
COLORS = {"lab 3": BLUE, "lab 4": GREEN, "lab 6": VERMILION}  # by how the name of a row begins
LOOK = {"font.size": TEXT_SIZE, "axes.titlesize": TEXT_SIZE + 1, "axes.titleweight": "bold"}


def draw_bars(
    panels: dict[str, dict[str, list[float]]], say: Callable[[float], str], same_scale: bool = False
):
    """Draw a bar for each row, as long as the median of its values, and a dot for each value; return the figure.

    panels: title, then row, then values. The panels stand side by side and have the same rows. say: puts a median
    into words.
    """
    import matplotlib.pyplot as plt

    rows = list(next(iter(panels.values())))
    with plt.rc_context(LOOK):
        figure, axes = plt.subplots(
            1, len(panels), figsize=(11, 1.1 + 0.52 * len(rows)), dpi=80, sharey=True, squeeze=False
        )
        longest = [max(map(max, values.values())) for values in panels.values()]
        for ax, (title, values), most in zip(axes[0], panels.items(), longest, strict=True):
            for lane, (row, each) in enumerate(values.items()):
                color = COLORS[row[:5]]
                ax.barh(lane, median(each), height=0.62, color=color)
                if len(each) > 1:
                    ax.plot(each, [lane] * len(each), ".", color="black", markersize=7, clip_on=False)
                at_the_right = ax.get_yaxis_transform()  # in a column: beside the bar there may be dots
                ax.text(
                    1, lane, say(median(each)), ha="right", va="center", weight="bold", transform=at_the_right
                )
            ax.set_title(title, loc="left")
            ax.set_yticks(range(len(rows)), rows)
            ax.set(xlim=(0, 1.25 * (max(longest) if same_scale else most)), ylim=(len(rows) - 0.5, -0.5))
            ax.xaxis.set_major_locator(plt.MaxNLocator(8 // len(panels), steps=[1, 2, 5, 10]))
            ax.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")
            ax.tick_params(axis="y", length=0)
            ax.grid(axis="x", color=GRID)
        return _finished(figure, axes[0])


def draw_latency(latencies: dict[str, list[float]]):
    """Draw a dot for each task's milliseconds, in a lane for each lab, with the median and the 99th percentile."""
    import matplotlib.pyplot as plt

    with plt.rc_context(LOOK):
        figure, ax = plt.subplots(figsize=(11, 1.3 + 0.85 * len(latencies)), dpi=80)
        for lane, (name, each) in enumerate(latencies.items()):
            color = COLORS[name[:5]]
            ys = [lane + 0.22 * ((0.618 * number) % 1 - 0.5) for number in range(len(each))]
            ax.plot(each, ys, ".", color=color, alpha=0.35, markersize=7)
            for at, share in ((percentile(each, 50), "p50"), (percentile(each, 99), "p99")):
                ax.plot([at, at], [lane - 0.2, lane + 0.2], color="black", linewidth=2.5)
                _beside(ax, f"{share}: {at:.1f} ms", (at, lane - 0.25), (0, 8), ha="center", weight="bold")
        ax.set_xscale("log")
        least, most = min(map(min, latencies.values())), max(map(max, latencies.values()))
        ax.set_xlim(0.8 * least, 1.3 * most)
        ticks = [digit * 10.0**power for power in range(-3, 5) for digit in (1, 2, 5)]
        ax.set_xticks([tick for tick in ticks if least < tick < most], minor=False)
        ax.set_xticks([], minor=True)
        ax.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")
        ax.set_yticks(range(len(latencies)), latencies)
        ax.set(
            ylim=(len(latencies) - 0.6, -0.7),
            xlabel="milliseconds from the push to the beginning of the work",
        )
        ax.grid(axis="x", which="major", color=GRID)
        return _finished(figure, [ax])


def percentile(values: list[float], share: float) -> float:
    """The value that so many percent of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share / 100))]


def _beside(ax, words: str, place: tuple[float, float], points: tuple[float, float], **look) -> None:
    ax.annotate(words, place, points, textcoords="offset points", va="center", annotation_clip=False, **look)


def _finished(figure, axes):
    """Take away what is not needed, and keep the figure from being shown twice."""
    import matplotlib.pyplot as plt

    for ax in axes:
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    plt.close(figure)  # it is shown once, as the value of the cell
    return figure
