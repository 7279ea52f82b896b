"""The worker as a class, with BLMPOP and a report that is linked into place.   Run: python worker.py alice"""

import contextlib
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path

import valkey
from report import Rejected, read_task, render

GONE = (valkey.ConnectionError, valkey.TimeoutError)


class Worker:
    """Takes one task after the other. `stop` may be called at any time, by a signal too."""

    def __init__(self, url, queue, folder, block_seconds, reconnect_seconds):
        self.queue, self.folder = queue, folder
        self.block_seconds, self.reconnect_seconds = block_seconds, reconnect_seconds
        self.going = True
        self.broker = valkey.Valkey.from_url(url, socket_timeout=block_seconds + 5, protocol=3)

    def stop(self, *_):
        self.going = False

    def run(self, name):
        failures = 0
        while self.going:
            try:
                popped = self.broker.blmpop(self.block_seconds, 1, self.queue, direction="RIGHT", count=1)
                failures = 0
                if popped:
                    print(f"{name}: {self.handle(popped[1][0])}", flush=True)
            except GONE as error:
                print(f"{name}: no broker: {error}", flush=True)
                self.pause(min(5, self.reconnect_seconds * 2**failures))
                failures += 1

    def pause(self, seconds):
        until = time.monotonic() + seconds
        while self.going and time.monotonic() < until:
            time.sleep(0.02)

    def handle(self, body):
        try:
            task = read_task(body)
            path = self.save(f"{task['id']}.pdf", render(task))
        except (Rejected, OSError) as error:
            entry = json.dumps({"body": body.decode(errors="backslashreplace"), "reason": repr(error)})
            self.broker.eval(
                "return redis.call('RPUSH', KEYS[1], ARGV[1])", 1, f"{self.queue}:rejected", entry
            )
            return error
        self.broker.eval("return redis.call('INCR', KEYS[1])", 1, f"{self.queue}:done")
        return path

    def save(self, name, pdf):
        path, draft = self.folder / name, self.folder.parent / f"{name}.{os.getpid()}"
        try:
            draft.write_bytes(pdf)
            try:
                os.link(draft, path)  # like a rename: the name is there when the report is
            except FileExistsError:
                os.replace(draft, path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                draft.unlink()
        return path


def main():
    settings = os.environ.get
    url, folder = settings("VALKEY_URL", "redis://127.0.0.1:6379/0"), Path(settings("OUTPUT_DIR", "out"))
    folder.mkdir(parents=True, exist_ok=True)
    worker = Worker(
        url,
        settings("QUEUE", "reports"),
        folder,
        float(settings("BLOCK_SECONDS", "1.5")),
        float(settings("RECONNECT_SECONDS", "0.2")),
    )
    signal.signal(signal.SIGTERM, worker.stop)
    signal.signal(signal.SIGINT, worker.stop)
    try:
        worker.broker.ping()
    except GONE as error:
        sys.exit(f"No broker at {url.rpartition('@')[2]} ({error}). Start one with: ./lab broker up")
    worker.run(sys.argv[1] if len(sys.argv) > 1 else f"{socket.gethostname()}-{os.getpid()}")


if __name__ == "__main__":
    main()
