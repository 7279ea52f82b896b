"""Lab 5 on stage: ten thousand newsletters, a password reset, and four ways to say who goes first."""

import contextlib
from collections.abc import Iterable, Iterator

from labkit.demo import panels
from labkit.demo.act import Act
from labkit.demo.acts.inbox import Inbox
from labkit.demo.acts.levels import SORTED, Levels
from labkit.demo.acts.mail_counts import MailCounts
from labkit.demo.acts.wishes import Wishes
from labkit.demo.moment import DEAD, ENDED, Moment
from labkit.demo.props import Props
from labkit.demo.pushes import Pushes
from labkit.demo.script import Script
from labkit.demo.sight import PATIENCE, SOON, Sight, judged
from labkit.demo.stage import NOTE
from labkit.demo.view import FAINT, GONE, Cell, Panel, Words
from labkit.demo.watch import Watch
from labkit.grader import story
from labkit.grader.history import REPLY, SENT, WORK_FINISHED, WORK_STARTED
from labkit.grader.scene import Scene

STRICT, RELIABLE = "strict", "reliable"
LONG = 5 * PATIENCE  # seconds for ten thousand tasks, on a slow machine
EQUALS = ("order-2", "order-10")  # queued in this order, with the same score


class Priorities(Act):
    """See the module. With so many tasks nobody looks for each of them several times a second: they are counted.

    gone: the task that was in hand at a kill, under a policy that had taken it off the broker.
    """

    CENSUS = False
    LEFT = "still in their lists, as they should be"

    def __init__(self, scene: Scene, script: Script, watch: Watch, props: Props) -> None:
        super().__init__(scene, script, watch, props)
        self.inbox, self.levels = Inbox(scene), Levels(scene)
        self.wishes = Wishes(scene, self.levels, script.tasks)
        self.counts = MailCounts(scene, self.levels, self._depth)
        self.policy = "one list"
        self.gone = 0
        self._policies: dict[str, str] = {}  # of each worker, since its last start
        self._equals: list[str] = []  # members with equal scores, in the broker's order
        self._reset = 0  # the one that was queued as urgent
        self._first = 0  # how many tasks had been queued when this policy began

    # ---- what is seen all the time ------------------------------------------------------------------------

    def panels(self, moment: Moment) -> tuple[Panel, ...]:
        queued = self._queued() if self.policy == SORTED else []
        return (
            self._workers_panel(moment),
            self.levels.waiting_panel(self.policy, self.wishes.note()),
            *([self.levels.sorted_panel(queued)] if queued else []),
            self.levels.mail_panel(moment, self.policy, self.counts.began),
            panels.wire_panel(moment, ["producer", *self.workers]),
        )

    def _workers_panel(self, moment: Moment) -> Panel:
        rows = []
        for name in self.workers:
            worker = moment.worker(name)
            if worker.state != ENDED:
                holds = worker.state != DEAD or worker.task in self.levels.in_list("processing", name)
                cells = panels.worker_cells(worker, self.called, holds=holds)
                rows.append((*cells, self._heartbeat_cell(name)))
        heads = ("", "", "in hand", "progress", "heartbeat")
        return panels.workers_panel((6, 8, 0, 11, 9), rows, heads, f"policy: {self.policy}", lines=2)

    def _heartbeat_cell(self, name: str) -> Cell:
        if self._policies.get(name) != RELIABLE:
            return Words("-", FAINT)
        left = self.scene.ask("PTTL", self.levels.key("heartbeat", name)) / 1000
        return f"♥ {left:.1f} s" if left >= 0 else Words(" EXPIRED ", GONE)

    def facts(self) -> tuple[tuple[str, int, str], ...]:
        ahead = f"newsletters, before task {self.wishes.made[0]} in the one list" if self.wishes.made else ""
        return (*self.counts.facts(), ("still ahead", self.wishes.before_the_first(), ahead))

    def lay_out(self) -> None:
        self.inbox.lay_out()

    # ---- what is done -------------------------------------------------------------------------------------

    def do_newsletters(self) -> None:
        """Have the producer queue ten thousand, straight at the broker: to watch each of them would take a while."""
        url = self.scene.broker.url_for(self.scene.holdings.login)
        words = ("low", "--count", str(self.script.tasks), "--policy", STRICT)
        with self._quick_disk():
            producer = self.scene.start("producer.py", *words, name="producer", VALKEY_URL=url)
            self.watch.until(lambda: not producer.running, LONG)
        bodies = self.scene.ask("LRANGE", self.levels.key("low"), 0, -1)[::-1]
        numbers = tuple(self.scene.tasks.add(body).number for body in bodies)
        self.levels.note(numbers, "low")
        if numbers:
            self.scene.history.add("producer", SENT, tasks=numbers)

    @contextlib.contextmanager
    def _quick_disk(self) -> Iterator[None]:
        """Have a broker of ours not wait for the disk: ten thousand waits would take half a minute."""
        if not self.owns_broker:
            yield
            return
        _, before = self.scene.ask("CONFIG", "GET", "appendfsync")
        self.scene.ask("CONFIG", "SET", "appendfsync", "no")
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # it was killed meanwhile, and reads its settings anew
                self.scene.ask("CONFIG", "SET", "appendfsync", before)

    def do_worker(self, name: str, policy: str = "", turns: str = "") -> None:
        """Start a worker; under the first policy there is nothing but one list, until a mail is queued as urgent.

        policy: by default that of the worker before it, and the scene goes on as it was. turns: the levels that come
        first under the policy fair, with commas between.
        """
        if policy and self.workers:
            self._new_policy(policy)
        policy = policy or next(reversed(self._policies.values()), STRICT)
        if name in self.workers and self.workers[name].running:
            self.do_stop(name)
        self._policies.pop(name, None)  # who is started last stands last
        self._policies[name] = policy
        settings = {"TURNS": turns.replace(",", " ")} if turns else {}
        self.workers[name] = self.scene.start("worker.py", name, "--policy", policy, **settings)

    def _new_policy(self, policy: str) -> None:
        if policy != self.policy:
            self.policy = policy
            self._first = len(self.scene.tasks)
            self.counts.begin()

    def do_wish(self) -> None:
        """Queue a password reset as the newsletters were queued: behind all of them."""
        self.wishes.make()

    def do_hold_next(self) -> None:
        """Hold the work on any mail, and wait until a worker has one in hand: it takes nothing meanwhile."""
        held = self.scene.loop.call(self._hold_from_now())
        begun = lambda: [e for e in self.scene.history.events(WORK_STARTED) if e.at > held]  # noqa: E731
        self.watch.expect(begun, "a worker was to be at work")

    async def _hold_from_now(self) -> float:
        """Hold all work, on the ledger's own loop; what begins after the moment that is returned is held."""
        self.do_hold()
        return self.scene.history.now()

    def do_reset(self) -> None:
        """Have the producer queue one urgent mail."""
        self._new_policy(STRICT)
        self._produce("high", "1")
        self._reset = len(self.scene.tasks)

    def do_policy(self, policy: str) -> None:
        """From now on tasks wait as this policy has it."""
        self._new_policy(policy)

    def do_queue(self, level: str, count: str) -> None:
        """Have the producer queue tasks of this level, as the policy has it."""
        self._produce(level, count)

    def _produce(self, level: str, count: str) -> None:
        self.scene.lie_in_wait("producer", Pushes(self.scene))
        words = (level, "--count", count, "--policy", self.policy)
        producer = self.scene.start("producer.py", *words, name="producer")
        self.watch.until(lambda: not producer.running)

    def do_mails(self, count: str, what: str = "") -> None:
        """Wait for so many mails, beside those that are in hand, and count them by level.

        what: how the count is called (default: as the policy).
        """
        self.counts.begin_after_those_in_hand()
        self.do_release()
        self.watch.expect(
            lambda: len(self.counts.since()) >= int(count), f"{count} mails were to be sent", LONG
        )
        self.counts.keep(what or self.policy, int(count))

    def do_equals(self) -> None:
        """Add two members with the same score, as one does at the broker's prompt."""
        key = self.levels.key("ties")
        first, second = EQUALS
        self.watch.line(NOTE, f"> ZADD ties 0 {first} 0 {second}")
        self.scene.ask("ZADD", key, 0, first, 0, second)
        self._equals = [each.decode() for each in self.scene.ask("ZRANGE", key, 0, -1)]
        self.scene.ask("DEL", key)
        self.watch.line(NOTE, f"> ZRANGE ties 0 -1: {', '.join(self._equals)}")

    def do_hold_level(self, level: str) -> None:
        """Make the work on the tasks of this level wait before it begins."""
        held = {task.number for task in self.scene.tasks if self.levels.of(task.number) == level}
        held -= self.done()
        self._held = held.__contains__
        self.scene.work.hold(*held)

    def do_kill_for_good(self) -> None:
        """SIGKILL who was seen with a task in hand, under a policy that has taken it off the broker."""
        self.gone = self.task
        self.do_kill()

    def do_heartbeat(self, name: str) -> None:
        """Wait for a heartbeat: after a kill right behind it, the room sees the whole of it run out."""
        full = 950 * self.setting("HEARTBEAT_SECONDS")  # of 1000 ms a second
        fresh = lambda: self.scene.ask("PTTL", self.levels.key("heartbeat", name)) > full  # noqa: E731
        self.watch.until(fresh, self.setting("HEARTBEAT_SECONDS"))

    def do_monitor(self) -> None:
        words = ("--policy", self.policy, "--once", "--json")
        self.watch.line(NOTE, f"$ python monitor.py {' '.join(words)}")
        self._monitor = self.scene.start("monitor.py", *words, name="monitor")
        self.watch.until(lambda: not self._monitor.running)

    def do_count(self) -> str:
        """End who still works, and judge: what is not sent must wait; return the story of what is lost."""
        self.do_release()
        for name, actor in self.workers.items():
            if actor.running:
                self.do_stop(name)
        self.verdict = self.scene.verdict()
        lost = [number for number in self.verdict.lost if number != self.gone]
        return f"Lost: {story.names(lost[:20])}." if lost else ""

    # ---- what must be seen --------------------------------------------------------------------------------

    def see_queued(self) -> Sight:
        count = self.script.tasks
        there = lambda: self._depth("low") == count == len(self.scene.tasks)  # noqa: E731
        instead = lambda: f"{self._depth('low'):,} wait."  # noqa: E731
        return Sight(f"{count:,} newsletters wait", there, SOON, instead)

    def see_gone(self, count: str) -> Sight:
        return Sight(f"{count} mails are sent", lambda: len(self.levels.gone()) >= int(count), PATIENCE)

    def see_far_back(self) -> Sight:
        return self.wishes.far_back()

    def see_still_far_back(self) -> Sight:
        return self.wishes.still_far_back()

    def see_still_waits(self) -> Sight:
        return self.wishes.still_wait()

    def see_waits(self, *levels: str) -> Sight:
        def words() -> str:
            return ", ".join(f"{level} {self._depth(level):,}" for level in levels)

        there = lambda: f"waiting: {words()}" if all(map(self._depth, levels)) else ""  # noqa: E731
        return Sight(f"tasks of the level {' and '.join(levels)} wait", there, SOON, lambda: f"{words()}.")

    def see_next_mail(self) -> Sight:
        """The first task that anybody took after the urgent one was queued is that one."""
        number = self._reset
        words = f"task {number}, queued as high, is the next mail"

        def there() -> str:
            sent = next(event.at for event in self.scene.history.events(SENT) if number in event.tasks)
            taken = [n for event in self.scene.history.events(REPLY) if event.at > sent for n in event.tasks]
            if number not in self.done() or taken[:1] != [number]:
                return ""
            return f"{words}; {self.wishes.before_the_first():,} newsletters wait"

        return Sight(words, there, PATIENCE / 4, self.levels.last_mails)

    def see_starved(self, what: str) -> Sight:
        return self.counts.starve(what)

    def see_first_low(self) -> Sight:
        return self.counts.first_newsletter()

    def see_monitor(self) -> Sight:
        """The monitor's numbers are those of the broker; nothing moves meanwhile."""

        def there() -> str:
            with contextlib.suppress(LookupError, TypeError, AttributeError):
                waiting = self.monitor_said()["waiting"]
                if all(count == self._depth(level) for level, count in waiting.items()):
                    return f"monitor.py: {', '.join(f'{level} {n:,}' for level, n in waiting.items())} wait"
            return ""

        return Sight("the monitor counts what waits", there)

    def see_equals(self) -> Sight:
        words = f"{EQUALS[1]} is before {EQUALS[0]}: equal scores go by their bytes"
        return judged(self._equals == [*reversed(EQUALS)], words, words, ", ".join(self._equals))

    def see_by_score(self) -> Sight:
        """The tasks that were queued under this policy lie in their order: the lowest score first."""
        queued = self._queued()

        def said(numbers: Iterable[int]) -> str:
            return " ".join(self.levels.tile(number, queued) for number in numbers if number in queued)

        right = lambda: list(self.levels.by_score()) == self.levels.in_order(queued)  # noqa: E731
        instead = lambda: f"By their scores: {said(self.levels.by_score())}."  # noqa: E731
        return Sight(f"by their scores: {said(self.levels.in_order(queued))}", right, SOON, instead)

    def see_in_order(self) -> Sight:
        """What was queued under this policy goes out by level, and within a level the oldest first."""
        right = self.levels.in_order(self._queued())

        def there() -> str:
            gone = self.counts.since()
            if len(gone) >= len(right) and gone != right:
                self.scene.fail(f"They went out in the order {', '.join(map(str, gone))}.")
            letters = "".join(self.levels.of(number)[0].upper() for number in right)
            return f"{letters}: in each level the oldest first" if gone == right else ""

        return Sight("they go out by level, in each level the oldest first", there, PATIENCE)

    def see_shares(self) -> Sight:
        return self.counts.have_shares("fair")

    def see_equal_shares(self, what: str) -> Sight:
        return self.counts.have_equal_shares(what)

    def see_gone_for_good(self) -> Sight:
        """The task that was in hand at the kill is in no list: this policy had promised nothing else."""
        words = f"task {self.gone} is in no list at all: that mail is lost"
        return judged(not self.keys(), words, f"task {self.gone} is in no list", self.place())

    def see_sends(self, name: str) -> Sight:
        """This worker has sent a mail since it was started, while the other is held."""
        before = len(self.levels.gone())
        sent = lambda: self.scene.history.events(WORK_FINISHED, name)  # noqa: E731
        there = lambda: len(self.levels.gone()) > before and bool(sent())  # noqa: E731
        return Sight(f"{name} works beside, and sends the next ones", there, PATIENCE / 4)

    def see_in_list(self, name: str) -> Sight:
        words = f"task {self.task} lies in mail:processing:{name}, at the broker"
        return Sight(words, lambda: self.task in self.levels.in_list("processing", name))

    def see_put_back(self) -> Sight:
        """The task has left the dead worker's list; it waits at the head of its level, or somebody has it by now."""

        def there() -> str:
            silent = not self.scene.ask("EXISTS", self.levels.key("heartbeat", self.who))
            if not silent or self.task in self.levels.in_list("processing", self.who):
                return ""
            return f"no heartbeat: task {self.task} went back to the head of mail:{self.levels.of(self.task)}"

        within = 4 * self.setting("HEARTBEAT_SECONDS") + SOON
        return Sight(f"task {self.task} is put back", there, within)

    def see_sent_by_another(self) -> Sight:
        def there() -> str:
            done = [e.who for e in self.scene.history.events(WORK_FINISHED) if self.task in e.tasks]
            return f"{done[0]} sends task {self.task}" if done and done[0] != self.who else ""

        return Sight(f"another worker sends task {self.task}", there, PATIENCE)

    def see_inbox(self) -> Sight:
        """There is one mail for each task that is done, the one that it asks for."""

        def there() -> str:
            mails = self.inbox.mails()
            right = all(self.inbox.is_right(number, mail) for number, mail in mails.items())
            one_each = mails.keys() == self.done() and len(mails) == len(self.scene.mails())
            said = f"{len(mails)} mails in the inbox, each the one that was asked for"
            return said if right and one_each else ""

        return Sight("each task that is done has become one mail", there)

    def see_only_that_one_lost(self) -> Sight:
        """Nothing is lost but what the first kill cost, if it came to that."""
        verdict, cost = self.verdict, [self.gone] if self.gone else []
        counts = f"{verdict.sent:,} tasks: {verdict.done} are mails, {len(verdict.waiting):,} wait"
        words = f"{counts}, {f'and task {self.gone}' if cost else 'none'} is lost"
        right = verdict.sent > self.script.tasks and verdict.lost == cost
        lost = f"Lost: {story.names(verdict.lost[:20])}." if verdict.lost else ""
        expected = "nothing is lost but the task of the first kill"
        return judged(right, words, expected, lost or f"{verdict.sent} tasks were sent.")

    def see_recovered(self) -> Sight:
        words = f"task {self.task}, in hand at the second kill, was sent all the same"
        right = self.task in self.verdict.recovered
        return judged(
            right, words, "the task in hand at the second kill was sent all the same", "It was not."
        )

    # ---- looking things up --------------------------------------------------------------------------------

    def _depth(self, level: str) -> int:
        return self.levels.depth(level, self.policy)

    def _queued(self) -> list[int]:
        """The tasks that were queued since this policy began."""
        return [task.number for task in self.scene.tasks][self._first :]


ACT = Priorities
