"""The words that scripts of several labs use: workers, producers, kills, and counting what became of the tasks.

An act touches the scene, and knows nothing of how a stage looks. A method do_NAME does something; it may return the
story of what went wrong. A method see_NAME returns a Sight: what must be seen, and how long to wait. Everything is
waited for. What one lab alone needs is in its subclass: see acts/.
"""

import signal
from collections.abc import Callable

from labkit.demo import report
from labkit.demo.moment import Moment, called
from labkit.demo.props import Props
from labkit.demo.pushes import Pushes
from labkit.demo.script import Script
from labkit.demo.sight import PATIENCE, Sight, judged
from labkit.demo.view import Panel, View
from labkit.demo.watch import Watch
from labkit.grader import story
from labkit.grader.actor import Actor
from labkit.grader.failure import CheckFailed
from labkit.grader.history import EXITED, WORK_FINISHED, WORK_STARTED
from labkit.grader.processes import exit_words
from labkit.grader.scene import Scene
from labkit.grader.verdict import Verdict
from labkit.grader.words import counted

QUIET = 2.0  # seconds without any task moving, after which nobody is expected to do more


class Act:
    """What is done on the scene, and what is then to be seen there.

    task, who: the task that was in hand at the kill, and the worker that was killed; verdict: after `count`.
    pace: the seconds of work on one task, as the script gave them last.
    """

    PROPS: type[Props] = Props
    AT_MOST_ONCE = False  # whether a task in hand at a kill may be lost, as the lab's contract says
    CENSUS = True  # whether each look finds out where every task is
    LEFT = ""  # what it means that tasks still wait in the end, where that is as it should be
    ASIDE = report.ASIDE  # the word for tasks that cannot be done, and what it means
    HOLDER = "list"  # what the broker keeps tasks in
    AGAIN = report.AGAIN  # what it means that a task was done more than once
    pace = "0"
    owns_broker = False  # whether the scene's broker may be killed

    def __init__(self, scene: Scene, script: Script, watch: Watch, props: Props) -> None:
        self.scene, self.script, self.watch, self.props = scene, script, watch, props
        self.task, self.who, self.verdict = 0, "", Verdict()
        self.workers: dict[str, Actor] = {}
        self._held: Callable[[int], bool] = lambda number: False
        self._monitor: Actor | None = None
        scene.settings |= script.settings_at(watch.speed) | props.settings()
        self.do_pace(str(script.seconds_each))

    # ---- what a lab adds to -------------------------------------------------------------------------------

    def words(self) -> dict[str, object]:
        """What the script's lines may name in braces; its settings are among them."""
        return self.scene.settings | {"tasks": self.script.tasks, "task": self.task, "who": self.who}

    def panels(self, moment: Moment) -> tuple[Panel, ...]:
        """What there is to see at this moment, from top to bottom."""
        raise NotImplementedError

    def facts(self) -> tuple[tuple[str, int, str], ...]:
        """What else was counted: a word, how many, what it means."""
        return ()

    def lay_out(self) -> None:
        """Put what is to be kept into the scene's output folder, as ID.*; most labs' workers have done so."""

    # ---- what is seen all the time ------------------------------------------------------------------------

    def view(self) -> View:
        """The moment as a stage shows it."""
        seconds = self.script.seconds_each / self.watch.speed
        moment = Moment(self.scene, seconds, self.census if self.CENSUS else None)
        news = tuple(
            f"{event.who}: task {number} done in {seconds:.1f} s ({self.called(number)})"
            for event, seconds in moment.finished
            for number in event.tasks
        )
        return View(moment.at, self.panels(moment), news)

    def census(self) -> tuple[dict[int, list[str]], set[int]]:
        """For each task the lists that hold it, and the tasks that are set aside. Disturbs nobody."""
        return self.scene.holdings.where_and_dead()

    def called(self, number: int) -> str:
        """A task in a few words."""
        return called(self.scene, number, self.script.task)

    # ---- what is done -------------------------------------------------------------------------------------

    def do_pace(self, seconds: str) -> None:
        """Have the work that begins from now on take about this long, or no room could follow it.

        The work is real, and the ledger only makes it wait before it begins: that is what a stage is for.
        """
        self.pace = seconds
        longer = max(0.0, float(seconds) - self.unslowed_seconds())
        self.scene.work.slow(self.scene.work.ALL, longer / self.watch.speed)

    def unslowed_seconds(self) -> float:
        """What the work on one task takes when nothing slows it, about."""
        return 0.0

    def do_producer(self, count: str = "", *args: str) -> None:
        """Run the lab's producer to its end."""
        self.scene.lie_in_wait("producer", Pushes(self.scene))
        words = ("--count", count or str(self.script.tasks), *args)
        producer = self.scene.start("producer.py", *words, name="producer")
        self.watch.until(lambda: not producer.running)

    def do_worker(self, name: str) -> None:
        self.workers[name] = self.scene.start("worker.py", name)

    def do_stop(self, name: str) -> None:
        """SIGTERM; the worker finishes what it has in hand."""
        self.ask_to_stop(name)
        self.watch.until(lambda: not self.workers[name].running)

    def ask_to_stop(self, name: str) -> None:
        """SIGTERM; one that somebody has paused goes on, or it would never hear of it."""
        self.workers[name].terminate()
        if self.workers[name].process.paused:
            self.workers[name].resume()

    def do_hold(self) -> None:
        """Make the work on any task wait before it begins: what is to be seen then is not left to luck."""
        self._held = lambda number: True
        self.scene.work.hold()

    def do_release(self) -> None:
        """Let all work go on."""
        self._held = lambda number: False
        self.scene.work.release()

    def do_hold_after(self, count: str) -> None:
        """Make the work on all but the first tasks wait before it begins."""
        held = {task.number for task in self.scene.tasks if task.number > int(count)}
        self._held = held.__contains__
        self.scene.work.hold(*held)

    def do_kill(self, name: str = "") -> None:
        """SIGKILL this worker, or the one that was seen with a task in hand; what was held goes on."""
        self.workers[name or self.who].kill()
        self.do_release()

    def do_kill_broker(self) -> None:
        """SIGKILL the broker."""
        self.scene.kill_broker()

    def do_restart_broker(self) -> None:
        """Start it again on the same data."""
        self.watch.meanwhile(self.scene.restart_broker)

    def do_monitor(self) -> None:
        """Have the lab's monitor take one look."""
        self._monitor = self.scene.start("monitor.py", "--once", "--json", name="monitor")
        self.watch.until(lambda: not self._monitor.running)

    def do_count(self) -> str:
        """Wait until all is done, or nothing moves any more, and judge; return the story of what is amiss."""
        self.do_release()
        if self.scene.holdings.broker_down:
            self.do_restart_broker()
        for worker in self.workers.values():
            if worker.running and worker.process.paused:
                worker.resume()
        self.watch.until(lambda: self._complete() or self._settled())
        try:
            self.verdict = self.scene.wait_done(within=0, at_most_once=self.AT_MOST_ONCE)
        except CheckFailed as failure:
            self.verdict = self.scene.verdict()
            return str(failure)
        return ""

    # ---- what must be seen --------------------------------------------------------------------------------

    def see_waiting(self, count: str) -> Sight:
        def words(depth: int) -> str:
            return f"{counted(depth, 'task')} {'waits' if depth == 1 else 'wait'} in the queue"

        def there() -> str:
            depth = self.scene.depth()
            return words(depth) if depth >= int(count) else ""

        return Sight(words(int(count)), there, instead=lambda: f"{words(self.scene.depth())}.")

    def see_at_work(self, *names: str) -> Sight:
        words = f"{listed(names)} {'are' if len(names) > 1 else 'is'} at work"
        return Sight(words, lambda: set(names) <= self.scene.at_work(), PATIENCE)

    def see_done(self, count: str) -> Sight:
        return Sight(f"{count} tasks are done", lambda: len(self.done()) >= int(count), PATIENCE)

    def see_in_hand(self, name: str = "") -> Sight:
        """This worker, or any, is at work on one of the tasks that are held; everybody else may go on."""

        def there() -> str:
            for who in [name] if name else self.workers:
                begun = [n for event in self.scene.history.events(WORK_STARTED, who) for n in event.tasks]
                if begun and who in self.scene.at_work() and self._held(begun[-1]):
                    self.task, self.who = begun[-1], who
                    others = [task.number for task in self.scene.tasks if task.number != self.task]
                    if others:
                        self.scene.work.release(*others)
                    return f"{who} has task {self.task} in hand: {self.called(self.task)}"
            return ""

        return Sight(f"{name or 'a worker'} takes another task", there, PATIENCE)

    def see_dead(self, name: str = "") -> Sight:
        name, killed = name or self.who, -signal.SIGKILL
        process = self.workers[name].process
        words = f"{name}, process {process.pid}, was {exit_words(killed)}"
        return Sight(words, lambda: process.status == killed)

    def see_stopped(self, *names: str) -> Sight:
        """They have ended after SIGTERM, as they were asked to."""
        processes = [self.workers[name].process for name in names]
        ended = lambda: all(process.status == 0 for process in processes)  # noqa: E731
        return Sight(f"{listed(names)} stopped when asked to, with status 0", ended)

    def see_all_done(self) -> Sight:
        def there() -> str:
            if self._complete():
                aside = self.scene.dead()
                done = f"{len(self.done() - aside)} tasks are done"
                return f"{done}{f', {len(aside)} {self.ASIDE[0]}' if aside else ''}; every {self.HOLDER} is empty"
            if self._settled():
                self.scene.fail("Nobody works any more, and not every task is done.")
            return ""

        return Sight("every task is done", there, 10 * PATIENCE)

    def see_nothing_lost(self) -> Sight:
        sent, lost = self.verdict.sent, self.verdict.lost
        words = f"{max(sent, self.script.tasks)} tasks were sent, and not one is lost"
        instead = f"Lost: {story.names(lost)}." if lost else f"{sent} tasks were sent."
        return judged(sent >= self.script.tasks and not lost, words, words, instead)

    def see_nothing_twice(self) -> Sight:
        twice, words = self.verdict.duplicated, "not one was done twice"
        return judged(not twice, words, words, f"Done more than once: {story.names(twice)}.")

    # ---- looking things up --------------------------------------------------------------------------------

    def setting(self, key: str) -> float:
        """A setting of the lab's scripts, as it is now."""
        return float(self.scene.settings[key])

    def done(self) -> set[int]:
        """The tasks that are done, by number."""
        return self.scene.history.tasks(WORK_FINISHED)

    def keys(self) -> list[str]:
        """Where the task is that was in hand at the kill."""
        return self.scene.where().get(self.task, [])

    def place(self) -> str:
        """A sentence on where it is."""
        keys = self.keys()
        return f"Task {self.task} is in {keys[0] if keys else f'no {self.HOLDER} at all'}."

    def monitor_said(self) -> object:
        """What the lab's monitor said in its one look, or None."""
        return self.scene.json(self._monitor.process.output())

    def _complete(self) -> bool:
        sent = {task.number for task in self.scene.tasks}
        return sent <= self.done() | self.scene.dead() and not self.scene.holdings.holds_any()

    def _settled(self) -> bool:
        """Whether nobody is at work and no task has moved for a while."""
        moved = [event.at for event in self.scene.history.events() if event.tasks or event.what == EXITED]
        return not self.scene.at_work() and self.scene.history.now() - max(moved, default=0) > QUIET


def listed(names: tuple[str, ...]) -> str:
    """Names in words: "alice", "alice, bob and carol"."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
