"""The web application in Starlette, its requests looked at by hand.   Run: python producer.py [--count 10]"""

import argparse
import json
import os
import re
import sys
import uuid

import redis
import uvicorn
from mailer import ADDRESS
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, JSONResponse
from starlette.routing import Route

VALKEY_URL = os.environ.get("VALKEY_URL", "redis://127.0.0.1:6379/0")
QUEUE = os.environ.get("QUEUE", "mail")
PORT = int(os.environ.get("PORT", "8000"))
LONGEST = {"to": 254, "subject": 200, "body": 100_000}
PAGE = """<!doctype html><title>Mail</title><form onsubmit="fetch('/send-email', {method: 'POST',
body: JSON.stringify(Object.fromEntries(new FormData(this)))}).then(a => a.text()).then(alert); return false">
<input name=to><input name=subject><textarea name=body></textarea><button>Send</button></form>"""

broker = redis.Redis.from_url(VALKEY_URL, socket_timeout=3)


def faults(asked):
    """What is wrong with a request; empty when nothing is."""
    if not isinstance(asked, dict):
        return ["a JSON object, please"]
    found = []
    for field, longest in LONGEST.items():
        text = asked.get(field)
        if not isinstance(text, str) or len(text) > longest:
            found.append(f"{field}: a text of up to {longest} characters, please")
        elif not text.isprintable() and field != "body":
            found.append(f"{field}: in one line, please")
        elif re.search("[\ud800-\udfff]", text):
            found.append(f"{field}: no text")
    if not found and not re.fullmatch(ADDRESS, asked["to"]):
        found.append("to: no mail address")
    return found


def enqueue(asked):
    task = {"id": str(uuid.uuid4())} | {field: asked[field] for field in LONGEST}
    broker.lpush(QUEUE, json.dumps(task, ensure_ascii=False).encode())
    return task


async def send_email(request):
    try:
        asked = json.loads(await request.body())
    except ValueError:
        return JSONResponse({"detail": "JSON, please"}, 400)
    if found := faults(asked):
        return JSONResponse({"detail": found}, 422)
    task = await run_in_threadpool(enqueue, asked)
    return JSONResponse({"id": task["id"]}, 202)


def waiting(request):
    return JSONResponse({"waiting": broker.llen(QUEUE)})


def docs(request):
    return HTMLResponse(PAGE)


def no_broker(request, error):
    return JSONResponse({"detail": "no broker"}, 503, headers={"Retry-After": "5"})


routes = [
    Route("/send-email", send_email, methods=["POST"]),
    Route("/tasks/waiting", waiting),
    Route("/docs", docs),
]
app = Starlette(routes=routes, exception_handlers={redis.RedisError: no_broker})


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int)
    asked = parser.parse_args()
    if asked.count is None:
        return uvicorn.run(app, host="127.0.0.1", port=PORT, log_level="critical")
    try:
        for _ in range(asked.count):
            print(enqueue({"to": "ada@example.com", "subject": "Hello", "body": "Hello, Ada."})["id"])
    except redis.RedisError as error:
        sys.exit(f"No broker at {VALKEY_URL.rpartition('@')[2]}: {error}")


if __name__ == "__main__":
    main()
