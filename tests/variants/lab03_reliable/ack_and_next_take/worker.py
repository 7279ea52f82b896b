"""The worker with the acknowledgement and the next take in one script.   Run: python worker.py alice"""

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


def acknowledge_and_take(broker, name, body):
    """Remove the finished task, and move the oldest that waits, if there is one, into this worker's list."""
    step = """
        redis.call('LREM', KEYS[1], 1, ARGV[1])
        if ARGV[2] == 'stopping' then return end
        return redis.call('LMOVE', KEYS[2], KEYS[1], 'RIGHT', 'LEFT')
    """
    return broker.eval(step, 2, processing(name), QUEUE, body, "stopping" if stopping.is_set() else "")


def take(broker, name):
    """Move the oldest task into this worker's list and return its body; None when none came in time."""
    return broker.blmove(QUEUE, processing(name), BLOCK_SECONDS, "RIGHT", "LEFT")


def handle(broker, name, body):
    """Do the work of one task and acknowledge it, or set it aside; return the next body, or None."""
    try:
        output = process(read_task(body))
    except Rejected as reason:
        set_aside(broker, name, body, reason)
        print(f"{name}: set aside: {reason}", flush=True)
    else:
        print(f"{name}: {output}", flush=True)
        return acknowledge_and_take(broker, name, body)


def set_aside(broker, name, body, reason):
    """Move a task that can never succeed from this worker's list to the rejected list, with its reason."""
    entry = json.dumps({"reason": str(reason), "body": body.decode("utf-8", "backslashreplace")})
    with broker.pipeline(transaction=True) as both:  # both or neither, whatever dies in between
        both.lpush(f"{QUEUE}:rejected", entry)
        both.lrem(processing(name), 1, body)
        both.execute()


def work(broker, name):
    """Take and handle one task after the other until told to stop."""
    beat(broker, name)  # before the first take: a list without a heartbeat looks abandoned
    put_back(broker, name)  # left in our list by a lost connection, or by an earlier life of this name
    body = None
    while body is not None or not stopping.is_set():
        body = handle(broker, name, body) if body is not None else take(broker, name)


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
