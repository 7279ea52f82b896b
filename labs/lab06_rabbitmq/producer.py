"""Put image tasks in the queue, each confirmed by the broker.   Run: python producer.py --count 12"""

import argparse
import itertools
import json
import os
import sys
import time
import uuid
from contextlib import suppress
from datetime import UTC, datetime

import pika
from images import OPERATIONS, photos
from topology import BROKER_GONE, QUEUE, connect, no_broker, open_channel, why

RECONNECT_SECONDS = float(os.environ.get("RECONNECT_SECONDS", "0.2"))  # the first wait; it doubles up to 5 s


def new_task(photo, operation):
    """A task as the queue carries it; its id tells it apart from every other, for good."""
    now = datetime.now(UTC).isoformat()
    return {"id": str(uuid.uuid4()), "image": photo, "operation": operation, "created_at": now}


def publish(channel, task):
    """Send the task to QUEUE, to be kept on disk; return when the broker has confirmed that it has it."""
    raise NotImplementedError(
        "TODO 3: publish the task to QUEUE as JSON, persistent, with its id as message_id, and mandatory"
    )


def publish_until_confirmed(channel, task):
    """It failed: hang up, wait, longer each time, connect again and publish the same task. Return the new channel."""
    raise NotImplementedError(
        "TODO 4: hang up, wait, connect again and publish the same task, until it is confirmed; "
        "wait longer each time"
    )


def hang_up(channel):
    """Close the channel's connection, if it is still there."""
    with suppress(*BROKER_GONE):
        channel.connection.close()


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
    try:
        channel = open_channel(connect())
    except BROKER_GONE as error:
        sys.exit(no_broker(error))
    try:
        for photo, operation in itertools.islice(pairs, count):
            task = new_task(photo, operation)
            try:
                publish(channel, task)  # a confirm for each: many times slower than not to ask
            except BROKER_GONE as error:
                print(f"not confirmed ({why(error)}); trying again", flush=True)
                channel = publish_until_confirmed(channel, task)
            print(f"queued {task['id']}  {operation} {photo}", flush=True)
        hang_up(channel)
    except KeyboardInterrupt:
        sys.exit("stopped")


if __name__ == "__main__":
    main()
