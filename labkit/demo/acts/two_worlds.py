"""Two queues with the same tasks: the lab's own, and one beside it from which a worker takes with BRPOP."""

import json
import uuid
from collections.abc import Sequence

from labkit.demo.moment import DEAD, Moment
from labkit.demo.view import DONE, GONE, IN_HAND, STRONG, WAITING, Cell, Panel, Tiles, Words
from labkit.grader.scene import Scene

WIDTHS = (17, 2, 23, 2, 0)


class TwoWorlds:
    """twins: for each task of the lab's queue that has one, its twin in the other. Tasks are given by number."""

    def __init__(self, scene: Scene, popper: str) -> None:
        """popper: the name of the worker that takes with BRPOP."""
        self.scene, self._popper = scene, popper
        self.key = f"{scene.queue}:popped"  # of the other queue, as the broker calls it
        self.queue, self.popped = scene.run.lab.queue, scene.called([self.key])
        self.twins: dict[int, int] = {}

    def queue_twins(self) -> None:
        """Queue each task once more, in the other queue and under an id of its own."""
        for task in self.scene.tasks:
            fields = self.scene.json(task.body)
            if isinstance(fields, dict):
                body = json.dumps(fields | {"id": str(uuid.uuid4())}).encode()
                self.twins[task.number] = self.scene.adopt(body).number
                self.scene.ask("LPUSH", self.key, body)

    def own(self) -> set[int]:
        """The tasks of the lab's queue."""
        return {task.number for task in self.scene.tasks}.difference(self.twins.values())

    def panel(self, moment: Moment, workers: Sequence[str]) -> Panel:
        """Where the tasks are, side by side. workers: those of the lab whose lists are shown."""
        waiting = [tuple(moment.waiting(key)) for key in (self.popped, self.queue)]
        rows = [_row("waiting", *(Tiles(numbers, WAITING) for numbers in waiting))]
        for name in workers:
            held = tuple(moment.in_list(f"{self.queue}:processing:{name}"))
            dead = moment.worker(name).state == DEAD
            tiles = Tiles(held, GONE, "✗") if dead else Tiles(held, IN_HAND)
            rows.append(_row(f"processing:{name}", None, tiles))
        rows += [_row("", None, None)] * (2 - len(workers))
        nowhere, lost = self._apart(moment.elsewhere)
        in_memory = nowhere and set(nowhere) <= set(moment.in_memory([self._popper]))
        popped = Tiles(nowhere, IN_HAND) if in_memory else Tiles(nowhere, GONE, "?")
        rows.append(_row("in no list", popped, Tiles(lost, GONE, "?")))
        if moment.rejected:
            rows[-1] = _row("rejected", *(Tiles(some, GONE, "!") for some in self._apart(moment.rejected)))
        rows.append(_row("done", *(Tiles(some, DONE, newest=True) for some in self._apart(moment.done))))
        heads = ("", "", f"BRPOP: {self.popped}", "", f"BLMOVE: {self.queue}")
        return Panel(f"tasks: {moment.total}", WIDTHS, tuple(rows), heads)

    def _apart(self, tasks: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Those of the other queue, and those of the lab's own."""
        twins = set(self.twins.values())
        return tuple(n for n in tasks if n in twins), tuple(n for n in tasks if n not in twins)


def _row(label: str, popped: Tiles | None, own: Tiles | None) -> tuple[Cell, ...]:
    """A row with how many there are in each world, and which; None: no such place."""
    cells: list[Cell] = [label]
    for tiles in (popped, own):
        cells += ["", ""] if tiles is None else [Words(f"{len(tiles.tasks):>2}", STRONG), tiles]
    return tuple(cells)
