"""One list for all tasks in hand, and a lease for each of them. Used by worker.py and monitor.py.

A sorted set holds the leases: the score is when a lease runs out, by the broker's clock, in milliseconds.
A hash says whose each task is. A lease lasts HEARTBEAT_SECONDS; it is renewed while the work goes on.
"""

import os
import threading

import redis

QUEUE = os.environ.get("QUEUE", "images")
HEARTBEAT_SECONDS = float(os.environ.get("HEARTBEAT_SECONDS", "15"))
LEASE_MS = int(HEARTBEAT_SECONDS * 1000)
PROCESSING, LEASES, OWNERS = f"{QUEUE}:processing", f"{QUEUE}:leases", f"{QUEUE}:owners"
KEYS = (QUEUE, PROCESSING, LEASES, OWNERS)
NOW = "local t = redis.call('TIME'); local now = t[1] * 1000 + math.floor(t[2] / 1000)"
TAKE = f"""
    {NOW}
    local body = redis.call('LMOVE', KEYS[1], KEYS[2], 'RIGHT', 'LEFT')
    if not body then return end
    redis.call('ZADD', KEYS[3], now + ARGV[2], body)
    redis.call('HSET', KEYS[4], body, ARGV[1])
    return body
"""
LEAVE = """
    if redis.call('HGET', KEYS[4], ARGV[2]) ~= ARGV[1] then return 0 end
    redis.call('LREM', KEYS[2], 1, ARGV[2])
    redis.call('ZREM', KEYS[3], ARGV[2])
    redis.call('HDEL', KEYS[4], ARGV[2])
    if ARGV[3] ~= '' then redis.call('LPUSH', KEYS[1] .. ':rejected', ARGV[3]) end
    return 1
"""
RENEW = f"""
    {NOW}
    for _, body in ipairs(redis.call('ZRANGE', KEYS[3], 0, -1)) do
        if redis.call('HGET', KEYS[4], body) == ARGV[1] then
            redis.call('ZADD', KEYS[3], now + ARGV[2], body)
        end
    end
"""
PUT_BACK = f"""
    {NOW}
    for _, body in ipairs(redis.call('LRANGE', KEYS[2], 0, -1)) do
        local mine = redis.call('HGET', KEYS[4], body) == ARGV[1]
        local over = tonumber(redis.call('ZSCORE', KEYS[3], body)) < now
        if mine and ARGV[2] == 'mine' or over and not mine then
            redis.call('LREM', KEYS[2], 1, body)
            redis.call('ZREM', KEYS[3], body)
            redis.call('HDEL', KEYS[4], body)
            redis.call('RPUSH', KEYS[1], body)
        end
    end
"""


def heartbeat(name):
    return f"{QUEUE}:heartbeat:{name}"


def run(broker, script, *args):
    return broker.eval(script, len(KEYS), *KEYS, *args)


def beat(broker, name):
    """Renew the leases of this worker, and say that it is alive."""
    broker.set(heartbeat(name), "alive", px=LEASE_MS)
    run(broker, RENEW, name, LEASE_MS)


def keep_house(broker, name, over):
    while not over.wait(HEARTBEAT_SECONDS / 3):
        try:
            beat(broker, name)
            run(broker, PUT_BACK, name, "others")
        except redis.RedisError:
            pass


def start_keeping_house(broker, name, over):
    thread = threading.Thread(target=keep_house, args=(broker, name, over), daemon=True)
    thread.start()
    return thread
