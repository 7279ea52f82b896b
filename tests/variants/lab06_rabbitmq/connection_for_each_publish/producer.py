"""Put image tasks in the queue, each over a connection of its own.   Run: python producer.py --count 12"""

import argparse
import itertools
import json
import os
import sys
import time
import uuid
from datetime import UTC, datetime

import pika
from images import OPERATIONS, photos
from topology import BROKER_GONE, QUEUE, connect, no_broker, open_channel

RECONNECT_SECONDS = float(os.environ.get("RECONNECT_SECONDS", "0.2"))


def publish(task):
    """Publish the task; return when it is confirmed."""
    with connect() as connection:
        properties = pika.BasicProperties(
            delivery_mode=2, content_type="application/json", message_id=task["id"]
        )
        body = json.dumps(task, ensure_ascii=False).encode("utf-8")
        open_channel(connection).basic_publish("", QUEUE, body, properties, mandatory=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photo", nargs="*")
    parser.add_argument("--operation", choices=OPERATIONS)
    parser.add_argument("--count", type=int)
    asked = parser.parse_args()
    names = asked.photo or photos()
    count = asked.count if asked.count is not None else len(names)
    try:
        connect().close()
    except BROKER_GONE as error:
        sys.exit(no_broker(error))
    for number, photo in enumerate(itertools.islice(itertools.cycle(names), count)):
        task = {
            "id": str(uuid.uuid4()),
            "image": photo,
            "operation": asked.operation or OPERATIONS[number % len(OPERATIONS)],
            "created_at": datetime.now(UTC).isoformat(),
        }
        for tries in itertools.count():
            try:
                publish(task)
                break
            except BROKER_GONE:
                time.sleep(min(5, RECONNECT_SECONDS * 2**tries))
        print(f"queued {task['id']}  {task['operation']} {photo}", flush=True)


if __name__ == "__main__":
    main()
