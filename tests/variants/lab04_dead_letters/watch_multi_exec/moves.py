"""The moves of a task from one key to another, as transactions: WATCH, look, MULTI, EXEC, and once more if it failed.

A worker may only move what is still in its own list: one that was thought dead, and whose task was taken away, finds
nothing there, and whatever it has to say about that task changes nothing.
"""

import json

import redis
from keys import BUCKET_MS, BURIED, DEAD, DELAYED, DONE, QUEUE, RETRIED, processing


def clock(broker):
    """The broker's clock, in milliseconds."""
    seconds, micros = broker.time()
    return seconds * 1000 + micros // 1000


def move(broker, source, body, step, now):
    """Take this body out of the list `source` and do what `step` adds, as one transaction. False if it is not there."""
    with broker.pipeline(transaction=True) as together:
        while True:
            try:
                together.watch(source)
                if together.lpos(source, body) is None:
                    return False
                together.multi()
                together.lrem(source, 1, body)
                step(together, now)
                together.execute()
                return True
            except redis.WatchError:
                continue  # the list has changed since we looked


def count(together, key, now):
    bucket = f"{key}:{now // BUCKET_MS}"
    together.incr(key)
    together.incr(bucket)
    together.pexpire(bucket, 8 * BUCKET_MS)


def acknowledge(broker, name, body):
    def step(together, now):
        count(together, DONE, now)

    return move(broker, processing(name), body, step, clock(broker))


def retry_later(broker, name, body, task, wait):
    def step(together, now):
        together.zadd(DELAYED, {json.dumps(task): now + int(wait * 1000)})
        count(together, RETRIED, now)

    return move(broker, processing(name), body, step, clock(broker))


def bury(broker, name, body, letter):
    def step(together, now):
        together.lpush(DEAD, json.dumps(letter))
        count(together, BURIED, now)

    return move(broker, processing(name), body, step, clock(broker))


def promote(broker):
    now = clock(broker)
    with broker.pipeline(transaction=True) as together:
        try:
            together.watch(DELAYED)
            if due := together.zrangebyscore(DELAYED, "-inf", now, 0, 100):
                together.multi()
                together.zrem(DELAYED, *due)
                together.lpush(QUEUE, *due)
                together.execute()
        except redis.WatchError:
            pass  # another worker was quicker, or a task has just been delayed: the next round comes soon


def replay(broker, letter, body):
    def step(together, _):
        together.lpush(QUEUE, body)

    return move(broker, DEAD, letter, step, 0)
