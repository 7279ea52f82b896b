"""The monitor with one transaction a look.   Run: python monitor.py [--once --json]"""

import argparse
import json
import os
import sys
import time

import valkey

VALKEY_URL = os.environ.get("VALKEY_URL", "redis://127.0.0.1:6379/0")
QUEUE = os.environ.get("QUEUE", "reports")
EVERY_SECONDS = float(os.environ.get("EVERY_SECONDS", "1"))


def look(broker):
    with broker.pipeline(transaction=True) as at_one_moment:
        at_one_moment.llen(QUEUE).get(f"{QUEUE}:done").llen(f"{QUEUE}:rejected").info("clients")
        waiting, done, rejected, clients = at_one_moment.execute()
    seen = {"waiting": waiting, "blocked": clients["blocked_clients"]}
    return time.time(), seen | {"done": int(done or 0), "rejected": rejected}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--once", action="store_true")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    broker = valkey.Valkey.from_url(VALKEY_URL, socket_timeout=5)
    try:
        looks = [look(broker)]
        while len(looks) < 2 or not asked.once:
            time.sleep(EVERY_SECONDS)
            looks.append(look(broker))
            (began, before), (ended, seen) = looks[-2:]
            seen = {"per_second": (seen["done"] - before["done"]) / (ended - began), **seen}
            print(json.dumps(seen) if asked.json else seen, flush=True)
    except GONE as error:
        sys.exit(f"No broker at {VALKEY_URL.rpartition('@')[2]} ({error}). Start one with: ./lab broker up")
    except KeyboardInterrupt:
        pass


GONE = (valkey.ConnectionError, valkey.TimeoutError)

if __name__ == "__main__":
    main()
