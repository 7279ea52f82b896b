"""Files that a submission has written: nothing about them can be taken for granted."""

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

LARGEST_OUTPUT = 64 * 2**20  # bytes; no process of a submission can write a larger file


def content(path: Path) -> bytes | None:
    """What is in an ordinary file, or its first 64 MB; None if there is none, or something else under its name.

    Neither the file nor the folder that it is in may be a link: that could lead to what the submission may not read.
    """
    with contextlib.suppress(OSError), _folder(path) as folder:
        # A pipe would keep us waiting.
        number = os.open(path.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
        with open(number, "rb") as file:
            if stat.S_ISREG(os.fstat(number).st_mode):
                return file.read(LARGEST_OUTPUT)
    return None


def write_new(path: Path, text: bytes) -> bool:
    """Write a new file beside those of a submission; whether that went: nothing of that name may be there already."""
    with contextlib.suppress(OSError), _folder(path) as folder:
        number = os.open(
            path.name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644, dir_fd=folder
        )
        with open(number, "wb") as file:
            file.write(text)
        return True
    return False


@contextlib.contextmanager
def _folder(path: Path) -> Iterator[int]:
    number = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        yield number
    finally:
        os.close(number)


def is_filled(path: Path) -> bool:
    """Whether it is an ordinary file with something in it: no link, no pipe, nothing that is read without end."""
    try:
        facts = path.lstat()
    except OSError:
        return False
    return stat.S_ISREG(facts.st_mode) and facts.st_size > 0
