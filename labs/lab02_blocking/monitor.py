"""Show what waits, who waits, and how fast tasks are done.   Run: python monitor.py [--once --json]"""

import argparse
import json
import os
import sys
import time

import valkey

VALKEY_URL = os.environ.get("VALKEY_URL", "redis://127.0.0.1:6379/0")
QUEUE = os.environ.get("QUEUE", "reports")
EVERY_SECONDS = float(os.environ.get("EVERY_SECONDS", "1"))


def snapshot(broker):
    """Count the tasks "waiting", the clients "blocked", the tasks "done" and "rejected"; return a dict."""
    raise NotImplementedError(
        "TODO 7: count the tasks that wait, were done and were rejected, and the clients that are blocked"
    )


def per_second(before, after, seconds):
    """Tasks done a second between two snapshots."""
    return round((after["done"] - before["done"]) / seconds, 1)


def line(seen):
    """One line of text for what was seen."""
    parts = [f"{what} {seen[what]:5}" for what in ("waiting", "blocked", "done", "rejected")]
    return "   ".join([*parts, f"{seen['per_second']:7.1f} tasks/s"])


def watch(broker, once, as_json):
    """Look, wait EVERY_SECONDS, look again, and print what is new: a rate needs two looks."""
    before, looked = snapshot(broker), time.monotonic()
    while True:
        time.sleep(EVERY_SECONDS)
        after, now = snapshot(broker), time.monotonic()
        seen = after | {"per_second": per_second(before, after, now - looked)}
        print(json.dumps(seen) if as_json else line(seen), flush=True)
        if once:
            return
        before, looked = after, now


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--once", action="store_true", help="look for EVERY_SECONDS, print it and stop")
    parser.add_argument("--json", action="store_true", help="as one JSON object a line")
    asked = parser.parse_args()
    try:
        watch(valkey.Valkey.from_url(VALKEY_URL, socket_timeout=5), asked.once, asked.json)
    except (valkey.ConnectionError, valkey.TimeoutError) as error:
        # of the address only what follows an @: before it stands the password
        sys.exit(f"No broker at {VALKEY_URL.rpartition('@')[2]} ({error}). Start one with: ./lab broker up")
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
