"""The tasks of one scene: their numbers, ids and bodies, and which of them some bytes name."""

import json
import re
import threading
import uuid
from dataclasses import dataclass

UUID = re.compile(rb"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")


@dataclass(frozen=True)
class Task:
    """One task as it was sent. `number` is how stories call it; `id` is "" for a body that is no task at all."""

    number: int
    id: str
    body: bytes


class Tasks:
    """All tasks of a scene. Safe to use from several threads.

    `queue` is the scene's own name for the queue; stories show the lab's name, `called`, in its place.
    """

    def __init__(self, queue: str, called: str) -> None:
        self.queue, self.called = queue, called
        self._lock = threading.Lock()
        self._all: list[Task] = []
        self._by_id: dict[bytes, int] = {}
        self._by_body: dict[bytes, int] = {}

    def add(self, body: bytes) -> Task:
        """Give the next number to a body."""
        with self._lock:
            task = Task(len(self._all) + 1, id_in(body), body)
            self._all.append(task)
            for form in (body, *as_text(body)):
                self._by_body.setdefault(form, task.number)
            if task.id:
                self._by_id[task.id.lower().encode()] = task.number
        return task

    def __iter__(self):
        with self._lock:
            return iter(list(self._all))

    def __len__(self) -> int:
        return len(self._all)

    def __getitem__(self, number: int) -> Task:
        return self._all[number - 1]

    def numbers_in(self, value: object) -> tuple[int, ...]:
        """The numbers of the tasks that a command's arguments or a reply name, by body or by id, without repeats."""
        found: dict[int, None] = {}
        for part in _strings(value):
            number = self._by_body.get(part) or self._by_body.get(body_within(part))
            if number:
                found[number] = None
            elif len(part) >= 36:
                for match in UUID.findall(part):
                    if number := self._by_id.get(match.lower()):
                        found[number] = None
        return tuple(found)

    def called_by_students(self, key: str) -> str:
        """A key of the scene as a student knows it, with the lab's own name for the queue."""
        return key.replace(self.queue, self.called)

    def shown(self, argument: bytes) -> str:
        """An argument as a story shows it: a task by its number, the queue by the lab's name for it."""
        if number := self._by_body.get(argument):
            return f"‹task {number}›"
        text = self.called_by_students(argument[:400].decode("utf-8", "backslashreplace"))
        text = " ".join(text.split())
        return text if text.isprintable() else repr(text)[1:-1]


def id_in(body: bytes) -> str:
    """The UUID under "id" of a JSON object, or "" if the body is no such thing."""
    try:
        return str(uuid.UUID(json.loads(body)["id"]))
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return ""


def body_within(entry: bytes) -> bytes:
    """The body that a dead letter carries as a JSON string under "body"; b"" if it is none."""
    if not entry.startswith(b"{") or b'"body"' not in entry:
        return b""
    try:
        return json.loads(entry)["body"].encode()
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return b""


def as_text(body: bytes) -> list[bytes]:
    """The forms in which a body that is not UTF-8 may stand in a JSON string."""
    texts = [body.decode("utf-8", errors) for errors in ("backslashreplace", "replace")]
    return [text.encode() for text in (*texts, body.decode("latin-1"), repr(body), body.hex())]


def _strings(value: object):
    if isinstance(value, bytes):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _strings(item)
    elif isinstance(value, dict):
        yield from _strings(list(value.values()))
