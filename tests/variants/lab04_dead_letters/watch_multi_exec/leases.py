"""Whose task it is: a worker holds what is in its list only as long as it renews its lease. Used by worker.py."""

import math
import os
import threading
import time
from contextlib import contextmanager

import redis
from failures import dead_letter, failed
from keys import lease, processing
from moves import bury
from webhooks import PermanentError, read_task

LEASE_SECONDS = float(os.environ.get("LEASE_SECONDS", "15"))  # a lease that is not renewed ends
WORK_SECONDS = float(os.environ.get("WORK_SECONDS", "60"))  # whoever is longer at one task hangs


class LeaseLost(Exception):
    """The worker that had the task is gone, or hangs. It may have done the work, or half of it, or none."""


def renew(broker, name):
    """Make the lease of worker `name` last for LEASE_SECONDS from now."""
    broker.set(lease(name), "held", px=int(LEASE_SECONDS * 1000))


def take_over(broker, owner, me):
    """If the lease of `owner` has ended, move one task of its list into mine, and return it; otherwise None."""
    with broker.pipeline(transaction=True) as together:
        try:
            together.watch(lease(owner))  # the owner may renew in between
            if together.exists(lease(owner)):
                return None
            together.multi()
            together.lmove(processing(owner), processing(me), "RIGHT", "LEFT")
            return together.execute()[0]
        except redis.WatchError:
            return None


def recover(broker, me):
    """Take over the tasks of workers whose leases have ended; each has then been tried once more, and failed."""
    start = len(processing(""))
    for key in broker.scan_iter(match=processing("*"), count=1000):
        owner = key.decode()[start:]
        while owner != me and (body := take_over(broker, owner, me)) is not None:
            give_up(broker, me, body, LeaseLost(f"{owner} lost its lease with this task in hand"))


def give_up(broker, name, body, error):
    """A task in the list of worker `name`, on which nobody works, has failed with this error."""
    try:
        failed(broker, name, body, read_task(body), error)
    except PermanentError as reason:
        bury(broker, name, body, dead_letter(broker, body, reason, attempts=0))


class Housekeeper(threading.Thread):
    """Renews a worker's lease and takes over from others, three times in LEASE_SECONDS, in a thread of its own."""

    def __init__(self, broker, name):
        super().__init__(daemon=True)
        self.broker, self.worker = broker, name
        self.since = math.inf  # when the work in hand began
        self.over = threading.Event()
        self.cut_off = threading.Event()  # it lost its connection: in the middle of a take-over, perhaps

    def run(self):
        while not self.over.wait(LEASE_SECONDS / 3):
            if time.monotonic() - self.since > WORK_SECONDS:
                continue  # the worker hangs: its lease ends, and another takes its task
            try:
                renew(self.broker, self.worker)
                recover(self.broker, self.worker)
            except redis.RedisError:  # we try again at the next turn
                self.cut_off.set()

    @contextmanager
    def watching(self):
        """For the time of the work on one task."""
        self.since = began = time.monotonic()
        try:
            yield
        finally:
            self.since = math.inf
        if time.monotonic() - began > LEASE_SECONDS / 3:
            renew(self.broker, self.worker)  # it may have ended; without one the next task would be anybody's

    def stop(self):
        self.over.set()
        self.join()
