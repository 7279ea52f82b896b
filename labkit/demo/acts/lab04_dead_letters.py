"""Lab 4 on stage: an endpoint that fails, tasks that wait longer each time, leases, and dead letters."""

import contextlib
from pathlib import Path

from labkit.course import Lab
from labkit.demo import panels
from labkit.demo.act import Act
from labkit.demo.acts.arrivals import Arrivals, said
from labkit.demo.acts.dead_letters import DeadLetters
from labkit.demo.acts.latecomer import Latecomer
from labkit.demo.acts.storms import Storms
from labkit.demo.acts.waits import Waits
from labkit.demo.acts.webhook_queue import WebhookQueue
from labkit.demo.moment import Moment
from labkit.demo.props import Props
from labkit.demo.pushes import Pushes
from labkit.demo.script import Script
from labkit.demo.sight import PATIENCE, SOON, Sight, judged
from labkit.demo.stage import NOTE
from labkit.demo.view import Panel
from labkit.demo.watch import Watch
from labkit.grader.endpoint import NEVER, RETRY_AFTER_SECONDS
from labkit.grader.history import WORK_STARTED
from labkit.grader.scene import Scene
from labkit.grader.words import counted, names

POISON = b'["order", 7, "is paid"]'
AS_ASKED = "as_asked"  # the endpoint answers what a task's address says
WORKER, LOADED = "worker.py", Path(__file__).with_name("loaded_dice_worker.py")
LETTERS, WAITS = "letters", "waits"  # what stands in the middle of the panels
STORM_WAITS = 8.5  # a storm's picture is so many first waits wide: the first three are 1 + 2 + 4


class LoadedDice(Props):
    """Lays the worker with loaded dice beside the submission's files."""

    def __init__(self, lab: Lab, script: Script, photos: Path | None) -> None:
        super().__init__(lab, script, photos)
        self.files = {LOADED.name: LOADED.read_bytes()}


