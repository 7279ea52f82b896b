"""Show how much mail of each level waits, each second.   Run: python monitor.py --policy strict [--once --json]"""

import argparse
import json
import os
import sys
import time

import valkey
from levels import DEAD, LEVELS, processing
from policies import POLICIES, POLICY

VALKEY_URL = os.environ.get("VALKEY_URL", "redis://127.0.0.1:6379/0")
EVERY_SECONDS = float(os.environ.get("EVERY_SECONDS", "1"))


def snapshot(broker, policy):
    """Count what waits of each level under this policy, what each worker has in hand, and what is dead."""
    raise NotImplementedError(
        "TODO 10: count what waits of each level, what each worker has in hand, and what is dead"
    )


def table(seen):
    """The snapshot as lines of text."""
    lines = [f"{level:8} {seen['waiting'][level]:6} waiting" for level in LEVELS]
    lines += [f"{name:8} {count:6} in hand" for name, count in sorted(seen["processing"].items())]
    return "\n".join([*lines, f"dead     {seen['dead']:6}"])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--policy", choices=POLICIES, default=POLICY)
    parser.add_argument("--once", action="store_true", help="print one snapshot and stop")
    parser.add_argument("--json", action="store_true", help="as one JSON object a line")
    asked = parser.parse_args()
    broker = valkey.Valkey.from_url(VALKEY_URL)
    try:
        while True:
            seen = snapshot(broker, POLICIES[asked.policy])
            clear = "\x1b[2J\x1b[H" if sys.stdout.isatty() and not asked.json else ""
            print(clear + (json.dumps(seen) if asked.json else table(seen)), flush=True)
            if asked.once:
                break
            time.sleep(EVERY_SECONDS)
    except (valkey.ConnectionError, valkey.TimeoutError) as error:
        # of the address only what follows an @: before it stands the password
        sys.exit(f"No broker at {VALKEY_URL.rpartition('@')[2]} ({error}). Start one with: ./lab broker up")
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
