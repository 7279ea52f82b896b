"""A script of the submission that serves HTTP, and the requests that a check sends to it."""

import contextlib
import json
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labkit.grader import story
from labkit.grader.actor import PATIENCE_SECONDS

if TYPE_CHECKING:
    from labkit.grader.scene import Scene

LAST_WORDS_WITHIN_SECONDS = 2.0
MOST_BYTES = 2**20  # of an answer; a lab's own have a few hundred


@dataclass(frozen=True)
class Answer:
    """What came back: the status, the text, and what the text says if it is JSON."""

    status: int
    text: str
    json: object


class WebApp:
    """The script, started, with a port of its own in PORT. Requests wait until it listens."""

    def __init__(self, scene: "Scene", script: str, name: str) -> None:
        self.scene = scene
        held = scene.run.doors.bind()
        self.port = held.getsockname()[1]
        scene.at_the_end(held.close)
        if sys.platform != "linux":
            held.close()  # elsewhere nobody could listen there while we hold it
        self.actor = scene.start(script, name=name, PORT=self.port)

    def wait_until_it_listens(self) -> None:
        """Wait for the port to be open; fail with a story when the script dies before, or never opens it."""
        self.scene.wait_until(
            self._listens, f"{self.actor.name} was to listen on PORT, {self.port}", task=None
        )

    def _listens(self) -> bool:
        with contextlib.suppress(OSError), self.scene.run.doors.connect(self.port, timeout=1):
            return True
        return False

    def request(self, method: str, path: str, within: float = PATIENCE_SECONDS, **more: object) -> Answer:
        """Send one request (more: httpx's arguments, such as json=…) and return the answer; fail when none comes.

        A 500 is a failure, too: its story has the script's last words.
        """
        import httpx

        url = f"http://127.0.0.1:{self.scene.run.doors.outside(self.port)}{path}"
        what = f"{method} {path}"
        deadline, text = time.monotonic() + within, b""
        try:
            with httpx.stream(method, url, timeout=within, trust_env=False, **more) as reply:
                for part in reply.iter_bytes():
                    text += part
                    if len(text) > MOST_BYTES or time.monotonic() > deadline:
                        self.scene.fail(f"The answer to {what} has no end.")
        except httpx.TimeoutException:
            self.scene.fail(
                f"{what} had no answer within {within:g} s.", question="What does the app wait for?"
            )
        except httpx.HTTPError as error:
            self.scene.fail(f"{what} was not answered: {error}. {story.last_words(self.scene, self.actor)}")
        if reply.status_code == 500:
            words = self._wait_for_last_words()
            unwritten = story.unwritten(self.scene, self.actor)
            self.scene.fail(unwritten or f"{what} was answered with 500. {words}".rstrip(), task=None)
        shown = text.decode("utf-8", "replace")
        with contextlib.suppress(ValueError, RecursionError):
            return Answer(reply.status_code, shown, json.loads(text))
        return Answer(reply.status_code, shown, None)

    def _wait_for_last_words(self) -> str:
        """What the script says of its error, which it may do some time after it has answered."""
        words = lambda: story.last_words(self.scene, self.actor)  # noqa: E731
        return self.scene.wait(words, within=LAST_WORDS_WITHIN_SECONDS) or ""
