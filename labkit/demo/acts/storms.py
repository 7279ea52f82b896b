"""Tasks that fail together: how long each was told to wait, and whether they come back together."""

import math
from collections.abc import Callable

from labkit.demo.acts.arrivals import LAST_RETRY, Arrivals
from labkit.demo.acts.waits import Waits
from labkit.demo.sight import PATIENCE, Sight, judged
from labkit.grader.scene import Scene
from labkit.grader.words import counted


class Storms:
    """What must be seen of the newest storm, and of the two beside each other."""

    def __init__(self, scene: Scene, arrivals: Arrivals, waits: Waits) -> None:
        self.scene, self.arrivals, self.waits = scene, arrivals, waits

    def tasks(self) -> range:
        """The tasks of the newest storm."""
        return self.arrivals.storms[-1].tasks

    def is_delayed(self, where: str) -> Sight:
        """Each task has failed, and was told to wait."""
        words = f"all {len(self.tasks())} failed, and wait in {where}"
        return Sight(words, lambda: self._all_waited(1), PATIENCE)

    def told_the_most(self, count: int) -> Sight:
        """With loaded dice: each task was told so many times to wait, as long as it may be each time."""

        def words() -> str:
            if not self.waits.are_together():
                self.scene.fail("Some were told to wait less: their dice are not Python's random.")
            return f"each of the {len(self.waits.tasks())} {self.waits.told(self.waits.tasks()[0])}"

        return self._after_waits(count, "all tasks wait as long as they may", words)

    def grows(self, count: int) -> Sight:
        """Each task was told so many times to wait; the limit doubled, and so did some of the waits."""

        def words() -> str:
            best = max(self.waits.tasks(), key=self.waits.growth)
            return f"task {best} {self.waits.told(best)}"

        return self._after_waits(count, "the waits of each task grow", words)

    def is_spread(self) -> Sight:
        words = f"{counted(self.waits.count(), 'wait')}, each below its limit, and spread: full jitter"
        trouble = self.waits.trouble() or "Each wait was as long as it may be: they come back together."
        right = self.waits.are_spread() and not self.waits.trouble()
        return judged(right, words, "the waits are spread below their limits", trouble)

    def last_retries(self) -> Sight:
        """Within how many seconds the last retries of all tasks came, in each storm."""
        took = [(storm.label, self.arrivals.seconds_of_last(storm)) for storm in self.arrivals.storms]
        said_so = ", ".join(f"{seconds:.1f} s {label}" for label, seconds in took)
        words = f"the {LAST_RETRY} retries of all came within {said_so}"
        return judged(all(seconds < math.inf for _, seconds in took), words, "each task was tried again")

    def _after_waits(self, count: int, expected: str, words: Callable[[], str]) -> Sight:
        """Each task was told so many times to wait, and no wait was wrong."""

        def there() -> str:
            if not self._all_waited(count):
                return ""
            if trouble := self.waits.trouble():
                self.scene.fail(trouble)
            return words()

        return Sight(expected, there, 2 * PATIENCE)

    def _all_waited(self, count: int) -> bool:
        return all(len(self.waits.of(number)) >= count for number in self.tasks())
