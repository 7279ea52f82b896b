"""Who is alive, and what happens to the tasks of a worker that is not. Used by worker.py."""

import os
import threading

import redis

QUEUE = os.environ.get("QUEUE", "images")
HEARTBEAT_SECONDS = float(os.environ.get("HEARTBEAT_SECONDS", "15"))  # a worker silent for longer is dead


def processing(name):
    """The key of the list of tasks that worker `name` has in its hands."""
    return f"{QUEUE}:processing:{name}"


def heartbeat(name):
    """The key that is there while worker `name` is alive."""
    return f"{QUEUE}:heartbeat:{name}"


def beat(broker, name):
    """Say "I am alive": set this worker's heartbeat key, to vanish HEARTBEAT_SECONDS from now."""
    raise NotImplementedError(
        "TODO 3: set the worker's heartbeat key, with a time to live of HEARTBEAT_SECONDS"
    )


def put_back(broker, name):
    """Return every task in this worker's own list to the head of the queue, in the old order."""
    raise NotImplementedError(
        "TODO 4: move every task in the worker's own list back to the head of the queue, the end "
        "that is taken next"
    )


def recover(broker, me):
    """Return the tasks of each worker whose heartbeat is gone to the head of the queue."""
    raise NotImplementedError(
        "TODO 9: find the lists of workers whose heartbeat is gone, and return their tasks to the "
        "head of the queue"
    )


def keep_house(broker, name, over):
    """Beat and recover, three times in HEARTBEAT_SECONDS, until `over` is set."""
    while not over.wait(HEARTBEAT_SECONDS / 3):
        try:
            beat(broker, name)
            recover(broker, name)
        except redis.RedisError:
            pass  # the worker's own loop meets the same error, says so and reconnects


def start_keeping_house(broker, name, over):
    """Run keep_house in a thread: a worker deep in long work must not look dead."""
    thread = threading.Thread(target=keep_house, args=(broker, name, over), daemon=True)
    thread.start()
    return thread
