"""Look for mail tasks again and again, and send the mail.   Run: python worker.py alice"""

import json
import os
import signal
import socket
import sys
import threading

import valkey
from mailer import Rejected, read_task, send

VALKEY_URL = os.environ.get("VALKEY_URL", "redis://127.0.0.1:6379/0")
QUEUE = os.environ.get("QUEUE", "mail")
POLL_SECONDS = float(os.environ.get("POLL_SECONDS", "1"))  # the pause after a look that found nothing
RECONNECT_SECONDS = float(os.environ.get("RECONNECT_SECONDS", "0.2"))  # the first wait; it doubles up to 5 s
BROKER_GONE = (valkey.ConnectionError, valkey.TimeoutError)

stopping = threading.Event()


def take(broker):
    """Remove the oldest task from the queue and return its body; None when the queue is empty."""
    return broker.rpop(QUEUE)  # now the only copy is in our memory: a kill loses it (lab 3 mends that)


def handle(broker, name, body):
    """Send the mail of one task; when it is Rejected, set the task aside with the reason."""
    try:
        task = read_task(body)
        send(task)
    except Rejected as reason:
        set_aside(broker, body, reason)
        print(f"{name}: set aside: {reason}", flush=True)
    else:
        print(f"{name}: sent {task['id']}  to {task['to']}", flush=True)


def set_aside(broker, body, reason):
    """Push a JSON object with the reason and the body, as text, to QUEUE:rejected, for a person to look at."""
    entry = {"reason": str(reason), "body": body.decode("utf-8", "backslashreplace")}
    broker.lpush(f"{QUEUE}:rejected", json.dumps(entry))


def work(broker, name):
    """Take and handle one task after the other until told to stop; pause POLL_SECONDS when there is none."""
    while not stopping.is_set():
        body = take(broker)
        if body is None:
            stopping.wait(POLL_SECONDS)  # a sleep that SIGTERM ends
        else:
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
        signal.signal(number, lambda *_: stopping.set())  # the mail in hand is sent first
    broker = valkey.Valkey.from_url(VALKEY_URL, socket_timeout=5)
    try:
        broker.ping()
    except BROKER_GONE as error:
        sys.exit(f"No broker at {VALKEY_URL.rpartition('@')[2]} ({error}). Start one with: ./lab broker up")
    while not stopping.is_set():
        try:
            work(broker, name)
        except BROKER_GONE as error:
            reconnect(broker, name, error)


if __name__ == "__main__":
    main()
