"""The first part of lab 3's demonstration: one worker takes with BRPOP and one with BLMOVE, the same tasks."""

from pathlib import Path

from labkit.course import Lab
from labkit.demo import panels
from labkit.demo.acts.image_work import ImageWork, Photographs
from labkit.demo.acts.two_worlds import TwoWorlds
from labkit.demo.moment import DEAD, ENDED, FROZEN, Moment
from labkit.demo.props import Props
from labkit.demo.script import Script
from labkit.demo.sight import PATIENCE, Sight, judged
from labkit.demo.view import FAINT, GONE, IN_HAND, PLAIN, STRONG, Cell, Panel, Words
from labkit.demo.watch import Watch
from labkit.grader.history import COMMAND, REPLY, WORK_FINISHED, WORK_STARTED
from labkit.grader.scene import Scene
from labkit.grader.words import names

POPPING_WORKER = Path(__file__).with_name("popping_worker.py")
POPPER, MOVER = "popper", "alice"  # who takes with BRPOP, and who with BLMOVE
WORKERS_SHOWN = 3


class PhotographsAndPopper(Photographs):
    """Lays the worker that takes with BRPOP beside the submission's files."""

    def __init__(self, lab: Lab, script: Script, photos: Path | None) -> None:
        super().__init__(lab, script, photos)
        self.files = {POPPING_WORKER.name: POPPING_WORKER.read_bytes()}


