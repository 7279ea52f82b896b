"""Found in the wild: mail by priority, as tutorials print it.   Run: python producer.py high --count 3"""

import argparse
import json
import os
import time
import uuid

import valkey

QUEUE = os.environ.get("QUEUE", "mail")


def enqueue(broker, task):
    """Put a task where it belongs: urgent ones into the priority queue, the others into the list of their level."""
    level, body = task["priority"], json.dumps(task)
    if level == "high":
        broker.zadd(f"{QUEUE}:urgent", {body: time.time()})  # sorted: always the oldest first
    else:
        broker.lpush(f"{QUEUE}:{level}", body)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("level", choices=["high", "normal", "low"])
    parser.add_argument("--count", type=int, default=1)
    asked, _ = parser.parse_known_args()
    broker = valkey.Valkey.from_url(os.environ.get("VALKEY_URL", "redis://127.0.0.1:6379/0"))
    for reader in range(1, asked.count + 1):
        task = {
            "id": str(uuid.uuid4()),
            "to": f"reader{reader}@example.com",
            "subject": f"Mail of the level {asked.level}",
            "body": "Dear reader,\n\nthis is it.\n",
            "priority": asked.level,
        }
        enqueue(broker, task)
        print(f"queued {task['id']}  {asked.level}", flush=True)


if __name__ == "__main__":
    main()
