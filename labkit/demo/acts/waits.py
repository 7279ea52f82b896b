"""How long tasks that failed were told to wait, read from the broker at the moment at which they were told."""

import contextlib
import itertools
import json
from collections import defaultdict
from collections.abc import Collection
from typing import NamedTuple

from labkit.demo.view import WAITING, Panel, Points
from labkit.grader.actor import Actor
from labkit.grader.lane import AFTER, BEFORE, Command, Lane
from labkit.grader.scene import Scene
from labkit.grader.tasks import id_in
from labkit.resp import ReplyError

ROWS = 4
ORDINALS = ("1st", "2nd", "3rd", "4th")
LATE_SECONDS = 0.01  # what rounding to milliseconds may add to a wait


class Wait(NamedTuple):
    """A wait in seconds lies between these: the broker's clock was read before and after the command that told it."""

    least: float
    most: float


class Waits:
    """A fault that does no harm: it looks into QUEUE:delayed after each command of a worker that names a task."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.base = self.cap = 0.0
        self._found: dict[int, dict[int, Wait]] = defaultdict(dict)  # of each task, by its attempts so far
        self._clock: dict[str, float] = {}  # of the broker, before the last command of each worker
        self._connection = scene.broker.connect()  # the scene's own is for one thread
        scene.at_the_end(lambda: self._connection.close())

    def begin(self, base: float, cap: float) -> None:
        """Forget what was found. base: the limit of the first wait, which doubles up to cap; in seconds."""
        self.base, self.cap = base, cap
        self._found = defaultdict(dict)

    def arm(self, actor: Actor) -> None:
        """Called by the scene before the worker's process is started."""
        actor.lane.gates.append(self._look)

    async def _look(self, lane: Lane, command: Command, when: str) -> None:
        if not command.tasks:
            return
        try:
            if when == BEFORE:
                self._clock[lane.who] = self._now()
            if when == AFTER:
                self._note_all(self._clock[lane.who])
        except OSError:  # the broker was killed
            with contextlib.suppress(OSError):
                self._connection.close()
                self._connection = self.scene.broker.connect()
        except (ReplyError, ValueError, LookupError, TypeError):
            pass  # what lies there is no task with attempts

    def _now(self) -> float:
        seconds, micros = self._connection.ask("TIME")
        return int(seconds) + int(micros) / 1e6

    def _note_all(self, before: float) -> None:
        """Note the wait of each task that was told one since that time of the broker's clock."""
        now = self._now()
        entries = self._connection.ask("ZRANGE", f"{self.scene.queue}:delayed", 0, -1, "WITHSCORES")
        for body, due in zip(entries[::2], entries[1::2], strict=True):
            numbers = self.scene.tasks.numbers_in(id_in(body).encode())
            attempts = json.loads(body)["attempts"]
            if numbers and type(attempts) is int:
                wait = Wait(*(max(0.0, float(due) / 1000 - moment) for moment in (now, before)))
                self._found[numbers[0]].setdefault(attempts, wait)

    # ---- what was found -----------------------------------------------------------------------------------

    def tasks(self) -> list[int]:
        return sorted(self._found)

    def of(self, task: int) -> list[float]:
        """The waits of a task, in seconds, the first one first."""
        return [wait.least for _, wait in sorted(self._found.get(task, {}).items())]

    def count(self) -> int:
        return sum(map(len, self._found.values()))

    def limit(self, attempts: int) -> float:
        """How long the wait after so many attempts may be, in seconds."""
        return min(self.cap, self.base * 2 ** (attempts - 1))

    def growth(self, task: int) -> float:
        """How well the waits of a task show that they grow: by how many times, or 0 if one was shorter."""
        waits = self.of(task)
        grows = all(before < after for before, after in itertools.pairwise(waits))
        return waits[-1] if grows else waits[-1] - max(waits)

    def trouble(self) -> str:
        """What is wrong with the waits; "" when each is below its limit, and some are above that of the first."""
        for task, attempts, wait in self._all():
            if wait.least > self.limit(attempts) + LATE_SECONDS:
                return f"Task {task} waited {wait.least:.1f} s after attempt {attempts}."
        longest = max((wait.least for *_, wait in self._all()), default=0.0)
        return "" if longest > self.base else f"No wait was longer than {longest:.1f} s."

    def are_together(self) -> bool:
        """Whether every wait was as long as it may be: who failed together then comes back together."""
        return all(wait.most >= self.limit(attempts) - LATE_SECONDS for _, attempts, wait in self._all())

    def are_spread(self) -> bool:
        """Whether some waits were in the lower half of what they may be, and others in the upper."""
        shares = [
            (wait.least / self.limit(attempts), wait.most / self.limit(attempts))
            for _, attempts, wait in self._all()
        ]
        return any(most < 0.5 for _, most in shares) and any(least > 0.5 for least, _ in shares)

    def _all(self) -> list[tuple[int, int, Wait]]:
        """Each task, the attempts that it has behind it, and the wait that it was told then."""
        return [
            (task, attempts, wait)
            for task, waits in list(self._found.items())
            for attempts, wait in list(waits.items())
        ]

    def told(self, task: int) -> str:
        """The waits of a task in words."""
        *first, last = [f"{wait:.1f}" for wait in self.of(task)]
        return f"was told to wait {', '.join(first)} and then {last} s"

    def panel(self, tasks: Collection[int]) -> Panel:
        """A line for each time, as long as the wait may be, with these tasks at the places of their waits."""
        rows = []
        for attempts in range(1, ROWS + 1):
            limit = self.limit(attempts)
            label = f"{ORDINALS[attempts - 1]}, up to {limit:g} s"
            rows.append((label, Points(self._marks(tasks, attempts), limit / self.cap, WAITING)))
        return Panel("how long each task was told to wait", (17, 0), tuple(rows), note="when it failed")

    def _marks(self, shown: Collection[int], attempts: int) -> tuple[tuple[float, str], ...]:
        """The places of the waits after so many attempts, or in the last row the newest; one for those together."""
        places: dict[float, list[int]] = defaultdict(list)
        for task in sorted(self._found.keys() & set(shown)):
            own = [
                wait for n, wait in sorted(self._found[task].items()) if n == attempts or n > attempts == ROWS
            ]
            if own:
                at_most = own[-1].most >= self.limit(attempts) - LATE_SECONDS
                wait = self.limit(attempts) if at_most else own[-1].least
                places[min(1.0, wait / self.cap)].append(task)
        return tuple((place, _run(tasks)) for place, tasks in places.items())


def _run(tasks: list[int]) -> str:
    """Tasks that stand at one place: "7", "4-11"."""
    in_a_row = len(tasks) > 1 and tasks == list(range(tasks[0], tasks[-1] + 1))
    return f"{tasks[0]}-{tasks[-1]}" if in_a_row else ",".join(map(str, tasks))
