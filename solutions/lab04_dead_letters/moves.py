"""The moves of a task from one key to another; each is one step for the broker, so a crash finds it in one of them.

A worker may only move what is still in its own list: one that was thought dead, and whose task was taken away, finds
nothing there, and whatever it has to say about that task changes nothing.
"""

import json

from keys import BURIED, DEAD, DELAYED, DONE, PRELUDE, QUEUE, RETRIED, processing


def acknowledge(broker, name, body):
    """The task is done: remove it from the list of worker `name`, and count it. False if it was no longer there."""
    script = """
        if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 0 then return 0 end
        count(KEYS[2])
        return 1
    """
    return broker.eval(PRELUDE + script, 2, processing(name), DONE, body) == 1


def retry_later(broker, name, body, task, wait):
    """Move the task from the worker's list to DELAYED, due in `wait` seconds. False if it was no longer there."""
    script = """
        if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 0 then return 0 end
        redis.call('ZADD', KEYS[2], now + ARGV[3], ARGV[2])
        count(KEYS[3])
        return 1
    """
    keys = processing(name), DELAYED, RETRIED
    return broker.eval(PRELUDE + script, 3, *keys, body, json.dumps(task), int(wait * 1000)) == 1


def bury(broker, name, body, letter):
    """Move the task from the worker's list to DEAD, as a dead letter. False if it was no longer there."""
    script = """
        if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 0 then return 0 end
        redis.call('LPUSH', KEYS[2], ARGV[2])
        count(KEYS[3])
        return 1
    """
    keys = processing(name), DEAD, BURIED
    return broker.eval(PRELUDE + script, 3, *keys, body, json.dumps(letter)) == 1


def promote(broker):
    """Move what is due, by the broker's clock, from DELAYED to the left end of the queue."""
    script = """
        local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, 100)
        for _, body in ipairs(due) do
            redis.call('ZREM', KEYS[1], body)
            redis.call('LPUSH', KEYS[2], body)
        end
        return #due
    """  # at most 100 at a time: while a script runs, the broker answers nobody
    while broker.eval(PRELUDE + script, 2, DELAYED, QUEUE) == 100:
        pass  # after an outage more are due than one script moves


def replay(broker, letter, body):
    """Move a dead letter, given as it is in DEAD, back to the queue as this body. False if it was no longer there."""
    script = """
        -- -1: from the right, where the oldest lie; from the left each would cost a walk past all others
        if redis.call('LREM', KEYS[1], -1, ARGV[1]) == 0 then return 0 end
        redis.call('LPUSH', KEYS[2], ARGV[2])
        return 1
    """
    return broker.eval(script, 2, DEAD, QUEUE, letter, body) == 1
