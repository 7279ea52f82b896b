"""Lab 4: webhook tasks that carry their endpoint's answers in their address, bodies that are none, and dead letters."""

import json
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from labkit.grader.crash import Hold
from labkit.grader.history import REPLY
from labkit.grader.lane import BEFORE, Command

if TYPE_CHECKING:
    from labkit.grader.scene import Scene

FAR = "http://127.0.0.1:1/200"  # what is wrong with these tasks is seen before anybody connects


def envelope(**fields: object) -> dict:
    """A task that is in order, to an address that nobody will reach, but for these fields."""
    return {
        "id": str(uuid.uuid4()),
        "type": "webhook",
        "version": 1,
        "data": {"url": FAR, "event": "order.paid", "payload": {"order": 7}},
        "priority": 0,
        "max_retries": 5,
        "attempts": 0,
        "created_at": datetime.now(UTC).isoformat(),
    } | fields


def nested(deep: int) -> list:
    """Lists in one another, so many."""
    value = []
    for _ in range(deep - 1):
        value = [value]
    return value


def _without(field: str) -> dict:
    return {key: value for key, value in envelope().items() if key != field}


BAD_TASKS: dict[str, bytes | dict] = {
    "a body that is not JSON": b"tell example.com that order 7 is paid",
    "bytes that are not UTF-8": b'{"id": "\xff\xfe\x00"}',
    "UTF-16 in place of UTF-8": json.dumps(envelope()).encode("utf-16"),
    "half of a character, as UTF-8 cannot say it": json.dumps(envelope(priority="?"))
    .encode()
    .replace(b"?", b"\xed\xa0\x80"),
    "a byte order mark": json.dumps(envelope()).encode("utf-8-sig"),
    "a JSON list": b"[1, 2, 3]",
    "JSON nested 20,000 deep": b"[" * 20_000,
    "data nested 100 deep": envelope(data={"url": FAR, "event": "order.paid", "payload": nested(100)}),
    "an object without an id": _without("id"),
    "a version that nobody knows": envelope(version=2),
    "a type that no handler knows": envelope(type="fax"),
    "a list for a type": envelope(type=["webhook"]),
    "a negative max_retries": envelope(max_retries=-1),
    "a max_retries of a billion": envelope(max_retries=10**9),
    "no max_retries": _without("max_retries"),
    "true for max_retries": envelope(max_retries=True),
    "attempts that are text": envelope(attempts="none"),
    "a megabyte of data": envelope(data={"url": FAR, "event": "order.paid", "payload": "x" * 1_000_000}),
    "50 kB that are 150 kB when they are written once more": json.dumps(
        envelope(data={"url": FAR, "event": "order.paid", "payload": "Ж" * 25_000}), ensure_ascii=False
    ).encode(),
    "Infinity in the JSON": json.dumps(envelope(priority=float("inf"))).encode(),
}

BAD_ADDRESSES: dict[str, dict] = {
    "no address": envelope(data={"event": "order.paid", "payload": {}}),
    "an address that is no web address": envelope(
        data={"url": "ftp://127.0.0.1/", "event": "x", "payload": {}}
    ),
    "an address with a line break": envelope(
        data={"url": FAR + "\r\nHost: evil", "event": "x", "payload": {}}
    ),
    "a host with a space in it": envelope(
        data={"url": "http://127.0. 0.1:1/200", "event": "x", "payload": {}}
    ),
    "data that is a number": envelope(data=7),
    "no data": _without("data"),
}


def new_task(scene: "Scene") -> dict:
    """An ordinary task, which the scene's endpoint takes at the first request."""
    return webhook(scene)


def webhook(scene: "Scene", answers: str = "200", **fields: object) -> dict:
    """A task whose requests get these answers, one after the other; the last one repeats."""
    order = scene.random.randrange(10**6)
    data = {"url": scene.endpoint.url(answers), "event": "order.paid", "payload": {"order": order}}
    number = scene.random.getrandbits(128)
    return envelope(id=str(uuid.UUID(int=number, version=4)), data=data) | fields


def letters(scene: "Scene") -> dict[int, dict]:
    """The dead letters by the numbers of their tasks; one that is no JSON object, or whose task is unknown, is 0."""
    found = {}
    for entry in scene.contents(f"{scene.queue}:dead"):
        letter = scene.json(entry)
        numbers = scene.tasks.numbers_in(entry)
        found[numbers[0] if numbers and isinstance(letter, dict) else 0] = letter
    return found


def delays(scene: "Scene", now: float) -> dict[int, list[float]]:
    """Seconds from `now`, a Unix time, until each delayed task is due, by the attempts that it has behind it."""
    entries = scene.ask("ZRANGE", f"{scene.queue}:delayed", 0, -1, "WITHSCORES")
    waits: dict[int, list[float]] = {}
    for body, due in zip(entries[::2], entries[1::2], strict=True):
        waits.setdefault(scene.json(body)["attempts"], []).append(float(due) / 1000 - now)
    return waits


def broker_time(scene: "Scene") -> float:
    """The broker's clock, as a Unix time in seconds."""
    seconds, micros = scene.ask("TIME")
    return int(seconds) + int(micros) / 1e6


class OnceHanded(Hold):
    """Holds an actor before the next command that it sends once the broker has handed it this task."""

    def __init__(self, scene: "Scene", task: int, *, longest: float) -> None:
        super().__init__(scene, 0, longest=longest)
        self.task = task

    def is_here(self, command: Command, when: str) -> bool:
        handed = (self.task in event.tasks for event in self.scene.history.events(REPLY, self.actor.name))
        return when == BEFORE and any(handed)
