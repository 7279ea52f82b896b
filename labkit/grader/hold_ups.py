"""For how long the machine has kept a scene waiting: what comes late then may be nobody's fault."""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from labkit.grader.loop import Loop

if TYPE_CHECKING:
    from labkit.grader.actor import Actor

# On a machine with nothing else to do a scene is held up for 0.3 s at most, with two gradings at once hardly longer.
# From here on a failure counts only when it comes twice.
DOUBTFUL_SECONDS = 0.5
LONG_SECONDS = 10.0  # what has not come in a scene of this length was not kept from it by half a second
IO_PRESSURE = Path("/proc/pressure/io")  # https://docs.kernel.org/accounting/psi.html


class HoldUps:
    """Of one scene, from the moment at which this is made."""

    def __init__(self, loop: Loop) -> None:
        self._loop, self._late, self._stalled = loop, loop.late, stalled_seconds()
        self._began = time.monotonic()

    def make_doubtful(self, actors: Iterable["Actor"]) -> bool:
        """Whether the machine has held up the scene of these actors for so long that a failure is in doubt."""
        return time.monotonic() - self._began < LONG_SECONDS and self.seconds(actors) > DOUBTFUL_SECONDS

    def seconds(self, actors: Iterable["Actor"]) -> float:
        """In which the proxies, the actor that waited most for a processor, or anybody at the disk stood still."""
        starved = max((actor.process.starved_seconds() for actor in actors), default=0.0)
        return self._loop.late - self._late + starved + stalled_seconds() - self._stalled


def stalled_seconds() -> float:
    """For how long some process has waited for a disk since the system was started; 0 where it does not tell."""
    try:
        some, _, _ = IO_PRESSURE.read_text().partition("\n")
        return int(some.rpartition("total=")[2]) / 1e6
    except (OSError, ValueError):
        return 0.0
