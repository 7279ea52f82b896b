"""What must be seen after something was done."""

from collections.abc import Callable
from dataclasses import dataclass

SOON = 3.0  # seconds for what needs no waiting
PATIENCE = 60.0  # seconds for what needs work, on a slow machine and with large photographs


@dataclass
class Sight:
    """Something that must be seen. `there` may return better words for it than True.

    within: how long to wait for it, in seconds; 0: it is looked for once.
    instead: words for what there was to see when it was not there.
    """

    words: str
    there: Callable[[], object]
    within: float = SOON
    instead: Callable[[], str] = lambda: ""


def judged(right: object, words: str, expected: str, instead: str = "", *, within: float = 0.0) -> Sight:
    """What was measured already: `words` if it is right; if not, `expected` was to be seen, `instead` was there."""
    return Sight(words if right else expected, lambda: right, within, lambda: instead or f"{words}.")
