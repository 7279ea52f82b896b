"""Workers that stand in line at the broker: whom a task wakes, and what SIGTERM and SIGSTOP do to those who wait."""

from labkit.demo.act import listed
from labkit.demo.acts.at_most_once import SHORTEST_STAY, AtMostOnce
from labkit.demo.acts.waiting_line import WaitingLine, Woken
from labkit.demo.props import Props
from labkit.demo.script import Script
from labkit.demo.sight import PATIENCE, Sight, judged
from labkit.demo.watch import Watch
from labkit.grader.actor import Actor
from labkit.grader.commands import TAKING
from labkit.grader.history import COMMAND, WORK_STARTED, Event
from labkit.grader.scene import Scene
from labkit.grader.words import names


class InLine(AtMostOnce):
    """frozen: the worker that is stopped just now, or ""."""

    def __init__(self, scene: Scene, script: Script, watch: Watch, props: Props) -> None:
        super().__init__(scene, script, watch, props)
        self.line = WaitingLine(scene)
        self.frozen = ""

    # ---- what is done -------------------------------------------------------------------------------------

    def do_line(self, *who: str) -> None:
        """Start these workers, each when the one before waits at the broker."""
        self.line.shown = self.line.shown or len(self.scene.tasks) + 1
        for name in who:
            self.do_worker(name)
            self.watch.expect(self.workers[name].waits_for_a_task, f"{name} was to wait at the broker")

    def do_turns(self, count: str) -> None:
        """One task after the other: each comes when all workers wait."""
        for _ in range(int(count)):
            self.do_producer("1")
            self.watch.expect(self._all_wait, "all workers were to wait at the broker again")

    def do_freeze_first(self) -> None:
        """SIGSTOP the worker that is first in line."""
        first = lambda: next(iter(self.line.now(self.workers)), "")  # noqa: E731
        self.frozen = self.watch.expect(first, "a worker was to wait at the broker")
        self.workers[self.frozen].pause()

    def do_thaw(self) -> None:
        """SIGCONT: it goes on where it was."""
        self.workers[self.frozen].resume()

    # ---- what must be seen --------------------------------------------------------------------------------

    def see_waits(self, *who: str) -> Sight:
        """They stand in a blocking command, at the broker; one that looks without waiting ends the wait."""

        def there() -> bool:
            for name in who:
                if polls := [e.verb for e in self.scene.history.events(COMMAND, name) if is_a_look(e)]:
                    self.scene.fail(f"{name} looks with {polls[-1]}, which does not wait for a task.")
            return all(self.workers[name].waits_for_a_task() for name in who)

        words = f"{listed(who)} {'wait' if len(who) > 1 else 'waits'} at the broker"
        return Sight(f"{words}, in a blocking command", there, PATIENCE / 4)

    def see_ends(self, name: str) -> Sight:
        """Asked to stop while it waited at the broker, it ends, with status 0."""

        def there() -> str:
            ended = not self.workers[name].running and self.workers[name].process.status == 0
            return (
                f"{name} ended {self.since_asked(name):.1f} s after SIGTERM, with status 0" if ended else ""
            )

        return Sight(f"{name} ends when asked to", there, PATIENCE / 4, lambda: f"{name} runs on.")

    def see_waits_on(self, name: str) -> Sight:
        """Asked to stop, it waits at the broker all the same; a worker that can end its wait has ended."""
        stay = max(SHORTEST_STAY, 2 / self.watch.speed)

        def there() -> str:
            if not self.workers[name].running:
                return f"{name} has ended, too: this client can leave in the middle of a wait"
            waits = self.workers[name].waits_for_a_task() and self.since_asked(name) > stay
            return f"{name} waits on: the signal has come, and the command goes on" if waits else ""

        return Sight(f"{name} waits on, or ends", there, PATIENCE / 4)

    def see_last_task(self, name: str) -> Sight:
        """The task ends the wait of one that was asked to stop: it is done, and the worker ends."""
        number, worker = len(self.scene.tasks), self.workers[name]

        def there() -> str:
            if worker.running or not (number in self.done() or number in self.scene.where()):
                return ""
            if number not in self.done():
                return f"task {number} waits for the others"
            return f"{name} does task {number}, and ends, {self.since_asked(name):.0f} s after SIGTERM"

        return Sight(f"{name} does task {number}, and ends", there, PATIENCE)

    def see_woken(self) -> Sight:
        """The last task woke one worker, the one that had waited longest."""
        number = len(self.scene.tasks)

        def there() -> str:
            woken = self._woken(number)
            if woken is None or not woken.is_first:
                return ""
            others = listed(woken.line[1:]) if woken.line[1:] else "nobody"
            return f"task {number} woke {woken.who}, first in line; {others} heard nothing of it"

        return Sight(f"task {number} wakes the worker that has waited longest", there, instead=self._who)

    def see_turns(self, count: str) -> Sight:
        """Each of the last tasks woke whoever was first in line."""
        last = [task.number for task in self.scene.tasks][-int(count) :]
        woken = [woken for number in last if (woken := self._woken(number))]
        told = listed(tuple(f"{each.task} woke {each.who}" for each in woken)) if woken else ""
        right = len(woken) == len(last) and all(each.is_first for each in woken)
        expected = f"{names(last)} wake whoever is first in line"
        return judged(right, f"{told}: in turn", expected, self._who())

    def see_frozen(self) -> Sight:
        """The last task was handed to the worker that is frozen: nobody works on it, and no list holds it."""
        number, name = len(self.scene.tasks), self.frozen

        def there() -> bool:
            woken = self._woken(number)
            return bool(woken) and woken.who == name and not self.scene.where() and not self.has_begun(number)

        words = f"the broker gave task {number} to {name}, who knows nothing of it"
        return Sight(words, there, instead=self._who)

    def see_thawed(self) -> Sight:
        """The worker that was frozen finds its task, and does it."""
        number, name = len(self.scene.tasks), self.frozen

        def there() -> bool:
            done = number in self.done() and self.in_hand(name) == number
            self.frozen = "" if done else name
            return done

        return Sight(f"{name} finds task {number}, and does it, as if nothing had been", there, PATIENCE)

    # ---- looking things up --------------------------------------------------------------------------------

    def living(self) -> dict[str, Actor]:
        """The workers that run."""
        return {name: actor for name, actor in self.workers.items() if actor.running}

    def _all_wait(self) -> bool:
        return all(actor.waits_for_a_task() for actor in self.living().values())

    def has_begun(self, task: int) -> bool:
        """Whether the work on a task has begun."""
        return task in self.scene.history.tasks(WORK_STARTED)

    def _woken(self, task: int) -> Woken | None:
        return self.line.woken(task, self.workers)

    def _who(self) -> str:
        """Whom the last task woke, in words."""
        woken = self._woken(len(self.scene.tasks))
        return (
            f"It woke {woken.who}; in line: {', '.join(woken.line)}."
            if woken
            else "It woke nobody, or several."
        )


def is_a_look(event: Event) -> bool:
    """Whether this command asks for a task, and does not wait for one."""
    return event.verb in TAKING and not event.blocking
