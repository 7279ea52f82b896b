"""Lab 2 on stage: a worker that polls beside one that blocks, and a broker that dies under those who wait."""

from pathlib import Path

from labkit.course import Lab
from labkit.demo import panels
from labkit.demo.act import listed
from labkit.demo.acts.in_line import InLine
from labkit.demo.acts.pairs import Pairs
from labkit.demo.moment import DEAD, ENDED, FROZEN, Moment
from labkit.demo.props import Props
from labkit.demo.script import Script
from labkit.demo.sight import PATIENCE, Sight, judged
from labkit.demo.view import DONE, FAINT, GONE, IN_HAND, STRONG, WAITING, Cell, Panel, Words
from labkit.demo.watch import Watch
from labkit.grader.history import BROKER_RESTARTED, REPLY, WORK_FINISHED
from labkit.grader.material.lab02_blocking import trouble_with
from labkit.grader.scene import Scene
from labkit.grader.words import counted, names

POLLING_WORKER = Path(__file__).with_name("polling_worker.py")
POLLING, BLOCKING = "polling", "alice"
SHORTEST_COUNT = 2.5  # seconds over which commands are counted: more than one wait at the broker
SECONDS_A_DAY = 86_400
STILL_SECONDS = 0.1  # in which a waiting worker has long begun


class PollingWorker(Props):
    """Lays the worker that polls beside the submission's files."""

    def __init__(self, lab: Lab, script: Script, photos: Path | None) -> None:
        super().__init__(lab, script, photos)
        self.files = {POLLING_WORKER.name: POLLING_WORKER.read_bytes()}


