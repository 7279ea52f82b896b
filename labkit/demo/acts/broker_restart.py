"""The last part of lab 6's demonstration: RabbitMQ itself is killed, and started again on what lies on its disk."""

import math

from labkit.demo.act import listed
from labkit.demo.acts.amqp_queues import ACKNOWLEDGED
from labkit.demo.acts.amqp_work import AmqpWork
from labkit.demo.props import Props
from labkit.demo.script import Script
from labkit.demo.sight import PATIENCE, SOON, Sight, judged
from labkit.demo.watch import Watch
from labkit.grader.actor import Actor
from labkit.grader.material.lab06_rabbitmq import queued_by
from labkit.grader.scene import Scene
from labkit.grader.words import clean, counted, names

SAID_SHOWN = 36  # of what a script says
MOST_NAMED = 3  # tasks in a line that fits the smallest screen
STARTED_WITHIN_SECONDS = 120.0  # on a slow machine


class BrokerRestart(AmqpWork):
    """See the module."""

    def __init__(self, scene: Scene, script: Script, watch: Watch, props: Props) -> None:
        super().__init__(scene, script, watch, props)
        self._connections: dict[str, int] = {}  # of each worker, when the broker was killed
        self._kept = (0, 0)  # tasks that wait, and dead letters, when the broker was back
        self._back_at, self._down_seconds = math.inf, math.nan
        self._in_vain: Actor | None = None  # the producer that found no broker

    # ---- what is done -------------------------------------------------------------------------------------

    def do_kill_broker(self) -> None:
        """SIGKILL the broker; what was held goes on."""
        self.at_broker_kill = self.queues.places(self.workers)
        self._connections = {name: actor.lane.connections for name, actor in self.living().items()}
        self.broker_killed = True
        self.scene.holdings.close()  # or our own connection would be found dead when it is used next
        self.scene.kill_broker()
        self.do_release()

    def do_producer_in_vain(self) -> None:
        """Run the producer while there is no broker."""
        self._in_vain = self.scene.start("producer.py", "--count", "1", name="producer", may_fail=True)
        self.watch.until(lambda: not self._in_vain.running)

    def do_restart_broker(self) -> None:
        """Start it again on the data that its death left."""
        began, self.broker_killed = self.scene.history.now(), False
        self.watch.meanwhile(self.scene.broker.restart, STARTED_WITHIN_SECONDS)
        self._back_at = self.scene.history.now()
        self._down_seconds = self._back_at - began
        self.scene.note_broker_restarted()
        counts, held = self.queues.counts(), [actor.lane.unacknowledged() for actor in self.workers.values()]
        dead = counts.pop(self.queues.dead)
        self._kept = sum(counts.values()) + sum(map(len, held)), dead

    # ---- what must be seen --------------------------------------------------------------------------------

    def see_alone(self) -> Sight:
        """The broker is gone; the workers live on, and have tried in vain to connect."""

        def there() -> bool:
            tried = [self.workers[name].lane.connections > n for name, n in self._connections.items()]
            return all(tried) and len(self.living()) == len(tried)

        words = f"{listed(tuple(self._connections))} are alive, and try to connect again"
        return Sight(words, there, PATIENCE)

    def see_refused(self) -> Sight:
        """The producer has called nothing queued, and says why in one line."""
        process = self._in_vain.process
        said = clean(process.errors().strip())
        words = f"producer.py, status {process.status}: {said[:SAID_SHOWN]} ..."
        right = (
            process.status == 1
            and said
            and "\n" not in process.errors().strip()
            and not queued_by(self._in_vain)
        )
        return judged(
            right, words, "the producer says that there is no broker", said[:SAID_SHOWN], within=SOON
        )

    def see_survived(self) -> Sight:
        """The broker has at least as many tasks as it had confirmed and not seen done."""
        (there, dead), still_open, letters = self._kept, len(self._still_open()), self._dead_at_kill()
        more = f" ({still_open} were open)" if there > still_open else ""
        back = f"after {self._down_seconds:.1f} s it is back"
        words = f"{back}, with {counted(there, 'task')}{more} and {dead} dead letters"
        expected = f"{counted(still_open, 'task')} and {letters} dead letters outlive the broker"
        return judged(there >= still_open and dead >= letters, words, expected)

    def see_outlived(self) -> Sight:
        """Each of those tasks was handed out again: they are the same."""
        again = {n for event in self.deliveries() if event.at > self._back_at for n in event.tasks}
        still_open = self._still_open()
        words = f"{names(still_open)} were confirmed, and outlived the broker"
        return judged(again.issuperset(still_open), words, words)

    def see_back(self) -> Sight:
        """The same processes consume again."""
        who = tuple(self._connections)
        back = lambda: all(self.workers[name].waits_for_a_task() for name in who)  # noqa: E731
        return Sight(f"{listed(who)} are connected again: the same processes", back, PATIENCE)

    def see_once_more(self) -> Sight:
        """What was in hand at the broker's death was done twice, if at all: nobody could acknowledge it."""
        twice = sorted(set(self.verdict.duplicated) & self.in_hand_at_broker_kill())
        words = f"{names(twice)} once more: in hand when the broker died"
        words = words if twice else "what was in hand when the broker died was done once"
        odd = self.verdict.repeated_without_cause
        return judged(not odd, words, "only what had a cause was repeated", f"Repeated: {names(odd)}.")

    def see_not_on_disk(self) -> Sight:
        """What was acknowledged just before the broker's death may be done twice."""
        known = self.in_hand_at_broker_kill() | self.killed_with
        twice = sorted(set(self.verdict.duplicated) - known)
        them = names(twice) if len(twice) <= MOST_NAMED else counted(len(twice), "task")
        words = f"{them} once more: {'its' if len(twice) == 1 else 'their'} acknowledgement was not on disk"
        words = words if twice else "and no other: their acknowledgements were on disk"
        return judged(set(twice) <= set(self.verdict.excused), words, words)

    # ---- looking things up --------------------------------------------------------------------------------

    def _still_open(self) -> list[int]:
        """The tasks that the broker still had to see done when it was killed."""
        over = (ACKNOWLEDGED, self.queues.dead)
        return [number for number, place in self.at_broker_kill.items() if place not in over]

    def _dead_at_kill(self) -> int:
        return list(self.at_broker_kill.values()).count(self.queues.dead)
