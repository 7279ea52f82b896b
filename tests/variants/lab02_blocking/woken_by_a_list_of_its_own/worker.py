"""The worker that is gone at once: a list of its own ends the wait, at a signal.   Run: python worker.py alice"""

import contextlib
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
BLOCK_SECONDS = float(
    os.environ.get("BLOCK_SECONDS", "30")
)  # may be long: a signal does not wait for its end
RECONNECT_SECONDS = float(os.environ.get("RECONNECT_SECONDS", "0.2"))
BROKER_GONE = (valkey.ConnectionError, valkey.TimeoutError)
SIGNALS = {signal.SIGINT, signal.SIGTERM}

stopping = threading.Event()


def connect(timeout=BLOCK_SECONDS + 5):
    return valkey.Valkey.from_url(VALKEY_URL, socket_timeout=timeout)


def stop_when_asked(bell):
    """In a thread of its own. The wait is not torn down, since a task may be on its way: it is answered."""
    signal.sigwait(SIGNALS)
    stopping.set()
    with contextlib.suppress(BROKER_GONE):  # then nobody waits there
        connect(timeout=2).lpush(bell, "stop")


def handle(broker, name, body):
    try:
        task = read_task(body)
        pdf, path = render(task), OUTPUT_DIR / f"{task['id']}.pdf"
        draft = OUTPUT_DIR / f"{task['id']}.{name}~"
        try:
            draft.write_bytes(pdf)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    except (Rejected, OSError) as reason:
        entry = {"reason": str(reason), "body": body.decode("utf-8", "backslashreplace")}
        broker.lpush(f"{QUEUE}:rejected", json.dumps(entry))
        print(f"{name}: set aside: {reason}", flush=True)
    else:
        broker.incr(f"{QUEUE}:done")
        print(f"{name}: {path}", flush=True)


def work(broker, name, bell):
    while not stopping.is_set():
        popped = broker.brpop([QUEUE, bell], BLOCK_SECONDS)
        if popped and popped[0].decode() == QUEUE:
            handle(broker, name, popped[1])


def main():
    name = sys.argv[1] if len(sys.argv) > 1 else f"{socket.gethostname()}-{os.getpid()}"
    bell = f"{QUEUE}:stop:{name}"
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # for all threads: sigwait gets them
    ringer = threading.Thread(target=stop_when_asked, args=(bell,), daemon=True)
    ringer.start()
    OUTPUT_DIR.mkdir(parents=True, exist_ok=True)
    broker = connect()
    try:
        broker.ping()
    except BROKER_GONE as error:
        sys.exit(f"No broker at {VALKEY_URL.rpartition('@')[2]} ({error}). Start one with: ./lab broker up")
    wait = RECONNECT_SECONDS
    while not stopping.is_set():
        try:
            work(broker, name, bell)
        except BROKER_GONE as error:
            print(f"{name}: the broker is gone ({error}); trying again", flush=True)
            stopping.wait(wait)
            wait = min(2 * wait, 5)
    ringer.join()
    with contextlib.suppress(BROKER_GONE):
        broker.delete(bell)  # a task may have come first, and the bell was not heard


if __name__ == "__main__":
    main()
