"""Lab 3 on stage: what a kill costs with BRPOP and with BLMOVE, a task that comes back, and one that is done twice."""

import dataclasses
from collections import Counter

from labkit.demo.acts.after_the_work import AN_HOUR
from labkit.demo.acts.side_by_side import SideBySide
from labkit.demo.props import Props
from labkit.demo.script import Script
from labkit.demo.sight import PATIENCE, SOON, Sight, judged
from labkit.demo.watch import Watch
from labkit.grader import story
from labkit.grader.history import (
    COMMAND,
    KILLED,
    RESUMED,
    STARTED,
    WORK_FINISHED,
    WORK_STARTED,
)
from labkit.grader.scene import Scene
from labkit.grader.words import names


class Reliable(SideBySide):
    """See the module."""

    AGAIN = "the same file again: at least once"

    def __init__(self, scene: Scene, script: Script, watch: Watch, props: Props) -> None:
        super().__init__(scene, script, watch, props)
        self._late: dict[str, int] = {}  # of each worker that was paused, the task that it had in hand

    # ---- what is done -------------------------------------------------------------------------------------

    def do_kill(self, name: str = "") -> None:
        self.killed_with.add(self.task)
        super().do_kill(name)

    def do_hold_it(self) -> None:
        """Make the work on the task that was in hand at the kill wait before it begins, whoever takes it over."""
        self.scene.work.hold(self.task)

    def do_hold_after_its_work(self, name: str) -> None:
        """Start a worker that is held when it has done a task: its client waits for the broker's answer meanwhile."""
        self.workers.pop(name, None)
        self.hold_after_the_work(name, BLOCK_SECONDS=AN_HOUR)

    def do_pause(self, name: str) -> None:
        """SIGSTOP."""
        self._late[name] = self.task
        self.first_picture = None
        self.workers[name].pause()

    def do_resume(self, name: str) -> None:
        """SIGCONT; what was made meanwhile is remembered."""
        self.first_picture = self.picture(self.task)
        self.workers[name].resume()

    def do_count(self) -> str:
        """Wait until all is done, and judge: BRPOP may lose a task, and who was paused may do one once more."""
        told = super().do_count()
        verdict = self.verdict
        again = set(verdict.repeated_without_cause) - set(self._late.values())
        self.verdict = dataclasses.replace(verdict, excused=sorted({*verdict.excused, *self._late.values()}))
        amiss = verdict.waiting or verdict.unexpected or verdict.done_and_dead or again
        return told if amiss or set(verdict.lost) - {self.popped} else ""

    # ---- a dead worker's task -----------------------------------------------------------------------------

    def see_in_list(self, name: str) -> Sight:
        key = f"{self.queue}:processing:{name}"
        words = f"task {self.task} lies in {key}"
        return Sight(words, lambda: self.keys() == [key], instead=self.place)

    def see_monitor(self, name: str) -> Sight:
        def there() -> str:
            said = self.monitor_said()
            try:
                hands, alive, count = said["processing"], said["alive"], said["waiting"]
                held = ", ".join(f"{who} {number}" for who, number in hands.items())
                words = f"monitor.py: {count} wait; in hand: {held}; alive: {', '.join(alive) or 'nobody'}"
                return words if hands[name] == 1 else ""
            except (AttributeError, LookupError, TypeError):
                return ""

        return Sight(f"the monitor shows 1 task in the list of {name}", there)

    def see_silent(self, name: str) -> Sight:
        return Sight(
            f"{self.queue}:heartbeat:{name} has expired: {name} counts as dead",
            lambda: self.scene.ask("EXISTS", self.key("heartbeat", name)) == 0,
            2 * self._heartbeat + SOON,
        )

    def see_back(self, name: str) -> Sight:
        """The task has left the dead worker's list for the queue, or is in somebody's hands by now."""

        def there() -> str:
            keys = self.keys()
            if keys == [self.queue]:
                return f"task {self.task} is back in the queue"
            gone_on = self.task in self.done() or (keys and f"{self.queue}:processing:{name}" not in keys)
            return f"task {self.task} went back to the queue" if gone_on else ""

        return Sight(f"task {self.task} is back in the queue", there, PATIENCE / 2, self.place)

    def see_taken_over(self, name: str) -> Sight:
        def there() -> str:
            begun = [e for e in self.scene.history.events(WORK_STARTED) if self.task in e.tasks]
            later = self.scene.depth()
            still = f"; {later} younger {'task waits' if later == 1 else 'tasks wait'}" if later else ""
            others = [event.who for event in begun if event.who != name]
            return f"{others[0]} takes task {self.task}{still}" if others else ""

        return Sight(f"another worker takes task {self.task}", there, PATIENCE)

    def see_found_again(self, name: str) -> Sight:
        """Started once more under its name, the worker is at work on what its earlier life has left."""

        def there() -> str:
            killed = self.scene.history.events(KILLED, name)[-1].at
            started = [event.at for event in self.scene.history.events(STARTED, name) if event.at > killed]
            works = [e.at for e in self.scene.history.events(WORK_STARTED, name) if self.task in e.tasks]
            if not started or works[-1:] < started:
                return ""
            after = f"{1000 * (works[-1] - started[-1]):.0f} ms after his start"
            return f"{after} {name} is at work on task {self.task} again"

        return Sight(f"{name} is at work on task {self.task} again", there, PATIENCE, self.place)

    def see_lists_empty(self) -> Sight:
        """Every task of the lab's queue is done, and nobody holds any."""

        def there() -> str:
            own = self.worlds.own()
            right = own <= self.done() | self.scene.dead() and not self.scene.where()
            return f"all {len(own)} tasks of {self.queue} are done, and every list is empty" if right else ""

        return Sight(f"every task of {self.queue} is done, and every list is empty", there, PATIENCE)

    # ---- a worker that is not dead ------------------------------------------------------------------------

    def see_paused(self, name: str) -> Sight:
        key, process = f"{self.queue}:processing:{name}", self.workers[name].process
        words = f"{name}, process {process.pid}, stands still; task {self.task} lies in {key}"
        return Sight(words, lambda: process.running and self.keys() == [key], instead=self.place)

    def see_alive(self, name: str) -> Sight:
        process = self.workers[name].process
        return Sight(f"and yet process {process.pid} is there", lambda: process.running)

    def see_done_by(self, name: str) -> Sight:
        def there() -> bool:
            return name in self._done_by(self.task) and not self.keys()

        return Sight(f"{name} has done task {self.task}; no list holds it", there, PATIENCE, self.place)

    def see_late(self, name: str) -> Sight:
        """The worker that was paused has finished its task, which another has done: it comes to nothing."""
        resumed = [event.at for event in self.scene.history.events(RESUMED, name)]

        def there() -> str:
            finished = [e.at for e in self.scene.history.events(WORK_FINISHED, name) if self.task in e.tasks]
            if not finished or finished[-1] < resumed[-1]:
                return ""
            waits = [e.at for e in self.scene.history.events(COMMAND, name) if e.blocking]
            keys = self.keys()  # before its makers: what comes back is done a third time
            makers = self._done_by(self.task)
            if len(makers) > 2:
                self.scene.fail(f"Task {self.task} was done by {', then '.join(makers)}.", task=self.task)
            if keys or not waits or waits[-1] < finished[-1]:
                return ""
            return f"{name} finishes task {self.task} after all; no list holds it, none is changed"

        return Sight(
            f"{name} finishes task {self.task}, and nothing comes of it", there, PATIENCE, self.place
        )

    # ---- the end ------------------------------------------------------------------------------------------

    def see_one_lost(self) -> Sight:
        """Nothing was lost but what the one with BRPOP had in hand."""
        own, lost = len(self.worlds.own()), self.verdict.lost
        words = f"{self.queue}: none of {own} tasks is lost; {self.worlds.popped}: one of {len(self.worlds.twins)}"
        instead = (
            f"Lost: {names(lost)}." if lost else f"{self.verdict.sent} tasks were sent, and none is lost."
        )
        expected = "BRPOP has lost the task in hand at the kill, and BLMOVE none"
        right = self.popped and lost == [self.popped]
        return judged(right, f"{words}, task {self.popped}", expected, instead)

    def see_twice(self) -> Sight:
        """Done twice is what was done and not yet acknowledged at a kill or a pause, and no more often."""
        done = Counter(n for event in self.scene.history.events(WORK_FINISHED) for n in event.tasks)
        twice = sorted({*self._late.values(), *([self._after.task] if self._after else [])})
        right = twice and {number: done[number] for number in done if done[number] > 1} == dict.fromkeys(
            twice, 2
        )
        words = f"{names(twice)} were done twice, and no other"
        instead = f"Done more than once: {story.names(self.verdict.duplicated)}."
        return judged(right, words, "only what was done and not acknowledged is done twice", instead)

    def see_recovered(self) -> Sight:
        hit = sorted(self.killed_with)
        words = f"{names(hit)}, in hand at a kill, were done all the same"
        # dead: a photograph that cannot be read
        right = hit and set(hit) <= {*self.verdict.recovered, *self.verdict.dead}
        return judged(right, words, "the tasks in hand at a kill were recovered", "They were not.")

    # ---- looking things up --------------------------------------------------------------------------------

    def _complete(self) -> bool:
        sent = {task.number for task in self.scene.tasks} - {self.popped}
        return sent <= self.done() | self.scene.dead() and not self.scene.holdings.holds_any()

    def _done_by(self, task: int) -> list[str]:
        """Who has done the task, in order."""
        return [event.who for event in self.scene.history.events(WORK_FINISHED) if task in event.tasks]

    @property
    def _heartbeat(self) -> float:
        return self.setting("HEARTBEAT_SECONDS")


ACT = Reliable
