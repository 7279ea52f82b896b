"""Where lab 4 keeps its tasks, and whose they are: the lists, the leases and the counters, and panels of them."""

from collections.abc import Callable, Iterable

from labkit.demo import panels
from labkit.demo.moment import DEAD, FROZEN, Moment
from labkit.demo.view import DONE, FAINT, GONE, IN_HAND, PLAIN, STRONG, WAITING, Cell, Panel, Words
from labkit.grader.scene import Scene


class WebhookQueue:
    """name: the queue as the lab calls it; `key` gives the names at the broker."""

    def __init__(self, scene: Scene) -> None:
        self.scene, self.name = scene, scene.run.lab.queue

    def key(self, *parts: str) -> str:
        return ":".join((self.scene.queue, *parts))

    def list_of(self, worker: str) -> str:
        """What a worker has in hand, as the lab calls the list."""
        return f"{self.name}:processing:{worker}"

    def lease_left(self, worker: str) -> float:
        """Seconds; negative when there is no lease."""
        return self.scene.ask("PTTL", self.key("lease", worker)) / 1000

    def counter(self, what: str) -> int:
        """How often this has become of a task, as the workers have counted."""
        return int(self.scene.ask("GET", self.key("count", what)) or 0)

    # ---- what there is to see -----------------------------------------------------------------------------

    def workers_panel(self, moment: Moment, workers: Iterable[str], called: Callable[[int], str]) -> Panel:
        rows = []
        for name in workers:
            worker = moment.worker(name)
            holds = worker.state != DEAD or worker.task in moment.in_list(self.list_of(name))
            lease = self._lease_cell(name, watched=worker.state in (DEAD, FROZEN))
            rows.append((*panels.worker_cells(worker, called, holds=holds), lease))
        heads = ("", "", "in hand", "progress", "lease")
        return panels.workers_panel((8, 8, 0, 14, 9), rows, heads, lines=2)

    def _lease_cell(self, name: str, *, watched: bool) -> Cell:
        """watched: nobody renews it, and the room sees it run out."""
        left = self.lease_left(name)
        if left >= 0:
            return Words(f"{left:.1f} s", STRONG if watched else PLAIN)
        return Words(" ENDED ", GONE) if watched else Words("-", FAINT)

    def tasks_panel(self, moment: Moment) -> Panel:
        lists = {key for keys in moment.where.values() for key in keys if ":processing:" in key}
        in_hand = sorted({number for key in lists for number in moment.in_list(key)})
        rows = [
            panels.task_row("waiting", moment.waiting(self.name), WAITING),
            panels.task_row("in hand", in_hand, IN_HAND),
            panels.task_row("delayed", moment.in_list(f"{self.name}:delayed"), WAITING),
            panels.task_row("dead", moment.rejected, GONE, "!"),
            panels.task_row("delivered", moment.done, DONE, newest=True),
        ]
        if moment.elsewhere:
            rows[1] = panels.task_row("in no list!", moment.elsewhere, GONE, "?")
        return panels.task_panel(f"tasks: {moment.total}", rows)
