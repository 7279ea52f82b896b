"""Whose task it is: each task in hand has an owner, and a lease of its own. Used by worker.py, moves.py, monitor.py.

A hash says whose a task is, a sorted set until when: the score is the end of the lease, by the broker's clock, in ms.
The owner is the worker's name. There is no list for each worker.
"""

import math
import os
import threading
import time
from contextlib import contextmanager

import redis
from failures import dead_letter, failed
from keys import PRELUDE, QUEUE
from moves import KEYS, OWNERS, bury, owner_of
from webhooks import PermanentError, read_task

LEASE_SECONDS = float(os.environ.get("LEASE_SECONDS", "15"))
WORK_SECONDS = float(os.environ.get("WORK_SECONDS", "60"))
LEASE_MS = int(LEASE_SECONDS * 1000)


class LeaseLost(Exception):
    """The worker that had the task is gone, or hangs. It may have done the work, or half of it, or none."""


def take_one(broker, name):
    """Take the oldest task, if there is one, and lease it, in one step."""
    script = """
        local body = redis.call('RPOP', KEYS[3])
        if not body then return false end
        redis.call('HSET', KEYS[1], body, ARGV[1])
        redis.call('ZADD', KEYS[2], now + ARGV[2], body)
        return body
    """
    return broker.eval(PRELUDE + script, 3, *KEYS, QUEUE, owner_of(name), LEASE_MS)


def renew(broker, name):
    """Make the leases of all that this worker has in hand last for LEASE_SECONDS from now."""
    script = """
        for _, body in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
            if redis.call('HGET', KEYS[1], body) == ARGV[1] then
                redis.call('ZADD', KEYS[2], now + ARGV[2], body)
            end
        end
    """
    broker.eval(PRELUDE + script, 2, *KEYS, owner_of(name), LEASE_MS)


def take_over(broker, me):
    """Make one task mine whose lease has ended, and return it and its old owner; otherwise None."""
    script = """
        for _, body in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now)) do
            local owner = redis.call('HGET', KEYS[1], body)
            if owner ~= ARGV[1] then
                redis.call('HSET', KEYS[1], body, ARGV[1])
                redis.call('ZADD', KEYS[2], now + ARGV[2], body)
                return {body, owner}
            end
        end
        return false
    """
    return broker.eval(PRELUDE + script, 2, *KEYS, owner_of(me), LEASE_MS)


def recover(broker, me):
    """What has outlived its lease has been tried once more, and failed."""
    while found := take_over(broker, me):
        body, owner = found
        give_up(broker, me, body, LeaseLost(f"{owner.decode()} lost its lease on this task"))


def left_behind(broker, name):
    """What an earlier life of this worker had in hand: its own again."""
    for body, owner in broker.hgetall(OWNERS).items():
        if owner == owner_of(name).encode():
            yield body


def give_up(broker, name, body, error):
    try:
        failed(broker, name, body, read_task(body), error)
    except PermanentError as reason:
        bury(broker, name, body, dead_letter(broker, body, reason, attempts=0))


class Housekeeper(threading.Thread):
    """Renews a worker's leases and takes over from others, three times in LEASE_SECONDS, in a thread of its own."""

    def __init__(self, broker, name):
        super().__init__(daemon=True)
        self.broker, self.worker = broker, name
        self.since = math.inf
        self.over = threading.Event()
        self.cut_off = threading.Event()  # it lost its connection: in the middle of a take-over, perhaps

    def run(self):
        while not self.over.wait(LEASE_SECONDS / 3):
            if time.monotonic() - self.since > WORK_SECONDS:
                continue
            try:
                renew(self.broker, self.worker)
                recover(self.broker, self.worker)
            except redis.RedisError:  # we try again at the next turn
                self.cut_off.set()

    @contextmanager
    def watching(self):
        self.since = time.monotonic()
        try:
            yield
        finally:
            self.since = math.inf

    def stop(self):
        self.over.set()
        self.join()
