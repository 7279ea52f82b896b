"""Policy 2, sorted: a sorted set for each level, by the number of the task; one BZPOPMIN looks at all three."""

from levels import BLOCK_SECONDS, LEVELS, NUMBER, QUEUE
from strict import finish

__all__ = ["enqueue", "finish", "take", "waiting"]


def set_of(level):
    return f"{QUEUE}:by-number:{level}"


def enqueue(broker, level, body):
    number = broker.incr(NUMBER)  # two commands: of two producers at once either may be the first
    broker.zadd(set_of(level), {body: number})


def take(broker, name):
    popped = broker.bzpopmin([set_of(level) for level in LEVELS], timeout=BLOCK_SECONDS)
    return popped[1] if popped else None


def waiting(broker):
    return {level: broker.zcard(set_of(level)) for level in LEVELS}
