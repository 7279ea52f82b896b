"""The moves of a task from one key to another; each is one step for the broker, so a crash finds it in one of them.

A worker may only move what is still its own: one that was thought dead, and whose task was taken away, is not its
owner any more, and whatever it has to say about that task changes nothing.
"""

import json

from keys import BURIED, DEAD, DELAYED, DONE, PRELUDE, QUEUE, RETRIED

OWNERS = f"{QUEUE}:owners"  # a hash: whose each task in hand is
LEASES = f"{QUEUE}:leases"  # a sorted set: until when
KEYS = OWNERS, LEASES
MINE = """
    if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
    redis.call('HDEL', KEYS[1], ARGV[1])
    redis.call('ZREM', KEYS[2], ARGV[1])
"""


def owner_of(name):
    return f"worker {name}"


def acknowledge(broker, name, body):
    """The task is done: worker `name` has it in hand no longer; count it. False if it was no longer its own."""
    script = """
        count(KEYS[3])
        return 1
    """
    return broker.eval(PRELUDE + MINE + script, 3, *KEYS, DONE, body, owner_of(name)) == 1


def retry_later(broker, name, body, task, wait):
    """Move the task from the worker's hands to DELAYED, due in `wait` seconds. False if it was no longer its own."""
    script = """
        redis.call('ZADD', KEYS[3], now + ARGV[4], ARGV[3])
        count(KEYS[4])
        return 1
    """
    args = body, owner_of(name), json.dumps(task), int(wait * 1000)
    return broker.eval(PRELUDE + MINE + script, 4, *KEYS, DELAYED, RETRIED, *args) == 1


def bury(broker, name, body, letter):
    """Move the task from the worker's hands to DEAD, as a dead letter. False if it was no longer there."""
    script = """
        redis.call('LPUSH', KEYS[3], ARGV[3])
        count(KEYS[4])
        return 1
    """
    args = body, owner_of(name), json.dumps(letter)
    return broker.eval(PRELUDE + MINE + script, 4, *KEYS, DEAD, BURIED, *args) == 1


def promote(broker):
    """Move every delayed task that is due, by the broker's clock, to the left end of the queue."""
    script = """
        for _, body in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, 100)) do
            redis.call('ZREM', KEYS[1], body)
            redis.call('LPUSH', KEYS[2], body)
        end
    """
    broker.eval(PRELUDE + script, 2, DELAYED, QUEUE)


def replay(broker, letter, body):
    """Move a dead letter, given as it is in DEAD, back to the queue as this body. False if it was no longer there."""
    script = """
        if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 0 then return 0 end
        redis.call('LPUSH', KEYS[2], ARGV[2])
        return 1
    """
    return broker.eval(script, 2, DEAD, QUEUE, letter, body) == 1