class SideBySide(ImageWork):
    """See the module."""

    PROPS = PhotographsAndPopper

    def __init__(self, scene: Scene, script: Script, watch: Watch, props: Props) -> None:
        super().__init__(scene, script, watch, props)
        self.worlds = TwoWorlds(scene, POPPER)
        self.popped = 0  # the task that the one with BRPOP had in hand at the kill
        self.killed_with: set[int] = set()  # the tasks of the lab's queue in hand at a kill

    # ---- what is seen all the time ------------------------------------------------------------------------

    def panels(self, moment: Moment) -> tuple[Panel, ...]:
        shown = [name for name in self.workers if moment.worker(name).state != ENDED]
        lists = [name for name in shown if name != POPPER][-2:]
        return (
            self._workers_panel(moment, shown[-WORKERS_SHOWN:]),
            self.worlds.panel(moment, lists),
            panels.wire_panel(moment, ["producer", *self.workers]),
        )

    def _workers_panel(self, moment: Moment, shown: list[str]) -> Panel:
        rows = []
        for name in shown:
            worker = moment.worker(name)
            # What a dead worker had may be another's by now.
            had = moment.in_list(f"{self.queue}:processing:{name}") + moment.elsewhere
            holds = worker.state != DEAD or worker.task in had
            cells: list[Cell] = list(panels.worker_cells(worker, self.called, holds=holds))
            if worker.state not in (DEAD, FROZEN) and self.held_after(name):
                cells[1:3] = (
                    Words("‖ held", IN_HAND),
                    f"{self.held_after(name):>2}  done, the broker not told",
                )
            rows.append((*cells, self._heartbeat_cell(moment, name, bold=worker.state == DEAD)))
        heads = ("", "", "in hand", "progress", "heartbeat")
        return panels.workers_panel((8, 8, 0, 14, 9), rows, heads, lines=WORKERS_SHOWN)

    def _heartbeat_cell(self, moment: Moment, name: str, *, bold: bool) -> Cell:
        """Seconds until the key expires; a key that never was is told from one that has expired."""
        left = self.scene.ask("PTTL", self.key("heartbeat", name)) / 1000
        if left >= 0:
            return Words(f"♥ {left:.1f} s", STRONG if bold else PLAIN)
        had_one = any(event.who == name and event.verb == "SET" for event in moment.events)
        return Words(" EXPIRED ", GONE) if had_one else Words("-", FAINT)

    def facts(self) -> tuple[tuple[str, int, str], ...]:
        lost, twins = set(self.verdict.lost), set(self.worlds.twins.values())
        own = self.worlds.own()
        return (
            ("BRPOP lost", len(lost & twins), f"of {len(twins)} tasks"),
            ("BLMOVE lost", len(lost & own), f"of {len(own)} tasks"),
        )

    # ---- what is done -------------------------------------------------------------------------------------

    def do_twins(self) -> None:
        """Queue each task once more, in the queue of the one that takes with BRPOP."""
        self.worlds.queue_twins()

    def do_worker(self, name: str) -> None:
        self.workers.pop(name, None)  # those that were started last are shown
        super().do_worker(name)

    def do_popper(self) -> None:
        """Start the worker that takes with BRPOP."""
        self.workers.pop(POPPER, None)
        self.workers[POPPER] = self.scene.start(POPPING_WORKER.name, POPPER, QUEUE=self.worlds.key)

    def do_hold_after_twins(self, count: str) -> None:
        """Make the work on all but so many tasks of each queue wait before it begins."""
        pairs = list(self.worlds.twins.items())[int(count) :]
        held = {number for pair in pairs for number in pair}
        self._held = held.__contains__
        self.scene.work.hold(*held)

    def do_kill_both(self) -> None:
        """SIGKILL both, each with its twin of the same task in hand; what was held goes on."""
        self.killed_with.add(self.task)
        for name in (POPPER, MOVER):
            self.workers[name].kill()
        self.do_release()

    # ---- what must be seen --------------------------------------------------------------------------------

    def see_twins_wait(self, count: str) -> Sight:
        def depths() -> tuple[int, int]:
            return self.scene.depth(), self.scene.ask("LLEN", self.worlds.key)

        def words(own: int, popped: int) -> str:
            return f"{own} tasks wait in {self.queue}, and {popped} in {self.worlds.popped}"

        there = lambda: depths() == (int(count), int(count)) and words(*depths())  # noqa: E731
        return Sight(words(int(count), int(count)), there, instead=lambda: f"{words(*depths())}.")

    def see_twins_in_hand(self) -> Sight:
        """Both are at work on the same task, each on its own."""

        def begun(name: str) -> int:
            started = [n for event in self.scene.history.events(WORK_STARTED, name) for n in event.tasks]
            return started[-1] if started and name in self.scene.at_work() else 0

        def there() -> str:
            own, popped = begun(MOVER), begun(POPPER)
            if not own or not self._held(own) or self.worlds.twins.get(own) != popped:
                return ""
            self.task, self.who, self.popped = own, MOVER, popped
            return f"{MOVER} has task {own}, {POPPER} task {popped}: {self.called(own)}"

        return Sight("both have their twin of the same task in hand", there, PATIENCE)

    def see_commands(self) -> Sight:
        """What each has sent for the tasks that it has done: the price of a list of one's own."""

        def sent(name: str) -> tuple[int, int]:
            """Commands that brought or named those tasks, and how many tasks."""
            events, done = self.scene.history.events(who=name), self._done_tasks(name)
            numbers = {e.number for e in events if e.what in (COMMAND, REPLY) and done & set(e.tasks)}
            return len(numbers), len(done)

        (popped, tasks), (moved, own) = sent(POPPER), sent(MOVER)
        words = f"for {own} tasks each: {POPPER} sent {popped} commands, {MOVER} {moved}"
        right = own == tasks and 0 < popped < moved
        return judged(right, words, f"{MOVER} sends more commands for as many tasks", f"{words}.")

    def see_nowhere(self) -> Sight:
        number = self.popped
        there = lambda: number not in self.scene.where() and number not in self.done()  # noqa: E731
        return Sight(f"task {number} is in no list: its only copy was in {POPPER}'s memory", there)

    def see_popped_rest(self) -> Sight:
        """The new worker of the other world has done what still waited, and waits."""
        rest = set(self.worlds.twins.values()) - {self.popped}

        def there() -> bool:
            idle = self.workers[POPPER].waits_for_a_task() and not self.scene.ask("LLEN", self.worlds.key)
            return idle and rest <= self.done() | self.scene.dead()

        words = f"{POPPER} has done {names(rest)}, and waits for more"
        return Sight(words, there, PATIENCE)

    def see_lost(self) -> Sight:
        """All of the lab's tasks are done; of the others all but one, which nobody has any more."""

        def there() -> str:
            own, done, where = self.worlds.own(), self.done() | self.scene.dead(), self.scene.where()
            if not own <= done or where or self.popped in done:
                return ""
            twins = set(self.worlds.twins.values())
            return (
                f"done with BLMOVE: {len(own)} of {len(own)}; with BRPOP: {len(twins & done)} of {len(twins)}"
            )

        words = "with BLMOVE all tasks are done, and with BRPOP all but one"
        return Sight(words, there, PATIENCE, self.place)

    # ---- looking things up --------------------------------------------------------------------------------

    def _done_tasks(self, name: str) -> set[int]:
        return {n for event in self.scene.history.events(WORK_FINISHED, name) for n in event.tasks}

    @property
    def queue(self) -> str:
        """The queue as the lab calls it; `key` and the scene use its name at the broker."""
        return self.scene.run.lab.queue

    def key(self, kind: str, name: str) -> str:
        return f"{self.scene.queue}:{kind}:{name}"