class Blocking(InLine):
    """See the module."""

    PROPS = PollingWorker

    def __init__(self, scene: Scene, script: Script, watch: Watch, props: Props) -> None:
        super().__init__(scene, script, watch, props)
        self.pairs = Pairs(scene, (f"{scene.queue}:polled", scene.queue))
        self._counted: tuple[float, dict[str, int]] = (1.0, {})  # seconds; commands of each worker
        self._connections: dict[str, int] = {}  # of each worker, when the broker was killed
        self._hands: dict[str, int] = {}  # what each worker had in hand then, if anything
        self._waited: list[int] = []  # the tasks that waited in a queue then

    # ---- what is seen all the time ------------------------------------------------------------------------

    def panels(self, moment: Moment) -> tuple[Panel, ...]:
        return (
            self._workers_panel(moment),
            self.line.panel(self.workers) if self.line.shown else self.pairs.panel((POLLING, BLOCKING)),
            self._tasks_panel(moment),
            panels.wire_panel(moment, ["producer", *self.workers]),
        )

    def _workers_panel(self, moment: Moment) -> Panel:
        rows = []
        for name in self.workers:
            worker = moment.worker(name)
            if worker.state == ENDED:
                continue  # it has gone home, and others need its place
            holds = worker.state != DEAD or worker.task in moment.elsewhere
            cells: list[Cell] = list(panels.worker_cells(worker, self.called, holds=holds))
            if not moment.broker_up and not worker.task and worker.state not in (FROZEN, DEAD):
                cells[1] = Words("✗ no broker", GONE)
            counts = (
                panels.number(moment.commands(name), width=8),
                panels.number(moment.rate(name), 1, width=9),
            )
            rows.append((*cells, *counts))
        heads = ("", "", "in hand", "progress", "commands", " a second")
        return panels.workers_panel((8, 11, 0, 11, 8, 9), rows, heads, lines=3)

    def _tasks_panel(self, moment: Moment) -> Panel:
        in_memory = moment.in_memory(self.workers)
        nowhere = [number for number in moment.elsewhere if number not in in_memory]
        memory = panels.task_row("only in memory", in_memory, IN_HAND)
        if nowhere:
            memory = panels.task_row("in no list", nowhere, GONE, "?")
        rows = [
            *(self._queue_row(moment, key) for key in self._queues()),
            *((memory,) if self.line.shown else ()),
            panels.task_row("done", moment.done, DONE, newest=True),
        ]
        broker = "broker: up" if moment.broker_up else "broker: KILLED"
        return panels.task_panel(f"tasks: {moment.total}", rows, broker)

    def _queues(self) -> tuple[str, ...]:
        """The queues that are shown, as the lab calls them: the poller has one of its own."""
        queue = self.scene.run.lab.queue
        return (queue,) if self.line.shown else (f"{queue}:polled", queue)

    @staticmethod
    def _queue_row(moment: Moment, key: str) -> tuple[Cell, ...]:
        if not moment.broker_up:
            return key, Words("  ?", STRONG), Words("nobody can look", FAINT)
        return panels.task_row(key, moment.waiting(key), WAITING)

    # ---- what is done -------------------------------------------------------------------------------------

    def do_polling_worker(self) -> None:
        """Start the worker that polls, on a queue of its own."""
        self.workers[POLLING] = self.scene.start(POLLING_WORKER.name, POLLING, QUEUE=self.pairs.queues[0])

    def do_block(self, seconds: str) -> None:
        """The workers that are started from now on wait so long with each command, at most."""
        self.scene.settings["BLOCK_SECONDS"] = seconds

    def do_hold_next(self) -> None:
        """Make the work on the task that comes next wait before it begins."""
        number = len(self.scene.tasks) + 1
        self._held = {number}.__contains__
        self.scene.work.hold(number)

    def do_count_commands(self, seconds: str) -> None:
        """Count what the workers send while there is nothing to do."""
        window = max(SHORTEST_COUNT, float(seconds) / self.watch.speed)
        now = self.scene.history.now
        self.watch.until(self._all_idle)
        began, before = now(), {name: actor.commands_sent() for name, actor in self.workers.items()}
        self.watch.until(lambda: now() - began >= window)
        sent = {name: actor.commands_sent() - before[name] for name, actor in self.workers.items()}
        self._counted = (now() - began, sent)

    def do_pairs(self, count: str) -> None:
        """A task for each of both at the same moment, again and again.

        The moments are spread evenly over the pause of the one that polls, in an order that nobody knows.
        """
        moments = [(place + self.scene.random.random()) / int(count) for place in range(int(count))]
        self.scene.random.shuffle(moments)
        for moment in moments:
            self.watch.expect(self._all_idle, "both workers were to be idle, and every list empty")
            self.watch.pause(moment * self.setting("POLL_SECONDS"))
            pair = self.pairs.push()
            self.watch.still(lambda blocked=pair[1]: self.has_begun(blocked), STILL_SECONDS)
            self.watch.expect(lambda pair=pair: set(pair) <= self.done(), f"{names(pair)} were to be done")

    def do_kill_broker(self) -> None:
        """SIGKILL the broker."""
        self._connections = {name: actor.lane.connections for name, actor in self.living().items()}
        self._hands = {name: self.in_hand(name) for name in sorted(self.scene.at_work())}
        self._waited = sorted(self.scene.where())
        super().do_kill_broker()

    # ---- what must be seen --------------------------------------------------------------------------------

    def see_costs_less(self, name: str, other: str) -> Sight:
        """While there was nothing to do, the first sent at most a command a second, and fewer than the other."""
        seconds, sent = self._counted
        more, less = sent.get(other, 0), sent.get(name, 0)
        words = f"in {seconds:.0f} s of nothing: {other} sent {counted(more, 'command')}, {name} {less}"
        expected = f"{name} sends at most a command a second, fewer than {other}"
        return judged(less <= seconds + 1 and less < more, words, expected, f"{words}.")

    def see_shared(self, count: str) -> Sight:
        """One is still at the task that is held; the others have done these many beside it."""

        def there() -> str:
            busy = sorted(self.scene.at_work())
            if len(busy) != 1 or not self._held(self.in_hand(busy[0])):
                return ""
            number = self.in_hand(busy[0])
            ends = [
                event.who for event in self.scene.history.events(WORK_FINISHED) if max(event.tasks) > number
            ]
            each = [f"{ends.count(name)} by {name}" for name in self.living() if name != busy[0]]
            words = f"{busy[0]} is still at task {number}; meanwhile {' and '.join(each)}"
            return words if len(ends) == int(count) else ""

        return Sight(f"one has the long task, and the others do {count}", there, PATIENCE)

    def see_a_day(self) -> Sight:
        """What each of them would send in a day without a task."""
        seconds, sent = self._counted
        told = [f"{name} {count / seconds * SECONDS_A_DAY:,.0f}" for name, count in sent.items()]
        words = f"in a day of nothing: {' commands, '.join(told)}"
        return judged(sent, words, "the commands of a day are counted")

    def see_sooner(self) -> Sight:
        """The one that blocks was handed each task in the command in which it waited, sooner than the other looked."""
        polled, blocked = self.pairs.mean(0), self.pairs.mean(1)
        words = f"from push to start, on average: {BLOCKING} {blocked:.0f} ms, {POLLING} {polled:.0f} ms"
        handed = all(self._was_handed(task) for _, task in self.pairs.tasks)
        return judged(
            handed and blocked < polled, words, f"{BLOCKING} is handed each task as it waits for one"
        )

    def see_one_each(self) -> Sight:
        """The tasks that are held are in as many hands."""

        def there() -> str:
            begun = {name: self.in_hand(name) for name in sorted(self.scene.at_work())}
            if len(begun) < len(self.living()) or len(set(begun.values())) < len(begun):
                return ""
            return ", ".join(f"{name} has task {number}" for name, number in begun.items())

        return Sight("each of the waiting workers has a task", there, PATIENCE / 4)

    def see_alone(self) -> Sight:
        """The broker is gone; the workers live on, and have tried in vain to connect."""

        def there() -> bool:
            again = all(
                self.workers[name].lane.connections > before for name, before in self._connections.items()
            )
            return again and len(self.living()) == len(self._connections)

        words = f"{listed(tuple(self._connections))} are alive, and try to connect again"
        return Sight(words, there, PATIENCE / 4)

    def see_back(self) -> Sight:
        """The same processes wait again at the broker that was restarted."""
        who = tuple(self._connections)
        restarted = max((event.at for event in self.scene.history.events(BROKER_RESTARTED)), default=0.0)

        def there() -> str:
            if not all(self.workers[name].waits_for_a_task() for name in who):
                return ""
            seconds = self.scene.history.now() - restarted
            return f"{listed(who)} wait again after {seconds:.1f} s: the same processes"

        return Sight(f"{listed(who)} wait again: the same processes", there, PATIENCE / 4)

    def see_done_alone(self) -> Sight:
        """What was in hand when the broker was killed is done, while it is dead."""
        tasks = set(self._hands.values())
        words = f"{names(tasks)} are done, and nobody needed the broker for that"
        there = lambda: tasks and tasks <= self.done() and self.scene.holdings.broker_down  # noqa: E731
        return Sight(words, there, PATIENCE)

    def see_kept(self) -> Sight:
        """What waited in a queue when the broker was killed is in somebody's hands now."""

        def there() -> str:
            begun = {self.in_hand(name): name for name in sorted(self.scene.at_work())}
            if not self._waited or not begun.keys() >= set(self._waited):
                return ""
            hands = listed(tuple(f"{begun[number]} has task {number}" for number in self._waited))
            return f"the broker has read its file: {hands}"

        return Sight(f"{names(self._waited)} are still there", there, PATIENCE / 2)

    def see_reports(self) -> Sight:
        """Each task that is done has left one whole PDF, the right one, and nothing else lies there."""

        def trouble() -> str:
            for number in sorted(self.done()):
                task = self.scene.json(self.scene.tasks[number].body)
                if wrong := trouble_with(self.scene.outputs / f"{task['id']}.pdf", task):
                    return f"task {number}: {wrong}"
            extra = len(list(self.scene.outputs.iterdir())) - len(self.done())
            return f"{extra} files too many" if extra else ""

        words = f"{len(self.done())} PDFs: each opens, and is the one that was asked for"
        return Sight(words, lambda: not trouble(), instead=trouble)

    # ---- looking things up --------------------------------------------------------------------------------

    def _all_idle(self) -> bool:
        return not self.scene.at_work() and not self.scene.where()

    def _was_handed(self, task: int) -> bool:
        """Whether the task came in answer to a command that waits for one."""
        return any(event.blocking for event in self.scene.history.events(REPLY) if task in event.tasks)


ACT = Blocking
