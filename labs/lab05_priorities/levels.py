"""What all policies agree on: the levels, and the names of the keys. Given: nothing here is to be changed."""

import json
import os

QUEUE = os.environ.get("QUEUE", "mail")
BLOCK_SECONDS = float(os.environ.get("BLOCK_SECONDS", "3"))  # how long one take waits for a task
LEVELS = ("high", "normal", "low")  # the most urgent first
SORTED = f"{QUEUE}:sorted"  # policy 2: all tasks that wait, by score
NUMBER = f"{QUEUE}:number"  # policy 2: how many tasks have been queued, ever
WAKE = f"{QUEUE}:wake"  # policy 4: one token while there may be something to take
DEAD = f"{QUEUE}:dead"


def list_of(level):
    """The key of the list of tasks of this level that wait (policies 1, 3 and 4)."""
    return f"{QUEUE}:{level}"


def processing(name):
    """The key of the list of tasks that worker `name` has in hand (policy 4)."""
    return f"{QUEUE}:processing:{name}"


def level_of(body):
    """The level that a body from the queue asks for; the lowest when it asks for none that there is."""
    try:
        level = json.loads(body)["priority"]
    except (ValueError, TypeError, LookupError, RecursionError):
        return LEVELS[-1]
    return level if level in LEVELS else LEVELS[-1]
