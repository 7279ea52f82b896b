"""Lab 6: lab 3's photographs and tasks, on RabbitMQ's queues."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from labkit.grader.crash import Hold
from labkit.grader.lane import BEFORE, Command
from labkit.grader.material.lab03_reliable import (
    BAD_TASKS,
    OPERATIONS,
    expect_right_pictures,
    left_by,
    new_task,
    prepare,
)

if TYPE_CHECKING:
    from labkit.grader.actor import Actor
    from labkit.grader.scene import Scene

__all__ = [
    "BAD_TASKS",
    "OPERATIONS",
    "Confirms",
    "Letter",
    "expect_right_pictures",
    "left_by",
    "letters",
    "new_task",
    "prepare",
    "queue_arguments",
    "queued_by",
]


def queue_arguments(queue: str) -> dict[str, object]:
    """With what the contract declares the queue in which tasks wait for their work."""
    return {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": f"{queue}.dead"}


@dataclass(frozen=True)
class Letter:
    """A task in one of the queues, as the broker holds it."""

    body: bytes
    headers: dict[str, object]
    persistent: bool
    message_id: str
    content_type: str

    @property
    def reason(self) -> str:
        return str(self.headers.get("reason", ""))

    @property
    def attempts(self) -> object:
        return self.headers.get("attempts")


def letters(scene: "Scene", ending: str = "") -> list[Letter]:
    """What waits in the scene's queue, or in the one with this ending behind its name, the oldest first."""
    return [
        Letter(
            body,
            properties.headers or {},
            properties.delivery_mode == 2,
            properties.message_id or "",
            properties.content_type or "",
        )
        for properties, body in scene.holdings.letters(f"{scene.queue}{ending}")
    ]


def queued_by(producer: "Actor") -> list[str]:
    """The ids of the tasks of which a producer has said that they are queued, in that order."""
    lines = [line.split() for line in producer.process.output().splitlines()]
    return [words[1] for words in lines if len(words) > 1 and words[0] == "queued"]


class Confirms(Hold):
    """Holds back the broker's confirms, from the first on, until it is released: the task is there, nobody knows it."""

    def __init__(self, scene: "Scene") -> None:
        super().__init__(scene, 0)

    def is_here(self, command: Command, when: str) -> bool:
        return command.verb == "basic.publish" and when != BEFORE
