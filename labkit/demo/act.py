"""What the words of a script do and see: the one part of a demonstration that touches the scene.

A method do_NAME does something. A method see_NAME returns a Sight: what must be seen, and how long to wait.
Everything is waited for; a pause is only there for the room to read, and shrinks with `speed`.
"""

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from labkit.demo import view
from labkit.demo.photographs import Drawing, megapixels, usable
from labkit.demo.script import Script, Step
from labkit.demo.signals import Signals
from labkit.demo.stage import NOT_SEEN, NOTE, SAY, SEEN, Stage
from labkit.grader import story
from labkit.grader.actor import Actor
from labkit.grader.failure import CheckFailed
from labkit.grader.history import EXITED, WORK_FINISHED, WORK_STARTED
from labkit.grader.processes import exit_words
from labkit.grader.scene import Scene
from labkit.grader.verdict import Verdict

FRAME_SECONDS = 0.1
READING = 36.0  # characters a second: a line stays in sight for longer than the pause that it makes
EXPECTANT = ("...", "?")  # after a line that ends so the room reads first, otherwise while the thing happens
LAST_LOOK_SECONDS = 1.5
SOON = 3.0  # seconds for what needs no waiting
PATIENCE = 60.0  # seconds for what needs work, on a slow machine and with large photographs
QUIET = 2.0  # seconds without any task moving, after which nobody is expected to do more
PILLOW_SECONDS = 0.05  # that the work itself needs for a million pixels, about
SHORTEST_HEARTBEAT = 1.0  # seconds; with less, a worker on a busy machine may look dead
TO_BE_SEEN = "this was to be seen: "


@dataclass
class Sight:
    """Something that must be seen. `there` may return better words for it than True.

    instead: words for what there was to see when it was not there.
    """

    words: str
    there: Callable[[], object]
    within: float = SOON
    instead: Callable[[], str] = lambda: ""


