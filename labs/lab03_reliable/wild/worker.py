"""Found in the wild: a "reliable" worker, as tutorials print it.   Run: python worker.py alice"""

import json
import os
import sys
from pathlib import Path

import redis

sys.path.append(str(Path(__file__).resolve().parents[1]))  # images.py is one folder up
from images import Rejected, process, read_task

QUEUE = os.environ.get("QUEUE", "images")
PROCESSING = f"{QUEUE}:processing"


def handle(broker, name, body):
    broker.delete(PROCESSING)  # acknowledge: the task is ours now
    try:
        print(f"{name}: {process(read_task(body))}", flush=True)
    except Rejected as reason:
        entry = {"reason": str(reason), "body": body.decode("utf-8", "backslashreplace")}
        broker.lpush(f"{QUEUE}:rejected", json.dumps(entry))
    # if we crash before this line, the task is still in the processing list: another worker can retry it


def main():
    name = sys.argv[1] if len(sys.argv) > 1 else "worker"
    broker = redis.Redis.from_url(os.environ.get("VALKEY_URL", "redis://127.0.0.1:6379/0"))
    while True:
        body = broker.blmove(QUEUE, PROCESSING, 1, "LEFT", "RIGHT")
        if body is not None:
            handle(broker, name, body)


if __name__ == "__main__":
    main()
