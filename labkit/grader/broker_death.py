"""One death of a broker that all scenes share, under actors that are held at every point of what they do.

A RabbitMQ takes seconds to start. So it is not killed once for each crash point, as a Valkey is: each point has a scene
whose actor is held there, and when all are held, the broker is killed under all of them at once.
"""

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from labkit.brokers.amqp import WRITTEN_WITHIN_SECONDS
from labkit.grader import story
from labkit.grader.crash import WORK, HoldAt, Point, points_of
from labkit.grader.failure import CheckFailed, NotApplicable
from labkit.grader.history import REPLY
from labkit.grader.scene import Scene
from labkit.grader.stage import Stage, patiently

REACHED_WITHIN_SECONDS = 10.0


@dataclass(frozen=True)
class Play:
    """What is played at each point of the actor called `name`.

    begin(scene) sets everything up, starting the actor last. calm(scene) waits until the actor has done all that it
    would do unharmed. meanwhile(scene) is called while the broker is down, go_on(scene) when it is back; both judge.
    """

    name: str
    begin: Callable[[Scene], object]
    calm: Callable[[Scene], object]
    go_on: Callable[[Scene], object]
    meanwhile: Callable[[Scene], object] = lambda scene: None


@dataclass(frozen=True)
class _Case:
    play: Play
    point: Point
    scene: Scene
    hold: HoldAt


def when_the_broker_dies(stage: Stage, *plays: Play) -> None:
    """Kill the run's broker once, with a scene for each point of each play, and start it again. The check is alone.

    Raises:
        NotApplicable: the broker was given by URL.
        CheckFailed: with the story of the first case, in their order, that ends badly.
    """
    if not stage.run.broker.can_kill:
        raise NotApplicable("it kills the broker, and the one that was given by URL is not ours to kill")
    patiently(lambda: _die(stage, plays))


def _die(stage: Stage, plays: tuple[Play, ...]) -> None:
    broker = stage.run.broker
    to_play = [(play, point) for play in plays for point in _points(stage, play)]
    with ThreadPoolExecutor(max(1, len(to_play))) as pool:
        cases = list(pool.map(lambda each: _held(stage, *each), to_play))
        try:
            time.sleep(max([0.0, *(_until_written(case.scene) for case in cases)]))
            for case in cases:
                case.scene.note_broker_killed(str(case.point))
            broker.kill()
            for case in cases:
                case.hold.release()
            judged = [pool.submit(_told, case, case.play.meanwhile) for case in cases]
            broker.restart()
            for case in cases:
                case.scene.note_broker_restarted()
            failures = [each.exception() for each in judged]
            judged = [pool.submit(_told, case, case.play.go_on) for case in cases]
            _raise_first([*failures, *(each.exception() for each in judged)])
        finally:
            for case in cases:  # before another play kills the broker again
                stage.close_scene(case.scene)


def _points(stage: Stage, play: Play) -> list[Point]:
    if stage.replay and "point" in stage.replay:
        return [Point(**stage.replay["point"])] if stage.replay.get("actor") == play.name else []
    scene = stage.scene(f"{play.name}, without a fault")
    play.begin(scene)
    play.calm(scene)
    points = points_of(scene, play.name, running=True)
    stage.close_scene(scene)
    return points


def _held(stage: Stage, play: Play, point: Point) -> _Case:
    """A scene whose actor has come to the point, and waits there."""
    scene = stage.scene(f"{play.name}: {point}", kept=point.verb == WORK)
    hold = scene.lie_in_wait(play.name, HoldAt(scene, point))
    scene.schedule |= {"actor": play.name}
    play.begin(scene)
    scene.wait(hold.is_reached, REACHED_WITHIN_SECONDS)
    stage.count("crash points", 1 if hold.is_reached() else 0)
    return _Case(play, point, scene, hold)


def _until_written(scene: Scene) -> float:
    """Seconds until every queue that was declared in the scene is on the broker's disk: nothing tells when it is."""
    declared = (event.at for event in scene.history.events(REPLY) if event.verb == "queue.declare")
    return max(declared, default=0.0) + WRITTEN_WITHIN_SECONDS - scene.history.now()


def _told(case: _Case, judge: Callable[[Scene], object]) -> None:
    try:
        judge(case.scene)
    except CheckFailed as failure:
        case.scene.kept = True
        raise failure.told_as(f"{story.fault_words(case.scene)}\n{failure}") from None


def _raise_first(failures: Iterable[BaseException | None]) -> None:
    for failure in failures:
        if failure is not None:
            raise failure
