"""The work of lab 4: read a task, and deliver a webhook over HTTP. Given: nothing here is to be changed."""

import http.client
import json
import math
import os
import urllib.parse
import uuid
from datetime import UTC, datetime

HTTP_SECONDS = float(os.environ.get("HTTP_SECONDS", "10"))  # how long an endpoint may be silent
VERSION = 1
MOST_RETRIES = 20
DEEPEST_TASK = 50  # deeper ones can be read where they cannot be written any more
LARGEST_TASK = 64 * 1024  # bytes; larger data belongs into a file store, and its address into the task
TRY_AGAIN = {408, 425, 429, 500, 502, 503, 504}
LONGEST_RETRY_AFTER = 3600  # seconds; who asks for more gets this


class TemporaryError(Exception):
    """It did not work now, and may work later. `retry_after`: seconds that the endpoint asked us to wait, or 0."""

    def __init__(self, reason, retry_after=0):
        super().__init__(reason)
        self.retry_after = retry_after


class PermanentError(Exception):
    """It will never work, however often it is tried."""


def new_task(url, event, payload, max_retries=5):
    """An envelope: what the queue has to know about a task, around the data that only its handler understands."""
    return {
        "id": str(uuid.uuid4()),
        "type": "webhook",
        "version": VERSION,
        "data": {"url": url, "event": event, "payload": payload},
        "priority": 0,
        "max_retries": max_retries,
        "attempts": 0,
        "created_at": datetime.now(UTC).isoformat(),
    }


def read_task(body):
    """The task in a body from the queue, as a dict. Raises PermanentError, with the reason, for anything else."""
    try:
        text = body.decode() if isinstance(body, bytes) else body  # json.loads would read UTF-16 as well
        task = json.loads(text, parse_float=finite, parse_constant=finite)
        too_deep = depth(task) > DEEPEST_TASK
    except UnicodeDecodeError:
        raise PermanentError("not UTF-8") from None
    except RecursionError:
        too_deep = True
    except ValueError as error:
        raise PermanentError(f"not JSON: {error}") from None
    if too_deep:
        raise PermanentError(f"lists and objects in one another, more than {DEEPEST_TASK} deep")
    if not isinstance(task, dict):
        raise PermanentError("not a JSON object")
    try:
        uuid.UUID(task.get("id"))
    except (ValueError, TypeError, AttributeError):
        raise PermanentError(f"no UUID as its id: {task.get('id')!r:.60}") from None
    if task.get("version") != VERSION:
        raise PermanentError(f"version {task.get('version')!r:.20} is not known here, only version {VERSION}")
    if task.get("type") not in tuple(HANDLERS):
        raise PermanentError(f"nobody here handles tasks of the type {task.get('type')!r:.60}")
    for field, most in (("max_retries", MOST_RETRIES), ("attempts", MOST_RETRIES + 1)):
        if type(task.get(field)) is not int or not 0 <= task[field] <= most:
            raise PermanentError(f"{field} must be from 0 to {most}, not {task.get(field)!r:.40}")
    size = len(json.dumps(task | {"attempts": 0}))  # as every further try has it, and a replay
    if size > LARGEST_TASK:
        raise PermanentError(f"a task of {size:,} bytes; {LARGEST_TASK:,} are allowed")
    return task


def depth(value):
    """How many lists and objects are in one another, at the most: 1 for {}, 2 for {"data": []}."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(depth, inner), default=0)


def finite(text):
    """The number that a text says. Raises ValueError for NaN and Infinity, which JSON does not have, and for 1e999."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is no number there")
    return number


def deliver(task):
    """Do the work of a task, by its type. Raises TemporaryError or PermanentError when it does not work."""
    HANDLERS[task["type"]](task)


def post(task):
    """POST the payload to the endpoint. By the Idempotency-Key it knows a request that it has had before."""
    data = task.get("data") if isinstance(task.get("data"), dict) else {}
    connection, path = endpoint(data.get("url"))
    body = json.dumps({"event": data.get("event"), "payload": data.get("payload")})
    headers = {"Content-Type": "application/json", "Idempotency-Key": task["id"]}
    host = connection.host
    try:
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        answer.read()
    except (ValueError, http.client.InvalidURL) as error:  # a line break in the path would begin a header
        raise PermanentError(f"no request can be made of it: {error}") from None
    except TimeoutError:
        raise TemporaryError(f"{host} did not answer within {HTTP_SECONDS:g} s") from None
    except (OSError, http.client.HTTPException) as error:
        raise TemporaryError(f"{host} gave no whole answer: {type(error).__name__}: {error}") from None
    finally:
        connection.close()
    if answer.status in TRY_AGAIN:
        raise TemporaryError(f"{host} answered {answer.status} {answer.reason}", seconds_in(answer))
    if not 200 <= answer.status < 300:
        raise PermanentError(f"{host} answered {answer.status} {answer.reason}")


def endpoint(url):
    """A connection for an http URL, not opened yet, and the path. Raises PermanentError for anything else."""
    try:
        parts = urllib.parse.urlsplit(url if isinstance(url, str) else "")
        if parts.scheme == "http" and parts.hostname:
            connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=HTTP_SECONDS)
            return connection, f"{parts.path or '/'}?{parts.query}".removesuffix("?")
    except (ValueError, http.client.InvalidURL):
        pass  # a port that is no number, half of an address in brackets, a space in a name
    raise PermanentError(f"no http address to deliver to: {url!r:.80}")


def seconds_in(answer):
    """The seconds in an answer's Retry-After; 0 without one, or when it is a date."""
    wait = answer.getheader("Retry-After", "")
    return min(int(wait), LONGEST_RETRY_AFTER) if wait.isdecimal() else 0


HANDLERS = {"webhook": post}
