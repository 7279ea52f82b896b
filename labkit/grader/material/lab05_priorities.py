"""Lab 5: mail of three levels. It is put in by the submission's own producer, and taken note of on its way.

Under most policies only the submission knows how a task lies at the broker, so nobody else can queue one.
"""

import json
import threading
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING

from labkit.grader.crash import Hold
from labkit.grader.history import SENT
from labkit.grader.lane import AFTER, BEFORE, Command, Lane
from labkit.grader.mail import MailLane
from labkit.grader.material.lab01_polling import BAD_TASKS, UNSENDABLE
from labkit.grader.tasks import Task, id_in

if TYPE_CHECKING:
    from labkit.grader.actor import Actor
    from labkit.grader.scene import Scene

__all__ = ["BAD_TASKS", "UNSENDABLE"]  # those of lab 1

SERVICES = (MailLane,)
LEVELS = ("high", "normal", "low")  # the most urgent first


def new_task(scene: "Scene", level: str = "normal") -> dict:
    """An ordinary task of this level; to whom is up to the scene's seed."""
    number = scene.random.randrange(10**6)
    return {
        "id": str(uuid.UUID(int=scene.random.getrandbits(128), version=4)),
        "to": f"reader{number}@example.com",
        "subject": f"Your order {number}",
        "body": f"Dear reader {number},\n\nit is on its way.\n",
        "priority": level,
        "created_at": "2026-03-01T08:30:00+00:00",
    }


def push(scene: "Scene", level: str, *bodies: bytes | dict | int) -> list[Task]:
    """Put tasks into the list of a level, as policies 1 and 4 have it; an int stands for so many ordinary tasks."""
    pushed = []
    for body in bodies:
        for each in [new_task(scene, level) for _ in range(body)] if isinstance(body, int) else [body]:
            task = scene.tasks.add(each if isinstance(each, bytes) else json.dumps(each).encode())
            scene.ask("LPUSH", f"{scene.queue}:{level}", task.body)
            scene.history.add("grader", SENT, tasks=(task.number,), detail=level)
            pushed.append(task)
    return pushed


def by_producer(scene: "Scene", policy: str, level: str, count: int = 1) -> list[Task]:
    """Have the submission's producer queue tasks of this level, and wait until it has ended; return the tasks."""
    post = start_producer(scene, policy, level, count)
    producer = post.actor
    for _ in range(count):  # as long as it goes on it has time: many tasks are many commands
        before = producer.replies()
        scene.wait(lambda seen=before: producer.replies() > seen or not producer.running)
    producer.wait_exit()
    scene.expect(
        len(post.tasks) == count,
        f"The producer was asked for {count} tasks of the level {level}; {len(post.tasks)} went to the broker.",
    )
    return post.tasks


class Stock:
    """What `fill` brings into the queue of a scene, by the submission's own producer; copied to the scenes after.

    A check that plays many scenes with the same tasks need not start the producer in each of them.
    """

    def __init__(self, fill: Callable[["Scene"], object]) -> None:
        self._fill = fill
        self._lock = threading.Lock()
        self._tasks: list[tuple[bytes, str]] = []  # each with what its SENT says beside
        self._keys: list[
            tuple[str, bytes]
        ] = []  # the end of each key's name, and what it holds, as DUMP has it

    def put_into(self, scene: "Scene") -> None:
        """Fill the queue of a scene in which nothing has happened yet."""
        with self._lock:
            if not self._keys:
                self._fill(scene)
                for key in scene.keys():  # noqa: SIM118 (not a dict)
                    self._keys.append((key.removeprefix(scene.queue), scene.ask("DUMP", key)))
                level = {
                    number: event.detail for event in scene.history.events(SENT) for number in event.tasks
                }
                self._tasks = [(task.body, level[task.number]) for task in scene.tasks]
                return
        for ending, content in self._keys:
            scene.ask("RESTORE", f"{scene.queue}{ending}", 0, content)
        for body, level in self._tasks:
            scene.history.add("grader", SENT, tasks=(scene.tasks.add(body).number,), detail=level)


def start_producer(
    scene: "Scene", policy: str, level: str, count: int = 1, *, may_fail: bool = False
) -> "Post":
    """Start the submission's producer: "producer", the next one "producer 2"; do not wait for its end."""
    number = 1 + sum(actor.name.startswith("producer") for actor in scene.actors)
    name = f"producer {number}" if number > 1 else "producer"
    post = scene.lie_in_wait(name, Post(scene, level))
    asked = (level, "--count", str(count), "--policy", policy)
    scene.start("producer.py", *asked, name=name, may_fail=may_fail)
    return post


def level_of(task: Task) -> str:
    """The level that a task names, or ""."""
    return json.loads(task.body).get("priority", "")


class Post:
    """Looks through what a producer sends, and takes note of each task in it; `tasks` has them in that order.

    A task counts as sent with the first command that carries it, unless a fault keeps that command from the broker.
    """

    def __init__(self, scene: "Scene", level: str) -> None:
        self.scene, self.level = scene, level
        self.tasks: list[Task] = []
        self._sent: set[int] = set()

    def arm(self, actor: "Actor") -> None:
        self.actor = actor
        actor.lane.names = self
        actor.lane.gates.append(self._gate)

    def numbers_in(self, value: object) -> tuple[int, ...]:
        for part in value if isinstance(value, list) else ():
            body = part[part.find(b"{") : part.rfind(b"}") + 1] if isinstance(part, bytes) else b""
            if id_in(body) and not self.scene.tasks.numbers_in(body):
                self.tasks.append(self.scene.tasks.add(body))
        return self.scene.tasks.numbers_in(value)

    def shown(self, argument: bytes) -> str:
        return self.scene.tasks.shown(argument)

    async def _gate(self, lane: Lane, command: Command, when: str) -> None:
        if when == BEFORE and (new := [number for number in command.tasks if number not in self._sent]):
            self._sent.update(new)
            self.scene.history.add(lane.who, SENT, tasks=tuple(new), detail=self.level)


class BeforeAWait(Hold):
    """Holds an actor before its first blocking command."""

    def __init__(self, scene: "Scene") -> None:
        super().__init__(scene, 0)

    def is_here(self, command: Command, when: str) -> bool:
        return command.blocking and when == BEFORE


class AfterAWait(BeforeAWait):
    """Holds an actor when its first blocking command has been answered, and the actor has not heard of it."""

    def is_here(self, command: Command, when: str) -> bool:
        return command.blocking and when == AFTER
