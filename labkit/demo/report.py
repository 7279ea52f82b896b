"""What is said after a demonstration: what became of the tasks, where everything is, and the question to ask."""

import re
import sys
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from labkit.demo.draw import FRAME, table_row, tiles
from labkit.demo.live import audience
from labkit.demo.stage import write
from labkit.demo.view import DONE, GONE, STRONG, WAITING, Tiles, Words
from labkit.grader.verdict import Verdict

WIDEST = 100
ASK = "Ask the class:"
ASIDE = ("set aside", "can never succeed; the rejected list says why")
AGAIN = "done more than once"
LOOKS = {"done once": DONE, "recovered": DONE, "set aside": WAITING}


@dataclass(frozen=True)
class Report:
    """story: of what was not seen, or ""; kept: places, each with what it is called; ask: lines for the room.

    facts: what else was counted, each with its meaning. left: what it means that tasks wait, if they should.
    aside: the word for tasks that cannot be done, and its meaning. again: why a task was done more than once.
    """

    verdict: Verdict
    story: str
    kept: list[tuple[str, Path]]
    ask: tuple[str, ...]
    facts: tuple[tuple[str, int, str], ...] = ()
    left: str = ""
    aside: tuple[str, str] = ASIDE
    again: str = AGAIN

    def rows(self) -> list[tuple[str, list[int], str]]:
        """The verdict: word, tasks, what the word means. What nobody expects has a row only when there is some."""
        verdict = self.verdict
        rows = [
            ("done once", verdict.done_once, ""),
            ("duplicated", verdict.duplicated, self.again),
            ("lost", verdict.lost, "accepted, never done, in no list any more"),
            ("recovered", verdict.recovered, "in hand at the kill, and done all the same"),
            ("waiting", verdict.waiting, self.left or "never done, still in a list"),
            (self.aside[0], verdict.dead, self.aside[1]),
        ]
        expected = {"done once", "duplicated", "lost"} | ({"recovered"} if verdict.hit else set())
        return [row for row in rows if row[1] or row[0] in expected]

    def print_lines(self) -> None:
        """Plain lines, for logs."""
        counted = [(word, len(tasks)) for word, tasks, _ in self.rows()]
        counted += [(word, count) for word, count, _ in self.facts]
        counts = ", ".join(f"{word} {count}" for word, count in counted)
        places = [f"the {what}: {where}" for what, where in self.kept]
        asked = [f"{ASK if not place else ' ' * len(ASK)} {line}" for place, line in enumerate(self.ask)]
        said = [*self.story.splitlines(), f"verdict: sent {self.verdict.sent}, {counts}", *places, *asked]
        for line in said:
            write(sys.stdout, line)

    def print_table(self, console: Console) -> None:
        """On the terminal's own screen, where it stays."""
        width = min(console.width, WIDEST)
        lines = [self._start("sent", self.verdict.sent)]
        lines += [self._row(word, tasks, meaning, width - 4) for word, tasks, meaning in self.rows()]
        lines += [
            Text.assemble(self._start(word, count), " ", meaning) for word, count, meaning in self.facts
        ]
        title = Text("what became of the tasks", "bold not dim")
        look = {"box": box.ROUNDED, "title": title, "title_align": "left", "border_style": FRAME}
        with audience():
            for line in self.story.splitlines():
                narrow = line if len(line) <= console.width else re.sub(r"(?<=\S) {3,}", "  ", line)
                console.print(Text(narrow))
            console.print(Panel(Text("\n").join(lines), width=width, **look))
            for what, where in self.kept:
                console.print(Text(f"{f'the {what}':13}{where}"), soft_wrap=True)
            if self.ask:
                console.print(Text("\n".join(["", ASK, *self.ask]), "bold"))

    def _start(self, word: str, count: int) -> Text:
        """The beginning of a row."""
        digits = max(4, len(str(self.verdict.sent)) + 1)
        return table_row(
            [Words(word, STRONG), Words(f"{count:>{digits - 1}}", STRONG)], (12, digits), 13 + digits
        )

    def _row(self, word: str, tasks: list[int], meaning: str, width: int) -> Text:
        start = self._start(word, len(tasks))
        if not tasks:
            return Text.assemble(start, " ", ("none", "dim"))
        left = width - start.cell_len - 1
        if word == "waiting" and self.left:
            return Text.assemble(start, " ", meaning)
        if meaning and 4 * len(tasks) + len(meaning) < left:  # else the tasks say more
            left, meaning = left - len(meaning) - 2, f"  {meaning}"
        else:
            meaning = ""
        shown = tiles(Tiles(tuple(tasks), LOOKS.get(word, GONE), newest=True), left)
        return Text.assemble(start, " ", shown, meaning)
