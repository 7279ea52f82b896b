"""Policy 3, fair: one sorted set by virtual time. A task of a level costs so much of it; who costs less comes oftener.

This is fair queuing as network switches do it: the score of a task is when it would be done if its level were served
alone, at its own rate, from now on.
"""

from levels import BLOCK_SECONDS, LEVELS, QUEUE, level_of
from strict import finish

__all__ = ["enqueue", "finish", "take", "waiting"]

TIMES = f"{QUEUE}:fair"
CLOCK = f"{QUEUE}:fair-clock"
COST = {"high": 5, "normal": 10, "low": 30}  # shares of 6, 3 and 1 in ten


def enqueue(broker, level, body):
    add_at_its_time = """
        local now = tonumber(redis.call('HGET', KEYS[1], 'now') or 0)
        local last = tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or 0)
        local at = math.max(now, last) + ARGV[2]
        redis.call('HSET', KEYS[1], ARGV[1], at)
        redis.call('ZADD', KEYS[2], at, ARGV[3])
    """
    broker.eval(add_at_its_time, 2, CLOCK, TIMES, level, COST[level], body)


def take(broker, name):
    popped = broker.bzpopmin(TIMES, timeout=BLOCK_SECONDS)
    if not popped:
        return None
    _, body, at = popped
    broker.hset(CLOCK, "now", int(at))
    return body


def waiting(broker):
    levels = [level_of(body) for body in broker.zrange(TIMES, 0, -1)]
    return {level: levels.count(level) for level in LEVELS}
