"""The measurements behind `./lab bench`. Each yields rows: a figure's name, its median, and a ratio or a note."""

import statistics
import time
from collections.abc import Callable, Iterable

Row = tuple[str, str, str]


def timed(call: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def seconds(values: Iterable[float], digits: int = 1) -> str:
    """The median of some seconds, as a table shows it."""
    return f"{statistics.median(values):.{digits}f} s"
