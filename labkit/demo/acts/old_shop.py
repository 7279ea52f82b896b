"""The shop whose page sends the mail itself, and a mail server of its own that is slow: what lab 1 does away with."""

import asyncio
import json
import math
import threading
import time
from pathlib import Path

from labkit.demo.acts.shop import listens
from labkit.demo.post import Answer, post
from labkit.demo.view import DONE, GONE, Panel, Words
from labkit.demo.watch import Watch
from labkit.grader.mail import MailLane
from labkit.grader.scene import Scene
from labkit.grader.web import WebApp

SCRIPT = Path(__file__).with_name("mail_in_request.py")
NAME = "old-shop"
MAIL = {"to": "grace@example.com", "subject": "Your order 1000", "body": "It is on its way.\n"}
LOADS_FOR_SECONDS = 600.0  # at most: somebody may talk meanwhile


class SlowMailServer(MailLane):
    """Keeps its answer to a mail until it wakes up. What arrives here is no task of the scene."""

    def __init__(self, scene: Scene, who: str) -> None:
        super().__init__(scene, who)
        self.has_mail = False
        self._awake = asyncio.Event()

    async def handle_DATA(self, server: object, session: object, envelope: object) -> str:
        self.has_mail = True
        self.scene.history.wake()
        await self._awake.wait()
        return "421 too late" if self.dead else "250 taken"

    def wake(self) -> None:
        self.scene.loop.loop.call_soon_threadsafe(self._awake.set)


class OldShop:
    """answer: of its page to the one order, when it has come."""

    def __init__(self, scene: Scene, watch: Watch) -> None:
        self.scene, self.watch = scene, watch
        self.answer: Answer | None = None
        self._began = math.nan
        self._mail: SlowMailServer | None = None

    def order(self) -> None:
        """Start the web application, and have a customer order something, who then waits in a thread."""
        self._mail = SlowMailServer(self.scene, NAME)
        self.scene.loop.call(self._mail.open(self.scene.run.doors.bind()))
        self.scene.at_the_end(lambda: self.scene.loop.call(self._mail.close()))
        usual = self.scene.settings
        self.scene.settings = usual | self._mail.environment()
        try:
            app = WebApp(self.scene, SCRIPT.name, NAME)
        finally:
            self.scene.settings = usual
        self.watch.expect(lambda: listens(app.port), "the web application was to listen")
        self._began = time.monotonic()
        threading.Thread(target=self._post, args=(app.port,), daemon=True).start()

    def _post(self, port: int) -> None:
        url = f"http://127.0.0.1:{port}/send-email"
        self.answer = post(url, json.dumps(MAIL), LOADS_FOR_SECONDS)
        self.scene.history.wake()

    def loads_for(self, seconds: float) -> bool:
        """Whether the mail server has the mail, and the page has been loading for so long."""
        return bool(self._mail and self._mail.has_mail and not self.answer and self.seconds() >= seconds)

    def seconds(self) -> float:
        """How long the customer has waited, or had to wait."""
        return self.answer.milliseconds / 1000 if self.answer else time.monotonic() - self._began

    def wake_mail_server(self) -> None:
        self._mail.wake()

    def panel(self, queued: Answer) -> Panel:
        """Two pages side by side; queued: the last answer of the one that only queues."""
        old = ("sends the mail itself", "", "")
        if self.answer:
            old = (old[0], Words(f"✓ {self.answer.status}", DONE), f"{self.seconds():9.3f} s")
        elif not math.isnan(self._began):
            old = (old[0], Words("… loads", GONE), f"{self.seconds():7.1f} s")
        new = ("only queues a task", "", "")
        if queued.status:
            new = (new[0], Words(f"✓ {queued.status}", DONE), f"{queued.milliseconds / 1000:9.3f} s")
        return Panel("the customer's page", (24, 12, 0), (old, new), lines=3)
