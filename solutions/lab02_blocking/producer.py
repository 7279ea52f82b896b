"""Put report tasks in the queue.   Run: python producer.py --count 6   or: python producer.py ada sales"""

import argparse
import itertools
import json
import os
import sys
import uuid

import valkey
from report import REPORTS, USERS

VALKEY_URL = os.environ.get("VALKEY_URL", "redis://127.0.0.1:6379/0")
QUEUE = os.environ.get("QUEUE", "reports")


def new_task(user, report):
    """A task as the queue carries it; its id tells it apart from every other, for good."""
    return {"id": str(uuid.uuid4()), "user": user, "report": report}


def enqueue(broker, task):
    """Push the task at the left end of the queue, as JSON."""
    broker.lpush(QUEUE, json.dumps(task))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("user", nargs="?", help="for whom (default: everybody in turn)")
    parser.add_argument("report", nargs="?", choices=REPORTS, help="default: each in turn")
    parser.add_argument("--count", type=int, default=1, help="how many tasks (default: 1)")
    asked = parser.parse_args()
    users = [asked.user] if asked.user else USERS
    reports = [asked.report] if asked.report else list(REPORTS)
    pairs = zip(itertools.cycle(users), itertools.cycle(reports), strict=False)
    broker = valkey.Valkey.from_url(VALKEY_URL, socket_timeout=5)
    try:
        for user, report in itertools.islice(pairs, asked.count):
            task = new_task(user, report)
            enqueue(broker, task)
            print(f"queued {task['id']}  {report} for {user}", flush=True)
    except (valkey.ConnectionError, valkey.TimeoutError) as error:
        # of the address only what follows an @: before it stands the password
        sys.exit(f"No broker at {VALKEY_URL.rpartition('@')[2]} ({error}). Start one with: ./lab broker up")


if __name__ == "__main__":
    main()
