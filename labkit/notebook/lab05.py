"""What lab 5's notebook needs: a shop for each policy, with all that belongs to it, and two pictures."""

import asyncio
import itertools
import json
import sys
import time
from statistics import median
from types import ModuleType

import valkey

from labkit.brokers import EmbeddedValkey
from labkit.notebook import BLUE, GREEN, TEXT_SIZE, VERMILION, Worker
from labkit.notebook.lab01 import Inbox
from labkit.notebook.lab02 import wait_until_blocked
from labkit.notebook.programs import programs

BLOCK_SECONDS = 0.5  # short, so that a worker ends soon
WITHIN_SECONDS = 100  # also on a machine with much else to do
COLORS = {"high": VERMILION, "normal": BLUE, "low": GREEN}
MARKERS = {"high": "^", "normal": "o", "low": "s"}
CALLED = {"high": "resets (high)", "normal": "orders (normal)", "low": "newsletters (low)"}
GRID = "#dddddd"


def solved(name: str) -> ModuleType:
    """A module of lab 5's solution. They import each other by name, so their folder has to be on the path."""
    folder = str(programs(5))
    if folder not in sys.path:
        sys.path.insert(0, folder)
    return __import__(name)


class TimedInbox(Inbox):
    """A mail server that keeps when the sending of each mail began, by the id of its task."""

    def __init__(self, seconds: float = 0) -> None:
        self.begun: dict[str, float] = {}
        self.held = False  # while true, no mail comes to its end
        super().__init__(seconds)

    async def handle_DATA(self, server, session, envelope) -> str:
        """Called by aiosmtpd with each mail."""
        head = envelope.content.split(b"\r\n\r\n")[0].decode()
        task_id = next(line.split()[1] for line in head.splitlines() if line.startswith("X-Task-Id:"))
        with self._news:
            self.begun.setdefault(task_id, time.monotonic())
            self._news.notify_all()
        while self.held:
            await asyncio.sleep(0.02)
        return await super().handle_DATA(server, session, envelope)

    def wait_until_begun(self, mails: int) -> None:
        """Return when so many mails are being sent or are here; TimeoutError after WITHIN_SECONDS."""
        with self._news:
            if not self._news.wait_for(lambda: len(self.begun) >= mails, WITHIN_SECONDS):
                raise TimeoutError(f"{len(self.begun)} mails were begun, not {mails}")


class Shop:
    """One policy of the solution, with a broker, a mail server and workers of its own."""

    def __init__(self, policy: str, mail_seconds: float = 0) -> None:
        """Start its broker and its mail server, which needs so many seconds for a mail."""
        self.name, self.policy = policy, solved("policies").POLICIES[policy]
        self.inbox = TimedInbox(mail_seconds)
        self.server = EmbeddedValkey(appendonly="off")
        self.server.start()
        self.broker = valkey.Valkey.from_url(self.server.url)
        self.queued: dict[str, tuple[str, int, float]] = {}  # by task id: level, number in the level, when
        self._numbers = {level: itertools.count(1) for level in COLORS}

    def queue(self, level: str, through: valkey.Valkey | None = None) -> None:
        """Queue the next task of this level, by the policy's own enqueue; also through a pipeline."""
        task = solved("producer").new_task(level, number := next(self._numbers[level]))
        self.queued[task["id"]] = (level, number, time.monotonic())
        self.policy.enqueue(through or self.broker, level, json.dumps(task))

    def open(self, worker: str, **settings: str) -> Worker:
        """Start the solution's worker.py as a process of its own."""
        place = {"VALKEY_URL": self.server.url, "SMTP_URL": f"smtp://127.0.0.1:{self.inbox.port}"}
        usual = {
            "POLICY": self.name,
            "BLOCK_SECONDS": str(BLOCK_SECONDS),
            "SMTP_SECONDS": str(WITHIN_SECONDS),
        }
        return Worker(str(programs(5) / "worker.py"), worker, **(usual | place | settings))

    def wait_until_idle(self, workers: int = 1) -> None:
        """Return when so many workers wait at the broker; TimeoutError after WITHIN_SECONDS."""
        wait_until_blocked(self.broker, workers, WITHIN_SECONDS)

    def wait_until_sent(self) -> None:
        """Return when all mail that was queued has been sent; TimeoutError after WITHIN_SECONDS."""
        self.inbox.wait_for(len(self.queued), WITHIN_SECONDS)

    def wait_until_nothing_is_left(self) -> None:
        """Return when the broker has no task any more, and one worker waits at it."""
        deadline = time.monotonic() + WITHIN_SECONDS
        while self.seen() != {"waiting": dict.fromkeys(COLORS, 0), "processing": {}, "dead": 0}:
            if time.monotonic() > deadline:
                raise TimeoutError(f"still there: {self.seen()}")
            time.sleep(0.02)
        self.wait_until_idle()

    def seen(self) -> dict:
        """What the solution's monitor.py says."""
        return solved("monitor").snapshot(self.broker, self.policy)

    def order(self) -> list[tuple[str, int]]:
        """Level and number of each mail, in the order in which they were begun."""
        return [self.queued[task][:2] for task in sorted(self.inbox.begun, key=self.inbox.begun.get)]

    def seconds_each(self) -> float:
        """The median time from the beginning of one mail to that of the next."""
        return median(later - one for one, later in itertools.pairwise(sorted(self.inbox.begun.values())))

    def waits(self) -> dict[str, list[tuple[float, float]]]:
        """For each level, when each task was queued, from the first one on, and how long it waited; seconds."""
        first = min(when for _, _, when in self.queued.values())
        return {
            level: [
                (when - first, self.inbox.begun[task] - when)
                for task, (its_level, _, when) in self.queued.items()
                if its_level == level
            ]
            for level in COLORS
        }

    def overtaken(self, level: str) -> int:
        """How many mails of this level were queued, and saw one of another level begun before them."""
        began = self.inbox.begun
        others = [at for task, at in began.items() if self.queued[task][0] != level]
        return sum(
            any(when < at < began[task] for at in others)
            for task, (its_level, _, when) in self.queued.items()
            if its_level == level
        )

    def close(self) -> None:
        """End its broker."""
        self.broker.close()
        self.server.close()


