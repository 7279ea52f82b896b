"""Where the tasks are at RabbitMQ: the broker is asked how many, and the record of the wire knows which.

To see what is in a queue one has to take it out. Workers would miss it for a moment, and find it marked as redelivered:
no demonstration may do that to the tasks that it shows. The dead letters are nobody's; those are looked into.
"""

import logging

from labkit.grader.actor import Actor
from labkit.grader.commands import DELIVERIES, PUBLISHING, goes_to
from labkit.grader.history import COMMAND, REPLY, SENT, Event
from labkit.grader.material.lab06_rabbitmq import Letter, letters
from labkit.grader.scene import Scene

ACKNOWLEDGING = "basic.ack"
ACKNOWLEDGED = ""  # where a task is that the broker was told is done

logging.getLogger("pika").setLevel(logging.CRITICAL)  # we say ourselves that a broker is gone


class Queues:
    """All queues are called as the lab calls them, and tasks are given by number."""

    def __init__(self, scene: Scene, waits: list[float]) -> None:
        """waits: how long a task waits in each of the retry queues, in seconds."""
        self.scene = scene
        self.ready = scene.run.lab.queue
        self.waits = {f"{self.ready}.retry.{number}": wait for number, wait in enumerate(waits, start=1)}
        self.dead = f"{self.ready}.dead"
        self._letters: dict[int, Letter] = {}
        self._count = 0  # of the letters that were looked into

    # ---- asked of the broker ------------------------------------------------------------------------------

    def counts(self) -> dict[str, int]:
        """How many tasks are ready in each queue; a queue that nobody has declared yet has none."""
        declared = self.scene.holdings.keys()
        called = {key: self.scene.called([key]) for key in declared}
        counts = {called[key]: self.scene.holdings.count(key) for key in declared}
        return {queue: counts.get(queue, 0) for queue in (self.ready, *self.waits, self.dead)}

    def letters(self, count: int) -> dict[int, Letter]:
        """The dead letters by their tasks, looked into when there are more or fewer than before."""
        if count != self._count:
            found = [(self.scene.tasks.numbers_in(each.body), each) for each in letters(self.scene, ".dead")]
            self._letters = {tasks[0]: each for tasks, each in found if tasks}
            self._count = len(found)
        return self._letters

    # ---- known from the wire ------------------------------------------------------------------------------

    def places(self, workers: dict[str, Actor]) -> dict[int, str]:
        """Where each task is: a queue, `in_hand(NAME)`, or ACKNOWLEDGED."""
        places: dict[int, str] = {}
        since: dict[int, float] = {}
        said: dict[tuple[str, int], tuple[int, ...]] = {}  # acknowledgements that have not reached the broker
        for event in self.scene.history.events():
            tasks = event.tasks
            if event.verb == ACKNOWLEDGING and event.what == COMMAND:
                said[event.who, event.number], tasks = tasks, ()
            elif event.verb == ACKNOWLEDGING:
                tasks = said.pop((event.who, event.number), ())
            for number in tasks:
                place = self._goes_to(event, places.get(number, self.ready))
                if place is not None:
                    places[number], since[number] = place, event.at
        now = self.scene.history.now()
        for number, place in places.items():
            if now - since[number] > self.waits.get(place, now):
                places[number] = self.ready  # its time is over
        for name, actor in workers.items():
            places |= dict.fromkeys(actor.lane.unacknowledged(), in_hand(name))
        return dict(sorted(places.items()))

    def _goes_to(self, event: Event, place: str) -> str | None:
        """Where an event brings a task that is in `place`; None if it leaves it there."""
        if event.what == SENT or (event.what == REPLY and event.verb in DELIVERIES):
            return self.ready  # it is handed out from there, and goes back there if nobody acknowledges it
        if event.what == COMMAND and event.verb in PUBLISHING:
            return goes_to(event.verb, event.args)
        if event.verb == ACKNOWLEDGING and place == self.ready:
            return ACKNOWLEDGED  # elsewhere, it is the original of the copy that is there
        return None


def in_hand(name: str) -> str:
    """What a task's place is called that was handed to this worker, who has not acknowledged it."""
    return f"unacked: {name}"
