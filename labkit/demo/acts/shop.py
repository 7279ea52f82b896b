"""The web application of lab 1, and those who send mails to it: we over HTTP, and anyone in a second terminal."""

import contextlib
import http.client
import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

from labkit.demo.acts.second_terminal import WIDTH, SecondTerminal
from labkit.demo.post import ANSWER_WITHIN_SECONDS, Answer, post
from labkit.demo.pushes import Pushes
from labkit.demo.stage import NOTE
from labkit.demo.view import Panel
from labkit.demo.watch import Watch
from labkit.grader.scene import Scene
from labkit.grader.tasks import id_in
from labkit.grader.web import WebApp
from labkit.grader.words import clean

CUSTOMERS = ("ada", "grace", "hedy", "katherine", "margaret", "radia")
STILL_SECONDS = 0.3  # in which a web application has long answered
AT_ONCE = 10  # customers who post at the same time
NO_ADDRESS = {"subject": "A form without an address", "body": "Where to?\n"}


class Shop:
    """Open on a port of its own once it is opened. posted: the task that the last answer named; 0 if it named none.

    answer: the last one to a single post; answers: those to the last flood of posts.
    """

    def __init__(self, scene: Scene, watch: Watch) -> None:
        self.scene, self.watch = scene, watch
        self.answer = Answer(0, "", 0)
        self.answers: list[Answer] = []
        self.posted = 0
        self.port = 0
        self._terminal: SecondTerminal | None = None

    def open(self) -> None:
        """Start the web application."""
        self.scene.lie_in_wait("web", Pushes(self.scene))
        self.port = WebApp(self.scene, "producer.py", "web").port
        self._terminal = SecondTerminal(self._url)
        self.scene.at_the_end(self._terminal.close)

    @property
    def _url(self) -> str:
        return f"http://127.0.0.1:{self.port}/send-email"

    def listens(self) -> bool:
        return listens(self.port)

    def post(self) -> None:
        """Send a mail, from a thread: meanwhile the room sees what happens."""
        self.answer = self._post(self._mail(len(self.scene.tasks)))
        self._note(self.answer.text)

    def post_without_address(self) -> Answer:
        """Send what is no mail, and return the answer."""
        return self._post(NO_ADDRESS)

    def post_many(self, count: int) -> None:
        """Send so many mails, several at the same time; meanwhile the room sees what happens."""
        first = len(self.scene.tasks)
        mails = [json.dumps(self._mail(first + place)) for place in range(count)]

        def send() -> None:
            with ThreadPoolExecutor(AT_ONCE, "customer") as customers:
                self.answers = list(customers.map(lambda mail: post(self._url, mail), mails))

        self.watch.meanwhile(send)

    def get(self, path: str) -> str:
        """What the application answers to a GET; "" if it does not."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_WITHIN_SECONDS)
        with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("GET", path)
            return connection.getresponse().read().decode("utf-8", "replace")
        return ""

    def task_of(self, answer: str) -> int:
        """The number of the task that an answer names; 0 if it names none."""
        wanted = id_in(answer.encode())
        return next((task.number for task in self.scene.tasks if wanted and task.id == wanted), 0)

    def _mail(self, place: int) -> dict[str, str]:
        who, order = self.scene.random.choice(CUSTOMERS), 1001 + place
        return {"to": f"{who}@example.com", "subject": f"Your order {order}", "body": "It is on its way.\n"}

    def _post(self, mail: dict[str, str]) -> Answer:
        answers: list[Answer] = []
        ask = threading.Thread(target=lambda: answers.append(post(self._url, json.dumps(mail))), daemon=True)
        ask.start()
        self.watch.still(lambda: answers, STILL_SECONDS)
        self.watch.until(lambda: answers)
        return answers[0]

    def post_from_second_terminal(self) -> None:
        """Have a process of its own send a mail, just as someone in the room may do."""
        self.watch.line(NOTE, f"$ {self._terminal.command}")
        self._terminal.type()
        self.watch.until(self._terminal.has_answered)
        said = self._terminal.answer()
        self.watch.line(NOTE, clean(said))
        self._note(said)

    def _note(self, answer: str) -> None:
        self.posted = self.task_of(answer)

    def panels(self) -> tuple[Panel, ...]:
        """The command for a second terminal, once there is something to send to."""
        if self._terminal is None:
            return ()
        rows = tuple((line,) for line in self._terminal.lines())
        return (Panel("type this in a second terminal", (WIDTH,), rows, copied=True),)


def listens(port: int) -> bool:
    """Whether the port is open."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
