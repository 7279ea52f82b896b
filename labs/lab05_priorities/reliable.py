"""Policy 4, reliable: strict order, and a task stays at the broker until it is done. Who waits is woken by a token."""

from levels import BLOCK_SECONDS, DEAD, LEVELS, WAKE, list_of, processing
from strict import waiting

__all__ = ["enqueue", "finish", "take", "waiting"]  # what every policy has


def enqueue(broker, level, body):
    """Push a task at the left end of the list of its level, and leave a token for a worker that waits."""
    raise NotImplementedError(
        "TODO 7: push the task into the list of its level, and leave a token in WAKE unless one is "
        "there, in one step"
    )


def take(broker, name):
    """Move the oldest task of the most urgent level into this worker's list; when there is none, wait for a token."""
    raise NotImplementedError(
        "TODO 8: move the oldest task of the most urgent level into the worker's own list; when "
        "there is none, wait for a token"
    )


def finish(broker, name, body, dead_letter=None):
    """The work on a task is over: remove it from this worker's list, and keep its dead letter, if there is one."""
    raise NotImplementedError(
        "TODO 9: remove the task from the worker's own list, and keep its dead letter if there is "
        "one, in one step"
    )
