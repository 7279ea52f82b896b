"""Deliver webhooks; what fails is tried again, or ends as a dead letter.   Run: python worker.py alice"""

import os
import signal
import socket
import sys
import threading
import time
from contextlib import suppress

import valkey
from failures import dead_letter, failed
from keys import QUEUE, lease, processing
from leases import Housekeeper, LeaseLost, give_up, renew
from moves import acknowledge, bury, promote
from webhooks import PermanentError, deliver, read_task

VALKEY_URL = os.environ.get("VALKEY_URL", "redis://127.0.0.1:6379/0")
BLOCK_SECONDS = float(os.environ.get("BLOCK_SECONDS", "1"))  # how long one take waits for a task
RECONNECT_SECONDS = float(os.environ.get("RECONNECT_SECONDS", "0.2"))  # the first wait; it doubles up to 5 s
BROKER_GONE = (valkey.ConnectionError, valkey.TimeoutError)

stopping = threading.Event()


def take(broker, name):
    """Move the oldest task into this worker's list and return its body; None when none came in time."""
    return broker.blmove(QUEUE, processing(name), BLOCK_SECONDS, "RIGHT", "LEFT")


def handle(broker, name, body):
    """Deliver the webhook of one task and acknowledge it; what is no task is buried, what fails has failed."""
    try:
        task = read_task(body)
    except PermanentError as error:
        bury(broker, name, body, dead_letter(broker, body, error, attempts=0))
        print(f"{name}: buried: {error}", flush=True)
        return
    try:
        deliver(task)
    except Exception as error:  # also a mistake in a handler: nothing that a task does stops a worker
        failed(broker, name, body, task, error)
    else:
        ours = acknowledge(broker, name, body)  # last: a crash above repeats the task, it never loses it
        print(f"{name}: {task['id']} {'is delivered' if ours else 'was taken away'}", flush=True)


def look_back(broker, name):
    """Give up what a lost connection left in this worker's list: nobody works on it, and no other may take it."""
    for body in broker.lrange(processing(name), 0, -1):
        give_up(broker, name, body, LeaseLost(f"{name} lost its connection with this task in hand"))


def work(broker, name, housekeeper):
    """Take and handle one task after the other until told to stop; promote what is due, once in BLOCK_SECONDS."""
    renew(broker, name)  # before the first take: a list without a lease is anybody's
    look_back(broker, name)
    promoted = 0.0
    while not stopping.is_set():
        if housekeeper.cut_off.is_set():
            housekeeper.cut_off.clear()
            look_back(broker, name)
        if time.monotonic() - promoted >= BLOCK_SECONDS:
            promoted = time.monotonic()
            promote(broker)
        body = take(broker, name)
        if body is not None:
            with housekeeper.watching():
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
    broker = valkey.Valkey.from_url(VALKEY_URL, socket_timeout=BLOCK_SECONDS + 5)
    try:
        broker.ping()
    except BROKER_GONE as error:
        sys.exit(f"No broker at {VALKEY_URL.rpartition('@')[2]} ({error}). Start one with: ./lab broker up")
    housekeeper = Housekeeper(broker, name)
    housekeeper.start()
    while not stopping.is_set():
        try:
            work(broker, name, housekeeper)
        except BROKER_GONE as error:
            reconnect(broker, name, error)
    housekeeper.stop()  # its last renewal comes before the goodbye
    with suppress(*BROKER_GONE):  # then the lease ends by itself
        broker.delete(lease(name))


if __name__ == "__main__":
    main()
