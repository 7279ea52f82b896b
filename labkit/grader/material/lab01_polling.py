"""Lab 1: mail tasks, bodies that are none, and requests that the web application has to refuse."""

import json
import uuid

from labkit.grader.mail import MailLane

SERVICES = (MailLane,)


def _asking(**fields: object) -> dict:
    return {
        "id": str(uuid.uuid4()),
        "to": "ada@example.com",
        "subject": "Hello",
        "body": "Hello, Ada.",
    } | fields


BAD_TASKS: dict[str, bytes | dict] = {
    "a body that is not JSON": b"mail ada@example.com please",
    "bytes that are not UTF-8": b"\xff\xfe\x00mail",
    "a JSON list": b"[1, 2, 3]",
    "an object without an id": b'{"to": "ada@example.com", "subject": "Hello", "body": "Hello"}',
    "JSON nested 20,000 deep": b"[" * 20_000,
    "a task without an address": {"id": str(uuid.uuid4()), "subject": "Hello", "body": "Hello"},
    "an address that is none": _asking(to="nobody"),
    "a body that is a number": _asking(body=7),
}

UNSENDABLE: dict[str, dict] = {  # tasks they are, but no mail can be made of them
    "a subject with a line break": _asking(subject="Hello\r\nBcc: everybody@example.com"),
    "half of a surrogate pair": _asking(body="\ud800"),
}

TASK_IN_UTF8 = json.dumps(
    _asking(subject="Grüße aus Zürich", body="Liebe Ada,\n\nes ist unterwegs. ✉\n"),
    ensure_ascii=False,
    separators=(",", ":"),
).encode()

GOOD_REQUEST = {"to": "grace@example.com", "subject": "Grüße", "body": "Dear Grace,\n\nwelcome.\n"}


def _raw(content: bytes) -> dict:
    """A request whose body is just these bytes, and said to be JSON."""
    return {"content": content, "headers": {"Content-Type": "application/json"}}


BAD_REQUESTS: dict[str, dict] = {  # as httpx's arguments
    "no address": {"json": {key: GOOD_REQUEST[key] for key in ("subject", "body")}},
    "an address that is none": {"json": GOOD_REQUEST | {"to": "grace at example dot com"}},
    "a list of addresses": {"json": GOOD_REQUEST | {"to": ["grace@example.com", "ada@example.com"]}},
    "a number for a subject": {"json": GOOD_REQUEST | {"subject": 7}},
    "a subject with a line break": {"json": GOOD_REQUEST | {"subject": "Hello\r\nBcc: all@example.com"}},
    "null for a body": {"json": GOOD_REQUEST | {"body": None}},
    "a body of a megabyte": {"json": GOOD_REQUEST | {"body": "x" * 1_000_000}},
    "a JSON list": {"json": [GOOD_REQUEST]},
    "a form in place of JSON": {"data": GOOD_REQUEST},
    "no body": {},
    "a body that is not JSON": _raw(b"to=grace@example.com"),
    "bytes that are not UTF-8": _raw(b'{"to": "grace@example.com", "subject": "\xff\xfe", "body": "Hello"}'),
    "half of a surrogate pair": _raw(b'{"to": "grace@example.com", "subject": "\\ud800", "body": "Hello"}'),
    "NaN for a subject": _raw(b'{"to": "grace@example.com", "subject": NaN, "body": "Hello"}'),
}


def new_task(scene) -> dict:
    """An ordinary task; to whom is up to the scene's seed."""
    number = scene.random.randrange(10**6)
    return {
        "id": str(uuid.UUID(int=scene.random.getrandbits(128), version=4)),
        "to": f"reader{number}@example.com",
        "subject": f"Your order {number}",
        "body": f"Dear reader {number},\n\nit is on its way.\n",
    }
