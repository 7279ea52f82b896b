"""Lab 1 on stage: a web application, an inbox, and workers who look again and again."""

import json
import math

from labkit.demo import panels
from labkit.demo.act import listed
from labkit.demo.acts.inbox import Inbox
from labkit.demo.acts.web_pages import LONGEST_SAID, WebPages
from labkit.demo.moment import DEAD, Moment
from labkit.demo.props import Props
from labkit.demo.script import Script
from labkit.demo.sight import PATIENCE, Sight, judged
from labkit.demo.view import GONE, IN_HAND, WAITING, Panel
from labkit.demo.watch import Watch
from labkit.grader.history import WORK_FINISHED, WORK_STARTED
from labkit.grader.scene import Scene
from labkit.grader.words import clean, names

SHORTEST_WORK = 0.3  # seconds on a mail, however fast it is played: three workers must be faster than one
REASON = 40  # characters that are told of why a mail was set aside
RUBBISH: tuple[bytes | dict, ...] = (
    b"mail ada@example.com please",
    {"id": "00000000-0000-4000-8000-000000000001", "to": "nobody", "subject": "Hello", "body": "Who?"},
)


class Polling(WebPages):
    """See the module."""

    def __init__(self, scene: Scene, script: Script, watch: Watch, props: Props) -> None:
        super().__init__(scene, script, watch, props)
        self.inbox = Inbox(scene)
        self._released = 0.0  # when the work went on last
        self._alone = math.nan  # seconds that one worker needed for a mail
        self._shows_costs = False

    # ---- what is seen all the time ------------------------------------------------------------------------

    def panels(self, moment: Moment) -> tuple[Panel, ...]:
        return (
            self._workers_panel(moment),
            self._tasks_panel(moment),
            self._news_panel(),
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
        heads = ("", "", "in hand", "progress", "in vain", " a second")
        return panels.workers_panel((7, 8, 0, 11, 7, 9), rows, heads, note, lines=3)

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

    def _news_panel(self) -> Panel:
        """What there is to follow besides: two pages before anybody works, later what a pause costs, or the inbox."""
        if not self.workers:
            return self.old_shop.panel(self.shop.answer)
        return self.costs.panel() if self._shows_costs else self.inbox.panel(lines=3)

    def lay_out(self) -> None:
        self.inbox.lay_out()

    # ---- what is done -------------------------------------------------------------------------------------

    def do_pace(self, seconds: str) -> None:
        super().do_pace(seconds)
        self.scene.work.slow(self.scene.work.ALL, max(SHORTEST_WORK, float(seconds) / self.watch.speed))

    def do_release(self) -> None:
        self._released = self.scene.history.now()
        super().do_release()

    def do_post_to_nobody(self) -> None:
        """Send a mail that the mail server will refuse."""
        self.scene.work.hold()
        self.shop.post()
        if self.shop.posted:
            self.scene.work.fail(self.shop.posted, "no such mailbox")
        self.scene.work.release()

    def do_rubbish(self) -> None:
        """Push what is no task that can be done."""
        self.scene.push(*RUBBISH)

    def do_show(self, what: str) -> None:
        """Show the costs of a pause, or the inbox."""
        self._shows_costs = what == "costs"

    # ---- what must be seen --------------------------------------------------------------------------------

    def see_oldest_first(self, name: str) -> Sight:
        """This worker, the first of all, begins with the first task."""

        def there() -> str:
            begun = [n for event in self.scene.history.events(WORK_STARTED, name) for n in event.tasks]
            if begun and begun[0] != 1:
                self.scene.fail(f"{name} began with task {begun[0]}.", task=1)
            return bool(begun)

        return Sight(f"{name} begins with task 1, the oldest", there, PATIENCE)

    def see_alone(self, name: str) -> Sight:
        """How long one worker needs for a mail."""
        began = min((event.at for event in self.scene.history.events(WORK_STARTED, name)), default=0.0)
        mails, seconds = self._ended_in({name}, began)
        self._alone = seconds / mails if mails else math.nan
        words = f"{name} alone: {mails} mails in {seconds:.1f} s, one each {self._alone:.2f} s"
        return judged(mails, words, f"{name} sends a mail")

    def see_together(self) -> Sight:
        """Several workers need less time for a mail than one."""
        mails, seconds = self._ended_in(set(self.workers), self._released)
        each = seconds / mails if mails else math.inf
        words = f"{listed(tuple(self.workers))}: {mails} mails in {seconds:.1f} s, one each {each:.2f} s"
        return judged(each < self._alone, words, "several workers are faster than one")

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

    def see_sent(self) -> Sight:
        """The mail of the task that was posted last has arrived."""
        return self._arrived(self.shop.posted)

    def see_sent_by(self, name: str) -> Sight:
        """The mail that this worker had in hand last has arrived."""
        return self._arrived(self.in_hand(name))

    def see_set_aside(self) -> Sight:
        """What was no task lies in the rejected list, each with a reason."""
        rubbish = {task.number for task in self.scene.tasks if task.body in map(_body, RUBBISH)}

        def there() -> str:
            reasons = self._reasons() if rubbish <= self.scene.dead() else []
            return f"set aside: {'; '.join(reasons)}"[:LONGEST_SAID] if len(reasons) >= len(rubbish) else ""

        return Sight(f"{names(rubbish)} are set aside, each with its reason", there, PATIENCE / 4, self._went)

    def see_returned(self) -> Sight:
        """The mail that the mail server refused is set aside, with what the mail server said."""
        number = self.shop.posted

        def there() -> str:
            reasons = self._reasons() if number in self.scene.dead() else []
            return f"task {number} is set aside: ...{reasons[-1][-REASON:]}" if reasons else ""

        return Sight(f"task {number} is set aside", there, PATIENCE / 4, self._went)

    # ---- looking things up --------------------------------------------------------------------------------

    def _arrived(self, number: int) -> Sight:
        """The mail of this task is in the inbox."""
        words = f"task {number} is in the inbox"

        def there() -> str:
            mail = self.inbox.mails().get(number)
            return f"{words}, from {mail.sender}" if mail else ""

        return Sight(words, there, PATIENCE)

    def _reasons(self) -> list[str]:
        """Why tasks were set aside, the last one last."""
        entries = self.scene.contents(f"{self.scene.queue}:rejected")[::-1]
        kept = [entry for entry in map(self.scene.json, entries) if isinstance(entry, dict)]
        return [clean(str(entry["reason"])) for entry in kept if entry.get("reason")]

    def _went(self) -> str:
        """What became of the rubbish."""
        return f"Set aside: {names(self.scene.dead())}."

    def _ended_in(self, workers: set[str], since: float = 0.0) -> tuple[int, float]:
        """How many mails these workers have sent since then, and the seconds until the last."""
        ends = [event.at for event in self.scene.history.events(WORK_FINISHED) if event.who in workers]
        ends = [at for at in ends if at > since]
        return len(ends), max(ends, default=since) - since


def _body(rubbish: bytes | dict) -> bytes:
    """As the scene pushes it."""
    return rubbish if isinstance(rubbish, bytes) else json.dumps(rubbish).encode()


ACT = Polling
