"""The moves of a task from one key to another, as scripts that the broker knows by their digest.

Each is one step for the broker, so a crash finds the task in one of them.

A worker may only move what is still in its own list: one that was thought dead, and whose task was taken away, finds
nothing there, and whatever it has to say about that task changes nothing.
"""

import functools
import json

from keys import BURIED, DEAD, DELAYED, DONE, PRELUDE, QUEUE, RETRIED, processing


@functools.cache
def known(broker, script):
    """The script as a function; EVALSHA, and loaded again where the broker has forgotten it."""
    return broker.register_script(script)


def acknowledge(broker, name, body):
    """The task is done: remove it from the list of worker `name`, and count it. False if it was no longer there."""
    script = """
        if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 0 then return 0 end
        count(KEYS[2])
        return 1
    """
    return known(broker, PRELUDE + script)(keys=[processing(name), DONE], args=[body]) == 1


def retry_later(broker, name, body, task, wait):
    """Move the task from the worker's list to DELAYED, due in `wait` seconds. False if it was no longer there."""
    script = """
        if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 0 then return 0 end
        redis.call('ZADD', KEYS[2], now + ARGV[3], ARGV[2])
        count(KEYS[3])
        return 1
    """
    keys = processing(name), DELAYED, RETRIED
    return known(broker, PRELUDE + script)(keys, [body, json.dumps(task), int(wait * 1000)]) == 1


def bury(broker, name, body, letter):
    """Move the task from the worker's list to DEAD, as a dead letter. False if it was no longer there."""
    script = """
        if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 0 then return 0 end
        redis.call('LPUSH', KEYS[2], ARGV[2])
        count(KEYS[3])
        return 1
    """
    keys = processing(name), DEAD, BURIED
    return known(broker, PRELUDE + script)(keys, [body, json.dumps(letter)]) == 1


def promote(broker):
    """Move every delayed task that is due, by the broker's clock, to the left end of the queue."""
    script = """
        for _, body in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, 100)) do
            redis.call('ZREM', KEYS[1], body)
            redis.call('LPUSH', KEYS[2], body)
        end
    """
    known(broker, PRELUDE + script)([DELAYED, QUEUE])


def replay(broker, letter, body):
    """Move a dead letter, given as it is in DEAD, back to the queue as this body. False if it was no longer there."""
    script = """
        if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 0 then return 0 end
        redis.call('LPUSH', KEYS[2], ARGV[2])
        return 1
    """
    return known(broker, script)([DEAD, QUEUE], [letter, body]) == 1
