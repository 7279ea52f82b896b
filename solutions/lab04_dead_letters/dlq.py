"""Look after the dead letters, while workers run.   Run: python dlq.py list

Also: show ID, replay ID ..., replay --all, purge --older-than DAYS
"""

import argparse
import hashlib
import json
import os
import sys
import uuid
from datetime import datetime

import redis
from keys import DEAD
from moves import replay
from webhooks import PermanentError, read_task

VALKEY_URL = os.environ.get("VALKEY_URL", "redis://127.0.0.1:6379/0")


def letters(broker):
    """All dead letters, the oldest first: for each its id, the entry as it is in DEAD, and what it says as a dict."""
    found = [(entry, json.loads(entry)) for entry in reversed(broker.lrange(DEAD, 0, -1))]
    return [(id_of(letter), entry, letter) for entry, letter in found]


def id_of(letter):
    """The id of a dead letter's task; for a body that has none, one made from the body."""
    try:
        task_id = json.loads(letter["body"])["id"]
        uuid.UUID(task_id)
        return task_id
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return "no-task-" + hashlib.sha1(letter["body"].encode()).hexdigest()[:8]


def replay_letter(broker, entry, letter):
    """Give a dead task a new life: back to the queue, its attempts 0. Return, in words, what became of it."""
    try:
        task = read_task(letter["body"])
    except PermanentError as reason:
        return f"not replayed, it would die again: {reason}"
    again = json.dumps(task | {"attempts": 0})
    return "replayed" if replay(broker, entry, again) else "not replayed, somebody else was quicker"


def purge(broker, days):
    """Remove the dead letters that are older than so many days, by the broker's clock; return how many."""
    now, _ = broker.time()
    count = 0
    for _, entry, letter in letters(broker):
        if now - datetime.fromisoformat(letter["died_at"]).timestamp() > days * 24 * 3600:
            # by its text, from the old end: the place of a letter changes while workers run
            count += broker.lrem(DEAD, -1, entry)
    return count


def show(broker, asked):
    """Print a line for each letter, or all about one; return the exit status."""
    found = letters(broker)
    if asked.command == "list":
        for name, _, letter in found:
            print(f"{name}  {letter['died_at']}  {letter['attempts']:2} attempts  {letter['reason'][:80]}")
        return 0
    for name, _, letter in found:
        if name == asked.id:
            trace = letter.pop("traceback")
            print(json.dumps(letter, indent=2, ensure_ascii=False), trace, sep="\n")
            return 0
    print(f"{asked.id}  not in the dead letters")
    return 1


def replay_all(broker, asked):
    """Replay the letters asked for, and say what became of each; return the exit status."""
    if not asked.ids and not asked.all:
        sys.exit("Say which: the ID of each dead letter, or --all.")
    found = letters(broker)
    for name, entry, letter in found:
        if asked.all or name in asked.ids:
            print(f"{name}  {replay_letter(broker, entry, letter)}")
    unknown = set(asked.ids) - {name for name, _, _ in found}
    for name in unknown:
        print(f"{name}  not in the dead letters")
    return 1 if unknown else 0


def purge_old(broker, asked):
    print(f"purged {purge(broker, asked.older_than)}")
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("list", help="a line for each dead letter, the oldest first")
    command.set_defaults(do=show)
    command = commands.add_parser("show", help="all about one")
    command.add_argument("id", metavar="ID")
    command.set_defaults(do=show)
    command = commands.add_parser("replay", help="put tasks back into the queue")
    command.add_argument("ids", nargs="*", metavar="ID")
    command.add_argument("--all", action="store_true")
    command.set_defaults(do=replay_all)
    command = commands.add_parser("purge", help="remove old letters")
    command.add_argument("--older-than", type=float, required=True, metavar="DAYS")
    command.set_defaults(do=purge_old)
    asked = parser.parse_args()
    broker = redis.Redis.from_url(VALKEY_URL)
    try:
        sys.exit(asked.do(broker, asked))
    except (redis.ConnectionError, redis.TimeoutError) as error:
        # of the address only what follows an @: before it stands the password
        sys.exit(f"No broker at {VALKEY_URL.rpartition('@')[2]} ({error}). Start one with: ./lab broker up")


if __name__ == "__main__":
    main()
