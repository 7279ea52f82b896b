"""What lab 4's notebook needs: an endpoint that keeps a record, a watch over one task, and its two charts."""

import collections
import dataclasses
import http.server
import json
import threading
import time
from collections.abc import Callable

import redis

from labkit.notebook import BLUE, GREEN, TEXT_SIZE, VERMILION, Worker

GRID = "#dddddd"
LOOK_EVERY_SECONDS = 0.005
LOOK = {"font.size": TEXT_SIZE, "hatch.linewidth": 1.5, "axes.titlesize": TEXT_SIZE + 1}


@dataclasses.dataclass(frozen=True)
class Request:
    """A request that an endpoint had: when, for which task, the how many-eth for it, and the answer."""

    at: float
    task: str
    number: int
    answer: int | str


class Endpoint:
    """An HTTP endpoint on a port of its own, that answers as it is told and keeps a record of all requests.

    `answer(number)` is asked at the nth request of a task for the status to answer with. "cut" ends the answer in the
    middle, and "never" sends none.
    """

    def __init__(self, answer: Callable[[int], int | str], thinks_seconds: float = 0) -> None:
        self.requests: list[Request] = []
        self._answer, self._thinks = answer, thinks_seconds
        self._news = threading.Condition()
        self._counts: collections.Counter[str] = collections.Counter()
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/orders"

    def _handler(self) -> type:
        endpoint = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                answer = endpoint._record(self.headers["Idempotency-Key"])
                threading.Event().wait(endpoint._thinks)
                if answer == "never":
                    threading.Event().wait()  # until the kernel ends
                self.send_response(200 if answer == "cut" else answer)
                self.send_header("Content-Length", "100" if answer == "cut" else "0")
                self.end_headers()

            def log_message(self, *_) -> None:
                pass

        return Handler

    def _record(self, task: str) -> int | str:
        with self._news:
            self._counts[task] += 1
            number = self._counts[task]
            answer = self._answer(number)
            self.requests.append(Request(time.monotonic(), task, number, answer))
            self._news.notify_all()
        return answer

    def wait_for(self, answer: int | str, count: int = 1, within: float = 60) -> None:
        """Return when so many requests were answered like this; TimeoutError after `within` seconds."""

        def answered() -> int:
            return sum(request.answer == answer for request in self.requests)

        with self._news:
            if not self._news.wait_for(lambda: answered() >= count, within):
                raise TimeoutError(f"{answered()} requests were answered {answer}, not {count}")


def wait_until(condition: Callable[[], object], within: float = 30) -> None:
    """Return when the condition holds; TimeoutError after `within` seconds."""
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("it did not come about")
        time.sleep(LOOK_EVERY_SECONDS)


class Watch(threading.Thread):
    """Notes, every few milliseconds, where the only task of a queue is.

    `seen` has pairs: the time, and the place, which is the name of a list, `delayed, 2` (after two attempts), or "".
    """

    def __init__(self, broker: redis.Redis, lists: dict[str, str], delayed: str) -> None:
        """lists: what each list is called here, and its key; `delayed` is the key of the sorted set."""
        super().__init__(daemon=True)
        self.seen: list[tuple[float, str]] = []
        self._broker, self._lists, self._delayed = broker, lists, delayed
        self._over = threading.Event()
        self.start()

    def run(self) -> None:
        while not self._over.wait(LOOK_EVERY_SECONDS):
            place = self._look()
            if not self.seen or self.seen[-1][1] != place:
                self.seen.append((time.monotonic(), place))

    def _look(self) -> str:
        with self._broker.pipeline(transaction=True) as at_one_moment:
            for key in self._lists.values():
                at_one_moment.llen(key)
            *lengths, delayed = at_one_moment.zrange(self._delayed, 0, -1).execute()
        if delayed:
            return f"delayed, {json.loads(delayed[0])['attempts']}"
        return next((name for name, length in zip(self._lists, lengths, strict=True) if length), "")

    def stop(self) -> None:
        self._over.set()
        self.join()


def first_waits(workers: list[Worker]) -> list[float]:
    """For each task, the seconds that it was to wait after its first failure; the workers have said so."""
    waits: dict[str, float] = {}
    for event in sorted((event for worker in workers for event in worker.events), key=lambda event: event.at):
        task, _, rest = event.task.partition(" is tried again in ")
        if rest:
            waits.setdefault(task, float(rest.split()[0]))
    return list(waits.values())


def draw_storms(storms: dict[str, list[Request]], slice_seconds: float, down_seconds: float):
    """Draw the requests in each slice of time, one storm above the other on the same scale; return the figure."""
    import matplotlib.pyplot as plt

    last = max(each.at - storm[0].at for storm in storms.values() for each in storm)
    edges = [number * slice_seconds for number in range(int(last / slice_seconds) + 2)]
    with plt.rc_context(LOOK):
        figure, axes = plt.subplots(len(storms), figsize=(11, 6.6), dpi=80, sharex=True, sharey=True)
        for ax, (title, storm) in zip(axes, storms.items(), strict=True):
            times = {
                answer: [each.at - storm[0].at for each in storm if each.answer == answer]
                for answer in (503, 200)
            }
            ax.axvspan(0, down_seconds, color="#eeeeee", zorder=0)
            ax.hist(
                list(times.values()),
                bins=edges,
                stacked=True,
                color=["white", BLUE],
                edgecolor="black",
                label=["answered 503", "answered 200: delivered"],
            )
            for patch in ax.containers[0]:
                patch.set(hatch="///", edgecolor=VERMILION, linewidth=1.5)
            ax.set_title(title, loc="left", weight="bold")
            ax.set_ylabel(f"requests in {slice_seconds:g} s")
            ax.grid(axis="y", color=GRID)
            ax.set_axisbelow(True)
            ax.spines[["top", "right"]].set_visible(False)
        top = axes[0].get_ylim()[1]
        for ax in axes:
            ax.set_ylim(0, 1.12 * top)
            ax.text(down_seconds / 2, 1.1 * top, "the endpoint is down", ha="center", va="top")
        axes[-1].legend(loc="upper right", facecolor="white", framealpha=1, edgecolor="none")
        axes[-1].set_xlabel("seconds since the first request")
        axes[-1].set_xlim(0, edges[-1])
        axes[-1].set_xticks(range(0, int(last) + 2, 2))
        figure.tight_layout()
        plt.close(figure)  # shown once, as the value of the cell
    return figure


