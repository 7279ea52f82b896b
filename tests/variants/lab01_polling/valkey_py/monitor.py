"""Show how many mails wait, and how many were set aside, each second.   Run: python monitor.py [--once --json]"""

import argparse
import json
import os
import sys
import time

import valkey

VALKEY_URL = os.environ.get("VALKEY_URL", "redis://127.0.0.1:6379/0")
QUEUE = os.environ.get("QUEUE", "mail")
EVERY_SECONDS = float(os.environ.get("EVERY_SECONDS", "1"))


def snapshot(broker):
    """How many tasks there are: {"waiting": in the queue, "rejected": set aside}."""
    return {"waiting": broker.llen(QUEUE), "rejected": broker.llen(f"{QUEUE}:rejected")}


def line(seen):
    """The snapshot as one line of text, with a bar for the tasks that wait."""
    return f"waiting {seen['waiting']:5}   rejected {seen['rejected']:5}   {'#' * min(seen['waiting'], 40)}"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--once", action="store_true", help="print one snapshot and stop")
    parser.add_argument("--json", action="store_true", help="as one JSON object a line")
    asked = parser.parse_args()
    broker = valkey.Valkey.from_url(VALKEY_URL, socket_timeout=5)
    try:
        while True:
            seen = snapshot(broker)
            print(json.dumps(seen) if asked.json else line(seen), flush=True)
            if asked.once:
                break
            time.sleep(EVERY_SECONDS)
    except (valkey.ConnectionError, valkey.TimeoutError) as error:
        sys.exit(f"No broker at {VALKEY_URL.rpartition('@')[2]} ({error}). Start one with: ./lab broker up")
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
