"""The web application in async, with a lifespan and a dependency.   Run: python producer.py [--count 10]"""

import argparse
import asyncio
import contextlib
import os
import sys
import uuid
from typing import Annotated

import redis.asyncio as redis
import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from mailer import ADDRESS
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

VALKEY_URL = os.environ.get("VALKEY_URL", "redis://127.0.0.1:6379/0")
QUEUE = os.environ.get("QUEUE", "mail")
PORT = int(os.environ.get("PORT", "8000"))


class Mail(BaseModel):
    model_config = ConfigDict(strict=True)

    to: Annotated[str, StringConstraints(pattern=f"^{ADDRESS}$", max_length=254)]
    subject: Annotated[str, StringConstraints(pattern=r"^[^\r\n]*$", max_length=500)]
    body: Annotated[str, StringConstraints(max_length=50_000)]


class Task(Mail):
    id: str = Field(default_factory=lambda: str(uuid.uuid4()))


@contextlib.asynccontextmanager
async def lifespan(app):
    async with redis.Redis.from_url(VALKEY_URL, socket_timeout=3) as broker:
        yield {"broker": broker}


app = FastAPI(lifespan=lifespan)


def broker_of(request: Request) -> redis.Redis:
    return request.state.broker


Broker = Annotated[redis.Redis, Depends(broker_of)]


@contextlib.asynccontextmanager
async def answering_503():
    try:
        yield
    except (redis.RedisError, OSError) as error:
        raise HTTPException(503, f"try again later: {type(error).__name__}") from None


async def enqueue(broker, mail):
    task = Task(**mail.model_dump())
    await broker.lpush(QUEUE, task.model_dump_json())
    return task


@app.exception_handler(RequestValidationError)
async def refuse(request, error):
    return JSONResponse({"detail": "to, subject and body, please, as JSON"}, 422)


@app.post("/send-email", status_code=202)
async def send_email(mail: Mail, broker: Broker):
    async with answering_503():
        task = await enqueue(broker, mail)
    return {"id": task.id, "status": "queued"}


@app.get("/tasks/waiting")
async def waiting(broker: Broker):
    async with answering_503():
        return {"waiting": await broker.llen(QUEUE)}


async def fill(count):
    async with redis.Redis.from_url(VALKEY_URL) as broker:
        for number in range(count):
            mail = Mail(
                to=f"reader{number}@example.com", subject="Welcome!", body="Thank you for signing up."
            )
            print("queued", (await enqueue(broker, mail)).id, flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int)
    count = parser.parse_args().count
    if count is None:
        uvicorn.run(app, host="127.0.0.1", port=PORT, log_level="warning")
    else:
        try:
            asyncio.run(fill(count))
        except (redis.ConnectionError, redis.TimeoutError) as error:
            sys.exit(f"No broker at {VALKEY_URL.rpartition('@')[2]} ({error})")
