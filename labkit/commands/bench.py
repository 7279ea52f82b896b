"""`./lab bench`: the figures that the course quotes, measured here, in one run.

What is compared runs in turns, A B A B …, so that a machine that slows down slows both. Medians and ratios are what
holds from one machine to another; seconds are those of this one.
"""

import json

from rich.console import Console
from rich.table import Table

from labkit.bench.batch import class_grading
from labkit.bench.grading import grading
from labkit.bench.start import broker_start
from labkit.bench.workers import idle_cost, worker_overhead
from labkit.course import ROOT, STATE
from labkit.replacing import replace

PARTS = {
    "start": broker_start,
    "worker": worker_overhead,
    "idle": idle_cost,
    "grading": grading,
    "class": class_grading,
}


def run(parts: list[str], *, quick: bool) -> int:
    """Measure these parts (none: everything), print what comes out, and keep it in .lab/bench.json."""
    if unknown := [part for part in parts if part not in PARTS]:
        print(f"lab: there is no part {unknown[0]!r}. These are there: {', '.join(PARTS)}.")
        return 2
    if not (ROOT / "solutions").is_dir():
        print("lab: what is measured are the solutions, and they are not in this package.")
        return 2
    console = Console(highlight=False)
    table = Table("figure", "median", "ratio", title="One run on this machine", title_justify="left")
    kept = {}
    for part in parts or PARTS:
        measure = PARTS[part]
        with console.status(measure.__doc__.splitlines()[0]) if console.is_terminal else Quiet():
            for name, value, ratio in measure(3 if quick else 9):
                table.add_row(name, value, ratio)
                kept[name] = {"median": value, "ratio": ratio}
    console.print(table)
    STATE.mkdir(exist_ok=True)
    replace(STATE / "bench.json", json.dumps(kept, indent=2, ensure_ascii=False) + "\n")
    return 0


class Quiet:
    """Stands for the status line where there is no terminal."""

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...
