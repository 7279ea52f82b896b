"""Send mail, the urgent first, in asyncio: one connection, one loop, the work in a thread beside it."""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import threading

import recovery
import valkey
from levels import BLOCK_SECONDS, DEAD, LEVELS, SORTED, WAKE, list_of, processing
from mailer import Rejected, read_task, send
from policies import POLICIES, POLICY
from valkey.asyncio import Valkey

VALKEY_URL = os.environ.get("VALKEY_URL", "redis://127.0.0.1:6379/0")
RECONNECT_SECONDS = float(os.environ.get("RECONNECT_SECONDS", "0.2"))
BROKER_GONE = (valkey.ConnectionError, valkey.TimeoutError)
TURNS = ["high", "normal"] * 4 + ["high", "low"]
LISTS = [list_of(level) for level in LEVELS]
TAKE = """
    for level = 3, #KEYS do
        local body = redis.call('LMOVE', KEYS[level], KEYS[1], 'RIGHT', 'LEFT')
        if body then
            if redis.call('EXISTS', unpack(KEYS, 3)) > 0 and redis.call('EXISTS', KEYS[2]) == 0 then
                redis.call('LPUSH', KEYS[2], 'more')
            end
            return body
        end
    end
    return false
"""
BURY = """
    if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 1 then redis.call('LPUSH', KEYS[2], ARGV[2]) end
"""


class Worker:
    def __init__(self, name, policy):
        self.name, self.policy, self.taken = name, policy, 0
        self.stop = threading.Event()
        self.over = threading.Event()  # not before the last mail is sent: until then we must not look dead
        self.stopped = asyncio.Event()

    def stop_soon(self):
        self.stop.set()
        self.stopped.set()

    async def take(self, broker):
        if self.policy == "sorted":
            popped = await broker.bzpopmin(SORTED, timeout=BLOCK_SECONDS)
            return popped and popped[1]
        if self.policy == "reliable":
            return await self.take_reliably(broker)
        order = LISTS
        if self.policy == "fair":
            first = list_of(TURNS[self.taken % len(TURNS)])
            order = [first, *(each for each in LISTS if each != first)]
            self.taken += 1
        popped = await broker.brpop(order, timeout=BLOCK_SECONDS)
        return popped and popped[1]

    async def take_reliably(self, broker):
        keys = processing(self.name), WAKE, *LISTS
        body = await broker.eval(TAKE, 5, *keys)
        if body is None and await broker.blpop(WAKE, timeout=BLOCK_SECONDS):
            body = await broker.eval(TAKE, 5, *keys)
        return body

    async def finish(self, broker, body, letter=None):
        if self.policy != "reliable":
            if letter:
                await broker.lpush(DEAD, json.dumps(letter))
        elif letter:
            await broker.eval(BURY, 2, processing(self.name), DEAD, body, json.dumps(letter))
        else:
            await broker.lrem(processing(self.name), 1, body)

    async def handle(self, broker, body):
        try:
            task = read_task(body)
            await asyncio.to_thread(send, task)
        except Rejected as reason:
            text = body.decode("utf-8", "backslashreplace")
            await self.finish(broker, body, {"reason": str(reason), "body": text})
        else:
            await self.finish(broker, body)

    async def run(self, broker, house):
        wait = RECONNECT_SECONDS
        while not self.stop.is_set():
            try:
                if self.policy == "reliable":
                    await asyncio.to_thread(recovery.beat, house, self.name)
                    await asyncio.to_thread(recovery.put_back, house, self.name, self.name)
                while not self.stop.is_set():
                    body = await self.take(broker)
                    wait = RECONNECT_SECONDS
                    if body is not None:
                        await self.handle(broker, body)
            except BROKER_GONE:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.stopped.wait(), wait)
                wait = min(2 * wait, 5)


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("name", nargs="?", default=f"{socket.gethostname()}-{os.getpid()}")
    parser.add_argument("--policy", choices=POLICIES, default=POLICY)
    asked = parser.parse_args()
    worker = Worker(asked.name, asked.policy)
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, worker.stop_soon)
    house = valkey.Valkey.from_url(VALKEY_URL)
    broker = Valkey.from_url(VALKEY_URL, socket_timeout=BLOCK_SECONDS + 5)
    try:
        await broker.ping()
    except BROKER_GONE as error:
        sys.exit(f"No broker at {VALKEY_URL.rpartition('@')[2]} ({error}). Start one with: ./lab broker up")
    if worker.policy == "reliable":
        keeper = recovery.start_keeping_house(house, worker.name, worker.over)
    await worker.run(broker, house)
    if worker.policy == "reliable":
        worker.over.set()
        await asyncio.to_thread(keeper.join)
        with contextlib.suppress(*BROKER_GONE):  # then the heartbeat ends by itself
            house.delete(recovery.heartbeat(worker.name))
    await broker.aclose()


if __name__ == "__main__":
    asyncio.run(main())
