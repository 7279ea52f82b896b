"""Found in the wild: a worker that waits for tasks, as tutorials print it.   Run: python worker.py alice"""

import json
import os
import signal
import sys
from pathlib import Path

import valkey

sys.path.append(str(Path(__file__).resolve().parents[1]))  # report.py is one folder up
from report import Rejected, read_task, render

VALKEY_URL = os.environ.get("VALKEY_URL", "redis://127.0.0.1:6379/0")
QUEUE = os.environ.get("QUEUE", "reports")
OUTPUT_DIR = Path(os.environ.get("OUTPUT_DIR", "out"))
running = True


def stop(*_):
    global running
    running = False  # the loop sees it and ends


def handle(broker, name, body):
    try:
        task = read_task(body)
        path = OUTPUT_DIR / f"{task['id']}.pdf"
        path.write_bytes(render(task))
    except (Rejected, OSError) as reason:
        entry = {"reason": str(reason), "body": body.decode("utf-8", "backslashreplace")}
        broker.lpush(f"{QUEUE}:rejected", json.dumps(entry))
    else:
        broker.incr(f"{QUEUE}:done")
        print(f"{name}: {path}", flush=True)


def main():
    name = sys.argv[1] if len(sys.argv) > 1 else "worker"
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    OUTPUT_DIR.mkdir(parents=True, exist_ok=True)
    broker = valkey.Valkey.from_url(VALKEY_URL, socket_timeout=5)  # so that we never hang
    try:
        while running:
            _, body = broker.blpop(QUEUE, timeout=0)  # 0: wait at no cost until there is a task
            handle(broker, name, body)
    except valkey.ConnectionError as error:
        sys.exit(f"No broker at {VALKEY_URL.rpartition('@')[2]}: {error}")


if __name__ == "__main__":
    main()
