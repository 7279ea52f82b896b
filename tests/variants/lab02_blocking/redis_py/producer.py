"""The producer with redis-py: all tasks in one LPUSH.   Run: python producer.py --count 6"""

import argparse
import json
import os
import sys
import uuid

import redis
from report import REPORTS, USERS

VALKEY_URL = os.environ.get("VALKEY_URL", "redis://127.0.0.1:6379/0")
QUEUE = os.environ.get("QUEUE", "reports")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("user", nargs="?")
    parser.add_argument("report", nargs="?", choices=REPORTS)
    parser.add_argument("--count", type=int, default=1)
    asked = parser.parse_args()
    tasks = [
        {
            "report": asked.report or list(REPORTS)[number % len(REPORTS)],
            "user": asked.user or USERS[number % len(USERS)],
            "id": uuid.uuid4().hex,  # without hyphens it is the same UUID
        }
        for number in range(asked.count)
    ]
    try:
        redis.Redis.from_url(VALKEY_URL).lpush(QUEUE, *map(json.dumps, tasks))
    except (redis.ConnectionError, redis.TimeoutError) as error:
        sys.exit(f"No broker at {VALKEY_URL.rpartition('@')[2]} ({error}). Start one with: ./lab broker up")


if __name__ == "__main__":
    main()
