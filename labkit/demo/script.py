"""What a demonstration says, does and must then see: the lab's demo.toml, read."""

import tomllib
from dataclasses import dataclass

from labkit.course import Lab


class NoScript(Exception):
    """The lab has no demonstration. Its text is one line for the user."""


@dataclass(frozen=True)
class Step:
    """One step; do and see hold a method's name and its arguments, split."""

    say: tuple[str, ...]
    do: tuple[tuple[str, ...], ...]
    see: tuple[tuple[str, ...], ...]
    always: bool


@dataclass(frozen=True)
class Script:
    """A whole demonstration. `task` tells a task in a few words; a room needs seconds_each for one."""

    tasks: int
    task: str
    seconds_each: float
    settings: dict[str, object]
    steps: tuple[Step, ...]


def read(lab: Lab) -> Script:
    """Read the script of a lab.

    Raises:
        NoScript: it has none.
    """
    try:
        facts = tomllib.loads((lab.folder / "demo.toml").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise NoScript(f"Lab {lab.number} has no demonstration yet.") from None
    known = {"tasks": str(facts["tasks"])}
    return Script(
        tasks=facts["tasks"],
        task=facts["task"],
        seconds_each=facts["seconds_each"],
        settings=facts.get("settings", {}),
        steps=tuple(_step(step, known) for step in facts["step"]),
    )


def _step(step: dict, known: dict[str, str]) -> Step:
    def words(key: str) -> tuple[tuple[str, ...], ...]:
        return tuple(tuple(line.format(**known).split()) for line in step.get(key, ()))

    return Step(tuple(step.get("say", ())), words("do"), words("see"), step.get("always", False))
