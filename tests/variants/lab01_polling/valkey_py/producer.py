"""The web application: it queues mail, and sends none.   Run: python producer.py   or: python producer.py --count 10"""

import argparse
import json
import os
import sys
import uuid

import uvicorn
import valkey
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from mailer import ADDRESS
from pydantic import BaseModel, Field

VALKEY_URL = os.environ.get("VALKEY_URL", "redis://127.0.0.1:6379/0")
QUEUE = os.environ.get("QUEUE", "mail")
PORT = int(os.environ.get("PORT", "8000"))

app = FastAPI(title="Mail, a little later")
broker = valkey.Valkey.from_url(VALKEY_URL, socket_timeout=3)  # connects at the first command


class Mail(BaseModel):
    """What a request must say. Whatever does not fit is answered with 422, and never reaches the queue."""

    to: str = Field(pattern=f"^{ADDRESS}$", max_length=254)
    subject: str = Field(pattern=r"^[^\r\n]+$", max_length=200)
    body: str = Field(max_length=100_000)


def new_task(mail):
    """A task as the queue carries it; its id tells it apart from every other, for good."""
    return {"id": str(uuid.uuid4()), **mail.model_dump()}


def enqueue(broker, task):
    """Push the task at the left end of the queue, as JSON."""
    broker.lpush(QUEUE, json.dumps(task))


def depth(broker):
    """How many tasks wait in the queue."""
    return broker.llen(QUEUE)


@app.post("/send-email", status_code=202)
def send_email(mail: Mail):
    """Queue a mail. The answer comes at once; the mail goes out when a worker gets to it."""
    task = new_task(mail)
    enqueue(broker, task)
    return {"id": task["id"]}


@app.get("/tasks/waiting")
def tasks_waiting():
    """How many mails wait for a worker."""
    return {"waiting": depth(broker)}


@app.exception_handler(RequestValidationError)
def bad_request(request, error):
    """Say what was wrong, a line for each fault. FastAPI's own answer repeats all that was sent."""
    reasons = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
    return JSONResponse({"detail": reasons}, status_code=422)


@app.exception_handler(valkey.ValkeyError)
def no_broker(request, error):
    """As far as we know nothing was queued, and whoever asked has to know: 503, "try again later"."""
    return JSONResponse({"detail": "no broker: try again later"}, status_code=503)


def sample(number):
    """A mail to fill the queue with."""
    to, subject = f"reader{number}@example.com", f"Welcome, reader {number}!"
    return Mail(to=to, subject=subject, body=f"Dear reader {number},\n\nthank you for signing up.\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, help="queue so many sample mails and stop; no web server")
    asked = parser.parse_args()
    if asked.count is None:
        print(f"try it out at http://127.0.0.1:{PORT}/docs", flush=True)
        uvicorn.run(app, host="127.0.0.1", port=PORT, log_level="warning")
        return
    try:
        for number in range(1, asked.count + 1):
            task = new_task(sample(number))
            enqueue(broker, task)
            print(f"queued {task['id']}  to {task['to']}", flush=True)
    except (valkey.ConnectionError, valkey.TimeoutError) as error:
        sys.exit(f"No broker at {VALKEY_URL.rpartition('@')[2]} ({error}). Start one with: ./lab broker up")


if __name__ == "__main__":
    main()
