"""What one types in a second terminal to send a mail, and a process of our own that does just that."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import textwrap

from labkit.demo import post
from labkit.janitor import janitor

MAIL = {"to": "you@example.com", "subject": "Hello", "body": "It works."}
WIDTH = 80  # of a terminal
SECONDS = f"{post.ANSWER_WITHIN_SECONDS:g}"


class SecondTerminal:
    """`words` are the command: curl's, or on a machine without it, that of post.py."""

    def __init__(self, url: str) -> None:
        self._body = body = json.dumps(MAIL)
        if shutil.which("curl"):
            self.words = ["curl", "-X", "POST", url, "-d", body, "-H", "Content-Type: application/json"]
            self._run = ["curl", "-sS", "--max-time", SECONDS, "--noproxy", "*", *self.words[1:]]
        else:
            self.words = ["python", os.path.relpath(post.__file__), url, body]
            self._run = [sys.executable, post.__file__, url, body]
        self._process: subprocess.Popen | None = None

    @property
    def command(self) -> str:
        """The command in one line, as a shell takes it."""
        return " ".join(map(shlex.quote, self.words))

    def lines(self) -> list[str]:
        """The command in lines that fit a terminal, to be copied together.

        They are broken within the JSON, where a line's end is as good as a space, and spaces before it do no harm.
        """
        solid = [
            shlex.quote(word) if word == self._body else shlex.quote(word).replace(" ", "\0")
            for word in self.words
        ]
        lines = textwrap.wrap("\0".join(solid), WIDTH, break_long_words=False, break_on_hyphens=False)
        return [line.replace("\0", " ") for line in lines]

    def type(self) -> None:
        """Run the command in a process of its own, which ends with us."""
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        self._process = janitor().start_process(self._run, **streams)

    def has_answered(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    def answer(self) -> str:
        """What the command printed; one that is still under way is ended."""
        self._process.kill()
        said = self._process.stdout.read().decode("utf-8", "replace")
        self.close()
        return said.strip()

    def close(self) -> None:
        """End a command that is still under way. Closing twice is allowed."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process.stdout.close()
            janitor().forget_process(self._process.pid)
            self._process = None
