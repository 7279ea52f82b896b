"""What labs 1 and 2 have in common on stage: a stop finishes what is in hand, and a kill loses it."""

import contextlib

from labkit.demo.act import Act, listed
from labkit.demo.props import Props
from labkit.demo.script import Script
from labkit.demo.sight import PATIENCE, Sight, judged
from labkit.demo.watch import Watch
from labkit.grader import story
from labkit.grader.history import EXITED, WORK_STARTED
from labkit.grader.scene import Scene

SHORTEST_STAY = 1.0  # seconds after SIGTERM in which a worker that does not finish its task has long ended


class AtMostOnce(Act):
    """See the module."""

    AT_MOST_ONCE = True

    def __init__(self, scene: Scene, script: Script, watch: Watch, props: Props) -> None:
        super().__init__(scene, script, watch, props)
        self._asked: dict[str, float] = {}  # when each worker was asked to stop

    # ---- what is done -------------------------------------------------------------------------------------

    def do_ask_to_stop(self, *names: str) -> None:
        """SIGTERM, and nobody waits for the end."""
        for name in names:
            self._asked[name] = self.scene.history.now()
            self.ask_to_stop(name)

    def do_await_end(self, *names: str) -> None:
        """Wait until they have ended."""
        self.watch.until(lambda: not any(self.workers[name].running for name in names))

    # ---- what must be seen --------------------------------------------------------------------------------

    def see_stays(self, name: str) -> Sight:
        """Asked to stop, and a moment later still at the task that it has in hand."""
        number, stay = self.in_hand(name), max(SHORTEST_STAY, 2 / self.watch.speed)

        def there() -> bool:
            if not self.workers[name].running:
                self.scene.fail(f"{name} has ended, with task {number} in hand.", task=number)
            return name in self.scene.at_work() and self.since_asked(name) > stay

        return Sight(f"{name} was asked to stop, and stays for task {number}", there, PATIENCE / 4)

    def see_nowhere(self) -> Sight:
        """The task that was in hand at the kill is in no list, and is not done."""

        def there() -> bool:
            return not self.keys() and self.task not in self.scene.dead() | self.done()

        return Sight(f"task {self.task} is in no list, and nobody has done it", there, instead=self.place)

    def see_monitor(self, *what: str) -> Sight:
        """The monitor tells these numbers."""

        def there() -> str:
            said = self.monitor_said()
            with contextlib.suppress(LookupError, TypeError):
                return f"monitor.py: {', '.join(f'{said[each]} {each}' for each in what)}"
            return ""

        return Sight(f"the monitor tells how many are {listed(what)}", there)

    def see_lost(self) -> Sight:
        """The task in hand at the kill is lost, and no other: so the lab's contract says."""
        lost = self.verdict.lost
        words = f"lost: task {self.task}, in hand at the kill, as expected; and no other"
        instead = f"Lost: {story.names(lost)}." if self.task or lost else "No worker was killed."
        return judged(lost == [self.task], words, "only the task in hand at the kill is lost", instead)

    # ---- looking things up --------------------------------------------------------------------------------

    def in_hand(self, name: str) -> int:
        """The task on which a worker began its work last; 0 before the first."""
        begun = self.scene.history.events(WORK_STARTED, name)
        return max(begun[-1].tasks, default=0) if begun else 0

    def since_asked(self, name: str) -> float:
        """Seconds since a worker was asked to stop, until now or until its end."""
        ends = [event.at for event in self.scene.history.events(EXITED, name) if event.at > self._asked[name]]
        return (ends[-1] if ends else self.scene.history.now()) - self._asked[name]
