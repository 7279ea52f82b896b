"""Mails counted by level, from a moment on: which level starves, and which has its share."""

from collections import Counter
from collections.abc import Callable

from labkit.demo.acts.levels import Levels, shares
from labkit.demo.sight import Sight, judged
from labkit.grader.history import REPLY
from labkit.grader.scene import Scene


class MailCounts:
    """See the module. began: how many mails had gone out when the newest count began.

    waiting: how many tasks of a level wait just now.
    """

    def __init__(self, scene: Scene, levels: Levels, waiting: Callable[[str], int]) -> None:
        self.scene, self.levels, self.waiting = scene, levels, waiting
        self.began = 0
        self._counts: dict[str, Counter[str]] = {}  # by what each is called

    def begin(self) -> None:
        """Count from now on."""
        self.began = len(self.levels.gone())

    def begin_after_those_in_hand(self) -> None:
        """Count from now on, without the mails that somebody has taken already."""
        taken = {number for event in self.scene.history.events(REPLY) for number in event.tasks}
        self.began = len(taken | set(self.levels.gone()))

    def since(self) -> list[int]:
        """The tasks whose mails have gone out since the newest count began, in this order."""
        return self.levels.gone()[self.began :]

    def keep(self, what: str, first: int) -> None:
        """Keep the newest count under this name, of its first so many mails."""
        self._counts[what] = Counter(map(self.levels.of, self.since()[:first]))

    def facts(self) -> tuple[tuple[str, int, str], ...]:
        return tuple(
            (what, counts.total(), f"mails counted: {shares(counts)}")
            for what, counts in self._counts.items()
        )

    # ---- what must be seen --------------------------------------------------------------------------------

    def starve(self, what: str) -> Sight:
        counts = self._counts[what]
        right = counts["high"] == counts.total() and self.waiting("high") and self.waiting("low")
        words = f"{_of(counts)}: the newsletters starve"
        return self._judged(right, words, "while urgent mail waits, no newsletter is sent", counts)

    def first_newsletter(self) -> Sight:
        """While more urgent mail waits, a newsletter is sent all the same."""
        sent = list(map(self.levels.of, self.since()))
        place = sent.index("low") + 1 if "low" in sent else 0
        waiting = self.waiting("high")
        words = f"mail {place} of these was the first newsletter; {waiting} resets still wait"
        return judged(place and waiting, words, "a newsletter is sent before the last reset")

    def have_shares(self, what: str) -> Sight:
        """Each level has some, the more urgent more."""
        counts = self._counts[what]
        right = counts["high"] > counts["normal"] > counts["low"] > 0 and self.waiting("high")
        words = f"{_of(counts)}: each has its share"
        return self._judged(right, words, "each level has its share, the more urgent the more", counts)

    def have_equal_shares(self, what: str) -> Sight:
        counts = self._counts[what]
        right = counts["high"] == counts["normal"] == counts["low"] > 0
        return self._judged(right, f"{_of(counts)}: as TURNS says", "each level has the same share", counts)

    def _judged(self, right: object, words: str, expected: str, counts: Counter[str]) -> Sight:
        return judged(right, words, expected, f"{_of(counts).capitalize()}.")


def _of(counts: Counter[str]) -> str:
    return f"of {counts.total()} mails {shares(counts)}"
