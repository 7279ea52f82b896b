"""`./lab hint N`: the next hint. Hints live in the lab's README, folded, so there is one place to write them."""

import re

from rich.console import Console
from rich.markdown import Markdown

from labkit.course import Lab

HINT = re.compile(r"<details>\s*<summary>(Hint .*?)</summary>(.*?)</details>", re.DOTALL)


def hints(lab: Lab) -> list[tuple[str, str]]:
    """The hints of a lab's README, as (title, text)."""
    return [
        (title.strip(), text.strip()) for title, text in HINT.findall((lab.folder / "README.md").read_text())
    ]


def show(lab: Lab) -> None:
    """Print the next hint; after the last, begin again."""
    counter = lab.state / "hints"
    found = hints(lab)
    seen = int(counter.read_text()) if counter.exists() else 0
    position = seen % len(found)
    title, text = found[position]
    console = Console(highlight=False)
    console.print(f"[bold]{title}[/bold]")
    console.print(Markdown(text))
    left = len(found) - position - 1
    console.print(
        f"{left} more: ./lab hint {lab.number}"
        if left
        else "That was the last one; the next call begins again."
    )
    lab.state.mkdir(parents=True, exist_ok=True)
    counter.write_text(str(position + 1))
