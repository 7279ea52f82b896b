"""Records a demonstration as a file that asciinema plays: https://docs.asciinema.org/manual/asciicast/v2/

What is recorded is the live view of one terminal, whatever stage the room has in front of it. Each line of the file is
written whole, and at once: of a demonstration that was interrupted the file has all that there was.
"""

import contextlib
import functools
import io
import json
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.style import Style

from labkit.brokers import InfrastructureError
from labkit.demo.live import LiveStage
from labkit.demo.stage import SAY, Stage
from labkit.demo.view import View

WIDTH, HEIGHT = (
    100,
    30,
)  # of the terminal that is recorded: more than the live view needs, so that it cuts less
TERMINAL = {"TERM": "xterm-256color"}


class BadRecording(Exception):
    """The file cannot be written, or not be read. Its text is one line for the user."""


class Recording:
    """A file of one demonstration, and the terminal that writes into it: `console`.

    The file that was there before is replaced when the new one begins; until then nothing is written.
    """

    def __init__(self, path: Path, title: str, command: str, size: tuple[int, int] = (WIDTH, HEIGHT)) -> None:
        """title, command: what the recording is called, and what was typed. size: of the terminal.

        Raises:
            BadRecording: there can be no such file.
        """
        self.path, self.title = _writable(path), title
        width, height = size
        self._header = {
            "version": 2,
            "width": width,
            "height": height,
            "timestamp": int(time.time()),
            "command": command,
            "title": title,
            "env": TERMINAL,
        }
        self._number, self._whole, self._began = -1, 0, 0.0
        self._trouble: InfrastructureError | None = None
        self.console = _Console(
            file=_Terminal(self), width=width, height=height, force_terminal=True, color_system="truecolor",
            no_color=False, highlight=False, legacy_windows=False, _environ=TERMINAL,
        )  # fmt: skip

    def begin(self) -> None:
        """Write the first line, and put the file in its place.

        Raises:
            InfrastructureError: that failed, as any later writing may. Then so does all that comes after it, and
                what was written before is whole.
        """
        self._began = time.monotonic()
        draft = _draft(self.path)
        try:
            self._number = _create(draft)
            self._write(self._header)
            os.replace(draft, self.path)
        except OSError as error:
            raise self._failed(error) from None
        finally:
            draft.unlink(missing_ok=True)

    def event(self, kind: str, text: str) -> None:
        """Write what happened just now; kind: "o" for output, "m" for a marker."""
        if self._trouble:
            raise self._trouble
        if self._number >= 0:
            seconds = round(time.monotonic() - self._began, 3)
            self._write([seconds, kind, text.encode("utf-8", "replace").decode()])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the file. Closing twice is allowed."""
        if self._number >= 0:
            number, self._number = self._number, -1
            os.close(number)

    def _write(self, line: object) -> None:
        written = (json.dumps(line, ensure_ascii=False) + "\n").encode()
        left = memoryview(written)
        try:
            while left:
                left = left[os.write(self._number, left) :]
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._number, self._whole)  # half a line would make the file unreadable
            raise self._failed(error) from None
        self._whole += len(written)

    def _failed(self, error: OSError) -> InfrastructureError:
        with contextlib.suppress(OSError):
            self.close()
        self._trouble = InfrastructureError(f"the recording {self.path} cannot be written: {error.strerror}")
        return self._trouble


class _Terminal(io.TextIOBase):
    """What the console writes to: each of its writings is an event."""

    encoding = "utf-8"

    def __init__(self, recording: Recording) -> None:
        self._recording = recording

    def write(self, text: str) -> int:
        if text:
            self._recording.event("o", text.replace("\n", "\r\n"))  # as a terminal's driver does it
        return len(text)


class _Console(Console):
    """A console with styles of its own.

    A style keeps the codes that it was first written with: on a terminal of few colors, the recording would get those.
    """

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        for text, style, control in super().render(renderable, options):
            yield Segment(text, style and _own(style), control)


@functools.cache
def _own(style: Style) -> Style:
    return Style(color=style.color, bgcolor=style.bgcolor, bold=style.bold, dim=style.dim)


class RecordedStage:
    """A stage that is recorded: all that is shown on it is shown on the recording's terminal, too."""

    def __init__(self, inner: Stage, recording: Recording, steps: int) -> None:
        """steps: how many there are."""
        self._inner, self._recording = inner, recording
        self._live = LiveStage(recording.title, recording.console, steps)
        self._step = 0  # that has begun, and has no marker yet

    def open(self) -> None:
        self._recording.begin()
        self._live.open()
        self._inner.open()

    def line(self, kind: str, text: str) -> None:
        self._mark(text if kind == SAY else "")
        self._inner.line(kind, text)
        self._live.line(kind, text)

    def show(self, view: View) -> None:
        self._mark()
        self._inner.show(view)
        self._live.show(view)

    def step(self, number: int) -> None:
        self._mark()
        self._step = number
        self._inner.step(number)
        self._live.step(number)

    def prompt(self, words: str) -> None:
        self._inner.prompt(words)
        self._live.prompt(words)

    def typed(self) -> str:
        return self._inner.typed()

    def close(self) -> None:
        self._inner.close()
        with contextlib.suppress(InfrastructureError):  # whoever wrote last was told
            self._mark()
            self._live.close()

    def _mark(self, words: str = "") -> None:
        """The marker of a step: it tells the words that the step begins with, if it begins with words."""
        number, self._step = self._step, 0
        if number:
            self._recording.event("m", f"step {number}: {words}" if words else f"step {number}")


def _writable(path: Path) -> Path:
    """The whole path, once it is known that a file can be put there."""
    try:
        path = path.resolve()
        if path.is_dir():
            raise BadRecording(f"{path} is a folder: the recording needs the name of a file.")
        if not path.parent.is_dir():
            raise BadRecording(f"There is no folder {path.parent} to record into.")
        if path.exists() and not path.is_file():
            raise BadRecording(f"{path} is no ordinary file: the recording would replace it.")
        if path.exists() and not os.access(path, os.W_OK):
            raise BadRecording(f"{path} may not be written to.")
        draft = _draft(path)
        os.close(_create(draft))
        draft.unlink()
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle
        raise BadRecording(f"{path} cannot be written: {getattr(error, 'strerror', error)}.") from None
    return path


def _draft(path: Path) -> Path:
    """Beside the file, for the moment before it takes its place."""
    return path.with_name(f".{secrets.token_hex(4)}.cast")


def _create(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
