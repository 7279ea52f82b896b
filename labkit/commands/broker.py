"""`./lab broker up|down|status`: the broker that stays up between commands."""

import sys

from labkit import standing
from labkit.course import STATE

FOLDER = STATE / "broker"


def run(what: str) -> int:
    """Do it and say so; the line to copy into a terminal goes to standard output."""
    if what == "up":
        broker = standing.up(FOLDER)
        print(
            f"The broker {'was started' if broker.started else 'is up'}. In each terminal:", file=sys.stderr
        )
        print(f"export VALKEY_URL={broker.url}")
    elif what == "down":
        print(
            "The broker was stopped; its data are kept."
            if standing.down(FOLDER)
            else "The broker was not running."
        )
    elif what == "status":
        broker = standing.status(FOLDER)
        print(
            f"The broker is up: {broker.url}"
            if broker
            else "The broker is not running. Start it: ./lab broker up"
        )
    else:
        print(f"lab: broker knows up, down and status, not {what!r}.", file=sys.stderr)
        return 2
    return 0
