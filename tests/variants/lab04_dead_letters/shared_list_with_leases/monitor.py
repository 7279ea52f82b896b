"""Show where the tasks are, and raise an alarm, each second.   Run: python monitor.py [--once --json]"""

import argparse
import json
import os
import sys
import time

import redis
from keys import BUCKET_MS, BURIED, DEAD, DELAYED, DONE, QUEUE, RETRIED
from moves import OWNERS

VALKEY_URL = os.environ.get("VALKEY_URL", "redis://127.0.0.1:6379/0")
EVERY_SECONDS = float(os.environ.get("EVERY_SECONDS", "1"))
ALERT_DEAD = int(os.environ.get("ALERT_DEAD", "10"))  # more dead letters than this are an alarm


def snapshot(broker):
    """Count the tasks by where they are; say what happened in the last RATE_SECONDS, and whether it is an alarm."""
    dead = broker.llen(DEAD)
    return {
        "pending": broker.llen(QUEUE),
        "delayed": broker.zcard(DELAYED),
        "processing": broker.hlen(OWNERS),
        "dead": dead,
        "done": int(broker.get(DONE) or 0),
        "retried": int(broker.get(RETRIED) or 0),
        "rates": {"done": rate(broker, DONE), "retried": rate(broker, RETRIED), "dead": rate(broker, BURIED)},
        "alert": dead > ALERT_DEAD,
    }


def rate(broker, key):
    """How much was counted under this key in the last RATE_SECONDS: the sum of the last six buckets."""
    seconds, micros = broker.time()
    newest = (seconds * 1000 + micros // 1000) // BUCKET_MS
    return sum(int(count or 0) for count in broker.mget([f"{key}:{newest - age}" for age in range(6)]))


def table(seen):
    """The snapshot as lines of text."""
    lines = [f"{what:10} {seen[what]:6}" for what in ("pending", "delayed", "processing", "dead")]
    lines += [f"{what:10} {seen[what]:6}   {seen['rates'][what]:5} lately" for what in ("done", "retried")]
    if seen["alert"]:
        lines.append(f"ALERT: {seen['dead']} dead letters, more than {ALERT_DEAD}. See: python dlq.py list")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--once", action="store_true", help="print one snapshot and stop")
    parser.add_argument("--json", action="store_true", help="as one JSON object a line")
    asked = parser.parse_args()
    broker = redis.Redis.from_url(VALKEY_URL)
    try:
        while True:
            seen = snapshot(broker)
            clear = "\x1b[2J\x1b[H" if sys.stdout.isatty() and not asked.json else ""
            print(clear + (json.dumps(seen) if asked.json else table(seen)), flush=True)
            if asked.once:
                break
            time.sleep(EVERY_SECONDS)
    except (redis.ConnectionError, redis.TimeoutError) as error:
        sys.exit(f"No broker at {VALKEY_URL.rpartition('@')[2]} ({error}). Start one with: ./lab broker up")
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
