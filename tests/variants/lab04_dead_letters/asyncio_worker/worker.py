"""The worker with redis.asyncio: one event loop, the delivery in a thread.   Run: python worker.py alice"""

import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import sys
import time
import traceback
from datetime import UTC, datetime

import redis.asyncio as redis
from keys import BURIED, DEAD, DELAYED, DONE, PRELUDE, QUEUE, RETRIED, lease, processing
from webhooks import PermanentError, TemporaryError, deliver, read_task

VALKEY_URL = os.environ.get("VALKEY_URL", "redis://127.0.0.1:6379/0")
BLOCK_SECONDS = float(os.environ.get("BLOCK_SECONDS", "1"))
RECONNECT_SECONDS = float(os.environ.get("RECONNECT_SECONDS", "0.2"))
LEASE_SECONDS = float(os.environ.get("LEASE_SECONDS", "15"))
WORK_SECONDS = float(os.environ.get("WORK_SECONDS", "60"))
BASE_SECONDS = float(os.environ.get("BASE_SECONDS", "1"))
CAP_SECONDS = float(os.environ.get("CAP_SECONDS", "300"))
BROKER_GONE = (redis.ConnectionError, redis.TimeoutError, OSError)

MINE = "if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 0 then return 0 end "
ACKNOWLEDGE = PRELUDE + MINE + "count(KEYS[2]) return 1"
DELAY = PRELUDE + MINE + "redis.call('ZADD', KEYS[3], now + ARGV[3], ARGV[2]) count(KEYS[2]) return 1"
BURY = PRELUDE + MINE + "redis.call('LPUSH', KEYS[3], ARGV[2]) count(KEYS[2]) return 1"
PROMOTE = (
    PRELUDE
    + """
    local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, 100)
    for _, body in ipairs(due) do
        redis.call('LPUSH', KEYS[2], body)
        redis.call('ZREM', KEYS[1], body)
    end
    return #due
"""
)
TAKE_OVER = """
    if redis.call('EXISTS', KEYS[1]) == 1 then return false end
    return redis.call('RPOPLPUSH', KEYS[2], KEYS[3])
"""


class LeaseLost(Exception):
    """Whoever had the task is gone, or hangs."""


class Worker:
    def __init__(self, name):
        self.name, self.mine = name, processing(name)
        self.broker = redis.Redis.from_url(VALKEY_URL)
        self.stopping, self.over, self.cut_off = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.since = None  # when the work in hand began

    async def renew(self):
        await self.broker.set(lease(self.name), "held", px=int(LEASE_SECONDS * 1000))

    async def bury(self, body, error, attempts):
        seconds, _ = await self.broker.time()
        letter = {
            "reason": f"{type(error).__name__}: {error}",
            "attempts": attempts,
            "died_at": datetime.fromtimestamp(seconds, UTC).isoformat(),
            "traceback": "".join(traceback.format_exception(error)),
            "body": body.decode("utf-8", "backslashreplace"),
        }
        await self.broker.eval(BURY, 3, self.mine, BURIED, DEAD, body, json.dumps(letter))

    async def failed(self, body, error):
        try:
            task = read_task(body)
        except PermanentError as reason:
            return await self.bury(body, reason, 0)
        task["attempts"] += 1
        if isinstance(error, PermanentError) or task["attempts"] > task["max_retries"]:
            return await self.bury(body, error, task["attempts"])
        wait = random.uniform(0, min(CAP_SECONDS, BASE_SECONDS * 2 ** (task["attempts"] - 1)))
        if isinstance(error, TemporaryError):
            wait += error.retry_after
        args = body, json.dumps(task), int(wait * 1000)
        await self.broker.eval(DELAY, 3, self.mine, RETRIED, DELAYED, *args)

    async def handle(self, body):
        self.since = time.monotonic()
        try:
            await asyncio.to_thread(lambda: deliver(read_task(body)))
        except Exception as error:
            self.since = None
            await self.failed(body, error)
        else:
            self.since = None
            await self.broker.eval(ACKNOWLEDGE, 2, self.mine, DONE, body)
        await self.renew()

    async def look_back(self):
        self.cut_off.clear()
        for body in await self.broker.lrange(self.mine, 0, -1):
            await self.failed(body, LeaseLost("the connection was lost"))

    async def work(self):
        await self.renew()
        await self.look_back()
        while not self.stopping.is_set():
            if self.cut_off.is_set():
                await self.look_back()
            if body := await self.broker.blmove(QUEUE, self.mine, BLOCK_SECONDS, "RIGHT", "LEFT"):
                await self.handle(body)

    async def keep(self, house, every):
        """Do this again and again; what goes wrong with the connection is for work() to mend."""
        while not self.over.is_set():
            try:
                await house()
            except BROKER_GONE:
                self.cut_off.set()
            with contextlib.suppress(TimeoutError):  # cancel() may get lost in the client
                await asyncio.wait_for(self.over.wait(), every)

    async def promote(self):
        await self.broker.eval(PROMOTE, 2, DELAYED, QUEUE)

    async def look_after_leases(self):
        if self.since and time.monotonic() - self.since > WORK_SECONDS:
            return
        await self.renew()
        async for key in self.broker.scan_iter(match=processing("*"), count=1000):
            owner = key.decode().removeprefix(processing(""))
            keys = lease(owner), key, self.mine
            while owner != self.name and (body := await self.broker.eval(TAKE_OVER, 3, *keys)):
                await self.failed(body, LeaseLost(f"{owner} lost its lease"))

    async def run(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, self.stopping.set)
        try:
            await self.broker.ping()
        except BROKER_GONE as error:
            sys.exit(
                f"No broker at {VALKEY_URL.rpartition('@')[2]} ({error}). Start one with: ./lab broker up"
            )
        helpers = [
            asyncio.create_task(self.keep(self.promote, BLOCK_SECONDS)),
            asyncio.create_task(self.keep(self.look_after_leases, LEASE_SECONDS / 3)),
        ]
        while not self.stopping.is_set():
            try:
                await self.work()
            except BROKER_GONE as error:
                print(f"{self.name}: the broker is gone ({error}); trying again", flush=True)
                await self.broker.connection_pool.disconnect(inuse_connections=False)  # all are dead
                await asyncio.sleep(RECONNECT_SECONDS)
        self.over.set()
        await asyncio.gather(*helpers)
        with contextlib.suppress(*BROKER_GONE):  # then the lease ends by itself
            await self.broker.delete(lease(self.name))
        await self.broker.aclose()


async def main():
    await Worker(sys.argv[1] if len(sys.argv) > 1 else f"{socket.gethostname()}-{os.getpid()}").run()


if __name__ == "__main__":
    asyncio.run(main())
