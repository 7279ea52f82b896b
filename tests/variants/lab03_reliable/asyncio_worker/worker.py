"""The worker with redis.asyncio: one event loop, the work in a thread.   Run: python worker.py alice"""

import asyncio
import json
import os
import signal
import socket
import sys
from contextlib import suppress

import redis.asyncio as redis
from images import Rejected, process, read_task
from recovery import HEARTBEAT_SECONDS, QUEUE, heartbeat, processing

VALKEY_URL = os.environ.get("VALKEY_URL", "redis://127.0.0.1:6379/0")
BLOCK_SECONDS = float(os.environ.get("BLOCK_SECONDS", "2"))
RECONNECT_SECONDS = float(os.environ.get("RECONNECT_SECONDS", "0.2"))
BROKER_GONE = (redis.ConnectionError, redis.TimeoutError, OSError)
PUT_BACK = """
    if ARGV[1] == 'if dead' and redis.call('EXISTS', KEYS[1]) == 1 then return end
    while redis.call('LMOVE', KEYS[2], KEYS[3], 'LEFT', 'RIGHT') do end
"""


async def handle(broker, name, body):
    try:
        output = await asyncio.to_thread(process, read_task(body))
    except Rejected as reason:
        entry = json.dumps({"reason": str(reason), "body": body.decode("utf-8", "backslashreplace")})
        async with broker.pipeline(transaction=True) as both:
            await both.lpush(f"{QUEUE}:rejected", entry).lrem(processing(name), 1, body).execute()
        print(f"{name}: set aside: {reason}", flush=True)
    else:
        await broker.lrem(processing(name), 1, body)
        print(f"{name}: {output}", flush=True)


async def work(broker, name, stopping):
    await broker.set(heartbeat(name), "alive", px=int(HEARTBEAT_SECONDS * 1000))
    await broker.eval(PUT_BACK, 3, heartbeat(name), processing(name), QUEUE, "mine")
    while not stopping.is_set():
        body = await broker.blmove(QUEUE, processing(name), BLOCK_SECONDS, "RIGHT", "LEFT")
        if body is not None:
            await handle(broker, name, body)


async def keep_house(broker, name):
    start = len(processing(""))
    while True:
        await asyncio.sleep(HEARTBEAT_SECONDS / 4)
        try:
            await broker.set(heartbeat(name), "alive", px=int(HEARTBEAT_SECONDS * 1000))
            async for key in broker.scan_iter(match=processing("*"), count=1000):
                owner = key.decode()[start:]
                if owner != name:
                    await broker.eval(PUT_BACK, 3, heartbeat(owner), key, QUEUE, "if dead")
        except BROKER_GONE:
            pass


async def main():
    name = sys.argv[1] if len(sys.argv) > 1 else f"{socket.gethostname()}-{os.getpid()}"
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    broker = redis.Redis.from_url(VALKEY_URL)
    try:
        await broker.ping()
    except BROKER_GONE as error:
        sys.exit(f"No broker at {VALKEY_URL.rpartition('@')[2]} ({error}). Start one with: ./lab broker up")
    housekeeper = asyncio.create_task(keep_house(broker, name))
    while not stopping.is_set():
        try:
            await work(broker, name, stopping)
        except BROKER_GONE as error:
            print(f"{name}: the broker is gone ({error}); trying again", flush=True)
            await asyncio.sleep(RECONNECT_SECONDS)
    housekeeper.cancel()
    await asyncio.gather(housekeeper, return_exceptions=True)
    with suppress(*BROKER_GONE):  # then the heartbeat ends by itself
        await broker.delete(heartbeat(name))
    await broker.aclose()


if __name__ == "__main__":
    asyncio.run(main())
