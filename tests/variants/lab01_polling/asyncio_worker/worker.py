"""A worker in asyncio that speaks SMTP by itself.   Run: python worker.py alice"""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import urllib.parse
from email.message import EmailMessage

import redis.asyncio as redis
from mailer import SENDER, SMTP_SECONDS, SMTP_URL, Rejected, read_task

VALKEY_URL = os.environ.get("VALKEY_URL", "redis://127.0.0.1:6379/0")
QUEUE = os.environ.get("QUEUE", "mail")
POLL_SECONDS = float(os.environ.get("POLL_SECONDS", "1"))
RECONNECT_SECONDS = float(os.environ.get("RECONNECT_SECONDS", "0.2"))
BROKER_GONE = (redis.ConnectionError, redis.TimeoutError, OSError)


def mail_of(task):
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = SENDER, task["to"], task["subject"]
    mail["X-Task-Id"] = task["id"]
    mail.set_content(task["body"])
    return bytes(mail)


async def speak(reader, writer, line, wanted):
    """Send a line (none at the greeting), and hear an answer that begins as wanted."""
    if line:
        writer.write(line + b"\r\n")
    while True:
        answer = await reader.readline()
        if answer[3:4] != b"-":  # a line with a hyphen has others after it
            break
    if not answer.startswith(wanted):
        raise Rejected(f"the mail server said {answer.decode(errors='replace').strip()!r}")


async def send(task):
    """Send the mail of a task; Rejected when that does not work, for whatever reason."""
    try:
        content = b"\r\n".join(
            b"." + line if line.startswith(b".") else line for line in mail_of(task).splitlines()
        )
        server = urllib.parse.urlsplit(SMTP_URL)
        async with asyncio.timeout(SMTP_SECONDS):
            reader, writer = await asyncio.open_connection(server.hostname, server.port)
            try:
                await speak(reader, writer, b"", b"220")
                await speak(reader, writer, b"EHLO localhost", b"250")
                await speak(reader, writer, f"MAIL FROM:<{SENDER}>".encode(), b"250")
                await speak(reader, writer, f"RCPT TO:<{task['to']}>".encode(), b"250")
                await speak(reader, writer, b"DATA", b"354")
                await speak(reader, writer, content + b"\r\n.", b"250")
                writer.write(b"QUIT\r\n")
            finally:
                writer.close()
    except (OSError, ValueError) as error:  # a TimeoutError is an OSError
        raise Rejected(f"not sent: {error or type(error).__name__}") from None


async def handle(broker, name, body):
    try:
        task = read_task(body)
        await send(task)
    except Rejected as reason:
        entry = {"reason": str(reason), "body": body.decode("utf-8", "replace")}
        await broker.lpush(f"{QUEUE}:rejected", json.dumps(entry))
        print(f"{name}: set aside: {reason}", flush=True)
    else:
        print(f"{name}: sent {task['id']}", flush=True)


async def pause(stopping, seconds):
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stopping.wait(), seconds)


async def work(broker, name, stopping):
    while not stopping.is_set():
        body = await broker.rpop(QUEUE)
        if body is None:
            await pause(stopping, POLL_SECONDS)
        else:
            await handle(broker, name, body)


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
    wait = RECONNECT_SECONDS
    while not stopping.is_set():
        try:
            await broker.ping()
            wait = RECONNECT_SECONDS
            await work(broker, name, stopping)
        except BROKER_GONE as error:
            print(f"{name}: the broker is gone ({error}); trying again", flush=True)
            await pause(stopping, wait)
            wait = min(2 * wait, 5)
    await broker.aclose()


if __name__ == "__main__":
    asyncio.run(main())
