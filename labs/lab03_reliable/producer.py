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

import redis
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
    raise NotImplementedError(
        "TODO 1: push the task, unless QUEUE_LIMIT tasks wait already; looking and pushing must be one step"
    )


def enqueue_when_there_is_room(broker, task):
    """The queue was full: wait and try again, each time longer, up to LONGEST_WAIT_SECONDS, until the task is in."""
    raise NotImplementedError(
        "TODO 2: wait, then try to enqueue the task again, longer each time, until it is in"
    )


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
    broker = redis.Redis.from_url(VALKEY_URL)
    try:
        for photo, operation in itertools.islice(pairs, count):
            task = new_task(photo, operation)
            if not enqueue(broker, task):
                print(f"the queue is full ({QUEUE_LIMIT} tasks); waiting", flush=True)
                enqueue_when_there_is_room(broker, task)
            print(f"queued {task['id']}  {operation} {photo}", flush=True)
    except (redis.ConnectionError, redis.TimeoutError) as error:
        # of the address only what follows an @: before it stands the password
        sys.exit(f"No broker at {VALKEY_URL.rpartition('@')[2]} ({error}). Start one with: ./lab broker up")
    except KeyboardInterrupt:
        sys.exit("stopped")


if __name__ == "__main__":
    main()
