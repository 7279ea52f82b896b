"""A worker that asks for the length first, and takes when something is there.   Run: python worker.py alice"""

import json
import os
import signal
import socket
import sys
import threading

import redis
from mailer import Rejected, read_task, send

VALKEY_URL = os.environ.get("VALKEY_URL", "redis://127.0.0.1:6379/0")
QUEUE = os.environ.get("QUEUE", "mail")
POLL_SECONDS = float(os.environ.get("POLL_SECONDS", "1"))
RECONNECT_SECONDS = float(os.environ.get("RECONNECT_SECONDS", "0.2"))
GONE = (redis.ConnectionError, redis.TimeoutError)

stopping = threading.Event()


def tasks(broker):
    """Yield one body after the other; None when the queue is empty, or another worker was quicker."""
    while not stopping.is_set():
        if broker.llen(QUEUE):
            found = broker.lmpop(1, QUEUE, direction="RIGHT", count=1)
            yield found[1][0] if found else None
        else:
            yield None


def handle(broker, name, body):
    try:
        task = read_task(body)
        send(task)
        print(f"{name}: sent {task['id']}", flush=True)
    except Rejected as reason:
        text = body.decode("utf-8", "backslashreplace")
        broker.rpush(f"{QUEUE}:rejected", json.dumps({"body": text, "reason": str(reason), "worker": name}))


def main():
    name = sys.argv[1] if len(sys.argv) > 1 else f"{socket.gethostname()}-{os.getpid()}"
    signal.signal(signal.SIGINT, lambda *_: stopping.set())
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    broker = redis.Redis.from_url(VALKEY_URL)
    wait, ever = RECONNECT_SECONDS, False
    while not stopping.is_set():
        try:
            for body in tasks(broker):
                wait, ever = RECONNECT_SECONDS, True
                if body is None:
                    stopping.wait(POLL_SECONDS)
                else:
                    handle(broker, name, body)
        except GONE as error:
            if not ever:
                sys.exit(
                    f"No broker at {VALKEY_URL.rpartition('@')[2]} ({error}). Start one with: ./lab broker up"
                )
            stopping.wait(wait)
            wait = min(2 * wait, 5)


if __name__ == "__main__":
    main()
