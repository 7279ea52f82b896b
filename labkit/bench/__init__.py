"""The measurements behind `./lab bench`. Each yields rows: a figure's name, its median, and a ratio or a note."""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence

from labkit.course import ROOT

Row = tuple[str, str, str]


def timed(call: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def seconds(values: Iterable[float], digits: int = 1) -> str:
    """The median of some seconds, as a table shows it."""
    return f"{statistics.median(values):.{digits}f} s"


def ended(words: Sequence[str]) -> tuple[float, float, int]:
    """Run `./lab WORDS` to its end; return its seconds, the MB of the largest process in it, and its exit status."""
    command = [sys.executable, "-m", "labkit", *words]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    began = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)  # it is waited for already
    unit = 1024 * 1024 if sys.platform == "darwin" else 1024
    return time.perf_counter() - began, usage.ru_maxrss / unit, process.returncode
