"""Wait for report tasks, and write the reports.   Run: python worker.py alice"""

import json
import os
import signal
import socket
import sys
import threading
from pathlib import Path

import valkey
from report import Rejected, read_task, render

VALKEY_URL = os.environ.get("VALKEY_URL", "redis://127.0.0.1:6379/0")
QUEUE = os.environ.get("QUEUE", "reports")
OUTPUT_DIR = Path(os.environ.get("OUTPUT_DIR", "out"))
BLOCK_SECONDS = float(os.environ.get("BLOCK_SECONDS", "1"))  # how long one take waits for a task
RECONNECT_SECONDS = float(os.environ.get("RECONNECT_SECONDS", "0.2"))  # the first wait; it doubles up to 5 s
BROKER_GONE = (valkey.ConnectionError, valkey.TimeoutError)

stopping = threading.Event()


def take(broker):
    """Wait at the broker, up to BLOCK_SECONDS, for the oldest task; return its body, or None when none came."""
    popped = broker.brpop(QUEUE, timeout=BLOCK_SECONDS)  # finite: no signal ends a wait that has no end
    return popped[1] if popped else None


def handle(broker, name, body):
    """Render and save one task's report, then add one to QUEUE:done; set aside what is Rejected or fails to save."""
    try:
        task = read_task(body)
        path = save(task, render(task))
    except (Rejected, OSError) as reason:  # OSError: the disk is full, or the folder is not ours
        set_aside(broker, body, reason)
        print(f"{name}: set aside: {reason}", flush=True)
    else:
        broker.incr(f"{QUEUE}:done")  # for the monitor
        print(f"{name}: {path}", flush=True)


def save(task, pdf):
    """Write a report to OUTPUT_DIR/ID.pdf, whole or not at all, and return the path; leave nothing else there."""
    path = OUTPUT_DIR / f"{task['id']}.pdf"
    draft = path.with_suffix(".part")
    try:
        draft.write_bytes(pdf)
        os.replace(draft, path)  # one step: until then an older report keeps the name
    finally:
        draft.unlink(missing_ok=True)  # what a full disk leaves
    return path


def set_aside(broker, body, reason):
    """Push {"reason": …, "body": …} as JSON to QUEUE:rejected: a task not done, for a person to look at."""
    entry = {"reason": str(reason), "body": body.decode("utf-8", "backslashreplace")}
    broker.lpush(f"{QUEUE}:rejected", json.dumps(entry))


def work(broker, name):
    """Take and handle one task after the other until told to stop."""
    while not stopping.is_set():
        body = take(broker)
        if body is not None:
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
        signal.signal(number, lambda *_: stopping.set())  # the report in hand is finished first
    OUTPUT_DIR.mkdir(parents=True, exist_ok=True)
    broker = valkey.Valkey.from_url(VALKEY_URL, socket_timeout=BLOCK_SECONDS + 5)  # longer than any block
    try:
        broker.ping()
    except BROKER_GONE as error:
        # of the address only what follows an @: before it stands the password
        sys.exit(f"No broker at {VALKEY_URL.rpartition('@')[2]} ({error}). Start one with: ./lab broker up")
    while not stopping.is_set():
        try:
            work(broker, name)
        except BROKER_GONE as error:
            reconnect(broker, name, error)


if __name__ == "__main__":
    main()
