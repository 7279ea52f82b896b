"""Found in the wild: the worker to this producer.   Run: python worker.py alice"""

import json
import os
import signal
import sys
import threading
from pathlib import Path

import valkey

sys.path.append(str(Path(__file__).resolve().parents[1]))  # mailer.py is one folder up
from mailer import Rejected, read_task, send

VALKEY_URL = os.environ.get("VALKEY_URL", "redis://127.0.0.1:6379/0")
QUEUE = os.environ.get("QUEUE", "mail")
LEVELS = {"normal", "high", "low"}
LISTS = [f"{QUEUE}:{level}" for level in sorted(LEVELS)]  # BRPOP goes by this order, so they must be sorted

stopping = threading.Event()


def handle(broker, name, body):
    try:
        task = read_task(body)
        send(task)
        print(f"{name}: sent {task['id']}  {task.get('priority')}", flush=True)
    except Rejected as reason:
        letter = {"reason": str(reason), "body": body.decode("utf-8", "backslashreplace")}
        broker.lpush(f"{QUEUE}:dead", json.dumps(letter))


def main():
    name = sys.argv[1] if len(sys.argv) > 1 else "worker"
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    broker = valkey.Valkey.from_url(VALKEY_URL, socket_timeout=10)
    while not stopping.is_set():
        popped = broker.brpop(LISTS, timeout=1)  # the first list that has a task: urgent mail never waits
        if popped:
            handle(broker, name, popped[1])


if __name__ == "__main__":
    main()
