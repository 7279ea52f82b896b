"""A worker whose take is a Lua script, and whose set-aside is, too.   Run: python worker.py alice"""

import json
import os
import signal
import socket
import sys
import threading

import redis
from mailer import Rejected, read_task, send

VALKEY_URL = os.environ.get("VALKEY_URL", "redis://127.0.0.1:6379/0")
QUEUE = os.environ.get("QUEUE", "mail")
POLL_SECONDS = float(os.environ.get("POLL_SECONDS", "1"))
RECONNECT_SECONDS = float(os.environ.get("RECONNECT_SECONDS", "0.2"))
BROKER_GONE = (redis.ConnectionError, redis.TimeoutError)
TAKE = "return redis.call('RPOP', KEYS[1])"
SET_ASIDE = "return redis.call('LPUSH', KEYS[1], cjson.encode({reason = ARGV[1], body = ARGV[2]}))"

stopping = threading.Event()


def work(broker, name):
    take, set_aside = broker.register_script(TAKE), broker.register_script(SET_ASIDE)
    while not stopping.is_set():
        body = take(keys=[QUEUE])
        if body is None:
            stopping.wait(POLL_SECONDS)
            continue
        try:
            task = read_task(body)
            send(task)
            print(f"{name}: sent {json.dumps(task['id'])}", flush=True)
        except Rejected as reason:
            kept = body.decode("utf-8", "backslashreplace")
            set_aside(keys=[f"{QUEUE}:rejected"], args=[str(reason), kept])
            print(f"{name}: set aside: {reason}", flush=True)


def main():
    name = sys.argv[1] if len(sys.argv) > 1 else f"{socket.gethostname()}-{os.getpid()}"
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    broker = redis.Redis.from_url(VALKEY_URL, socket_timeout=5)
    try:
        broker.ping()
    except BROKER_GONE as error:
        sys.exit(f"No broker at {VALKEY_URL.rpartition('@')[2]} ({error}). Start one with: ./lab broker up")
    wait = RECONNECT_SECONDS
    while not stopping.is_set():
        try:
            work(broker, name)
        except BROKER_GONE as error:
            print(f"{name}: the broker is gone ({error}); trying again", flush=True)
            while not stopping.wait(wait):
                try:
                    broker.ping()
                    wait = RECONNECT_SECONDS
                    break
                except BROKER_GONE:
                    wait = min(2 * wait, 5)


if __name__ == "__main__":
    main()
