"""A script of the submission that serves HTTP, and the requests that a check sends to it."""

import contextlib
import socket
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labkit.grader import story
from labkit.grader.actor import PATIENCE_SECONDS

if TYPE_CHECKING:
    from labkit.grader.scene import Scene

LAST_WORDS_WITHIN_SECONDS = 2.0


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
        held = reserve_port()
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
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False

    def request(self, method: str, path: str, within: float = PATIENCE_SECONDS, **more: object) -> Answer:
        """Send one request (more: httpx's arguments, such as json=…) and return the answer; fail when none comes.

        A 500 is a failure, too: its story has the script's last words.
        """
        import httpx

        url = f"http://127.0.0.1:{self.port}{path}"
        what = f"{method} {path}"
        try:
            reply = httpx.request(method, url, timeout=within, trust_env=False, **more)
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
        with contextlib.suppress(ValueError, RecursionError):
            return Answer(reply.status_code, reply.text, reply.json())
        return Answer(reply.status_code, reply.text, None)

    def _wait_for_last_words(self) -> str:
        """What the script says of its error, which it may do some time after it has answered."""
        words = lambda: story.last_words(self.scene, self.actor)  # noqa: E731
        return self.scene.wait(words, within=LAST_WORDS_WITHIN_SECONDS) or ""


def reserve_port() -> socket.socket:
    """A socket bound to a free port of the loopback, which nobody else is given while it is open.

    On Linux a server that sets SO_REUSEADDR, as all common ones do, can listen there all the same.
    """
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    return held
