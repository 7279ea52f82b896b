"""Policy 2, sorted: one sorted set; the score puts the more urgent level first, and within a level the older task."""

from levels import BLOCK_SECONDS, LEVELS, NUMBER, SORTED
from strict import finish

__all__ = ["enqueue", "finish", "take", "waiting"]  # what every policy has

STEP = 10**12  # between the scores of two levels: room for so many tasks; a double is exact up to 9 * 10**15


def enqueue(broker, level, body):
    """Give the task the next number, and add it with the score of its level plus that number."""
    add_with_the_next_number = """
        local number = redis.call('INCR', KEYS[1])
        redis.call('ZADD', KEYS[2], ARGV[1] + number, ARGV[2])
    """  # one script: the order of the numbers is then the order in which the tasks got in
    broker.eval(add_with_the_next_number, 2, NUMBER, SORTED, LEVELS.index(level) * STEP, body)


def take(broker, name):
    """Wait for a task, and remove and return the one with the lowest score; None when none came in time."""
    popped = broker.bzpopmin(SORTED, timeout=BLOCK_SECONDS)
    return popped[1] if popped else None


def waiting(broker):
    """How many tasks of each level wait."""
    return {
        level: broker.zcount(SORTED, rank * STEP, f"({(rank + 1) * STEP}")
        for rank, level in enumerate(LEVELS)
    }
