"""Put image tasks in the queue, and wait while it is full.   Run: python producer.py --count 12"""

import argparse
import itertools
import json
import os
import random
import sys
import time
import uuid
from datetime import UTC, datetime

import valkey
from images import OPERATIONS, photos

VALKEY_URL = os.environ.get("VALKEY_URL", "redis://127.0.0.1:6379/0")
QUEUE = os.environ.get("QUEUE", "images")
QUEUE_LIMIT = int(os.environ.get("QUEUE_LIMIT", "100"))  # tasks that may wait at once
FIRST_WAIT_SECONDS = float(os.environ.get("FIRST_WAIT_SECONDS", "0.1"))
LONGEST_WAIT_SECONDS = float(os.environ.get("LONGEST_WAIT_SECONDS", "5"))


def new_task(photo, operation):
    """A task as the queue carries it; its id tells it apart from every other, for good."""
    now = datetime.now(UTC).isoformat()
    return {"id": str(uuid.uuid4()), "image": photo, "operation": operation, "created_at": now}


def enqueue(broker, task):
    """Push the task unless QUEUE_LIMIT tasks wait already; return whether it was pushed."""
    push_if_room = """
        if redis.call('LLEN', KEYS[1]) >= tonumber(ARGV[1]) then return 0 end
        return redis.call('LPUSH', KEYS[1], ARGV[2])
    """  # one script: between two commands another producer could take the last place
    return broker.eval(push_if_room, 1, QUEUE, QUEUE_LIMIT, json.dumps(task)) > 0


def enqueue_when_there_is_room(broker, task):
    """Wait and try again, each time longer, up to LONGEST_WAIT_SECONDS, until the task is in."""
    wait = FIRST_WAIT_SECONDS
    while True:
        time.sleep(random.uniform(wait / 2, wait))  # two producers must not come back at the same moment
        if enqueue(broker, task):
            return
        wait = min(2 * wait, LONGEST_WAIT_SECONDS)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photo", nargs="*", help="files in INPUT_DIR (default: all of them)")
    parser.add_argument("--operation", choices=OPERATIONS, help="default: each in turn")
    parser.add_argument("--count", type=int, help="how many tasks (default: one for each photo)")
    asked = parser.parse_args()
    names = asked.photo or photos()
    if not names:
        sys.exit("There are no photos. Make some with: python images.py")
    count = len(names) if asked.count is None else asked.count
    operations = [asked.operation] if asked.operation else OPERATIONS
    pairs = zip(itertools.cycle(names), itertools.cycle(operations), strict=False)
    broker = valkey.Valkey.from_url(VALKEY_URL)
    try:
        for photo, operation in itertools.islice(pairs, count):
            task = new_task(photo, operation)
            if not enqueue(broker, task):
                print(f"the queue is full ({QUEUE_LIMIT} tasks); waiting", flush=True)
                enqueue_when_there_is_room(broker, task)
            print(f"queued {task['id']}  {operation} {photo}", flush=True)
    except (valkey.ConnectionError, valkey.TimeoutError) as error:
        sys.exit(f"No broker at {VALKEY_URL.rpartition('@')[2]} ({error}). Start one with: ./lab broker up")
    except KeyboardInterrupt:
        sys.exit("stopped")


if __name__ == "__main__":
    main()
