"""Queue mail of one level.   Run: python producer.py high --count 3 --policy strict"""

import argparse
import json
import os
import sys
import uuid
from datetime import UTC, datetime

import redis
from levels import LEVELS
from policies import POLICIES, POLICY

VALKEY_URL = os.environ.get("VALKEY_URL", "redis://127.0.0.1:6379/0")
SUBJECTS = {"high": "Reset your password", "normal": "Your order is on its way", "low": "News of the month"}


def new_task(level, reader):
    """A task as the queue carries it: a mail to this reader."""
    return {
        "id": str(uuid.uuid4()),
        "to": f"reader{reader}@example.com",
        "subject": SUBJECTS[level],
        "body": f"Dear reader {reader},\n\nthis mail is of the level {level}.\n",
        "priority": level,
        "created_at": datetime.now(UTC).isoformat(),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("level", choices=LEVELS)
    parser.add_argument("--count", type=int, default=1, help="how many tasks (default: 1)")
    parser.add_argument("--policy", choices=POLICIES, default=POLICY)
    asked = parser.parse_args()
    broker = redis.Redis.from_url(VALKEY_URL)
    try:
        for reader in range(1, asked.count + 1):
            task = new_task(asked.level, reader)
            POLICIES[asked.policy].enqueue(broker, asked.level, json.dumps(task))
            print(f"queued {task['id']}  {asked.level}  {task['subject']}", flush=True)
    except (redis.ConnectionError, redis.TimeoutError) as error:
        sys.exit(f"No broker at {VALKEY_URL.rpartition('@')[2]} ({error}). Start one with: ./lab broker up")
    except KeyboardInterrupt:
        sys.exit("stopped")


if __name__ == "__main__":
    main()
