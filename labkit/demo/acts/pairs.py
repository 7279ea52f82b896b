"""Pairs of tasks that come at the same moment, one for the worker that polls and one for the worker that blocks."""

import json
import math
import statistics
from collections.abc import Sequence

from labkit.demo import measure, panels
from labkit.demo.view import Panel
from labkit.grader.scene import Scene

SHOWN = 6


class Pairs:
    """Each pair is (task of the first queue, task of the second)."""

    def __init__(self, scene: Scene, queues: tuple[str, str]) -> None:
        """queues: as the broker calls them."""
        self.scene, self.queues = scene, queues
        self.tasks: list[tuple[int, int]] = []

    def push(self) -> tuple[int, int]:
        """Push one more pair."""
        pair = self._push(self.queues[0]), self._push(self.queues[1])
        self.tasks.append(pair)
        return pair

    def _push(self, key: str) -> int:
        """Push an ordinary task, as a producer does; its wait begins before it reaches the broker."""
        body = json.dumps(self.scene.run.new_task(self.scene)).encode()
        task = self.scene.adopt(body)
        self.scene.ask("LPUSH", key, body)
        return task.number

    def milliseconds(self, task: int) -> float:
        """From push to start; not a number before."""
        return 1000 * measure.seconds_to_start(self.scene.history, task)

    def mean(self, place: int) -> float:
        """From push to start, in milliseconds, over the tasks of one queue; not a number before the first."""
        took = [self.milliseconds(pair[place]) for pair in self.tasks]
        return statistics.mean([each for each in took if not math.isnan(each)] or [math.nan])

    def panel(self, names: Sequence[str]) -> Panel:
        """The last pairs side by side; names: of the workers."""
        shown = self.tasks[-SHOWN:]
        empty = ("",) * (SHOWN - len(shown))
        rows = []
        for place, name in enumerate(names):
            cells = [panels.number(self.milliseconds(pair[place]), width=6) for pair in shown]
            rows.append((name, *cells, *empty, panels.number(self.mean(place), width=8)))
        pairs = (f"{first}, {second}".rjust(6) for first, second in shown)
        heads = ("tasks", *pairs, *empty, "    mean")
        return Panel("from push to start, in milliseconds", (8, *[6] * SHOWN, 8, 0), tuple(rows), heads)
