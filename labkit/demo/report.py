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
LOOKS = {"done once": DONE, "recovered": DONE, "set aside": WAITING}


@dataclass(frozen=True)
class Report:
    """story: of what was not seen, or ""; kept: places, each with what it is called; ask: lines for the room."""

    verdict: Verdict
    story: str
    kept: list[tuple[str, Path]]
    ask: tuple[str, ...]

    def rows(self) -> list[tuple[str, list[int], str]]:
        """The verdict: word, tasks, what the word means. What nobody expects has a row only when there is some."""
        verdict = self.verdict
        rows = [
            ("done once", verdict.done_once, ""),
            ("duplicated", verdict.duplicated, "done more than once"),
            ("lost", verdict.lost, "accepted, never done, in no list any more"),
            ("recovered", verdict.recovered, "in hand at the kill, and done all the same"),
            ("waiting", verdict.waiting, "never done, still in a list"),
            ("set aside", verdict.dead, "can never succeed; the rejected list says why"),
        ]
        expected = {"done once", "duplicated", "lost"} | ({"recovered"} if verdict.hit else set())
        return [row for row in rows if row[1] or row[0] in expected]

    def print_lines(self) -> None:
        """Plain lines, for logs."""
        counts = ", ".join(f"{word} {len(tasks)}" for word, tasks, _ in self.rows())
        places = [f"the {what}: {where}" for what, where in self.kept]
        asked = [f"{ASK if not place else ' ' * len(ASK)} {line}" for place, line in enumerate(self.ask)]
        said = [*self.story.splitlines(), f"verdict: sent {self.verdict.sent}, {counts}", *places, *asked]
        for line in said:
            write(sys.stdout, line)

    def print_table(self, console: Console) -> None:
        """On the terminal's own screen, where it stays."""
        width = min(console.width, WIDEST)
        lines = [self._row("sent", self.verdict.sent, None, "", width - 4)]
        lines += [
            self._row(word, len(tasks), tasks, meaning, width - 4) for word, tasks, meaning in self.rows()
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

    @staticmethod
    def _row(word: str, count: int, tasks: list[int] | None, meaning: str, width: int) -> Text:
        start = table_row([Words(word, STRONG), Words(f"{count:>3}", STRONG)], (12, 4), 17)
        if tasks is None:
            return start
        if not tasks:
            return Text.assemble(start, " ", ("none", "dim"))
        left = width - 18
        if meaning and 4 * len(tasks) + len(meaning) < left:  # else the tasks say more
            left, meaning = left - len(meaning) - 2, f"  {meaning}"
        else:
            meaning = ""
        shown = tiles(Tiles(tuple(tasks), LOOKS.get(word, GONE), newest=True), left)
        return Text.assemble(start, " ", shown, meaning)
