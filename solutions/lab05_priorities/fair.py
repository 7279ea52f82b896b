"""Policy 3, fair: the lists of policy 1; the levels come first in turns, so that each gets its share."""

import itertools
import os

from levels import BLOCK_SECONDS, LEVELS, list_of
from strict import enqueue, finish, waiting

__all__ = ["enqueue", "finish", "take", "waiting"]  # what every policy has

TURNS = os.environ.get("TURNS", "high high normal high high normal high high normal low").split()
turns = itertools.cycle(TURNS)


def take(broker, name):
    """As in strict.py, but the level whose turn it is comes first; when it is empty, the others in their order."""
    first = next(turns)
    order = [first, *(level for level in LEVELS if level != first)]  # all of them: a turn is never wasted
    popped = broker.brpop([list_of(level) for level in order], timeout=BLOCK_SECONDS)
    return popped[1] if popped else None
