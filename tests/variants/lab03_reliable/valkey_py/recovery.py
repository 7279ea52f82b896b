"""Who is alive, and what happens to the tasks of a worker that is not. Used by worker.py."""

import os
import threading

import valkey

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
    broker.set(heartbeat(name), "alive", px=int(HEARTBEAT_SECONDS * 1000))


def put_back(broker, name):
    """Return every task in this worker's own list to the head of the queue, in the old order."""
    while broker.lmove(processing(name), QUEUE, "LEFT", "RIGHT"):
        pass  # one atomic step a task: a crash in between leaves each in one list or the other


def recover(broker, me):
    """Return the tasks of each worker whose heartbeat is gone to the head of the queue."""
    put_back_if_dead = """
        if redis.call('EXISTS', KEYS[1]) == 1 then return end
        while redis.call('LMOVE', KEYS[2], KEYS[3], 'LEFT', 'RIGHT') do end
    """
    start = len(processing(""))
    for key in broker.scan_iter(match=processing("*"), count=1000):
        name = key.decode()[start:]
        if name != me:  # look and move in one script: its owner may come back in between
            broker.eval(put_back_if_dead, 3, heartbeat(name), key, QUEUE)


def keep_house(broker, name, over):
    """Beat and recover, three times in HEARTBEAT_SECONDS, until `over` is set."""
    while not over.wait(HEARTBEAT_SECONDS / 3):
        try:
            beat(broker, name)
            recover(broker, name)
        except valkey.ValkeyError:
            pass  # the worker's own loop meets the same error, says so and reconnects


def start_keeping_house(broker, name, over):
    """Run keep_house in a thread: a worker deep in long work must not look dead."""
    thread = threading.Thread(target=keep_house, args=(broker, name, over), daemon=True)
    thread.start()
    return thread