def draw_life(watch: Watch, endpoint: Endpoint, workers: list[Worker], longest_waits: list[float]):
    """Draw where a task was and when, and what the endpoint answered; return the figure.

    The watch calls the lists `queue`, `dead`, and by the workers' names. longest_waits: what the first wait, the
    second, ... could have been at most, in seconds.
    """
    import matplotlib.pyplot as plt

    begin = watch.seen[0][0]
    ends = [end - begin for end, _ in watch.seen[1:]]
    spells = [(place, at - begin, end) for (at, place), end in zip(watch.seen, ends, strict=False) if place]
    names = [worker.name for worker in workers]
    waits = [f"delayed, {number}" for number in range(1, len(longest_waits) + 1)]
    rows = ["queue", *names, *waits, "dead"]
    colors = {"queue": "#777777", "dead": "black"} | dict.fromkeys(names, BLUE) | dict.fromkeys(waits, GREEN)
    labels = {"queue": "waits in the queue", "dead": "dead letter"} | {
        name: f"{name} has it" for name in names
    }
    with plt.rc_context(LOOK):
        figure, ax = plt.subplots(figsize=(11.5, 6.2), dpi=80)
        for place, start, end in spells:
            ax.barh(rows.index(place), end - start, left=start, height=0.5, color=colors[place])
            if place == "dead":
                _note(ax, "dlq.py replay", (end, rows.index(place)), (8, 0), weight="bold")
        path = [(at, rows.index(place)) for place, *times in spells for at in times]
        ax.plot(*zip(*path, strict=True), color="black", linewidth=1.2, linestyle=":", zorder=0)
        right = 1.2 * ends[-1]
        for place, start, end in spells:
            if place in waits:
                longest = longest_waits[waits.index(place)]
                room = {"height": 0.5, "facecolor": "none", "edgecolor": GREEN, "linestyle": "--"}
                ax.barh(rows.index(place), longest, left=start, **room)
                beside = max(start + longest, end)
                _note(ax, f"{end - start:.1f} s, of at most {longest:g}", (beside, rows.index(place)), (7, 0))
                right = max(right, beside + 0.25 * ends[-1])
        _mark_requests(ax, endpoint, rows, [spell for spell in spells if spell[0] in names], begin)
        _mark_the_kill(ax, workers, rows, spells, begin)
        ax.set_yticks(range(len(rows)), [labels.get(row, row.replace(",", " after try")) for row in rows])
        ax.set_ylim(len(rows) - 0.5, -0.7)
        ax.set_xlim(-0.1, right)
        ax.set_xlabel("seconds since the task was queued")
        ax.grid(axis="x", color=GRID)
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
        figure.tight_layout()
        plt.close(figure)
    return figure


def _mark_requests(ax, endpoint: Endpoint, rows: list[str], in_hand: list, begin: float) -> None:
    """Write the answer over the bar of the worker that asked."""
    for request in endpoint.requests:
        place, start, end = min(in_hand, key=lambda spell: abs(spell[1] + begin - request.at))
        short = request.answer == 503
        words = {200: "200: delivered", "never": "no answer"}.get(request.answer, str(request.answer))
        at = ((start + end) / 2 if short else start, rows.index(place) - 0.27)
        _note(ax, words, at, (0, 2), va="bottom", ha="center" if short else "left")


def _mark_the_kill(ax, workers: list[Worker], rows: list[str], spells: list, begin: float) -> None:
    """A cross where a worker died, and a hatched bar for the time in which nobody works on its task."""
    for worker in workers:
        for at in [event.at - begin for event in worker.events if event.what == "killed"]:
            row = rows.index(worker.name)
            end = next(end for _, start, end in spells if start < at < end)
            ax.barh(
                row,
                end - at,
                left=at,
                height=0.5,
                color="white",
                edgecolor=VERMILION,
                hatch="//",
                linewidth=1.5,
            )
            ax.plot(at, row, marker="X", markersize=16, color="black", markeredgecolor="white")
            _note(ax, "SIGKILL", (at, row + 0.27), (0, -3), va="top", weight="bold")
            _note(ax, "lease ended:\ntaken over", (end, row), (8, 0), color=VERMILION, weight="bold")


def _note(ax, words: str, place: tuple[float, float], points_beside: tuple[float, float], **look) -> None:
    behind = {"facecolor": "white", "edgecolor": "none", "pad": 0.5, "alpha": 0.8}
    look = {"size": TEXT_SIZE - 1, "va": "center", "ha": "left", "bbox": behind} | look
    ax.annotate(words, place, points_beside, textcoords="offset points", **look)
