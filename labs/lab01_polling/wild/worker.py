"""Found in the wild: a mail worker that is said to be safe, as tutorials print it.   Run: python worker.py alice

From its README: "The queue makes it reliable. When a worker crashes, the mail is still in the queue. Try it: queue
five, stop the worker halfway, start it again, and the rest is sent as if nothing had happened."
"""

import os
import signal
import sys
import time
from pathlib import Path

import redis

sys.path.append(str(Path(__file__).resolve().parents[1]))  # mailer.py is one folder up
from mailer import read_task, send

QUEUE = os.environ.get("QUEUE", "mail")


def stop(*_):
    sys.exit(0)  # graceful shutdown


def main():
    name = sys.argv[1] if len(sys.argv) > 1 else "worker"
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    broker = redis.Redis.from_url(os.environ.get("VALKEY_URL", "redis://127.0.0.1:6379/0"))
    while True:
        body = broker.lpop(QUEUE)  # first in, first out
        if body is None:
            time.sleep(1)
            continue
        try:
            task = read_task(body)
            send(task)
            print(f"{name}: sent {task['id']}", flush=True)
        except Exception as error:
            print(f"{name}: {error}", flush=True)  # one bad task must not stop the worker


if __name__ == "__main__":
    main()
