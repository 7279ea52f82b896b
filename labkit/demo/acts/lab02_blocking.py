"""Lab 2 on stage: a worker that polls beside one that blocks, and a broker that dies under those who wait."""

from pathlib import Path

from labkit.course import Lab
from labkit.demo import panels
from labkit.demo.act import Act, listed
from labkit.demo.acts.pairs import Pairs
from labkit.demo.moment import ENDED, Moment
from labkit.demo.props import Props
from labkit.demo.script import Script
from labkit.demo.sight import PATIENCE, Sight, judged
from labkit.demo.view import DONE, FAINT, GONE, WAITING, Cell, Panel, Words
from labkit.demo.watch import Watch
from labkit.grader.actor import Actor
from labkit.grader.commands import TAKING
from labkit.grader.history import COMMAND, REPLY, WORK_STARTED, Event
from labkit.grader.material.lab02_blocking import trouble_with
from labkit.grader.scene import Scene
from labkit.grader.words import names

POLLING_WORKER = Path(__file__).with_name("polling_worker.py")
POLLING, BLOCKING = "polling", "alice"
SHORTEST_COUNT = 2.5  # seconds over which commands are counted: more than one wait at the broker
STILL_SECONDS = 0.1  # in which a waiting worker has long begun


class PollingWorker(Props):
    """Lays the worker that polls beside the submission's files."""

    def __init__(self, lab: Lab, script: Script, photos: Path | None) -> None:
        super().__init__(lab, script, photos)
        self.files = {POLLING_WORKER.name: POLLING_WORKER.read_bytes()}


class Blocking(Act):
    """See the module."""

    PROPS = PollingWorker

    def __init__(self, scene: Scene, script: Script, watch: Watch, props: Props) -> None:
        super().__init__(scene, script, watch, props)
        self.pairs = Pairs(scene, (f"{scene.queue}:polled", scene.queue))
        self._counted: tuple[float, dict[str, int]] = (1.0, {})  # seconds; commands of each worker
        self._connections: dict[str, int] = {}  # of each worker, when the broker was killed

    # ---- what is seen all the time ------------------------------------------------------------------------

    def panels(self, moment: Moment) -> tuple[Panel, ...]:
        return (
            self._workers_panel(moment),
            self.pairs.panel((POLLING, BLOCKING)),
            self._tasks_panel(moment),
            panels.wire_panel(moment, ["producer", *self.workers]),
        )

    def _workers_panel(self, moment: Moment) -> Panel:
        rows = []
        for name in self.workers:
            worker = moment.worker(name)
            if worker.state == ENDED:
                continue  # it has gone home, and others need its place
            cells: list[Cell] = list(panels.worker_cells(worker, self.called))
            if not moment.broker_up and not worker.task:
                cells[1] = Words("✗ no broker", GONE)
            counts = (
                panels.number(moment.commands(name), width=8),
                panels.number(moment.rate(name), 1, width=9),
            )
            rows.append((*cells, *counts))
        rows = rows or [(Words("nobody", FAINT),)]
        heads = ("", "", "in hand", "progress", "commands", " a second")
        return Panel("workers", (8, 11, 0, 11, 8, 9), tuple(rows), heads, lines=3)

    def _tasks_panel(self, moment: Moment) -> Panel:
        queue = self.scene.run.lab.queue
        rows = [
            panels.task_row(f"{queue}:polled", moment.waiting(f"{queue}:polled"), WAITING),
            panels.task_row(queue, moment.waiting(queue), WAITING),
            panels.task_row("done", moment.done, DONE, newest=True),
        ]
        broker = "broker: up" if moment.broker_up else "broker: KILLED"
        return panels.task_panel(f"tasks: {moment.total}", rows, broker)

    # ---- what is done -------------------------------------------------------------------------------------

    def do_polling_worker(self) -> None:
        """Start the worker that polls, on a queue of its own."""
        self.workers[POLLING] = self.scene.start(POLLING_WORKER.name, POLLING, QUEUE=self.pairs.queues[0])

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
            self.watch.still(lambda blocked=pair[1]: self._has_begun(blocked), STILL_SECONDS)
            self.watch.expect(lambda pair=pair: set(pair) <= self.done(), f"{names(pair)} were to be done")

    def do_kill_broker(self) -> None:
        """SIGKILL the broker."""
        self._connections = {name: actor.lane.connections for name, actor in self._living().items()}
        self.scene.kill_broker()

    def do_restart_broker(self) -> None:
        """Start it again on the same data."""
        self.scene.restart_broker()

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

    def see_idle_costs(self) -> Sight:
        """The one that blocks sends at most a command a second, and fewer than the one that polls."""
        seconds, sent = self._counted
        polled, blocked = sent.get(POLLING, 0), sent.get(BLOCKING, 0)
        words = f"in {seconds:.0f} s of nothing: {POLLING} sent {polled} commands, {BLOCKING} {blocked}"
        expected = f"{BLOCKING} sends at most a command a second, fewer than {POLLING}"
        return judged(blocked <= seconds + 1 and blocked < polled, words, expected)

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
            begun = {name: self._begun(name) for name in sorted(self.scene.at_work())}
            if len(begun) < len(self._living()) or len(set(begun.values())) < len(begun):
                return ""
            self.scene.work.release()
            return ", ".join(f"{name} has task {number}" for name, number in begun.items())

        return Sight("each of the waiting workers has a task", there, PATIENCE / 4)

    def see_alone(self) -> Sight:
        """The broker is gone; the workers live on, and have tried in vain to connect."""

        def there() -> bool:
            again = all(
                self.workers[name].lane.connections > before for name, before in self._connections.items()
            )
            return again and len(self._living()) == len(self._connections)

        words = f"{listed(tuple(self._connections))} are alive, and try to connect again"
        return Sight(words, there, PATIENCE / 4)

    def see_back(self) -> Sight:
        """The same processes wait again at the broker that was restarted."""
        who = tuple(self._connections)
        back = lambda: all(self.workers[name].waits_for_a_task() for name in who)  # noqa: E731
        return Sight(f"{listed(who)} wait again: the same processes", back, PATIENCE / 4)

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

    def _living(self) -> dict[str, Actor]:
        return {name: actor for name, actor in self.workers.items() if actor.running}

    def _all_idle(self) -> bool:
        return not self.scene.at_work() and not self.scene.where()

    def _has_begun(self, task: int) -> bool:
        return task in self.scene.history.tasks(WORK_STARTED)

    def _was_handed(self, task: int) -> bool:
        """Whether the task came in answer to a command that waits for one."""
        return any(event.blocking for event in self.scene.history.events(REPLY) if task in event.tasks)

    def _begun(self, name: str) -> int:
        return max(self.scene.history.events(WORK_STARTED, name)[-1].tasks, default=0)


def is_a_look(event: Event) -> bool:
    """Whether this command asks for a task, and does not wait for one."""
    return event.verb in TAKING and not event.blocking


ACT = Blocking
