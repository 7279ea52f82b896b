"""The work of labs 1 and 5: read a mail task, and send the mail over SMTP. Given: nothing here is to be changed."""

import json
import os
import re
import smtplib
import urllib.parse
import uuid
from contextlib import closing, suppress
from email.message import EmailMessage

SMTP_URL = os.environ.get("SMTP_URL", "smtp://127.0.0.1:1025")
SMTP_SECONDS = float(os.environ.get("SMTP_SECONDS", "10"))  # how long the mail server may take for an answer
SENDER = "shop@example.com"
ADDRESS = r"[^@\s]+@[^@\s]+\.[^@\s]+"  # somebody @ somewhere . something


class Rejected(Exception):
    """No mail was sent: the task is none that can be sent, or the mail server would not take it."""


def read_task(body):
    """The task in a body from the queue, as a dict. Raises Rejected, with the reason, for anything else."""
    try:
        task = json.loads(body)
    except (ValueError, RecursionError):
        raise Rejected("not JSON") from None
    if not isinstance(task, dict):
        raise Rejected("not a JSON object")
    try:
        uuid.UUID(task.get("id"))
    except (ValueError, TypeError, AttributeError):
        raise Rejected(f"no UUID as its id: {task.get('id')!r:.60}") from None
    for field in ("to", "subject", "body"):
        if not isinstance(task.get(field), str):
            raise Rejected(f"{field!r} is no text: {task.get(field)!r:.60}")
    if not re.fullmatch(ADDRESS, task["to"]):
        raise Rejected(f"no mail address: {task['to']!r:.60}")
    return task


def send(task):
    """Send the mail of a task. Raises Rejected when the mail server refuses it, is not there, or does not answer."""
    server = urllib.parse.urlsplit(SMTP_URL)
    try:
        mail = EmailMessage()
        mail["From"] = SENDER
        mail["To"] = task["to"]
        mail["Subject"] = task["subject"]
        mail["X-Task-Id"] = task["id"]  # so that a mail can be traced to its task
        mail.set_content(task["body"])
        with closing(smtplib.SMTP(server.hostname, server.port, "localhost", timeout=SMTP_SECONDS)) as smtp:
            smtp.send_message(mail, SENDER, [task["to"]])  # to one reader, whatever the address may hide
            with suppress(OSError):
                smtp.quit()  # the mail has been taken, whatever becomes of the goodbye
    except OSError as error:  # refused, not there, or silent; smtplib's own errors are OSErrors, too
        raise Rejected(f"the mail server at {server.netloc} did not take it: {error}") from None
    except Exception as error:  # a line break in the subject, an address that Python's own parser trips over
        raise Rejected(f"no mail can be made of it: {type(error).__name__}: {error}") from None
