"""Send mail, the urgent first, by one of four policies.   Run: python worker.py alice --policy strict"""

import argparse
import json
import os
import signal
import socket
import sys
import threading
from contextlib import suppress

import recovery
import redis
import reliable
from levels import BLOCK_SECONDS, level_of
from mailer import Rejected, read_task, send
from policies import POLICIES, POLICY

VALKEY_URL = os.environ.get("VALKEY_URL", "redis://127.0.0.1:6379/0")
RECONNECT_SECONDS = float(os.environ.get("RECONNECT_SECONDS", "0.2"))  # the first wait; it doubles up to 5 s
BROKER_GONE = (redis.ConnectionError, redis.TimeoutError)

stopping = threading.Event()


def handle(broker, policy, name, body):
    """Send the mail of one task, then finish it; when it is Rejected, with a dead letter that says why."""
    try:
        task = read_task(body)
        send(task)
    except Rejected as reason:
        letter = {"reason": str(reason), "body": body.decode("utf-8", "backslashreplace")}
        policy.finish(broker, name, body, json.dumps(letter))
        print(f"{name}: dead: {reason}", flush=True)
    else:
        policy.finish(broker, name, body)  # last: policy 4 loses nothing in a crash above
        print(f"{name}: sent {task['id']}  {level_of(body)}  {task['subject']!r}", flush=True)


def work(broker, policy, name):
    """Take and handle one task after the other until told to stop."""
    if policy is reliable:
        recovery.beat(broker, name)  # before the first take: a list without a heartbeat looks abandoned
        recovery.put_back(broker, name, name)  # left by a lost connection, or by an earlier life of this name
    while not stopping.is_set():
        body = policy.take(broker, name)
        if body is not None:
            handle(broker, policy, name, body)


def keep_house(broker, name, over):
    """As recovery.keep_house, for a client whose errors are its own."""
    while not over.wait(recovery.HEARTBEAT_SECONDS / 3):
        try:
            recovery.beat(broker, name)
            recovery.recover(broker, name)
        except redis.RedisError:
            pass


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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", nargs="?", default=f"{socket.gethostname()}-{os.getpid()}")
    parser.add_argument("--policy", choices=POLICIES, default=POLICY)
    asked = parser.parse_args()
    name, policy = asked.name, POLICIES[asked.policy]
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())  # the mail in hand is sent first
    broker = redis.Redis.from_url(VALKEY_URL, socket_timeout=BLOCK_SECONDS + 5)  # longer than any block
    try:
        broker.ping()
    except BROKER_GONE as error:
        sys.exit(f"No broker at {VALKEY_URL.rpartition('@')[2]} ({error}). Start one with: ./lab broker up")
    over = threading.Event()
    if policy is reliable:
        housekeeper = threading.Thread(target=keep_house, args=(broker, name, over), daemon=True)
        housekeeper.start()
    while not stopping.is_set():
        try:
            work(broker, policy, name)
        except BROKER_GONE as error:
            reconnect(broker, name, error)
    if policy is reliable:
        over.set()
        housekeeper.join()  # its last beat comes before the goodbye
        with suppress(*BROKER_GONE):  # then the heartbeat ends by itself
            broker.delete(recovery.heartbeat(name))


if __name__ == "__main__":
    main()
