"""Look for report tasks again and again, and write the reports: lab 1's way, to stand beside lab 2's.

Run: python polling_worker.py polling
"""

import os
import signal
import sys
import threading
from pathlib import Path

import valkey
from report import read_task, render

VALKEY_URL = os.environ.get("VALKEY_URL", "redis://127.0.0.1:6379/0")
QUEUE = os.environ.get("QUEUE", "reports")
OUTPUT_DIR = Path(os.environ.get("OUTPUT_DIR", "out"))
POLL_SECONDS = float(os.environ.get("POLL_SECONDS", "0.5"))  # the pause after a look that found nothing

stopping = threading.Event()


def save(task, pdf):
    """Write a report to OUTPUT_DIR/ID.pdf; under that name nobody ever sees half a report."""
    draft = OUTPUT_DIR / f"{task['id']}.part"
    draft.write_bytes(pdf)
    draft.rename(draft.with_suffix(".pdf"))


def work(broker, name):
    """Take one task after the other until told to stop; pause when there is none."""
    while not stopping.is_set():
        try:
            body = broker.rpop(QUEUE)
        except (valkey.ConnectionError, valkey.TimeoutError):
            body = None  # the broker is gone: the next look finds it back, or not
        if body is None:
            stopping.wait(POLL_SECONDS)  # whatever comes now has to wait
        else:
            task = read_task(body)
            save(task, render(task))
            print(f"{name}: {task['id']}", flush=True)


def main():
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    OUTPUT_DIR.mkdir(parents=True, exist_ok=True)
    work(valkey.Valkey.from_url(VALKEY_URL, socket_timeout=5), sys.argv[1])


if __name__ == "__main__":
    main()
