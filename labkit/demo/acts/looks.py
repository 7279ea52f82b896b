"""What a demonstration of polling measures: looks for nothing, and mails that come just after a look."""

import math

from labkit.demo import measure
from labkit.demo.acts.at_most_once import AtMostOnce
from labkit.demo.acts.poll_costs import PollCosts
from labkit.demo.acts.shop import Shop
from labkit.demo.props import Props
from labkit.demo.script import Script
from labkit.demo.sight import Sight, judged
from labkit.demo.watch import Watch
from labkit.grader.scene import Scene
from labkit.grader.words import counted

SHORTEST_COUNT = 1.0  # seconds over which looks are counted
ATTEMPTS = 4  # to post right after a look
EARLY = 0.3  # of a pause: what was posted by then came right after the look
TOO_SHORT = 0.4  # seconds: right after a look is not to be told from later


class Looks(AtMostOnce):
    """costs: what was measured so far, by pause."""

    def __init__(self, scene: Scene, script: Script, watch: Watch, props: Props) -> None:
        super().__init__(scene, script, watch, props)
        self.shop = Shop(scene, watch)
        self.costs = PollCosts()
        self._counted = (0, 0, 1.0)  # workers, their looks in vain, seconds
        self._waits: list[float] = []  # of the mails that were sent at any moment, in seconds

    @property
    def pause(self) -> float:
        """Seconds between two looks of the workers that were started last."""
        return self.setting("POLL_SECONDS")

    # ---- what is done -------------------------------------------------------------------------------------

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
        self.costs.looks[self.pause] = looks / max(1, len(living)) / (ended - began)

    def do_post_after_a_look(self, name: str) -> None:
        """Send a mail right after this worker has looked in vain; once more if we came too late for that."""
        for _ in range(ATTEMPTS):
            self._wait_for_a_look(name, len(self._looks(name)))
            self.shop.post()
            if not self.shop.posted:
                return
            number = self.shop.posted
            self.watch.expect(self._took, f"task {number} was to be taken")
            self.costs.waits[self.pause] = self._took()
            sent = measure.sent_at(self.scene.history, number)
            looked = max((at for at in self._looks(name) if at < sent), default=sent)
            if sent - looked < EARLY * self.pause or self.pause < TOO_SHORT:
                return
            done = lambda: number in self.done()  # noqa: B023, E731
            self.watch.expect(done, f"task {number} was to be done")

    def do_post_at_any_moment(self, count: str) -> None:
        """Send mails, each when the one before is done.

        Their moments are spread evenly over a pause, in an order that nobody knows.
        """
        self._waits.clear()
        moments = [(place + self.scene.random.random()) / int(count) for place in range(int(count))]
        self.scene.random.shuffle(moments)
        for moment in moments:
            idle = lambda: not self.scene.at_work() and not self.scene.depth()  # noqa: E731
            self.watch.expect(idle, "the workers were to be idle")
            self.watch.still(lambda: False, moment * self.pause)
            self.shop.post()
            self.watch.expect(self._took, f"task {self.shop.posted} was to be taken")
            self._waits.append(self._took())

    # ---- what must be seen --------------------------------------------------------------------------------

    def see_looks(self) -> Sight:
        """The looks that were counted are about as many as the pause allows."""
        (workers, looks, seconds), pause = self._counted, self.pause
        who = counted(workers, "idle worker")
        words = f"{who} looked {looks} times in {seconds:.0f} s: {looks / seconds:.0f} a second"
        most = workers * (seconds / pause + 1)
        return judged(most / 5 <= looks <= most, words, f"each idle worker looks every {pause:g} s")

    def see_waited(self) -> Sight:
        """The task that was posted last waited for most of a pause."""
        number, pause = self.shop.posted, self.pause
        words = f"task {number} waited {1000 * self._took():.0f} ms, of a pause of {1000 * pause:.0f} ms"
        expected = f"task {number} waits for most of a pause"
        return judged(self._took() >= pause / 2, words, expected, self._wait_words())

    def see_average(self) -> Sight:
        """The mails that came at any moment waited for some part of a pause."""
        least, most = 1000 * min(self._waits, default=0), 1000 * max(self._waits, default=0)
        mean = sum(self._waits) / max(1, len(self._waits))
        words = (
            f"{len(self._waits)} mails waited {least:.0f} to {most:.0f} ms, on average {1000 * mean:.0f} ms"
        )
        right = self.pause / 10 < mean < 2 * self.pause
        return judged(right, words, "on average a mail waits for some part of a pause", f"{words}.")

    def see_taken(self) -> Sight:
        """The task that was posted last was taken."""
        words = f"task {self.shop.posted} waited {1000 * self._took():.0f} ms"
        return judged(self._took(), words, f"task {self.shop.posted} is taken", self._wait_words())

    def see_bargain(self) -> Sight:
        """The shortest pause has the shortest wait, and costs the most looks."""
        right = self.costs.is_a_bargain()
        words = self.costs.story() if right else ""
        return judged(right, words, "the shorter the pause, the shorter the wait, and the more looks in vain")

    def see_a_day(self) -> Sight:
        """What the shortest pause comes to."""
        words = self.costs.a_day()
        return judged(words, words, "the looks of a day are counted")

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
