"""What a check is given: it sets scenes, plays many of them at once, and walks through every crash point."""

import threading
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from labkit.grader import story
from labkit.grader.actor import Actor
from labkit.grader.crash import WORK, Fault, Point, points_of
from labkit.grader.failure import CheckFailed, GivenUp, InfrastructureError, TooSlow
from labkit.grader.history import SENT
from labkit.grader.run import Run
from labkit.grader.scene import Scene

Case = TypeVar("Case")
TRIES = 3  # of a scene for which the machine was too slow
SCENES_AT_ONCE = 12
IN_DOUBT = "it held up the processes of a scene"


def patiently(play: Callable[[], None]) -> None:
    """Play, and again when the machine was too slow for the scene to show anything.

    Raises:
        CheckFailed: it failed; if that was in doubt, it has failed twice.
        InfrastructureError: the machine was too slow every time.
    """
    doubted = False
    for _ in range(TRIES):
        try:
            return play()
        except TooSlow as reason:
            trouble = str(reason)
        except CheckFailed as failure:
            if doubted or not failure.in_doubt:
                failure.in_doubt = None  # nobody need play it again
                raise
            failure.in_doubt.leave_out()
            doubted, trouble = True, IN_DOUBT
    raise InfrastructureError(f"this machine is too busy: {trouble}")


class Stage:
    """The stage of one check. `replay` is the schedule of an earlier failure: only that case is played again."""

    def __init__(self, run: Run, check: str, replay: dict | None = None) -> None:
        self.run, self.check, self.replay = run, check, replay
        self.seed = zlib.crc32(check.encode()) ^ run.seed
        self.scenes: list[Scene] = []
        self.facts: dict[str, int] = {}  # what the check counted, for the record: crash points tried, …
        self._lock = threading.Lock()
        self._given_up = threading.Event()

    def give_up(self) -> None:
        """End the play: whoever waits for something in one of the scenes gets GivenUp."""
        self._given_up.set()
        for scene in list(self.scenes):
            scene.history.wake()

    def scene(self, title: str = "", *, own_broker: bool = False, kept: bool = True) -> Scene:
        """Set a scene; it is closed when the check ends. `kept` scenes have a timeline.

        Raises:
            GivenUp: the play has been given up.
        """
        if self._given_up.is_set():
            raise GivenUp
        scene = self.run.scene(title, self.seed, self.check, own_broker=own_broker)
        with self._lock:
            scene.kept = kept
            scene.history.given_up = self._given_up
            self.scenes.append(scene)
        return scene

    def play_each(self, cases: Sequence[Case], play: Callable[[Case], None]) -> None:
        """Play all cases, several at once; fail with the story of the first, in their order, that fails."""
        failures: dict[int, BaseException] = {}

        def one(position: int) -> None:
            if failures and position > min(failures):
                return  # an earlier case has failed: its story is the one to tell
            try:
                patiently(lambda: play(cases[position]))
            except Exception as error:
                failures[position] = error

        with ThreadPoolExecutor(min(SCENES_AT_ONCE, max(1, len(cases)))) as pool:
            list(pool.map(one, range(len(cases))))
        if failures:
            raise failures[min(failures)]

    def at_every_point(
        self,
        name: str,
        first: Callable[[Scene], None],
        then: Callable[[Scene], None],
        do: Callable[[Actor, str], None],
        *,
        own_broker: bool = False,
        from_the_first_take: bool = False,
        cuts: bool = True,
        calm: Callable[[Scene], None],
        within: float = 10.0,
    ) -> None:
        """Play one scene for each crash point of the actor called `name`, injecting a fault there.

        first(scene) sets everything up, starting the actor last; calm(scene) waits until the actor has done all
        that it would do unharmed (played once, to find the points); do(actor, point) is the fault; then(scene)
        goes on after the fault and judges the outcome. cuts=False for a fault that the actor lives on after.
        from_the_first_take leaves out what the actor sends before; so does own_broker, for without a broker a worker
        that starts may give up.
        """

        def play(point: Point) -> None:
            scene = self.scene(str(point), own_broker=own_broker, kept=False)
            try:
                fault = scene.lie_in_wait(name, Fault(scene, point, do, cuts=cuts))
                first(scene)
                struck = fault.wait(within)
                self.count("crash points", 1 if struck else 0)
                if not struck and scene.history.tasks(SENT) and scene.all_is_done():
                    return  # it took another way than in the calm scene, and has done all: no fault, nothing to judge
                then(scene)
                scene.kept = point.verb == WORK
            except CheckFailed as failure:
                scene.kept = True
                raise failure.told_as(f"{story.fault_words(scene)}\n{failure}") from None
            finally:
                self.close_scene(scene)

        if self.replay and "point" in self.replay:
            play(Point(**self.replay["point"]))
            return
        scene = self.scene("without a fault", own_broker=own_broker)
        first(scene)
        calm(scene)
        points = points_of(scene, name, running=own_broker or from_the_first_take)
        self.close_scene(scene)
        self.play_each(points, play)

    def count(self, what: str, more: int) -> None:
        """Add to one of the facts of the check's record."""
        with self._lock:
            self.facts[what] = self.facts.get(what, 0) + more

    def close_scene(self, scene: Scene) -> None:
        scene.close()
        if scene.broker is not self.run.broker:
            self.run.end_broker(scene.broker)

    def close(self) -> None:
        for scene in self.scenes:
            self.close_scene(scene)
