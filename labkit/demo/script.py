"""What a demonstration says, does and must then see: the lab's demo.toml, read."""

import itertools
import tomllib
from dataclasses import dataclass

from labkit.course import Lab


class NoScript(Exception):
    """The lab has no demonstration. Its text is one line for the user."""


@dataclass(frozen=True)
class Step:
    """One step; do and see hold a word of the lab's act and its arguments, split.

    number: from 1; a step without words belongs to the one before it, and has its number.
    always: is played even after a step that failed. own_broker: is left out where the broker is not ours to kill.
    at_once: follows on the one before without a cue of the presenter, since what is to be seen does not wait for one.
    picture: its end is the moment that the course's picture of this demonstration shows (pictures.py).
    """

    number: int
    say: tuple[str, ...]
    do: tuple[tuple[str, ...], ...]
    see: tuple[tuple[str, ...], ...]
    always: bool
    own_broker: bool
    at_once: bool
    picture: bool


@dataclass(frozen=True)
class Script:
    """A whole demonstration.

    tasks: how many are sent at least. task: a pattern that tells a task in a few words, from its own fields.
    makes: what the work makes, in the plural. seconds_each: of work on one task, so that a room can follow.
    settings: environment of the lab's scripts. shortest: those of them, in seconds, that shrink when it is played
    faster, but not below this. ask: the question for the room in the end, a line each.
    """

    tasks: int
    task: str
    makes: str
    seconds_each: float
    settings: dict[str, object]
    shortest: dict[str, float]
    ask: tuple[str, ...]
    steps: tuple[Step, ...]

    @property
    def last(self) -> int:
        """The number of the last step."""
        return self.steps[-1].number

    @property
    def own_broker(self) -> bool:
        """Whether the demonstration needs a broker that it may kill."""
        return any(step.own_broker for step in self.steps)

    def settings_at(self, speed: float) -> dict[str, object]:
        """The settings for a demonstration that is played so many times as fast; none ever grows."""
        fast = max(1, speed)
        shrunk = {key: max(least, self.settings[key] / fast) for key, least in self.shortest.items()}
        return self.settings | {key: f"{seconds:g}" for key, seconds in shrunk.items()}


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
        makes=facts["makes"],
        seconds_each=facts["seconds_each"],
        settings=facts.get("settings", {}),
        shortest=facts.get("shortest", {}),
        ask=tuple(facts["ask"]),
        steps=_steps(facts["step"], known),
    )


def _steps(facts: list[dict], known: dict[str, str]) -> tuple[Step, ...]:
    numbers = itertools.accumulate(int(bool(step.get("say"))) for step in facts)
    return tuple(_step(step, number, known) for step, number in zip(facts, numbers, strict=True))


def _step(step: dict, number: int, known: dict[str, str]) -> Step:
    def words(key: str) -> tuple[tuple[str, ...], ...]:
        return tuple(tuple(line.format(**known).split()) for line in step.get(key, ()))

    return Step(
        number=number,
        say=tuple(step.get("say", ())),
        do=words("do"),
        see=words("see"),
        always=step.get("always", False),
        own_broker=step.get("own_broker", False),
        at_once=step.get("at_once", False),
        picture=step.get("picture", False),
    )