def draw_order(orders: dict[str, list[tuple[str, int]]]):
    """Draw a row for each policy with a field for each mail, in the order of sending; return the figure."""
    import matplotlib.pyplot as plt

    with plt.rc_context({"font.size": TEXT_SIZE}):
        figure, ax = plt.subplots(figsize=(11, 2.9), dpi=80)
        for row, order in enumerate(orders.values()):
            for place, (level, _) in enumerate(order):
                ax.barh(row, 0.88, left=place + 0.56, height=0.7, color=COLORS[level])
                letter = level[0].upper()
                ax.text(
                    place + 1, row, letter, ha="center", va="center", color="white", weight="bold", size=11
                )
        ax.set_yticks(range(len(orders)), orders)
        most = max(map(len, orders.values()))
        ax.set_xticks([1, *range(10, most + 1, 10)])
        ax.set(
            xlim=(0.4, most + 0.6),
            ylim=(len(orders) - 0.5, -0.6),
            xlabel="the mails, in the order of sending",
        )
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
        handles = [plt.Rectangle((0, 0), 1, 1, color=color) for color in COLORS.values()]
        names = [f"{level[0].upper()}  {CALLED[level]}" for level in COLORS]
        figure.legend(handles, names, loc="upper center", ncols=3, frameon=False)
        figure.tight_layout(rect=(0, 0, 1, 0.91))
        plt.close(figure)  # it is shown once, as the value of the cell
    return figure


def draw_waits(waits: dict[str, dict[str, list[tuple[float, float]]]]):
    """Draw for each policy how long each task waited, against when it was queued; return the figure.

    Seconds. Waits are on a logarithmic axis.
    """
    import matplotlib.pyplot as plt

    with plt.rc_context({"font.size": TEXT_SIZE, "axes.titleweight": "bold"}):
        figure, axes = plt.subplots(1, len(waits), figsize=(12, 4.6), dpi=80, sharex=True, sharey=True)
        for ax, (policy, levels) in zip(axes, waits.items(), strict=True):
            for level, points in levels.items():
                look = {"s": 34, "linewidths": 1.4, "edgecolors": COLORS[level], "zorder": 3}
                inside = {"high": "none", "normal": COLORS[level], "low": COLORS[level]}[level]
                ax.scatter(*zip(*points, strict=True), marker=MARKERS[level], facecolors=inside, **look)
            ax.set_title(policy)
            ax.set(yscale="log", xlabel="queued at, seconds")
            ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
            ax.grid(which="major", color=GRID)
            ax.set_axisbelow(True)
            ax.spines[["top", "right"]].set_visible(False)
        axes[0].set_ylabel("waited, seconds")
        handles = axes[0].collections
        figure.legend(
            handles, [CALLED[level] for level in COLORS], loc="upper center", ncols=3, frameon=False
        )
        figure.tight_layout(rect=(0, 0, 1, 0.93))
        plt.close(figure)
    return figure