class Act:
    """One performance. `passed` stays true while everything is seen; `story` tells of what was not."""

    def __init__(
        self,
        scene: Scene,
        script: Script,
        stage: Stage,
        signals: Signals,
        *,
        drawing: Drawing | None,
        photographs: list[str],
        speed: float,
    ) -> None:
        """drawing: the lab's own photographs; None if `photographs` in the scene's INPUT_DIR are given."""
        self.scene, self.script, self.stage, self.signals = scene, script, stage, signals
        self._drawing, self._photographs, self._speed = drawing, photographs, speed
        self.passed, self.story = True, ""
        self.verdict = Verdict()
        self.task = 0  # the one in the hands of the worker that is killed
        self._workers: dict[str, Actor] = {}
        self._monitor: Actor | None = None
        self._next_frame = 0.0
        self._held: list[int] = []
        self._unslowed = 0.0  # seconds that the work on one task takes when nothing slows it, about
        self._heartbeat = float(script.settings["HEARTBEAT_SECONDS"])
        if speed > 1:
            self._heartbeat = max(SHORTEST_HEARTBEAT, self._heartbeat / speed)
        scene.settings |= {key: str(value) for key, value in script.settings.items()}
        scene.settings["HEARTBEAT_SECONDS"] = str(self._heartbeat)

    # ---- playing ------------------------------------------------------------------------------------------

    def play(self) -> None:
        """Play all steps; after one that failed, only those that are always played."""
        for step in self.script.steps:
            if self.passed or step.always:
                self._play(step)
        self._wait_until(time.monotonic() + LAST_LOOK_SECONDS / self._speed)

    def _play(self, step: Step) -> None:
        read_until = 0.0
        for line in step.say:
            self._wait_until(read_until)
            words = line.format(tasks=self.script.tasks, task=self.task)
            self.stage.line(SAY, words)
            read_until = time.monotonic() + len(words) / READING / self._speed
            if words.endswith(EXPECTANT):
                self._wait_until(read_until)
        for name, *args in step.do:
            getattr(self, f"do_{name}")(*args)
        for name, *args in step.see:
            self._see(getattr(self, f"see_{name}")(*args))
            if not self.passed and not step.always:
                break
        self._wait_until(read_until)

    def _see(self, sight: Sight) -> None:
        """Wait for a sight and say whether it came; one that need not be waited for is looked for once."""
        try:
            seen = self._wait_for(sight) if sight.within else sight.there()
        except CheckFailed as failure:
            seen = None
            self.story = self.story or str(failure)
        self._show()
        if seen:
            self.stage.line(SEEN, seen if isinstance(seen, str) else sight.words)
            return
        self.passed = False
        self.stage.line(NOT_SEEN, sight.words)
        first, _, _ = self.story.partition("\n")
        timed_out = TO_BE_SEEN.lower() in first.lower()
        if instead := sight.instead() if timed_out or not sight.within else first:
            self.stage.line(NOTE, instead)

    def _wait_for(self, sight: Sight) -> object:
        """Wait for a sight, or raise CheckFailed with a story; a script that dies ends the wait at once."""
        seen: list[object] = []

        def there() -> object:
            self.look()
            seen[:] = seen or filter(None, [sight.there()])
            return seen

        self.scene.wait_until(there, TO_BE_SEEN + sight.words, within=sight.within, task=self.task)
        return seen[0]

    def look(self) -> None:
        """Show the moment, if it is time for that; raise Stopped when the demonstration is to end."""
        self.signals.check()
        if time.monotonic() >= self._next_frame:
            self._show()

    def _show(self) -> None:
        took = [seconds for _, seconds in view.finished(self.scene.history.events())]
        each = sum(took) / len(took) if took else self.script.seconds_each / self._speed
        self.stage.show(view.look(self.scene, list(self._workers), each))
        self._next_frame = time.monotonic() + FRAME_SECONDS

    def _until(self, condition: Callable[[], object], within: float = PATIENCE) -> object:
        return self.scene.wait(lambda: self.look() or condition(), within=within)

    def _wait_until(self, moment: float) -> None:
        """Give the room time to read; nothing else is awaited by the clock."""
        self._until(lambda: False, moment - time.monotonic())

    # ---- what is done -------------------------------------------------------------------------------------

    def do_photographs(self) -> None:
        """Have the photographs there, and the work paced by their size."""
        if self._drawing:
            if self._drawing.under_way:
                self.stage.line(NOTE, "(the photographs are being drawn, this once)")
            self._drawing.wait(lambda there: self._until(there, 5 * PATIENCE))
        folder = Path(self.scene.settings["INPUT_DIR"])
        names = self._photographs or usable(folder, self.script.tasks)
        self._unslowed = PILLOW_SECONDS * sum(megapixels(folder / name) for name in names) / len(names)
        self.do_pace(str(self.script.seconds_each))

    def do_pace(self, seconds: str) -> None:
        """Have the work that begins from now on take about this long, or no room could follow it.

        The work is real, and the ledger only makes it wait before it begins: that is what a stage is for.
        """
        self.scene.work.slow(self.scene.work.ALL, max(0.0, float(seconds) - self._unslowed) / self._speed)

    def do_producer(self) -> None:
        """Run the lab's producer to its end, and take note of the tasks that it queues."""
        names = ["--", *self._photographs] if self._photographs else []
        count = str(self.script.tasks)
        producer = self.scene.start("producer.py", "--count", count, *names, name="producer")
        self._until(lambda: self._adopt() or not producer.running)
        self._adopt()

    def _adopt(self) -> None:
        known = {task.body for task in self.scene.tasks}
        for body in reversed(self.scene.contents(self.scene.queue)):  # the oldest is at the right end
            if body not in known:
                self.scene.adopt(body)

    def do_worker(self, name: str) -> None:
        self._workers[name] = self.scene.start("worker.py", name)

    def do_hold_after(self, count: str) -> None:
        """Make the work on all but the first tasks wait before it begins: no kill is left to luck."""
        self._held = [task.number for task in self.scene.tasks][int(count) :]
        self.scene.work.hold(*self._held)

    def do_heartbeat(self, name: str) -> None:
        """Wait for a heartbeat: after a kill right behind it, the room sees the whole of it run out."""
        full = 950 * self._heartbeat  # of 1000 ms a second
        self._until(lambda: self.scene.ask("PTTL", self._key("heartbeat", name)) > full, self._heartbeat)

    def do_kill(self, name: str) -> None:
        self._workers[name].kill()
        self.scene.work.release()

    def do_monitor(self) -> None:
        """Have the lab's monitor take one look."""
        self._monitor = self.scene.start("monitor.py", "--once", "--json", name="monitor")
        self._until(lambda: not self._monitor.running)

    def do_count(self) -> None:
        """Wait until all is done, or nothing moves any more, and judge."""
        self._until(lambda: self._complete() or self._settled())
        try:
            self.verdict = self.scene.wait_done(within=0)
        except CheckFailed as failure:
            self.verdict, self.story, self.passed = self.scene.verdict(), str(failure), False

    # ---- what must be seen --------------------------------------------------------------------------------

    def see_waiting(self, count: str) -> Sight:
        return Sight(
            f"{count} tasks wait in the queue",
            lambda: self.scene.depth() == int(count),
            instead=lambda: f"{self.scene.depth()} tasks wait.",
        )

    def see_at_work(self, *names: str) -> Sight:
        words = f"{' and '.join(names)} are at work"
        return Sight(words, lambda: set(names) <= self.scene.at_work(), PATIENCE)

    def see_done(self, count: str) -> Sight:
        return Sight(f"{count} tasks are done", lambda: len(self._done()) >= int(count), PATIENCE)

    def see_in_hand(self, name: str) -> Sight:
        """The worker is at work on one of the tasks that are held; everybody else may go on."""

        def there() -> str:
            begun = [n for e in self.scene.history.events(WORK_STARTED, name) for n in e.tasks]
            if not begun or begun[-1] not in self._held:
                return ""
            self.task = begun[-1]
            self.scene.work.release(*(number for number in self._held if number != self.task))
            return f"{name} has task {self.task} in hand: {self._called(self.task)}"

        return Sight(f"{name} takes another task", there, PATIENCE)

    def see_dead(self, name: str) -> Sight:
        process, killed = self._workers[name].process, -signal.SIGKILL
        words = f"{name}, process {process.pid}, was {exit_words(killed)}"
        return Sight(words, lambda: process.status == killed)

    def see_in_list(self, name: str) -> Sight:
        key = f"{self._queue}:processing:{name}"
        words = f"task {self.task} lies in {key}"
        return Sight(words, lambda: self._keys() == [key], instead=self._place)

    def see_monitor(self, name: str) -> Sight:
        def there() -> str:
            said = self.scene.json(self._monitor.process.output())
            try:
                hands, alive, count = said["processing"], said["alive"], said["waiting"]
                held = ", ".join(f"{who} {number}" for who, number in hands.items())
                words = f"monitor.py: {count} wait; in hand: {held}; alive: {', '.join(alive)}"
                return words if hands[name] == 1 else ""
            except (AttributeError, LookupError, TypeError):
                return ""

        return Sight(f"the monitor shows 1 task in the list of {name}", there)

    def see_silent(self, name: str) -> Sight:
        return Sight(
            f"{self._queue}:heartbeat:{name} has expired: {name} counts as dead",
            lambda: self.scene.ask("EXISTS", self._key("heartbeat", name)) == 0,
            2 * self._heartbeat + SOON,
        )

    def see_back(self, name: str) -> Sight:
        """The task has left the dead worker's list for the queue, or is in somebody's hands by now."""

        def there() -> str:
            keys = self._keys()
            if keys == [self._queue]:
                return f"task {self.task} is back in the queue"
            gone_on = self.task in self._done() or (keys and f"{self._queue}:processing:{name}" not in keys)
            return f"task {self.task} went back to the queue" if gone_on else ""

        return Sight(f"task {self.task} is back in the queue", there, 4 * self._heartbeat + SOON, self._place)

    def see_taken_over(self, name: str) -> Sight:
        def there() -> str:
            begun = [e for e in self.scene.history.events(WORK_STARTED) if self.task in e.tasks]
            later = self.scene.depth()
            still = f"; {later} younger {'task waits' if later == 1 else 'tasks wait'}" if later else ""
            others = [event.who for event in begun if event.who != name]
            return f"{others[0]} takes task {self.task}{still}" if others else ""

        return Sight(f"another worker takes task {self.task}", there, PATIENCE)

    def see_all_done(self) -> Sight:
        def there() -> str:
            if self._complete():
                aside = self.scene.dead()
                done = f"{len(self._done() - aside)} tasks are done"
                return f"{done}{f', {len(aside)} set aside' if aside else ''}; every list is empty"
            if self._settled():
                self.scene.fail("Nobody works any more, and not every task is done.")
            return ""

        return Sight("every task is done", there, 10 * PATIENCE)

    def see_nothing_lost(self) -> Sight:
        sent, lost = self.verdict.sent, self.verdict.lost
        return Sight(
            f"{self.script.tasks} tasks were sent, and not one is lost",
            lambda: sent == self.script.tasks and not lost,
            within=0,
            instead=lambda: f"Lost: {story.names(lost)}." if lost else f"{sent} tasks were sent.",
        )

    def see_nothing_twice(self) -> Sight:
        twice = self.verdict.duplicated
        words = "not one was done twice"
        return Sight(words, lambda: not twice, 0, lambda: f"Done more than once: {story.names(twice)}.")

    def see_recovered(self) -> Sight:
        def there() -> str:
            done = [e.who for e in self.scene.history.events(WORK_FINISHED) if self.task in e.tasks]
            if self.task in self.verdict.recovered:
                return f"task {self.task}, in hand at the kill, was done by {done[-1]}"
            aside = self.task in self.verdict.dead  # a photograph that cannot be read, in somebody's folder
            return f"task {self.task}, in hand at the kill, was set aside" if aside else ""

        return Sight("the task in hand at the kill was recovered", there, within=0)

    # ---- looking things up --------------------------------------------------------------------------------

    def _called(self, number: int) -> str:
        return view.called(self.scene, number, self.script.task)

    @property
    def _queue(self) -> str:
        """The queue as the lab calls it; `_key` and the scene use its name at the broker."""
        return self.scene.run.lab.queue

    def _key(self, kind: str, name: str) -> str:
        return f"{self.scene.queue}:{kind}:{name}"

    def _keys(self) -> list[str]:
        """Where the task is that was in hand at the kill."""
        return self.scene.where().get(self.task, [])

    def _place(self) -> str:
        keys = self._keys()
        return f"Task {self.task} is in {f'{keys[0]}' if keys else 'no list at all'}."

    def _done(self) -> set[int]:
        return {number for event in self.scene.history.events(WORK_FINISHED) for number in event.tasks}

    def _complete(self) -> bool:
        sent = {task.number for task in self.scene.tasks}
        return sent <= self._done() | self.scene.dead() and not self.scene.where()

    def _settled(self) -> bool:
        """Whether nobody is at work and no task has moved for a while."""
        moved = [event.at for event in self.scene.history.events() if event.tasks or event.what == EXITED]
        return not self.scene.at_work() and self.scene.history.now() - max(moved, default=0) > QUIET
