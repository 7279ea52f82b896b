"""The worker with valkey.asyncio: one event loop, the report made in a thread.   Run: python worker.py alice"""

import asyncio
import json
import os
import signal
import socket
import sys
from pathlib import Path

import valkey.asyncio as valkey
from report import Rejected, read_task, render

VALKEY_URL = os.environ.get("VALKEY_URL", "redis://127.0.0.1:6379/0")
QUEUE = os.environ.get("QUEUE", "reports")
OUTPUT_DIR = Path(os.environ.get("OUTPUT_DIR", "out"))
BLOCK_SECONDS = float(os.environ.get("BLOCK_SECONDS", "1"))
RECONNECT_SECONDS = float(os.environ.get("RECONNECT_SECONDS", "0.2"))
BROKER_GONE = (valkey.ConnectionError, valkey.TimeoutError, OSError)


def make_report(body):
    """In a thread: the loop goes on meanwhile. Returns the path, or the reason why there is none."""
    try:
        task = read_task(body)
        pdf = render(task)
        draft, path = (OUTPUT_DIR / f"{prefix}{task['id']}.pdf" for prefix in (".", ""))
        try:
            with draft.open("wb") as file:
                file.write(pdf)
                file.flush()
                os.fsync(file.fileno())
            draft.rename(path)
        except OSError:
            draft.unlink(missing_ok=True)
            raise
        return path, None
    except (Rejected, OSError) as reason:
        return None, reason


async def handle(broker, name, body):
    path, reason = await asyncio.to_thread(make_report, body)
    if reason:
        entry = {"reason": str(reason), "body": body.decode("utf-8", "replace")}
        await broker.rpush(f"{QUEUE}:rejected", json.dumps(entry))
    else:
        await broker.incrby(f"{QUEUE}:done", 1)
    print(f"{name}: {path or f'set aside: {reason}'}", flush=True)


async def work(broker, name, stopping):
    while not stopping.is_set():
        popped = await broker.brpop(QUEUE, BLOCK_SECONDS)  # never canceled: its answer may be on the way
        if popped:
            await handle(broker, name, popped[1])


async def main():
    name = sys.argv[1] if len(sys.argv) > 1 else f"{socket.gethostname()}-{os.getpid()}"
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    OUTPUT_DIR.mkdir(parents=True, exist_ok=True)
    broker = valkey.Valkey.from_url(VALKEY_URL, socket_timeout=BLOCK_SECONDS + 5)
    try:
        await broker.ping()
    except BROKER_GONE as error:
        sys.exit(f"No broker at {VALKEY_URL.rpartition('@')[2]} ({error}). Start one with: ./lab broker up")
    wait = RECONNECT_SECONDS
    while not stopping.is_set():
        try:
            await broker.ping()
            wait = RECONNECT_SECONDS
            await work(broker, name, stopping)
        except BROKER_GONE as error:
            print(f"{name}: the broker is gone ({error}); trying again in {wait:g} s", flush=True)
            await asyncio.wait([asyncio.create_task(stopping.wait())], timeout=wait)
            wait = min(2 * wait, 5)
    await broker.aclose()


if __name__ == "__main__":
    asyncio.run(main())
