"""Queue webhooks for an endpoint.   Run: python producer.py http://127.0.0.1:8080/200 --count 3"""

import argparse
import json
import os
import sys

import redis
from keys import QUEUE
from webhooks import new_task

VALKEY_URL = os.environ.get("VALKEY_URL", "redis://127.0.0.1:6379/0")


def enqueue(broker, task):
    """Push the task at the left end of the queue, as JSON."""
    raise NotImplementedError("TODO 1: push the task at the left end of the queue, as JSON")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", help="where to deliver to")
    parser.add_argument("--count", type=int, default=1, help="how many tasks (default: 1)")
    parser.add_argument("--event", default="order.paid", help="what has happened (default: order.paid)")
    parser.add_argument("--max-retries", type=int, default=5, help="tries after the first (default: 5)")
    asked = parser.parse_args()
    broker = redis.Redis.from_url(VALKEY_URL)
    try:
        for number in range(1, asked.count + 1):
            task = new_task(asked.url, asked.event, {"order": number}, asked.max_retries)
            enqueue(broker, task)
            print(f"queued {task['id']}  {asked.event} for {asked.url}", flush=True)
    except (redis.ConnectionError, redis.TimeoutError) as error:
        # of the address only what follows an @: before it stands the password
        sys.exit(f"No broker at {VALKEY_URL.rpartition('@')[2]} ({error}). Start one with: ./lab broker up")
    except KeyboardInterrupt:
        sys.exit("stopped")


if __name__ == "__main__":
    main()
