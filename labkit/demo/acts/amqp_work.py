"""What lab 6's demonstration shows all the time, and looks up: queues, workers, and the record of the wire."""

import dataclasses
import math

from labkit.demo import panels
from labkit.demo.acts.amqp_queues import ACKNOWLEDGED, Queues, in_hand
from labkit.demo.acts.image_work import ImageWork
from labkit.demo.moment import DEAD, FROZEN, WAITS, Moment
from labkit.demo.props import Props
from labkit.demo.script import Script
from labkit.demo.view import DONE, FAINT, GONE, IN_HAND, STRONG, WAITING, Cell, Panel, Tiles, Words
from labkit.demo.watch import Watch
from labkit.grader.actor import Actor
from labkit.grader.commands import DELIVERIES, PUBLISHING
from labkit.grader.history import COMMAND, REPLY, Event
from labkit.grader.material.lab06_rabbitmq import Letter
from labkit.grader.scene import Scene
from labkit.grader.words import clean, counted

REDELIVERED = "redelivered"


class AmqpWork(ImageWork):
    """See the module."""

    ASIDE = ("dead", "a dead letter says why")
    HOLDER = "queue"
    AGAIN = "once more: the broker was not told, or not yet on disk"

    def __init__(self, scene: Scene, script: Script, watch: Watch, props: Props) -> None:
        super().__init__(scene, script, watch, props)
        first, retries = self.setting("RETRY_SECONDS"), int(self.setting("MAX_RETRIES"))
        self.queues = Queues(scene, [first * 2**number for number in range(retries)])
        self._counts: dict[str, int] = {}
        self.prefetch: dict[str, str] = {}
        self.killed_with: set[int] = set()  # the tasks in hand at a worker's kill
        self.broker_killed = False  # and nobody has begun to start it again
        self.at_broker_kill: dict[int, str] = {}  # where each task was then

    # ---- what is seen all the time ------------------------------------------------------------------------

    def census(self) -> tuple[dict[int, list[str]], set[int]]:
        self._counts = self.queues.counts()
        places = self.queues.places(self.workers)
        dead = {number for number, place in places.items() if place == self.queues.dead}
        held = {number: [place] for number, place in places.items() if place != ACKNOWLEDGED}
        return {number: held[number] for number in held.keys() - dead}, dead

    def panels(self, moment: Moment) -> tuple[Panel, ...]:
        found = self.queues.letters(self._counts.get(self.queues.dead, 0)) if moment.broker_up else {}
        wire = panels.wire_panel(moment, ["producer", *self.workers], spare=bool(found))
        return (
            self._workers_panel(moment),
            self._queues_panel(moment),
            *([self._letters_panel(found)] if found else []),
            wire,
        )

    def _workers_panel(self, moment: Moment) -> Panel:
        rows = []
        for name, actor in self.workers.items():
            worker = moment.worker(name)
            cells: list[Cell] = list(panels.worker_cells(worker, self.called, holds=worker.state != DEAD))
            if self.at_broker_kill and worker.state == WAITS and not actor.waits_for_a_task():
                cells[1] = Words("✗ no broker", GONE)
            elif worker.state not in (DEAD, FROZEN) and self.held_after(name):
                cells[1:3] = (
                    Words("‖ held", IN_HAND),
                    f"{self.held_after(name):>2}  done, the broker not told",
                )
            limit = self.prefetch[name]
            rows.append((*cells, Words("no limit", GONE) if limit == "0" else f"{limit:>8}"))
        heads = ("", "", "in hand", "progress", "prefetch")
        return panels.workers_panel((7, 11, 0, 14, 8), rows, heads, lines=2)

    def _queues_panel(self, moment: Moment) -> Panel:
        at = lambda place: [number for number, places in moment.where.items() if place in places]  # noqa: E731
        held = [in_hand(name) for name in self.workers]
        rows = [self._queue_row(moment, self.queues.ready, at(self.queues.ready), WAITING)]
        rows += [panels.task_row(place, at(place), IN_HAND) for place in held]
        rows += [("", "", "")] * (2 - len(held))
        rows += [self._queue_row(moment, queue, at(queue), WAITING) for queue in self.queues.waits]
        rows.append(self._queue_row(moment, self.queues.dead, moment.rejected, GONE))
        rows.append(panels.task_row("done", moment.done, DONE, newest=True))
        state = (
            self.scene.broker.version
            if moment.broker_up
            else "KILLED"
            if self.broker_killed
            else "starts ..."
        )
        return panels.task_panel(f"queues: {counted(moment.total, 'task')}", rows, f"RabbitMQ {state}")

    def _queue_row(self, moment: Moment, queue: str, tasks: list[int], look: str) -> tuple[Cell, Cell, Cell]:
        """How many are in the queue, as the broker says, and which, as the wire does."""
        if not moment.broker_up:
            return queue, Words("  ?", FAINT), ""
        return queue, Words(f"{self._counts[queue]:>3}", STRONG), Tiles(tuple(tasks), look)

    def _letters_panel(self, found: dict[int, Letter]) -> Panel:
        rows = tuple(
            (f"{number:>4}", f"{letter.attempts!s:>8}", Words(clean(letter.reason), STRONG))
            for number, letter in sorted(found.items())
        )
        return Panel("dead letters", (4, 8, 0), rows, ("task", "attempts", "reason"), lines=2)

    def facts(self) -> tuple[tuple[str, int, str], ...]:
        again = [event for event in self.deliveries() if REDELIVERED in event.args]
        return ((REDELIVERED, len(again), "times a task was handed out with this mark"),)

    # ---- what is done -------------------------------------------------------------------------------------

    def do_worker(self, name: str, prefetch: str = "1") -> None:
        """Start a worker that may have so many tasks in hand; 0: as many as there are."""
        self.prefetch[name] = prefetch
        self.workers[name] = self.scene.start("worker.py", name, PREFETCH=prefetch)

    def do_count(self) -> str:
        told = super().do_count()
        # A killed RabbitMQ may hand out again whatever it was told is done: the grader counts all of it as hit.
        hit = self.killed_with | self.in_hand_at_broker_kill()
        recovered = [number for number in self.verdict.recovered if number in hit]
        self.verdict = dataclasses.replace(self.verdict, recovered=recovered)
        return told

    # ---- looking things up --------------------------------------------------------------------------------

    def keys(self) -> list[str]:
        place = self.queues.places(self.workers).get(self.task, ACKNOWLEDGED)
        return [] if place == ACKNOWLEDGED else [place]

    def living(self) -> dict[str, Actor]:
        return {name: actor for name, actor in self.workers.items() if actor.running}

    def is_idle(self, name: str) -> bool:
        actor = self.workers[name]
        busy = name in self.scene.at_work() or actor.lane.unacknowledged()
        return actor.waits_for_a_task() and not busy

    def in_hand_at_broker_kill(self) -> set[int]:
        """The tasks that were handed out and not acknowledged when the broker was killed."""
        hands = {in_hand(name) for name in self.workers}
        return {number for number, place in self.at_broker_kill.items() if place in hands}

    def deliveries(self, task: int = 0) -> list[Event]:
        """All deliveries, or those of one task."""
        found = [event for event in self.scene.history.events(REPLY) if event.verb in DELIVERIES]
        return [event for event in found if not task or task in event.tasks]

    def confirmed(self) -> set[int]:
        """The tasks of which a publish was confirmed."""
        well = {(e.who, e.number) for e in self.scene.history.events(REPLY) if not e.detail}
        return {n for e in self._published() if (e.who, e.number) in well for n in e.tasks}

    def put(self, task: int, queue: str) -> Event | None:
        """When the task was put into this queue, for the first time."""
        events = [e for e in self._published() if task in e.tasks and e.args[1:2] == (queue,)]
        return events[0] if events else None

    def waited(self, task: int, queue: str) -> float:
        """Seconds from its way into this queue until it was handed out again; not a number before."""
        put = self.put(task, queue)
        later = [event.at for event in self.deliveries(task) if put and event.at > put.at]
        return later[0] - put.at if later else math.nan

    def letters(self) -> dict[int, Letter]:
        return self.queues.letters(self.queues.counts()[self.queues.dead])

    def _published(self) -> list[Event]:
        return [event for event in self.scene.history.events(COMMAND) if event.verb in PUBLISHING]

    def _settled(self) -> bool:
        """What waits to be tried again moves by itself; and who waits for the broker will move."""
        if not super()._settled() or not all(each.waits_for_a_task() for each in self.living().values()):
            return False
        counts = self.queues.counts()
        return not any(counts[queue] for queue in self.queues.waits)
