"""Policy 1, strict: a list for each level, and what is more urgent always goes first."""

from levels import BLOCK_SECONDS, DEAD, LEVELS, list_of


def enqueue(broker, level, body):
    """Push a task at the left end of the list of its level."""
    broker.lpush(list_of(level), body)


def take(broker, name):
    """Wait for a task, and remove and return the oldest of the most urgent level; None when none came in time."""
    lists = [list_of(level) for level in LEVELS]
    popped = broker.brpop(lists, timeout=BLOCK_SECONDS)  # it looks at them in this order
    return popped[1] if popped else None


def finish(broker, name, body, dead_letter=None):
    """The work on a task is over: keep its dead letter, if there is one. The take has removed the task itself."""
    if dead_letter:
        broker.lpush(DEAD, dead_letter)


def waiting(broker):
    """How many tasks of each level wait."""
    return {level: broker.llen(list_of(level)) for level in LEVELS}
