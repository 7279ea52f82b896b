"""What is worked on: the lab's own photographs, drawn once and kept in .lab/, or those in anyone's folder."""

import contextlib
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

from labkit.course import Lab
from labkit.demo.props import BadProps
from labkit.grader.failure import InfrastructureError
from labkit.janitor import janitor

SUFFIXES = (".jpg", ".jpeg", ".png")  # what the lab's images.py takes for a photograph
MOST_PIXELS = {".png": 20_000_000}  # a PNG can have 3 bytes a pixel, and a script may write 64 MB
MOST_PIXELS_ELSE = 50_000_000  # above it, the lab's images.py suspects a decompression bomb
DRAW = "import sys; sys.path.insert(0, sys.argv[1]); import samples; samples.fill(sys.argv[2])"


def usable(folder: Path, most: int) -> list[str]:
    """The names of up to `most` photographs in the folder. Reads only their headers, and writes nothing.

    Raises:
        BadProps: no such folder, or no photograph in it.
    """
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    except OSError as error:
        raise BadProps(f"{folder} cannot be read: {(error.strerror or str(error)).lower()}.") from None
    found: list[str] = []
    for path in paths:
        if len(found) < most and _is_photograph(path, folder):
            found.append(path.name)
    if not found:
        raise BadProps(f"{folder} holds no JPEG or PNG pictures that can be read.")
    return found


def _is_photograph(path: Path, folder: Path) -> bool:
    from PIL import Image

    most = MOST_PIXELS.get(path.suffix.lower(), MOST_PIXELS_ELSE)
    try:
        path.name.encode()
        if not path.resolve().is_relative_to(folder.resolve()) or not path.is_file():
            return False  # a link to elsewhere: images.py would set it aside
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # we count for ourselves
            with Image.open(path) as image:
                return image.width * image.height <= most
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False


def megapixels(path: Path) -> float:
    """The size of a picture, in millions of pixels."""
    from PIL import Image

    with Image.open(path) as image:
        return image.width * image.height / 1e6


class Drawing:
    """The lab's own photographs, drawn by a process of their own while the demonstration begins."""

    def __init__(self, lab: Lab) -> None:
        self.folder = lab.state / "photos"
        self._process: subprocess.Popen | None = None
        if self.folder.is_dir() and any(path.suffix in SUFFIXES for path in self.folder.iterdir()):
            return
        self._draft = lab.state / f".photos-{os.getpid()}"  # a folder that is there is whole
        lab.state.mkdir(parents=True, exist_ok=True)
        janitor().watch_folder(self._draft)
        self._process = janitor().start_process(
            [sys.executable, "-I", "-c", DRAW, str(lab.given_folder), str(self._draft)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    @property
    def under_way(self) -> bool:
        return self._process is not None

    def wait(self, until: Callable[[Callable[[], bool]], object]) -> None:
        """Return when the photographs are there; `until` waits for a condition.

        Raises:
            InfrastructureError: they cannot be drawn.
        """
        if self._process is None:
            return
        until(lambda: self._process.poll() is not None)
        if self._process.poll() != 0:
            raise InfrastructureError("the photographs to work on could not be drawn: is Pillow installed?")
        with contextlib.suppress(OSError):  # another demonstration was faster; its photographs are the same
            os.rename(self._draft, self.folder)
        self.close()

    def close(self) -> None:
        """End what is still being drawn."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            janitor().forget_process(self._process.pid)
            shutil.rmtree(self._draft, ignore_errors=True)
            janitor().forget_folder(self._draft)
            self._process = None
