"""`./lab`: the labs, the points so far, the next step."""

import json

from rich.console import Console
from rich.table import Table

from labkit import course


def show() -> None:
    """Print the course at a glance."""
    console = Console(highlight=False)
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("lab", "", "points"):
        table.add_column(column, justify="right" if column == "points" else "left")
    steps = []
    for lab in course.labs():
        result = own_result(lab)
        points = f"{result['points']} of {result['max_points']}" if result else "–"
        table.add_row(str(lab.number), f"{lab.title}: {lab.subject}", points)
        if not result or result["outcome"] != "passed":
            steps.append(next_step(lab, result))
    console.print(table)
    console.print(steps[0] if steps else "All passed. Well done.", soft_wrap=True)


def own_result(lab: course.Lab) -> dict | None:
    """The last result of the student's own work in labs/, if there is one."""
    try:
        return json.loads((lab.state / "own.json").read_text())
    except (OSError, ValueError):
        return None


def next_step(lab: course.Lab, result: dict | None) -> str:
    """One line: what to do now."""
    if result is None:
        return f"Next: read labs/{lab.slug}/README.md, then ./lab check {lab.number}"
    failed = next(
        (check["title"] for check in result["checks"] if check["outcome"] in ("failed", "timed out")), ""
    )
    return f"Next: “{failed}” in lab {lab.number}: ./lab check {lab.number}, ./lab hint {lab.number}"
