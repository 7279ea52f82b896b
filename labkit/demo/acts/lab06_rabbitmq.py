"""Lab 6 on stage: a broker that knows who has which task, and does by itself what lab 3 had to write."""

from labkit import course
from labkit.demo import script
from labkit.demo.act import Act, listed
from labkit.demo.acts.after_the_work import AN_HOUR
from labkit.demo.acts.amqp_queues import ACKNOWLEDGED, in_hand
from labkit.demo.acts.amqp_work import REDELIVERED
from labkit.demo.acts.broker_restart import STARTED_WITHIN_SECONDS, BrokerRestart
from labkit.demo.props import Props
from labkit.demo.sight import PATIENCE, Sight, judged
from labkit.demo.watch import Watch
from labkit.grader.history import COMMAND, WORK_FINISHED, WORK_STARTED
from labkit.grader.material.lab06_rabbitmq import queued_by
from labkit.grader.scene import Scene
from labkit.grader.words import clean, counted, names

DISK_FULL = "the disk is full"
LONGEST_SEEN = 72  # characters of a line that fits the smallest screen
SHORTEST_COUNT = 1.0  # seconds over which commands are counted


class RabbitMQ(BrokerRestart):
    """See the module."""

    def __init__(self, scene: Scene, script: script.Script, watch: Watch, props: Props) -> None:
        super().__init__(scene, script, watch, props)
        self._ended, self._given_back = 0, []  # by the worker that went home: a task, and those not begun
        self._slow = 0  # the task that goes on while all others are done
        self._failing: list[int] = []
        self._kill_at = 0.0  # when the last worker was killed
        self._counted = ("", 0, 0.0)  # who was idle, the commands that it sent, in so many seconds

    # ---- what is done -------------------------------------------------------------------------------------

    def do_hold_next(self, count: str, free: str = "0") -> None:
        """Make the work on the next tasks wait before it begins, but not on the first of them."""
        sent = len(self.scene.tasks)
        held = set(range(sent + 1 + int(free), sent + 1 + int(count)))
        self._held = held.__contains__
        self.scene.work.hold(*held)

    def do_hold_after_its_work(self, name: str) -> None:
        """Start a worker that is held when it has done a task: no heartbeat of its connection is due meanwhile."""
        self.prefetch[name] = "1"
        self.hold_after_the_work(name, PREFETCH="1", HEARTBEAT_SECONDS=AN_HOUR)

    def do_count_commands(self, name: str, seconds: str) -> None:
        """Count what a worker sends while there is nothing to do."""
        window, now, actor = (
            max(SHORTEST_COUNT, float(seconds) / self.watch.speed),
            self.scene.history.now,
            self.workers[name],
        )
        began, before = now(), actor.commands_sent()
        self.watch.until(lambda: now() - began >= window)
        self._counted = name, actor.commands_sent() - before, now() - began

    def do_go_home(self, name: str) -> None:
        """SIGTERM, in the middle of a task, with more of them in hand; she has heard it when the task ends."""
        actor = self.workers[name]
        self._ended = self._at(name)
        had = actor.lane.unacknowledged()
        self.ask_to_stop(name)
        cancels = lambda: any(e.verb == "basic.cancel" for e in self.scene.history.events(COMMAND, name))  # noqa: E731
        self.watch.until(lambda: cancels() or not actor.running, PATIENCE / 6)  # one may stop without it
        self.scene.work.release(self._ended)
        self.watch.until(lambda: not actor.running)
        self._given_back = sorted(had - self.done())

    def do_slow(self, name: str) -> None:
        """Let all work go on but that which this worker is at."""
        self._slow = self._at(name)
        self.scene.work.release(*{task.number for task in self.scene.tasks} - {self._slow})

    def do_disk_full(self, which: str, times: str = "inf") -> None:
        """Make the work on one of the next tasks fail, so many times."""
        number = len(self.scene.tasks) + int(which)
        self._failing.append(number)
        self.scene.work.fail(number, DISK_FULL, float(times))

    def do_ask_for(self, image: str) -> None:
        """Queue a task on this image."""
        Act.do_producer(self, "1", "--", image)

    def do_kill(self, name: str = "") -> None:
        self._kill_at = self.scene.history.now()
        self.killed_with.add(self.task)
        super().do_kill(name)

    # ---- a dead worker's task -----------------------------------------------------------------------------

    def see_broker(self) -> Sight:
        there = lambda: self.scene.holdings.is_ready() and f"RabbitMQ {self.scene.broker.version} is up"  # noqa: E731
        return Sight("RabbitMQ is up", there, STARTED_WITHIN_SECONDS)

    def see_confirmed(self, count: str) -> Sight:
        """The producer called so many tasks queued, each after the broker had confirmed it."""
        producer = next(actor for actor in reversed(self.scene.actors) if actor.name == "producer")

        def there() -> str:
            queued = [self.scene.tasks.numbers_in(each.encode()) for each in queued_by(producer)]
            sound = self.confirmed() >= {number for numbers in queued for number in numbers}
            right = len(set(queued)) == int(count) and sound and producer.process.status == 0
            return f"{count} tasks are queued, and for each the broker has confirmed it" if right else ""

        return Sight(f"the broker confirms {count} tasks", there, PATIENCE)

    def see_idle(self, name: str) -> Sight:
        """The worker has nothing in hand, and waits to be handed something."""
        return Sight(f"{name} waits, with nothing in hand", lambda: self.is_idle(name), PATIENCE)

    def see_handed_on(self) -> Sight:
        """The task of the worker that was killed is another's."""
        heartbeat = float(script.read(course.lab(3)).settings["HEARTBEAT_SECONDS"])

        def there() -> str:
            later = [e for e in self.deliveries(self.task) if e.who != self.who and REDELIVERED in e.args]
            if not later:
                return ""
            after = f"{1000 * (later[0].at - self._kill_at):.0f} ms later"
            return f"{after} {later[0].who} has task {self.task}, redelivered; lab 3 waited {heartbeat:g} s"

        return Sight(f"task {self.task} is handed to another worker", there, PATIENCE, self.place)

    def see_marked(self) -> Sight:
        """The worker that did the task in the end says that it was redelivered."""
        wanted = self.scene.tasks[self.task].id

        def there() -> str:
            for name, actor in self.workers.items():
                for line in actor.process.output().splitlines():
                    if name != self.who and wanted in line and line.endswith(f"({REDELIVERED})"):
                        return f"{name} does it, and prints: ...{line[-32:]}"
            return ""

        return Sight(f"a worker prints that task {self.task} was redelivered", there, PATIENCE)

    def see_waits_again(self) -> Sight:
        """The task of the worker that was killed is in the queue."""
        words = f"task {self.task} is back in {self.queues.ready}, by itself"
        there = lambda: self.keys() == [self.queues.ready] and self.scene.depth() == 1  # noqa: E731
        return Sight(words, there, PATIENCE, self.place)

    def see_silent(self) -> Sight:
        """The worker that was idle has sent nothing."""
        name, sent, seconds = self._counted
        words = f"in {seconds:.0f} s of nothing {name} sent {counted(sent, 'command')}"
        return judged(name and not sent, words, "an idle worker sends nothing", f"{words}.")

    # ---- how much one may hold ----------------------------------------------------------------------------

    def see_handed(self, name: str, count: str) -> Sight:
        """The worker has been handed so many, and is at work on one."""

        def there() -> bool:
            hers = len(self.workers[name].lane.unacknowledged())
            return hers == int(count) and self.scene.at_work() == {name} and not self.scene.depth()

        return Sight(f"{name} is handed all {count}, and works on one", there, PATIENCE)

    def see_hoards(self, name: str, other: str) -> Sight:
        """One worker has all that there is, at work on one; the other stands beside."""

        def there() -> str:
            hers = len(self.workers[name].lane.unacknowledged())
            alone = self.scene.at_work() == {name} and self.is_idle(other) and not self.scene.depth()
            return f"{name} holds {hers} tasks and works on 1; {other} has none" if hers > 1 and alone else ""

        return Sight(f"{name} holds all tasks, {other} has none", there, PATIENCE)

    def see_given_back(self, name: str) -> Sight:
        """The worker has ended well, and what it had not begun waits again, or is another's."""
        back = len(self._given_back)
        words = f"{name} has ended task {self._ended}, and {counted(back, 'task')} went back to the queue"

        def there() -> bool:
            places = self.queues.places(self.workers)
            still_hers = {places[number] for number in self._given_back} & {in_hand(name), ACKNOWLEDGED}
            return bool(back) and not still_hers and self.workers[name].process.status == 0

        return Sight(words, there, PATIENCE)

    def see_fair(self, *who: str) -> Sight:
        """Each has one, and the others wait for whoever is free first."""

        def there() -> str:
            ones = all(len(self.workers[name].lane.unacknowledged()) == 1 for name in who)
            left = self.scene.depth()
            fair = ones and left and set(who) <= self.scene.at_work()
            return f"{listed(who)} hold one task each; {left} wait in the queue" if fair else ""

        return Sight(f"{listed(who)} hold one task each", there, PATIENCE)

    def see_one_late(self, name: str, other: str) -> Sight:
        """All is done but the task of the slow one: the other has done what was left."""

        def there() -> str:
            left = {task.number for task in self.scene.tasks} - self.done()
            if left != {self._slow} or self.scene.depth() or not self.is_idle(other):
                return ""
            begun = [e.at for e in self.scene.history.events(WORK_STARTED, name) if self._slow in e.tasks]
            his = [e for e in self.scene.history.events(WORK_FINISHED, other) if e.at > begun[-1]]
            return f"{name} is still at task {self._slow}; {other} has done the other {len(his)}"

        return Sight(f"{other} does all but the one task of {name}", there, PATIENCE)

    # ---- what fails ---------------------------------------------------------------------------------------

    def see_retry(self, number: str) -> Sight:
        """Each task that fails waits in this retry queue, or has waited there."""
        queue = list(self.queues.waits)[int(number) - 1]
        words = f"{names(self._failing)} failed; they wait {self.queues.waits[queue]:g} s in {queue}"
        return Sight(words, lambda: all(self.put(each, queue) for each in self._failing), PATIENCE)

    def see_came_back(self, number: str) -> Sight:
        """The task is done, after a wait in each of the retry queues."""
        task = int(number)

        def there() -> str:
            waits = [self.waited(task, queue) for queue in self.queues.waits]
            for (queue, told), wait in zip(self.queues.waits.items(), waits, strict=True):
                if wait < told:
                    short = f"Task {task} was in {queue} for {wait:.1f} s, and not for {told:g} s."
                    self.scene.fail(short, task=task)
            if task not in self.done():
                return ""
            told = " and ".join(f"{wait:.1f}" for wait in waits)
            return f"task {task} is done at attempt {len(waits) + 1}, after waits of {told} s"

        return Sight(f"task {task} is done after all", there, PATIENCE)

    def see_died(self, number: str, attempts: str) -> Sight:
        """It is a dead letter, after just so many attempts that failed."""
        task, tried = int(number), int(attempts)
        when = f"after {tried} attempts" if tried else "at once"

        def there() -> str:
            letter = self.letters().get(task)
            reason = clean(letter.reason) if letter and letter.attempts == tried else ""
            return f"task {task} is dead {when}: {reason}"[:LONGEST_SEEN] if reason else ""

        return Sight(f"task {task} is dead {when}", there, PATIENCE)

    def see_monitor(self) -> Sight:
        def there() -> str:
            said, dead = self.monitor_said(), self.queues.counts()[self.queues.dead]
            if said != {"waiting": 0, "retrying": 0, "dead": dead, "workers": len(self.living())}:
                return ""
            return f"monitor.py: {', '.join(f'{what} {count}' for what, count in said.items())}"

        return Sight("the monitor counts what the broker counts", there)

    def see_letters(self, count: str) -> Sight:
        """So many tasks are dead letters in the end; what was handed out again may have died again."""
        dead, there = self.verdict.dead, self.queues.counts()[self.queues.dead]
        words = f"{counted(there, 'dead letter')}: {names(dead)}, each with its reason"
        right = there >= len(dead) >= int(count) and all(each.reason for each in self.letters().values())
        return judged(right, words, f"{count} tasks are dead letters", f"Dead: {names(dead)}.")

    # ---- looking things up --------------------------------------------------------------------------------

    def _at(self, name: str) -> int:
        """The task on which this worker has begun to work last."""
        return self.scene.history.events(WORK_STARTED, name)[-1].tasks[0]


ACT = RabbitMQ
