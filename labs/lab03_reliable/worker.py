"""Take image tasks, do the work, and lose none when a worker is killed.   Run: python worker.py alice"""

import json
import os
import signal
import socket
import sys
import threading
from contextlib import suppress

import redis
from images import Rejected, process, read_task
from recovery import QUEUE, beat, heartbeat, processing, put_back, start_keeping_house

VALKEY_URL = os.environ.get("VALKEY_URL", "redis://127.0.0.1:6379/0")
BLOCK_SECONDS = float(os.environ.get("BLOCK_SECONDS", "2"))  # how long one take waits for a task
RECONNECT_SECONDS = float(os.environ.get("RECONNECT_SECONDS", "0.2"))  # the first wait; it doubles up to 5 s
BROKER_GONE = (redis.ConnectionError, redis.TimeoutError)

stopping = threading.Event()


def take(broker, name):
    """Move the oldest task into this worker's list and return its body; None when none came in time."""
    raise NotImplementedError(
        "TODO 5: move one task from the queue to the worker's own list, and wait up to BLOCK_SECONDS for one"
    )


def handle(broker, name, body):
    """Do the work of one task and acknowledge it; set it aside when it is rejected."""
    raise NotImplementedError(
        "TODO 6: do the work of the task, then acknowledge it; a rejected task is set aside"
    )


def acknowledge(broker, name, body):
    """Remove a finished task from this worker's list."""
    raise NotImplementedError("TODO 7: remove the finished task from the worker's own list")


def set_aside(broker, name, body, reason):
    """Move a task that can never succeed from this worker's list to the rejected list, with its reason."""
    raise NotImplementedError(
        "TODO 8: move the task from the worker's own list to the rejected list, with its reason, in one step"
    )


def work(broker, name):
    """Take and handle one task after the other until told to stop."""
    beat(broker, name)  # before the first take: a list without a heartbeat looks abandoned
    put_back(broker, name)  # left in our list by a lost connection, or by an earlier life of this name
    while not stopping.is_set():
        body = take(broker, name)
        if body is not None:
            handle(broker, name, body)


def reconnect(broker, name, error):
    """Return when the broker answers again, or when told to stop."""
    print(f"{name}: the broker is gone ({error}); trying again", flush=True)
    wait = RECONNECT_SECONDS
    while not stopping.wait(wait):
        try:
            return broker.ping()
        except BROKER_GONE:
            wait = min(2 * wait, 5)


def main():
    name = sys.argv[1] if len(sys.argv) > 1 else f"{socket.gethostname()}-{os.getpid()}"
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())  # the task in hand is finished first
    broker = redis.Redis.from_url(VALKEY_URL, socket_timeout=BLOCK_SECONDS + 5)
    try:
        broker.ping()
    except BROKER_GONE as error:
        # of the address only what follows an @: before it stands the password
        sys.exit(f"No broker at {VALKEY_URL.rpartition('@')[2]} ({error}). Start one with: ./lab broker up")
    over = threading.Event()  # not before the last task is finished: until then we must not look dead
    housekeeper = start_keeping_house(broker, name, over)
    while not stopping.is_set():
        try:
            work(broker, name)
        except BROKER_GONE as error:
            reconnect(broker, name, error)
    over.set()
    housekeeper.join()  # its last beat comes before the goodbye
    with suppress(*BROKER_GONE):  # then the heartbeat ends by itself
        broker.delete(heartbeat(name))


if __name__ == "__main__":
    main()
