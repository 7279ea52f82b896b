"""The finished programs of a lab that a notebook runs: the solution's, or where there is none the reader's own."""

import re
from pathlib import Path

from labkit.course import lab

GAP = re.compile(r'NotImplementedError\(\s*"TODO (\d+):')


class NotWritten(Exception):
    """There is no finished program of this lab. A notebook shows its one line, and no traceback."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows of it."""
        return [str(self)]


def programs(number: int) -> Path:
    """The folder of lab `number`'s finished programs.

    Raises:
        NotWritten: there is no solution here, and what is in labs/ still has gaps.
    """
    one = lab(number)
    if one.solution.is_dir():
        return one.solution
    scripts = sorted(one.folder.glob("*.py"))
    if gaps := sorted({int(gap) for path in scripts for gap in GAP.findall(path.read_text())}):
        raise NotWritten(
            f"This cell runs the programs of labs/{one.slug}, and TODO {', '.join(map(str, gaps))} is not written yet: "
            f"come back when ./lab check {number} passes."
        )
    return one.folder
