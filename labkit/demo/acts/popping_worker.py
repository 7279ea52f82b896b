"""Take image tasks with BRPOP and do the work: the way of labs 1 and 2, to stand beside lab 3's.

Run: python popping_worker.py popper
"""

import json
import os
import signal
import sys
import threading

import redis
from images import Rejected, process, read_task

VALKEY_URL = os.environ.get("VALKEY_URL", "redis://127.0.0.1:6379/0")
QUEUE = os.environ.get("QUEUE", "images")
BLOCK_SECONDS = float(os.environ.get("BLOCK_SECONDS", "2"))  # how long one take waits for a task
RECONNECT_SECONDS = float(os.environ.get("RECONNECT_SECONDS", "0.2"))

stopping = threading.Event()


def handle(broker, name, body):
    """Do the work of one task; nobody else has it any more."""
    try:
        picture = process(read_task(body))
    except Rejected as reason:
        entry = {"reason": str(reason), "body": body.decode("utf-8", "backslashreplace")}
        broker.lpush(f"{QUEUE}:rejected", json.dumps(entry))
    else:
        print(f"{name}: {picture}", flush=True)


def work(broker, name):
    """Take and handle one task after the other until told to stop."""
    while not stopping.is_set():
        try:
            taken = broker.brpop(QUEUE, BLOCK_SECONDS)  # from here on the only copy is in this process
        except (redis.ConnectionError, redis.TimeoutError):
            stopping.wait(RECONNECT_SECONDS)
        else:
            if taken is not None:
                handle(broker, name, taken[1])


def main():
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    work(redis.Redis.from_url(VALKEY_URL, socket_timeout=BLOCK_SECONDS + 5), sys.argv[1])


if __name__ == "__main__":
    main()
