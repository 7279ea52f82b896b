"""The worker with redis-py and its defaults, drafts in a folder of their own.   Run: python worker.py alice"""

import json
import os
import signal
import socket
import sys
import tempfile
import threading
from pathlib import Path

import redis
from report import Rejected, read_task, render

VALKEY_URL = os.environ.get("VALKEY_URL", "redis://127.0.0.1:6379/0")
QUEUE = os.environ.get("QUEUE", "reports")
OUTPUT_DIR = Path(os.environ.get("OUTPUT_DIR", "out"))
DRAFTS = OUTPUT_DIR.resolve().with_name("drafts")  # on the same file system, or no rename would be possible
BLOCK_SECONDS = float(os.environ.get("BLOCK_SECONDS", "1"))
RECONNECT_SECONDS = float(os.environ.get("RECONNECT_SECONDS", "0.2"))
BROKER_GONE = (redis.ConnectionError, redis.TimeoutError)

stopping = threading.Event()


def save(task, pdf):
    with tempfile.NamedTemporaryFile(dir=DRAFTS, delete=False) as draft:
        try:
            draft.write(pdf)
            draft.flush()
            path = OUTPUT_DIR / f"{task['id']}.pdf"
            os.replace(draft.name, path)
        except OSError:
            os.unlink(draft.name)
            raise
    return path


def handle(broker, name, body):
    try:
        task = read_task(body)
        path = save(task, render(task))
    except (Rejected, OSError) as reason:
        text = body.decode("latin-1")
        broker.lpush(f"{QUEUE}:rejected", json.dumps({"reason": f"{reason}", "body": text, "by": name}))
        print(f"{name}: set aside: {reason}", flush=True)
        return
    broker.incr(f"{QUEUE}:done")
    print(f"{name}: {path}", flush=True)


def work(broker, name):
    while not stopping.is_set():
        found = broker.execute_command("BRPOP", QUEUE, BLOCK_SECONDS)
        if found is not None:
            handle(broker, name, found[-1])


def main():
    name = sys.argv[1] if len(sys.argv) > 1 else f"{socket.gethostname()}-{os.getpid()}"
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    for folder in (OUTPUT_DIR, DRAFTS):
        folder.mkdir(parents=True, exist_ok=True)
    broker = redis.Redis.from_url(VALKEY_URL, socket_timeout=BLOCK_SECONDS + 5)
    try:
        broker.ping()
    except BROKER_GONE as error:
        sys.exit(f"No broker at {VALKEY_URL.rpartition('@')[2]} ({error}). Start one with: ./lab broker up")
    wait = RECONNECT_SECONDS
    while not stopping.is_set():
        try:
            broker.ping()
            wait = RECONNECT_SECONDS
            work(broker, name)
        except BROKER_GONE as error:
            print(f"{name}: the broker is gone ({error}); trying again", flush=True)
            stopping.wait(wait)
            wait = min(2 * wait, 5)


if __name__ == "__main__":
    main()
