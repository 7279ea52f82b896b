"""Crash points: every place in a small batch of tasks at which a worker, or its broker, can be killed."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from labkit.grader.commands import DELIVERIES, PUBLISHING, TAKING
from labkit.grader.history import COMMAND, REPLY, WORK_STARTED
from labkit.grader.lane import AFTER, BEFORE, Command, Cut, Lane

if TYPE_CHECKING:
    from labkit.grader.actor import Actor
    from labkit.grader.scene import Scene

WORK = "work"
UNREACHED_SECONDS = 1.5  # so long after all is done a point that has not come does not come any more


@dataclass(frozen=True)
class Point:
    """Before or after the nth command of a verb, or during the work on the nth task (verb WORK)."""

    verb: str
    nth: int
    when: str

    def __str__(self) -> str:
        if self.verb == WORK:
            return f"during the work on task {self.nth}"
        return f"{self.when} {self.verb} number {self.nth}"

    def to_json(self) -> dict:
        return asdict(self)


def points_of(scene: "Scene", name: str, *, running: bool = False) -> list[Point]:
    """Every point in what the actor of this name has done in the scene, in order.

    running leaves out what comes before its first take or publish: without a broker a script that starts may give up.
    """
    points: dict[Point, None] = {}
    seen: dict[str, int] = {}
    for event in scene.history.events(who=name):
        if event.what == COMMAND or (event.what == REPLY and event.verb in DELIVERIES):
            seen[event.verb] = nth = seen.get(event.verb, 0) + 1
            if running and not seen.keys() & (TAKING | PUBLISHING):
                continue
            points[Point(event.verb, nth, BEFORE)] = None
            points[Point(event.verb, nth, AFTER)] = None
        elif event.what == WORK_STARTED and event.tasks:
            points[Point(WORK, event.tasks[0], "during")] = None
    return list(points)


class Fault:
    """Something done to an actor, or to the broker, when the actor comes to a point."""

    def __init__(
        self, scene: "Scene", point: Point, do: Callable[["Actor", str], None], *, cuts: bool = True
    ) -> None:
        """cuts: afterward nothing more passes on the connection that came to the point, as when its process died."""
        self.scene, self.point, self._do, self._cuts = scene, point, do, cuts
        self.struck = threading.Event()
        self._missed = False
        scene.schedule = {"point": point.to_json()}

    def arm(self, actor: "Actor") -> None:
        """Lie in wait for the actor; called before its process is started."""
        self.actor = actor
        if self.point.verb == WORK:
            self.scene.work.hold(self.point.nth)
        else:
            actor.lane.gates.append(self._gate)

    def wait(self, within: float) -> bool:
        """Wait until the fault has struck; False if the point was not reached in time: then it strikes no more."""
        if self.point.verb == WORK:
            self._strike_at_work(within)
        else:
            # What the actor does when it idles may differ from play to play: the point need not come.
            over = lambda: self.struck.is_set() or self.scene.is_over(UNREACHED_SECONDS)  # noqa: E731
            self.scene.history.wait_until(over, within)
        self._missed = not self.struck.is_set()
        return self.struck.is_set()

    def _strike_at_work(self, within: float) -> None:
        task = self.point.nth

        def at_work() -> bool:
            return any(
                task in event.tasks for event in self.scene.history.events(WORK_STARTED, self.actor.name)
            )

        if self.scene.history.wait_until(at_work, within):
            self._strike()
        self.scene.work.release()

    async def _gate(self, lane: Lane, command: Command, when: str) -> None:
        here = (command.verb, command.nth, when) == (self.point.verb, self.point.nth, self.point.when)
        if self.struck.is_set() or self._missed or not here:
            return
        self.actor.lane.gates.remove(self._gate)
        await self.scene.loop.loop.run_in_executor(None, self._strike)
        if self._cuts:
            raise Cut

    def _strike(self) -> None:
        """In a thread of its own: the cut of the lane ends the gate that waits for it."""
        self._do(self.actor, str(self.point))
        self.struck.set()
        self.scene.history.wake()


class Hold:
    """Makes an actor wait before its nth command, counted over all verbs, until it is released.

    Held for longer than `longest` seconds the actor may rightly be taken for dead; the scene is then played again.
    """

    def __init__(self, scene: "Scene", nth: int, *, longest: float = 60) -> None:
        self.scene, self.nth, self.longest = scene, nth, longest
        self._since = 0.0
        self.reached = threading.Event()
        self._released = asyncio.Event()
        scene.schedule = {"held before command": nth}

    def arm(self, actor: "Actor") -> None:
        self.actor = actor
        actor.lane.gates.append(self._gate)

    def is_here(self, command: Command, when: str) -> bool:
        """Whether the actor is to be held at this point."""
        return command.number == self.nth and when == BEFORE

    def release(self) -> None:
        if self.reached.is_set() and self.scene.history.now() - self._since > self.longest:
            self.scene.too_slow = f"an actor was held for more than {self.longest:g} s"
        self.scene.loop.loop.call_soon_threadsafe(self._released.set)

    async def _gate(self, lane: Lane, command: Command, when: str) -> None:
        if not self.reached.is_set() and self.is_here(command, when):
            self._since = self.scene.history.now()
            self.reached.set()
            self.scene.history.wake()
            await self._released.wait()


class HoldAt(Hold):
    """Makes an actor wait at a point until it is released."""

    def __init__(self, scene: "Scene", point: Point) -> None:
        super().__init__(scene, 0)
        self.point = point
        scene.schedule = {"point": point.to_json()}

    def arm(self, actor: "Actor") -> None:
        if self.point.verb == WORK:
            self.actor = actor
            self.scene.work.hold(self.point.nth)
        else:
            super().arm(actor)

    def is_here(self, command: Command, when: str) -> bool:
        return (command.verb, command.nth, when) == (self.point.verb, self.point.nth, self.point.when)

    def is_reached(self) -> bool:
        begun = self.scene.history.events(WORK_STARTED, self.actor.name)
        at_work = self.point.verb == WORK and any(self.point.nth in event.tasks for event in begun)
        return at_work or self.reached.is_set()

    def release(self) -> None:
        self.scene.work.release()
        super().release()
