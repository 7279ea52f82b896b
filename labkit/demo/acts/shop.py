"""The web application of lab 1, and those who send mails to it: we over HTTP, and anyone in a second terminal."""

import contextlib
import json
import socket
import threading

from labkit.demo.acts.second_terminal import WIDTH, SecondTerminal
from labkit.demo.post import Answer, post
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


class Shop:
    """Open on a port of its own once it is opened. posted: the task that the last answer named; 0 if it named none."""

    def __init__(self, scene: Scene, watch: Watch) -> None:
        self.scene, self.watch = scene, watch
        self.answer = Answer(0, "", 0)
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
        """Whether the port is open."""
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False

    def post(self) -> None:
        """Send a mail, from a thread: meanwhile the room sees what happens."""
        who, order = self.scene.random.choice(CUSTOMERS), 1001 + len(self.scene.tasks)
        mail = {"to": f"{who}@example.com", "subject": f"Your order {order}", "body": "It is on its way.\n"}
        answers: list[Answer] = []
        ask = threading.Thread(target=lambda: answers.append(post(self._url, json.dumps(mail))), daemon=True)
        ask.start()
        self.watch.still(lambda: answers, STILL_SECONDS)
        self.watch.until(lambda: answers)
        self.answer = answers[0]
        self._note(self.answer.text)

    def post_from_second_terminal(self) -> None:
        """Have a process of its own send a mail, just as someone in the room may do."""
        self.watch.line(NOTE, f"$ {self._terminal.command}")
        self._terminal.type()
        self.watch.until(self._terminal.has_answered)
        said = self._terminal.answer()
        self.watch.line(NOTE, clean(said))
        self._note(said)

    def _note(self, answer: str) -> None:
        wanted = id_in(answer.encode())
        self.posted = next((task.number for task in self.scene.tasks if wanted and task.id == wanted), 0)

    def panels(self) -> tuple[Panel, ...]:
        """The command for a second terminal, once there is something to send to."""
        if self._terminal is None:
            return ()
        rows = tuple((line,) for line in self._terminal.lines())
        return (Panel("type this in a second terminal", (WIDTH,), rows, copied=True),)
