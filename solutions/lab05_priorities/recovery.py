"""Who is alive, and what becomes of the tasks of who is not: as in lab 3. Given: nothing here is to be changed."""

import os
import threading

import valkey
from levels import QUEUE, WAKE, level_of, list_of, processing

HEARTBEAT_SECONDS = float(os.environ.get("HEARTBEAT_SECONDS", "20"))  # a worker silent for longer is dead


def heartbeat(name):
    """The key that is there while worker `name` is alive."""
    return f"{QUEUE}:heartbeat:{name}"


def beat(broker, name):
    """Say "I am alive", for HEARTBEAT_SECONDS from now."""
    broker.set(heartbeat(name), "alive", px=int(HEARTBEAT_SECONDS * 1000))


def put_back(broker, owner, me):
    """Return the tasks in the list of `owner`, who is dead or `me`, to the heads of the lists of their levels."""
    move_unless_alive = """
        if ARGV[2] ~= 'mine' and redis.call('EXISTS', KEYS[1]) == 1 then return end
        if redis.call('LREM', KEYS[2], 1, ARGV[1]) == 0 then return end
        redis.call('RPUSH', KEYS[3], ARGV[1])
        if redis.call('EXISTS', KEYS[4]) == 0 then redis.call('LPUSH', KEYS[4], 'put back') end
    """  # one script: the owner may come back, or another helper be quicker, between a look and a move
    whose = "mine" if owner == me else "another's"
    own = processing(owner)
    for body in broker.lrange(own, 0, -1):
        broker.eval(move_unless_alive, 4, heartbeat(owner), own, list_of(level_of(body)), WAKE, body, whose)


def recover(broker, me):
    """Put back the tasks of each worker whose heartbeat is gone."""
    start = len(processing(""))
    for key in broker.scan_iter(match=processing("*"), count=1000):
        name = key.decode()[start:]
        if name != me and not broker.exists(heartbeat(name)):
            put_back(broker, name, me)


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
