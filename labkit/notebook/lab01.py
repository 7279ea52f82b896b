"""What lab 1's notebook needs: a mail server with an inbox, the end of a crew's work, and a chart."""

import asyncio
import collections
import threading
import time
from email import message_from_bytes, policy
from email.message import EmailMessage

from labkit.notebook import BLUE, TEXT_SIZE, VERMILION, Worker

HOST = "127.0.0.1"
STARTED_WITHIN_SECONDS = 10


class Inbox:
    """A mail server on a free port of the loopback, in a thread of this process: what it takes, it keeps.

    Any number of mails can come in at the same time; each takes so many seconds.
    """

    def __init__(self, seconds: float = 0) -> None:
        """Start it; return when it listens at `port`. seconds: what it needs for one mail."""
        self.seconds = seconds
        self.out_of_order = False  # when true, each mail is refused, for the time being
        self.mails: list[EmailMessage] = []
        self.port = 0
        self._news = threading.Condition()
        threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True).start()
        with self._news:
            if not self._news.wait_for(lambda: self.port, STARTED_WITHIN_SECONDS):
                raise TimeoutError("the mail server did not start")

    async def _serve(self) -> None:
        from aiosmtpd.smtp import SMTP

        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: SMTP(self, hostname="inbox"), HOST, 0)
        with self._news:
            self.port = server.sockets[0].getsockname()[1]
            self._news.notify_all()
        await server.serve_forever()

    async def handle_DATA(self, server, session, envelope) -> str:
        """Called by aiosmtpd with each mail, and cancelled when the sender goes away before the answer."""
        await asyncio.sleep(self.seconds)
        if self.out_of_order:
            return "451 out of order, try again later"
        with self._news:
            self.mails.append(message_from_bytes(envelope.content, policy=policy.default))
            self._news.notify_all()
        return "250 taken"

    def wait_for(self, mails: int, within: float = 60) -> None:
        """Return when so many mails have arrived, waiting for them so many seconds; else TimeoutError."""
        with self._news:
            if not self._news.wait_for(lambda: len(self.mails) >= mails, within):
                raise TimeoutError(f"{len(self.mails)} mails arrived in {within} s, not {mails}")


def names_at_work(workers: list[Worker], what: str) -> dict[str, list[str]]:
    """Return for each task the names of the workers that said `what` of it, such as "takes" or "done"."""
    names = collections.defaultdict(list)
    for worker in workers:
        for event in worker.events:
            if event.what == what:
                names[event.task].append(worker.name)
    return dict(names)


def wait_until_done(workers: list[Worker], tasks: list[str], within: float = 60) -> None:
    """Return when each task was done by one of the workers, within so many seconds; else TimeoutError."""
    deadline = time.monotonic() + within
    while missing := set(tasks) - set(names_at_work(workers, "done")):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not done after {within} s: {', '.join(sorted(missing))}")
        time.sleep(0.02)


def draw_price(intervals: list[float], medians: list[float], worsts: list[float], commands: list[float]):
    """Draw how long tasks wait, and how often an idle worker asks, against the interval; return the figure.

    All are in seconds, or a second; all axes are logarithmic.
    """
    import matplotlib.pyplot as plt

    look = {"font.size": TEXT_SIZE, "axes.titlelocation": "left", "axes.titleweight": "bold"}
    with plt.rc_context(look):
        figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.6), dpi=80)
        typical, worst = ([1000 * wait for wait in waits] for waits in (medians, worsts))
        left.fill_between(intervals, typical, worst, color=VERMILION, alpha=0.15, linewidth=0)
        middle = len(intervals) // 2
        _line(left, intervals, worst, VERMILION, "^", "--", {middle: "worst"}, (-10, 11), "right")
        values = [f"{float(f'{wait:.2g}'):g}" for wait in typical]
        values[middle] = f"median {values[middle]}"
        _line(left, intervals, typical, VERMILION, "o", "-", dict(enumerate(values)), (8, -11), "left")
        left.set_title("How long a task waits, in milliseconds")
        values = [f"{value:.0f}" for value in commands]
        _line(right, intervals, commands, BLUE, "s", "-", dict(enumerate(values)), (9, 10), "left")
        right.set_title("RPOPs of an idle worker, a second")
        for ax in (left, right):
            ax.set(xscale="log", yscale="log", xlabel="polling interval, in seconds")
            ax.set_xticks(intervals, [f"{interval:g}" for interval in intervals])
            ax.minorticks_off()
            ax.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
            ax.margins(x=0.08, y=0.11)
            ax.grid(which="major", color="#dddddd")
            ax.set_axisbelow(True)
            ax.spines[["top", "right"]].set_visible(False)
        figure.tight_layout(w_pad=3)
        plt.close(figure)  # shown once, as the value of the cell
    return figure


def _line(ax, xs, ys, color: str, marker: str, line: str, labels: dict[int, str], beside: tuple, align: str):
    """Draw a line, with labels beside some of its points."""
    ax.plot(xs, ys, color=color, marker=marker, linestyle=line, linewidth=2.5, markersize=9)
    for place, words in labels.items():
        at = (xs[place], ys[place])
        label = ax.annotate(words, at, beside, textcoords="offset points", ha=align, va="center")
        label.set(color=color, weight="bold")
