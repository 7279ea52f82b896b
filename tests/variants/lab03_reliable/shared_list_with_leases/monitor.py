"""Show the queue, who has what, and who is alive, each second.   Run: python monitor.py [--once --json]"""

import argparse
import json
import os
import sys
import time
from collections import Counter

import redis
from recovery import OWNERS, QUEUE, heartbeat

VALKEY_URL = os.environ.get("VALKEY_URL", "redis://127.0.0.1:6379/0")
EVERY_SECONDS = float(os.environ.get("EVERY_SECONDS", "1"))


def names(broker, key_of):
    """The workers that have a key of this kind."""
    start = len(key_of(""))
    return sorted(key.decode()[start:] for key in broker.scan_iter(match=key_of("*"), count=1000))


def snapshot(broker):
    """Count what waits, what each worker has in hand, who is alive, and what was rejected."""
    return {
        "waiting": broker.llen(QUEUE),
        "processing": Counter(owner.decode() for owner in broker.hvals(OWNERS)),
        "alive": names(broker, heartbeat),
        "rejected": broker.llen(f"{QUEUE}:rejected"),
    }


def table(seen):
    """The snapshot as lines of text; a worker that holds tasks and has no heartbeat stands out."""
    lines = [f"waiting   {seen['waiting']:5}", f"rejected  {seen['rejected']:5}", ""]
    for name in sorted({*seen["processing"], *seen["alive"]}):
        state = "alive" if name in seen["alive"] else "DEAD: its tasks go back to the queue"
        lines.append(f"{name:20} {seen['processing'].get(name, 0):3} in hand   {state}")
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
