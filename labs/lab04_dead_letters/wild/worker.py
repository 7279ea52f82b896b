"""Found in the wild: webhooks with retries and dead letters, as tutorials print it.   Run: python worker.py alice

From its README: "Failed webhooks are retried automatically, so a flaky partner is no problem. What can never be
delivered is kept in the dead letters together with the reason."
"""

import json
import os
import signal
import sys
import traceback
from datetime import UTC, datetime
from pathlib import Path

import redis

sys.path.append(str(Path(__file__).resolve().parents[1]))  # webhooks.py and keys.py are one folder up
from keys import DEAD, QUEUE, processing
from webhooks import PermanentError, deliver, read_task

running = True


def stop(*_):
    global running
    running = False  # the loop sees it and ends


def bury(broker, body, error, attempts):
    broker.lpush(DEAD, json.dumps({"body": body.decode("utf-8", "backslashreplace"), "attempts": attempts}))
    died_at = datetime.now(UTC).isoformat()
    why = {"reason": str(error), "died_at": died_at, "traceback": traceback.format_exc()}
    broker.hset(DEAD, mapping=why)  # for whoever looks at it next week


def handle(broker, name, body):
    attempts = 0
    try:
        task = read_task(body)
        attempts = task["attempts"] + 1
        deliver(task)
        print(f"{name}: delivered {task['id']}", flush=True)
    except PermanentError as error:
        bury(broker, body, error, attempts)
    except Exception as error:
        print(f"{name}: {error}, will be retried", flush=True)
        broker.lpush(QUEUE, body)  # back into the queue: the endpoint may be up again by then
    broker.lrem(processing(name), 1, body)  # acknowledge


def main():
    name = sys.argv[1] if len(sys.argv) > 1 else "worker"
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    broker = redis.Redis.from_url(os.environ.get("VALKEY_URL", "redis://127.0.0.1:6379/0"))
    while running:
        body = broker.blmove(QUEUE, processing(name), 1, "RIGHT", "LEFT")
        if body is not None:
            handle(broker, name, body)


if __name__ == "__main__":
    main()
