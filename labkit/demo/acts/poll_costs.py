"""What a pause between two looks costs: looks in vain if it is short, waiting if it is long."""

from labkit.demo.view import GONE, IN_HAND, Bar, Cell, Panel, Words

SECONDS_A_DAY = 86_400
ROWS = 3


class PollCosts:
    """Measured by pause, in seconds: the looks of one worker in a second, and how long a mail waited, in seconds."""

    def __init__(self) -> None:
        self.looks: dict[float, float] = {}
        self.waits: dict[float, float] = {}

    @property
    def longest_wait(self) -> float:
        return max(self.waits.values(), default=0.0)

    def _ends(self) -> tuple[float, float]:
        """The longest pause and the shortest of which both were measured."""
        pauses = self.looks.keys() & self.waits.keys()
        return max(pauses), min(pauses)

    def is_a_bargain(self) -> bool:
        """Whether the shortest pause has the shorter wait, and twice as many looks at least."""
        if len(self.looks.keys() & self.waits.keys()) < 2:
            return False
        long, short = self._ends()
        return self.waits[short] < self.waits[long] and self.looks[short] > 2 * self.looks[long]

    def story(self) -> str:
        """The bargain in words."""
        long, short = self._ends()
        waits = f"a wait of {1000 * self.waits[short]:.0f} ms, not {1000 * self.waits[long]:.0f}"
        return f"{waits}, costs {self.looks[short]:.0f} looks a second, not {self.looks[long]:.0f}"

    def a_day(self) -> str:
        """The looks of one worker at the shortest pause, in a day without any mail."""
        return f"{self.looks[self._ends()[1]] * SECONDS_A_DAY:,.0f} looks in vain a day, for each worker"

    def panel(self) -> Panel:
        """A line for each pause, the longest first."""
        most = max(self.looks.values(), default=1.0)
        rows = []
        for pause in sorted(self.looks, reverse=True):
            looks, wait = self.looks[pause], self.waits.get(pause)
            cells: list[Cell] = [f"{pause:>12g}", Words(f"{looks:5.0f}"), Bar(looks / most, GONE, told=False)]
            if wait is not None:
                share = wait / self.longest_wait if self.longest_wait else 0.0
                cells += [Words(f"{1000 * wait:5.0f} ms"), Bar(share, IN_HAND, told=False)]
            rows.append(tuple(cells))
        heads = ("POLL_SECONDS", "looks", "in vain, a second", "  a mail", "waits, just after a look")
        return Panel("what a pause costs", (12, 5, 19, 8, 0), tuple(rows), heads, lines=ROWS)
