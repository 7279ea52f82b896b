"""The names of the keys, and what every script that runs at the broker begins with. Given: not to be changed."""

import os

QUEUE = os.environ.get("QUEUE", "webhooks")  # a list: tasks that wait; pushed left, taken right
DELAYED = f"{QUEUE}:delayed"  # a sorted set: tasks to be tried again, by the time when they are due, in ms
DEAD = f"{QUEUE}:dead"  # a list: dead letters, the newest left
DONE, RETRIED, BURIED = (f"{QUEUE}:count:{what}" for what in ("done", "retried", "buried"))
RATE_SECONDS = float(os.environ.get("RATE_SECONDS", "60"))  # the monitor's rates are over so long
BUCKET_MS = int(RATE_SECONDS * 1000 / 6)  # the counts of so long are kept together, in a key of their own

PRELUDE = f"""
    local clock = redis.call('TIME')  -- the broker's: the workers' clocks do not agree
    local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
    local function count(key)
        local bucket = key .. ':' .. math.floor(now / {BUCKET_MS})
        redis.call('INCR', key)
        if redis.call('INCR', bucket) == 1 then redis.call('PEXPIRE', bucket, {8 * BUCKET_MS}) end
    end
"""


def processing(name):
    """The key of the list of tasks that worker `name` has in hand."""
    return f"{QUEUE}:processing:{name}"


def lease(name):
    """The key that is there as long as what worker `name` has in hand is its own."""
    return f"{QUEUE}:lease:{name}"
