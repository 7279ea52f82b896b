"""How far a batch is: a bar on a terminal, a line for each submission elsewhere."""

import time
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.text import Text

from labkit.grade.gradebook import Row
from labkit.grader.schedule import INFRASTRUCTURE

NAME_WIDTH = 28


class Shown:
    """The progress of `total` submissions on standard output, while it is entered."""

    def __init__(self, total: int, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True)
        self.total, self.ended, self.graded = total, 0, 0
        self.began = time.monotonic()
        self.bar: Progress | None = None
        if self.console.is_terminal:
            self.bar = Progress(
                BarColumn(bar_width=30),
                MofNCompleteColumn(),
                TextColumn("{task.fields[ends]}"),
                TextColumn("{task.fields[last]}", markup=False),
                console=self.console,
                transient=True,
            )
            self.task = self.bar.add_task("grading", total=total, ends="", last="")

    def __enter__(self) -> Self:
        if self.bar:
            self.bar.start()
        return self

    def __exit__(self, *exception) -> None:
        if self.bar:
            self.bar.stop()

    def taken_over(self, number: int) -> None:
        """So many need not be graded again."""
        self.ended += number
        if self.bar:
            self.bar.update(self.task, completed=self.ended)

    def add(self, row: Row) -> None:
        """A submission has ended."""
        self.ended += 1
        self.graded += 1
        points = "not graded" if row.points is None else f"{row.points} of {row.max_points}"
        last = f"{row.name[:NAME_WIDTH]}: {points}"
        if self.bar:
            self.bar.update(self.task, completed=self.ended, ends=self.expected_end(), last=last)
        if not self.bar or row.outcome == INFRASTRUCTURE:
            width = len(str(self.total))
            line = f"{self.ended:{width}}/{self.total}  {row.name[:NAME_WIDTH]:{NAME_WIDTH}}  {points:>11}  "
            line += f"{row.outcome:14}  {row.seconds:6.1f} s"
            line += f"  {row.look}" if row.outcome == INFRASTRUCTURE else ""
            self.console.print(Text(line), soft_wrap=True)

    def say(self, line: str) -> None:
        """One line beside the progress."""
        self.console.print(Text(line), soft_wrap=True)

    def expected_end(self) -> str:
        """When it will end if it goes on like this, as the clock shows it; "" once all have ended."""
        left = self.total - self.ended
        if not left or not self.graded:
            return ""
        seconds = (time.monotonic() - self.began) / self.graded * left
        return f"until about {time.strftime('%H:%M', time.localtime(time.time() + seconds))}"