class Webhooks(Act):
    """See the module."""

    PROPS = LoadedDice
    ASIDE = ("dead", "a dead letter says why")
    AGAIN = "by a worker that came back too late: at-least-once"

    def __init__(self, scene: Scene, script: Script, watch: Watch, props: Props) -> None:
        super().__init__(scene, script, watch, props)
        self.endpoint, self.queue = scene.endpoint, WebhookQueue(scene)
        self.arrivals, self.waits, self.letters = Arrivals(scene), Waits(scene), DeadLetters(scene, watch)
        self.storms = Storms(scene, self.arrivals, self.waits)
        self.latecomer = Latecomer(scene, self.queue, self.letters)
        self._looks_at = LETTERS
        self._started: dict[str, tuple[str, dict[str, object]]] = {}  # each worker's script and settings
        self._waits_begin()

    # ---- what is seen all the time ------------------------------------------------------------------------

    def panels(self, moment: Moment) -> tuple[Panel, ...]:
        letters = self._looks_at == LETTERS
        middle = self.letters.panel() if letters else self.waits.panel(self.storms.tasks())
        return (
            self.queue.workers_panel(moment, self.workers, self.called),
            self.queue.tasks_panel(moment),
            *([middle] if middle else []),
            self.arrivals.panel(),
            panels.wire_panel(moment, ["producer", "dlq", *self.workers], spare=True),
        )

    def facts(self) -> tuple[tuple[str, int, str], ...]:
        return (
            ("requests", len(self.endpoint.requests), "that the endpoint saw"),
            ("buried", self.queue.counter("buried"), "ended as dead letters"),
            ("replayed", len(self.letters.replayed), "and delivered then"),
        )

    def lay_out(self) -> None:
        self.arrivals.lay_out()

    # ---- what is done -------------------------------------------------------------------------------------

    def do_webhooks(self, count: str, answers: str = "200", *more: str) -> None:
        """Have the producer queue tasks for an address that gets these answers."""
        if answers.startswith("-"):
            answers, more = "200", (answers, *more)
        self.arrivals.storming = False
        self._produce(count, answers, *more)

    def _produce(self, count: str, answers: str, *more: str) -> None:
        self.scene.lie_in_wait("producer", Pushes(self.scene))
        words = (self.endpoint.url(answers), "--count", count, *more)
        producer = self.scene.start("producer.py", *words, name="producer")
        self.watch.until(lambda: not producer.running)

    def do_storm(self, label: str, count: str) -> None:
        """Have the producer queue tasks that will all fail together; the room sees when their retries come."""
        first = len(self.scene.tasks) + 1
        self._waits_begin()
        tasks = range(first, first + int(count))
        self.arrivals.begin_storm(f"{label} dice", tasks, STORM_WAITS * self.waits.base)
        self._looks_at = WAITS
        self._produce(count, "200", "--max-retries", "20")

    def _waits_begin(self) -> None:
        self.scene.settings |= self._settings_now()
        self.waits.begin(self.setting("BASE_SECONDS"), self.setting("CAP_SECONDS"))

    def _settings_now(self) -> dict[str, object]:
        """The script's settings for the speed at which it is played just now: on the way to a step it hurries."""
        return self.script.settings_at(self.watch.speed)

    def do_worker(self, name: str, script: str = WORKER, **more: object) -> None:
        """See that this worker runs, with this script and the settings of this moment, and more of them."""
        self.scene.settings |= self._settings_now()
        wanted = script, self._settings_now() | more
        if name in self.workers and self.workers[name].running:
            if self._started[name] == wanted:
                return
            self.do_stop(name)
        self._started[name] = wanted
        self.scene.lie_in_wait(name, self.waits)
        self.workers[name] = self.scene.start(script, name, **more)

    def do_hasty_worker(self, name: str) -> None:
        """The same, without any wait: what has failed is tried again at once."""
        self.do_worker(name, CAP_SECONDS=0)

    def do_loaded_worker(self, name: str) -> None:
        """The same, with loaded dice: a wait is then as long as it may be."""
        self.do_worker(name, LOADED.name)

    def do_other_worker(self) -> None:
        """See that a worker runs beside the one that was seen last with a task in hand."""
        self.do_worker(next(name for name in self.workers if name != self.who))

    def do_endpoint(self, answer: str) -> None:
        """What the endpoint answers to every request from now on."""
        self.endpoint.override = "" if answer == AS_ASKED else answer

    def do_poison(self) -> None:
        """Push something that is no task."""
        self.scene.push(POISON)

    def do_fresh_lease(self) -> None:
        """Wait for a renewal: after a kill right behind it, the room sees the whole lease run out."""
        seconds = self.setting("LEASE_SECONDS")
        self.watch.until(lambda: self.queue.lease_left(self.who) > 0.95 * seconds, seconds)

    def do_pause(self) -> None:
        """SIGSTOP the worker that was seen with a task in hand; what was held goes on, but for that one."""
        self.latecomer.pause(self.workers[self.who], self.task)
        self.do_release()

    def do_resume(self) -> None:
        self.latecomer.resume()

    def do_look_at(self, what: str) -> None:
        """Which panel stands in the middle: the letters, or the waits."""
        self._looks_at = what

    def do_dlq(self, command: str, *tasks: str) -> None:
        """Run dlq.py, on these tasks, as one does in a terminal."""
        self._looks_at = LETTERS
        self.letters.run(command, *tasks)

    def do_monitor(self) -> None:
        self.watch.line(NOTE, "$ python monitor.py --once --json")
        super().do_monitor()

    def do_count(self) -> str:
        """The same; that the late one has delivered its task once more is no mistake."""
        wrong, verdict = super().do_count(), self.verdict
        left = verdict.lost or verdict.waiting or verdict.unexpected or verdict.done_and_dead
        as_shown = (
            verdict.repeated_without_cause == [self.latecomer.task] and not left and not self.scene.where()
        )
        return "" if as_shown else wrong

    # ---- what must be seen --------------------------------------------------------------------------------

    def see_delivered(self, count: str) -> Sight:
        """So many tasks are done; each was answered well once, the last time."""

        def there() -> str:
            done = self.done()
            answers = {number: self.arrivals.answers(number) for number in done}
            if len(done) < int(count) or any(each[-1:] != ["200"] for each in answers.values()):
                if self._settled() and not self.scene.where():
                    self.scene.fail(
                        f"Nobody works any more, no list holds a task, and {len(done)} are delivered."
                    )
                return ""
            last = max(done, key=lambda number: self.endpoint.requests_for(number)[-1].at)
            return f"{len(done)} tasks are delivered, task {last} with request {len(answers[last])}"

        return Sight(f"{count} tasks are delivered", there, PATIENCE)

    def see_delayed(self) -> Sight:
        return self.storms.is_delayed(f"{self.queue.name}:delayed")

    def see_told_the_most(self, count: str) -> Sight:
        return self.storms.told_the_most(int(count))

    def see_backoff(self, count: str) -> Sight:
        return self.storms.grows(int(count))

    def see_spread(self) -> Sight:
        return self.storms.is_spread()

    def see_last_retries(self) -> Sight:
        return self.storms.last_retries()

    def see_patient(self, number: str) -> Sight:
        """A task that got 429 came again, and not before the time that was asked for."""
        task = int(number)

        def there() -> str:
            first, *later = self.endpoint.requests_for(task) or [None]
            if not later:
                return ""
            after = later[0].at - first.at
            if first.answer != "429" or after < RETRY_AFTER_SECONDS:
                self.scene.fail(f"Task {task} came again after {after:.1f} s.")
            return (
                f"task {task}: 429 asked for {RETRY_AFTER_SECONDS} s, and it came again after {after:.1f} s"
            )

        return Sight(f"task {task} comes again when the server wants it", there, PATIENCE)

    def see_hasty(self, *numbers: str) -> Sight:
        """All tries of these tasks were over in no time."""
        tasks = [int(number) for number in numbers]

        def there() -> str:
            if not set(tasks) <= self.letters.now().keys():
                return ""
            requests = [each.at for task in tasks for each in self.endpoint.requests_for(task)]
            took = max(requests) - min(requests)
            return f"{names(tasks)} are dead: {len(requests)} requests, all within {took:.1f} s"

        return Sight(f"{names(tasks)} are dead", there, PATIENCE)

    def see_silent(self) -> Sight:
        """The endpoint has the request of the newest task, and does not answer."""
        number = len(self.scene.tasks)

        def there() -> str:
            begun = [event.who for event in self.scene.history.events(WORK_STARTED) if number in event.tasks]
            answered = self.arrivals.answers(number)[-1:] != [NEVER]
            if answered or not begun or begun[-1] not in self.scene.at_work():
                return ""
            self.task, self.who = number, begun[-1]
            return f"{self.who} has sent task {number}, and waits for an answer"

        return Sight(f"task {number} is sent, and gets no answer", there, PATIENCE)

    def see_in_list(self) -> Sight:
        key = self.queue.list_of(self.who)
        return Sight(f"task {self.task} lies in {key}", lambda: self.keys() == [key], instead=self.place)

    def see_lease_over(self) -> Sight:
        words = f"{self.queue.name}:lease:{self.who} has ended"
        within = 2 * self.setting("LEASE_SECONDS") + SOON
        return Sight(words, lambda: self.queue.lease_left(self.who) < 0, within)

    def see_taken_over(self) -> Sight:
        """The task has left the list of who had it, and counts as tried once more."""

        def there() -> str:
            waits = self.waits.of(self.task)
            if not waits or self.queue.list_of(self.who) in self.keys():
                return ""
            others = [name for name in self.workers if name != self.who]
            return f"{others[0]} takes it over: one attempt more, and a wait of {waits[-1]:.1f} s"

        words = f"task {self.task} is taken over"
        return Sight(words, there, 4 * self.setting("LEASE_SECONDS") + SOON, self.place)

    def see_late_request(self) -> Sight:
        return self.latecomer.sends_again()

    def see_fenced_off(self) -> Sight:
        return self.latecomer.is_fenced_off()

    def see_died(self, number: str, requests: str) -> Sight:
        """It is a dead letter, after just so many requests."""
        task, asked = int(number), int(requests)

        def there() -> str:
            letter, answers = self.letters.now().get(task), self.arrivals.answers(task)
            if not letter or len(answers) != asked:
                return ""
            if not answers:
                return f"task {task} is dead, and no endpoint heard of it"
            return f"task {task} is dead after {counted(asked, 'request')}: {said(answers[-1])}"

        def instead() -> str:
            answers = ", ".join(map(said, self.arrivals.answers(task)))
            return f"It is not dead, or not after {asked}: {answers}."

        return Sight(f"task {task} is dead after {counted(asked, 'request')}", there, PATIENCE, instead)

    def see_listed(self) -> Sight:
        return self.letters.listed()

    def see_shown(self, number: str) -> Sight:
        return self.letters.shown(int(number))

    def see_replayed_all(self, *left: str) -> Sight:
        return self.letters.all_are_replayed(set(map(int, left)))

    def see_replayed(self, number: str) -> Sight:
        return self.letters.are_replayed(int(number))

    def see_alarm(self) -> Sight:
        def there() -> str:
            said = self.monitor_said()
            with contextlib.suppress(LookupError, TypeError):
                words = (
                    f"monitor.py: pending {said['pending']}, delayed {said['delayed']}, dead {said['dead']}"
                )
                right = said["alert"] and said["dead"] == self.queue.counter("buried")
                return f"{words}; it is an alarm" if right else ""
            return ""

        return Sight("the monitor counts the dead letters, and raises an alarm", there)

    def see_letters(self, count: str) -> Sight:
        """So many are dead letters in the end; the others were replayed."""
        dead, buried, replayed = self.verdict.dead, self.queue.counter("buried"), len(self.letters.replayed)
        words = f"{buried} were dead letters: {replayed} replayed and delivered, {len(dead)} still there"
        right = buried == len(dead) + replayed and len(dead) == int(count)
        return judged(right, words, f"{count} tasks are dead in the end", f"Dead: {names(dead)}.")

    def see_only_the_late_twice(self) -> Sight:
        words = f"task {self.latecomer.task} alone was delivered twice, and acknowledged once"
        twice = self.verdict.duplicated
        instead = f"Delivered more than once: {names(twice)}."
        return judged(
            twice == [self.latecomer.task], words, "only the late one delivered a task twice", instead
        )

    def see_requests(self) -> Sight:
        """Each task that is done was answered 200 once, the late one's twice, and every request named its task."""
        count = len(self.endpoint.requests)
        well = [request.task for request in self.endpoint.requests if request.answer == "200"]
        words = f"the endpoint saw {counted(count, 'request')} for {len(self.scene.tasks)} tasks"
        named = all(request.task for request in self.endpoint.requests)
        right = named and sorted(well) == sorted([*self.done(), self.latecomer.task])
        return judged(right, words, "each task that is done was answered 200 once, the late one's twice")


ACT = Webhooks
