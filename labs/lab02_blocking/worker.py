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
    raise NotImplementedError(
        "TODO 3: wait at the broker, up to BLOCK_SECONDS, for the oldest task, and return its body; "
        "None when none came"
    )


def handle(broker, name, body):
    """Render and save one task's report, then add one to QUEUE:done; set aside what is Rejected or fails to save."""
    raise NotImplementedError(
        "TODO 4: read the task, render and save its report, and add one to QUEUE:done; set aside what fails"
    )


def save(task, pdf):
    """Write a report to OUTPUT_DIR/ID.pdf, whole or not at all, and return the path; leave nothing else there."""
    raise NotImplementedError(
        "TODO 5: write the report under another name first, then rename it: nobody may ever see half of one"
    )


def set_aside(broker, body, reason):
    """Push {"reason": …, "body": …} as JSON to QUEUE:rejected: a task not done, for a person to look at."""
    raise NotImplementedError("TODO 6: push a JSON object with the reason and the body to the rejected list")


def work(broker, name):
    """Take and handle one task after the other until told to stop."""
    raise NotImplementedError("TODO 2: until told to stop: take a task, and handle it if one came")


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
