"""A worker as a class, with a thread that waits for the signals.   Run: python worker.py alice"""

import json
import os
import signal
import socket
import sys
import threading

import mailer
import redis

SIGNALS = {signal.SIGINT, signal.SIGTERM}


class Worker:
    def __init__(self, name, url):
        self.name, self.url = name, url
        self.queue = os.environ.get("QUEUE", "mail")
        self.poll_seconds = float(os.environ.get("POLL_SECONDS", "1"))
        self.reconnect_seconds = float(os.environ.get("RECONNECT_SECONDS", "0.2"))
        self.stopping = threading.Event()
        self.broker = redis.Redis.from_url(url, socket_timeout=5, decode_responses=False)

    def wait_for_a_signal(self):
        signal.sigwait(SIGNALS)
        self.stopping.set()

    def run(self):
        failures = 0
        while not self.stopping.is_set():
            try:
                if self.one_step():
                    failures = 0
            except (redis.ConnectionError, redis.TimeoutError):
                self.stopping.wait(min(self.reconnect_seconds * 2**failures, 5))
                failures += 1

    def one_step(self):
        bodies = self.broker.rpop(self.queue, 1)  # a list of one, or None
        if not bodies:
            self.stopping.wait(self.poll_seconds)
        for body in bodies or ():
            try:
                mailer.send(mailer.read_task(body))
            except mailer.Rejected as reason:
                self.set_aside(body, reason)
        return True

    def set_aside(self, body, reason):
        text = body.decode("utf-8", "replace")
        entry = json.dumps({"reason": f"{reason}", "body": text}, ensure_ascii=False)
        self.broker.lpush(f"{self.queue}:rejected", entry.encode("utf-8", "replace"))


def main():
    name = sys.argv[1] if len(sys.argv) > 1 else f"{socket.gethostname()}-{os.getpid()}"
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # threads inherit it: only sigwait sees the signals
    worker = Worker(name, os.environ.get("VALKEY_URL", "redis://127.0.0.1:6379/0"))
    threading.Thread(target=worker.wait_for_a_signal, daemon=True).start()
    try:
        worker.broker.ping()
    except redis.ConnectionError as error:
        sys.exit(f"No broker at {worker.url.rpartition('@')[2]} ({error}). Start one with: ./lab broker up")
    worker.run()


if __name__ == "__main__":
    main()
