"""Lab 1 on stage: a web application, an inbox, and workers who look again and again."""

import contextlib
import math

from labkit.demo import measure, panels
from labkit.demo.act import Act
from labkit.demo.acts.inbox import Inbox
from labkit.demo.acts.shop import Shop
from labkit.demo.moment import DEAD, Moment
from labkit.demo.props import Props
from labkit.demo.script import Script
from labkit.demo.sight import PATIENCE, SOON, Sight, judged
from labkit.demo.view import FAINT, GONE, IN_HAND, WAITING, Panel, Words
from labkit.demo.watch import Watch
from labkit.grader import story
from labkit.grader.scene import Scene
from labkit.grader.words import clean

SHORTEST_COUNT = 1.0  # seconds over which looks are counted
ATTEMPTS = 4  # to post right after a look
EARLY = 0.3  # of a pause: what was posted by then came right after the look


class Polling(Act):
    """See the module."""

    AT_MOST_ONCE = True

    def __init__(self, scene: Scene, script: Script, watch: Watch, props: Props) -> None:
        super().__init__(scene, script, watch, props)
        self.inbox, self.shop = Inbox(scene), Shop(scene, watch)
        self._longest = math.inf  # seconds that a task was seen to wait
        self._counted = (0, 0, 1.0)  # workers, their looks in vain, seconds

    # ---- what is seen all the time ------------------------------------------------------------------------

    def panels(self, moment: Moment) -> tuple[Panel, ...]:
        return (
            self._workers_panel(moment),
            self._tasks_panel(moment),
            self.inbox.panel(lines=3),
            panels.wire_panel(moment, ["web", "producer", *self.workers], spare=True),
            *self.shop.panels(),
        )

    def _workers_panel(self, moment: Moment) -> Panel:
        rows, looks, rates = [], 0, 0.0
        for name in self.workers:
            worker, vain, rate = moment.worker(name), moment.looks_in_vain(name), moment.rate(name)
            looks, rates = looks + vain, rates + rate
            holds = worker.state != DEAD or worker.task in moment.elsewhere
            cells = panels.worker_cells(worker, self.called, holds=holds)
            rows.append((*cells, panels.number(vain), panels.number(rate, width=9)))
        note = f"{looks} looks in vain, {rates:.0f} commands a second" if rows else ""
        rows = rows or [(Words("nobody", FAINT),)]
        heads = ("", "", "in hand", "progress", "in vain", " a second")
        return Panel("workers", (7, 8, 0, 11, 7, 9), tuple(rows), heads, note, lines=3)

    def _tasks_panel(self, moment: Moment) -> Panel:
        in_memory = moment.in_memory(self.workers)
        nowhere = [number for number in moment.elsewhere if number not in in_memory]
        rows = [
            panels.task_row("waiting", moment.waiting(self.scene.run.lab.queue), WAITING),
            panels.task_row("only in memory", in_memory, IN_HAND),
            panels.task_row("in no list", nowhere, GONE, "?"),
        ]
        if moment.rejected and not nowhere:
            rows[-1] = panels.task_row("rejected", moment.rejected, GONE, "!")
        return panels.task_panel(f"tasks: {moment.total}", rows)

    def lay_out(self) -> None:
        self.inbox.lay_out()

    # ---- what is done -------------------------------------------------------------------------------------

    def do_web(self) -> None:
        """Start the web application on a port of its own."""
        self.shop.open()

    def do_post(self) -> None:
        """Send a mail over HTTP."""
        self.shop.post()

    def do_second_terminal(self) -> None:
        """Send a mail from a process of its own, with the command that the room is shown."""
        self.shop.post_from_second_terminal()

    def do_poll(self, seconds: str) -> None:
        """The workers that are started from now on pause so long after a look that found nothing."""
        self.scene.settings["POLL_SECONDS"] = seconds

    def do_looks(self, *names: str) -> None:
        """Wait until each of these workers has looked in vain."""
        for name in names:
            self._wait_for_a_look(name, 0)

    def do_count_looks(self, seconds: str) -> None:
        """Count what the workers ask for nothing, once they are idle."""
        window, now = max(SHORTEST_COUNT, float(seconds) / self.watch.speed), self.scene.history.now
        self.watch.until(lambda: not self.scene.at_work() and not self.scene.depth())
        began = now()
        self.watch.until(lambda: now() - began >= window)
        ended = now()
        living = [name for name, actor in self.workers.items() if actor.running]
        looks = sum(began <= at < ended for name in living for at in self._looks(name))
        self._counted = (len(living), looks, ended - began)

    def do_post_after_a_look(self, name: str) -> None:
        """Send a mail right after this worker has looked in vain; once more if we came too late for that."""
        for _ in range(ATTEMPTS):
            self._wait_for_a_look(name, len(self._looks(name)))
            self.shop.post()
            number = self.shop.posted
            sent = measure.sent_at(self.scene.history, number)
            looked = max((at for at in self._looks(name) if at < sent), default=sent)
            if not number or sent - looked < EARLY * self.setting("POLL_SECONDS"):
                return
            done = lambda: number in self.done()  # noqa: B023, E731
            self.watch.expect(done, f"task {number} was to be done")

    # ---- what must be seen --------------------------------------------------------------------------------

    def see_web(self) -> Sight:
        return Sight(f"the web application listens on port {self.shop.port}", self.shop.listens, PATIENCE)

    def see_accepted(self) -> Sight:
        """The last post was answered while no worker ran."""
        answer, number = self.shop.answer, self.shop.posted
        took = f"answered {answer.status} after {answer.milliseconds:.0f} ms"
        words = f"{took}: task {number} is queued, and no worker runs"
        right = answer.status == 202 and number and not self.workers
        expected = "the answer is 202, and names a task"
        return judged(right, words, expected, clean(f"{took}: {answer.text}"), within=SOON)

    def see_typed(self) -> Sight:
        words = f"task {self.shop.posted} came from a second terminal"
        return judged(
            self.shop.posted, words, "a task came from a second terminal", "None came.", within=SOON
        )

    def see_inbox(self) -> Sight:
        """There is one mail for each task that is done, the one that it asks for."""

        def there() -> str:
            mails = self.inbox.mails()
            senders = sorted({mail.sender for mail in mails.values()})
            right = all(self.inbox.is_right(number, mail) for number, mail in mails.items())
            one_each = mails.keys() == self.done() and len(mails) == len(self.scene.mails())
            return (
                f"{len(mails)} mails in the inbox, sent by {', '.join(senders)}" if right and one_each else ""
            )

        return Sight("each task has become one mail, the one that it asks for", there)

    def see_looks(self) -> Sight:
        """The looks that were counted are about as many as the pause allows."""
        (workers, looks, seconds), pause = self._counted, self.setting("POLL_SECONDS")
        words = (
            f"{workers} idle workers looked {looks} times in {seconds:.0f} s: {looks / seconds:.0f} a second"
        )
        most = workers * (seconds / pause + 1)
        return judged(most / 5 <= looks <= most, words, f"each idle worker looks every {pause:g} s")

    def see_waited(self) -> Sight:
        """The task that was posted last waited for most of a pause."""
        number, pause = self.shop.posted, self.setting("POLL_SECONDS")

        def there() -> str:
            took = self._took()
            if took < pause / 2:
                return ""
            self._longest = took
            return f"task {number} waited {1000 * took:.0f} ms, of a pause of {1000 * pause:.0f} ms"

        return Sight(f"task {number} waits for most of a pause", there, PATIENCE / 10, self._wait_words)

    def see_quick(self) -> Sight:
        """The task that was posted last waited for less than the one that was seen to wait before."""
        number = self.shop.posted

        def there() -> str:
            took = self._took()
            words = f"task {number} waited {1000 * took:.0f} ms, not {1000 * self._longest:.0f} ms"
            return words if 0 < took < self._longest else ""

        return Sight(f"task {number} is taken sooner", there, PATIENCE / 10, self._wait_words)

    def see_sent(self) -> Sight:
        """The mail of the task that was posted last has arrived."""
        words = f"task {self.shop.posted} is in the inbox"

        def there() -> str:
            mail = self.inbox.mails().get(self.shop.posted)
            return f"{words}, from {mail.sender}" if mail else ""

        return Sight(words, there, PATIENCE)

    def see_nowhere(self) -> Sight:
        """The task that was in hand at the kill is in no list, and in no inbox."""

        def there() -> bool:
            return not self.keys() and self.task not in {*self.scene.dead(), *self.inbox.mails()}

        return Sight(f"task {self.task} is in no list, and in no inbox", there, instead=self.place)

    def see_monitor(self) -> Sight:
        def there() -> str:
            said = self.monitor_said()
            with contextlib.suppress(LookupError, TypeError):
                return f"monitor.py: {said['waiting']} waiting, {said['rejected']} rejected"
            return ""

        return Sight("the monitor tells what waits and what was rejected", there)

    def see_lost(self) -> Sight:
        """The task in hand at the kill is lost, and no other: so the lab's contract says."""
        lost = self.verdict.lost
        words = f"lost: task {self.task}, in hand at the kill, as expected; and no other"
        instead = f"Lost: {story.names(lost)}." if self.task or lost else "No worker was killed."
        return judged(lost == [self.task], words, "only the task in hand at the kill is lost", instead)

    # ---- looking things up --------------------------------------------------------------------------------

    def _looks(self, name: str) -> list[float]:
        return measure.looks_in_vain(self.scene.history, name)

    def _wait_for_a_look(self, name: str, before: int) -> None:
        """Wait until the worker has looked in vain more often than before."""
        self.watch.expect(lambda: len(self._looks(name)) > before, f"{name} was to look for a task")

    def _took(self) -> float:
        """How long the task that was posted last has waited for its take, in seconds; 0 before it."""
        took = measure.seconds_to_take(self.scene.history, self.shop.posted)
        return 0.0 if math.isnan(took) else took

    def _wait_words(self) -> str:
        return f"It waited {1000 * self._took():.0f} ms." if self._took() else "It was not taken."


ACT = Polling
