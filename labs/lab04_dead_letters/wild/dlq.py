"""Found in the wild: look after the dead letters, as tutorials print it.   Run: python dlq.py list

Also: show ID, replay ID ..., replay --all
"""

import json
import os
import sys
from pathlib import Path

import redis

sys.path.append(str(Path(__file__).resolve().parents[1]))  # keys.py is one folder up
from keys import DEAD, QUEUE


def letters(broker):
    """The dead letters as (id, entry): an entry is what stands in the list."""
    for entry in broker.lrange(DEAD, 0, -1):
        yield json.loads(json.loads(entry)["body"])["id"], entry


def replay(broker, task_id, entry):
    broker.lrem(DEAD, 1, entry)
    broker.lpush(QUEUE, task_id)  # a worker will pick it up
    print(f"{task_id}  replayed")


def main():
    command, *ids = sys.argv[1:] or ["list"]
    broker = redis.Redis.from_url(os.environ.get("VALKEY_URL", "redis://127.0.0.1:6379/0"))
    found = list(letters(broker))
    for task_id, entry in found:
        if command == "list":
            print(f"{task_id}  {json.loads(entry).get('reason')}")
        elif command == "show" and task_id in ids:
            print(json.dumps(json.loads(entry), indent=2))
        elif command == "replay" and (task_id in ids or "--all" in ids):
            replay(broker, task_id, entry)
    unknown = {one for one in ids if not one.startswith("--")} - {task_id for task_id, _ in found}
    sys.exit(f"not in the dead letters: {', '.join(unknown)}" if unknown else 0)


if __name__ == "__main__":
    main()
