"""Mail by its level, as lab 5 shows it: what waits of each, what has gone out, and how a sorted set lies."""

from collections import Counter
from collections.abc import Iterable

from labkit.demo.moment import Moment
from labkit.demo.view import DONE, FAINT, IN_HAND, STRONG, WAITING, Bar, Panel, Strip, Words
from labkit.grader.history import WORK_FINISHED
from labkit.grader.material.lab05_priorities import LEVELS
from labkit.grader.scene import Scene

LOOKS = {"high": IN_HAND, "normal": DONE, "low": WAITING}
LETTERS = {level: level[0].upper() for level in LEVELS}
TILES_IN_ROW = 19
SORTED = "sorted"


class Levels:
    """See the module. Tasks are given by number; a policy says how they lie at the broker."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self._of: dict[int, str] = {}

    def of(self, number: int) -> str:
        """The level of a task; the lowest for one that names none."""
        if number not in self._of:
            fields = self.scene.json(self.scene.tasks[number].body)
            level = fields.get("priority") if isinstance(fields, dict) else ""
            self._of[number] = level if level in LEVELS else LEVELS[-1]
        return self._of[number]

    def note(self, numbers: Iterable[int], level: str) -> None:
        """Take note of the level of many tasks."""
        self._of |= dict.fromkeys(numbers, level)

    def key(self, *parts: str) -> str:
        """A key as the broker calls it."""
        return ":".join((self.scene.queue, *parts))

    def in_list(self, *parts: str) -> tuple[int, ...]:
        """The tasks in a list."""
        return self.scene.tasks.numbers_in(self.scene.ask("LRANGE", self.key(*parts), 0, -1))

    def by_score(self) -> tuple[int, ...]:
        """The tasks in the sorted set, the lowest score first."""
        return self.scene.tasks.numbers_in(self.scene.ask("ZRANGE", self.key(SORTED), 0, -1))

    def depth(self, level: str, policy: str) -> int:
        """How many tasks of this level wait, as the policy has it."""
        if policy == SORTED:
            return sum(self.of(number) == level for number in self.by_score())
        return self.scene.ask("LLEN", self.key(level))

    def gone(self) -> list[int]:
        """The tasks whose mails were sent, in this order."""
        return [number for event in self.scene.history.events(WORK_FINISHED) for number in event.tasks]

    def in_order(self, numbers: Iterable[int]) -> list[int]:
        """The most urgent first, and within a level the oldest."""
        return sorted(numbers, key=lambda number: (LEVELS.index(self.of(number)), number))

    def last_mails(self) -> str:
        return f"The last mails: {', '.join(f'{self.of(n)} ({n})' for n in self.gone()[-5:])}."

    # ---- what there is to see -----------------------------------------------------------------------------

    def waiting_panel(self, policy: str, note: str) -> Panel:
        depths = {level: self.depth(level, policy) for level in LEVELS}
        most = max(1, *depths.values())
        rows = [
            (Words(level, STRONG), f"{count:7,}", Bar(count / most, LOOKS[level], told=False))
            for level, count in depths.items()
        ]
        where = f"waiting in mail:{SORTED}" if policy == SORTED else "waiting"
        return Panel(f"{where}: {sum(depths.values()):,} tasks", (6, 7, 0), tuple(rows), note=note)

    def mail_panel(self, moment: Moment, policy: str, began: int) -> Panel:
        """All that has gone out, in its order, written as a typewriter would: row by row.

        began: how many had gone out when the count of this policy began.
        """
        gone = [self.of(number) for event, _ in moment.finished for number in event.tasks]
        first = max(0, -(-len(gone) // TILES_IN_ROW) - 2) * TILES_IN_ROW
        letters = [(LETTERS[level], LOOKS[level]) for level in gone[first:]]
        rows = [(Strip(tuple(letters[at : at + TILES_IN_ROW])),) for at in (0, TILES_IN_ROW)]
        note = f"{policy}: {shares(Counter(gone[began:]))}"
        return Panel(f"mail: {len(gone)} sent", (0,), tuple(rows), note=note, lines=2)

    def sorted_panel(self, queued: list[int]) -> Panel:
        """The tasks that were queued under this policy: as they came, and as they lie in the sorted set."""
        rows = [
            (Words(label, FAINT), self._strip(tasks, queued))
            for label, tasks in (("as they came", queued), ("by their scores", self.by_score()))
        ]
        return Panel("mail:sorted", (15, 0), tuple(rows), note="level and number", lines=2)

    def _strip(self, tasks: Iterable[int], queued: list[int]) -> Strip:
        return Strip(tuple((self.tile(n, queued), LOOKS[self.of(n)]) for n in tasks if n in queued))

    def tile(self, number: int, queued: list[int]) -> str:
        """A task by its level and its place among those that were queued: "H3"."""
        return f"{LETTERS[self.of(number)]}{queued.index(number) + 1}"


def shares(counts: Counter[str]) -> str:
    """Mails counted by level, in words."""
    return ", ".join(f"{level} {counts[level]}" for level in LEVELS)
