"""What customers of lab 1 see: a page that sends the mail itself, and one that puts a task into a queue."""

import json
from pathlib import Path

from labkit.course import Lab
from labkit.demo.acts import old_shop
from labkit.demo.acts.looks import Looks
from labkit.demo.acts.shop import NO_ADDRESS
from labkit.demo.post import Answer
from labkit.demo.props import Props
from labkit.demo.script import Script
from labkit.demo.sight import PATIENCE, SOON, Sight, judged
from labkit.demo.watch import Watch
from labkit.grader.scene import Scene
from labkit.grader.words import clean

LOADING, SHORTEST_LOADING = 3.0, 1.0  # seconds after which a page has kept its customer waiting
DEPTH = "/tasks/waiting"
LONGEST_SAID = 66  # characters of what is seen: more would be cut


class MailInRequest(Props):
    """Lays the web application that sends the mail itself beside the submission's files."""

    def __init__(self, lab: Lab, script: Script, photos: Path | None) -> None:
        super().__init__(lab, script, photos)
        self.files = {old_shop.SCRIPT.name: old_shop.SCRIPT.read_bytes()}


class WebPages(Looks):
    """See the module."""

    PROPS = MailInRequest

    def __init__(self, scene: Scene, script: Script, watch: Watch, props: Props) -> None:
        super().__init__(scene, script, watch, props)
        self.old_shop = old_shop.OldShop(scene, watch)
        self._refusal = Answer(0, "", 0)
        self._depth = ("", 0, 0)  # what the web application told, and the depth before and after

    # ---- what is done -------------------------------------------------------------------------------------

    def do_order_at_the_old_shop(self) -> None:
        """A customer orders where the page sends the mail itself, and waits for the answer."""
        self.old_shop.order()

    def do_wake_mail_server(self) -> None:
        """The old shop's mail server answers after all."""
        self.old_shop.wake_mail_server()

    def do_web(self) -> None:
        """Start the web application on a port of its own."""
        self.shop.open()

    def do_post(self) -> None:
        """Send a mail over HTTP."""
        self.shop.post()

    def do_post_without_address(self) -> None:
        """Send a form that is no mail."""
        self._refusal = self.shop.post_without_address()

    def do_flood(self, count: str) -> None:
        """Send so many mails over HTTP, many at the same time."""
        self.shop.post_many(int(count))

    def do_ask_depth(self) -> None:
        """Ask the web application how many tasks wait."""
        before = self.scene.depth()
        self._depth = clean(self.shop.get(DEPTH)), before, self.scene.depth()

    def do_second_terminal(self) -> None:
        """Send a mail from a process of its own, with the command that the room is shown."""
        self.shop.post_from_second_terminal()

    # ---- what must be seen --------------------------------------------------------------------------------

    def see_loads(self) -> Sight:
        """The page of the old shop keeps its customer waiting, since the mail server has not answered."""
        least = max(SHORTEST_LOADING, LOADING / self.watch.speed)

        def there() -> str:
            words = (
                f"the page still loads after {self.old_shop.seconds():.0f} s: it waits for the mail server"
            )
            return words if self.old_shop.loads_for(least) else ""

        return Sight("the page waits for the mail server", there, PATIENCE, self._old_answer)

    def see_old_page(self) -> Sight:
        """The page of the old shop is there at last."""

        def there() -> str:
            answer, new = self.old_shop.answer, self.shop.answer
            if answer is None or answer.status != 200:
                return ""
            return f"that page took {self.old_shop.seconds():.1f} s, the other {new.milliseconds:.0f} ms"

        return Sight("the old page is there", there, PATIENCE / 4, self._old_answer)

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

    def see_refused(self) -> Sight:
        """The form without an address was refused, and nothing of it was queued."""
        status, said = self._refusal.status, clean(_reason(self._refusal.text))
        queued = any(NO_ADDRESS["subject"].encode() in task.body for task in self.scene.tasks)
        words = f"answered {status}, nothing is queued: {said}"[:LONGEST_SAID]
        expected = "the answer is 4xx, and nothing is queued"
        instead = clean(
            f"Answered {status}, and a task is queued." if queued else f"Answered {status}: {said}"
        )
        return judged(400 <= status < 500 and not queued, words, expected, instead)

    def see_flooded(self) -> Sight:
        """Each post of the flood was answered with a task of its own."""
        answers = self.shop.answers
        tasks = {self.shop.task_of(answer.text) for answer in answers if answer.status == 202} - {0}
        slowest = max((answer.milliseconds for answer in answers), default=0)
        words = f"{len(answers)} times 202, the slowest after {slowest:.0f} ms"
        bad = [f"{answer.status}: {clean(answer.text)}" for answer in answers if answer.status != 202]
        instead = f"Answered {bad[0]}" if bad else f"{len(tasks)} tasks are named."
        expected = "each post is answered with 202, and a task of its own"
        return judged(answers and len(tasks) == len(answers), words, expected, instead)

    def see_depth(self) -> Sight:
        """The web application tells how many tasks wait."""
        said, before, after = self._depth
        told = self.scene.json(said)
        waiting = told.get("waiting") if isinstance(told, dict) else None
        words = f"the web application says: {said}"[:LONGEST_SAID]
        right = type(waiting) is int and before <= waiting <= after
        return judged(right, words, f"the web application tells that {before} wait", f"It says: {said}")

    def see_typed(self) -> Sight:
        words = f"task {self.shop.posted} came from a second terminal"
        return judged(
            self.shop.posted, words, "a task came from a second terminal", "None came.", within=SOON
        )

    # ---- looking things up --------------------------------------------------------------------------------

    def _old_answer(self) -> str:
        """What the old shop has answered so far."""
        answer = self.old_shop.answer
        return f"It answered {answer.status}: {clean(answer.text)}" if answer else "It has not answered."


def _reason(answer: str) -> str:
    """What an answer gives as its "detail", or the first line of it; the whole answer if it gives none."""
    try:
        detail = json.loads(answer)["detail"]
    except (ValueError, LookupError, TypeError):
        return answer
    return str(detail[0] if isinstance(detail, list) and detail else detail)
