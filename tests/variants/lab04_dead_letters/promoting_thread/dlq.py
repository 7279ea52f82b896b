"""Look after the dead letters.   Run: python dlq.py list

Also: show ID, replay ID ... | --all, purge --older-than DAYS
"""

import json
import os
import sys
import zlib
from datetime import datetime, timedelta, timezone

import redis
from keys import DEAD
from moves import replay
from webhooks import PermanentError, read_task

VALKEY_URL = os.environ.get("VALKEY_URL", "redis://127.0.0.1:6379/0")


class Letter:
    """A dead letter: the entry as it is in DEAD, and what it says."""

    def __init__(self, entry):
        self.entry, self.says = entry, json.loads(entry)
        try:
            self.name = json.loads(self.says["body"])["id"]
        except (ValueError, TypeError, LookupError, RecursionError):
            self.name = f"body-{zlib.crc32(self.says['body'].encode()):08x}"

    def line(self):
        return "\t".join(str(part) for part in (self.name, self.says["died_at"], self.says["reason"]))

    def replay(self, broker):
        try:
            task = read_task(self.says["body"].encode())
        except PermanentError as reason:
            return f"would die again: {reason}"
        task["attempts"] = 0
        return "replayed" if replay(broker, self.entry, json.dumps(task)) else "gone already"

    def purge(self, broker, before):
        if datetime.fromisoformat(self.says["died_at"]) >= before:
            return False
        return broker.lrem(DEAD, 0, self.entry) > 0


def main(command, *args):
    broker = redis.Redis.from_url(VALKEY_URL)
    letters = [Letter(entry) for entry in broker.lrange(DEAD, 0, -1)]
    if command == "list":
        print(*(letter.line() for letter in letters), sep="\n")
    elif command == "purge":
        now = datetime.fromtimestamp(broker.time()[0], timezone.utc)  # noqa: UP017
        before = now - timedelta(days=float(args[-1]))
        print(sum(letter.purge(broker, before) for letter in letters), "purged")
    else:
        wanted = {letter.name for letter in letters} if "--all" in args else set(args)
        for letter in letters:
            if letter.name in wanted:
                print(letter.name, json.dumps(letter.says) if command == "show" else letter.replay(broker))
        missing = wanted - {letter.name for letter in letters}
        for name in missing:
            print(name, "is not among the dead letters")
        return 1 if missing else 0
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:]))
    except (redis.ConnectionError, redis.TimeoutError) as error:
        sys.exit(f"No broker at {VALKEY_URL.rpartition('@')[2]} ({error}). Start one with: ./lab broker up")
