"""Folders as bytes, to travel to another machine and back: a submission there, what came of its grading here."""

import io
import os
import tarfile
from pathlib import Path

from labkit.grader.submission import LARGEST_FILE

LARGEST_PACKED = 8 * 1024 * 1024  # bytes: in base64, within the 16 MiB that RabbitMQ 4 takes
LARGEST_UNPACKED = 500 * 1024 * 1024
MOST_MEMBERS = 20_000
LEAD_NOWHERE = "a-link-that-is-not-followed"


class TooLarge(Exception):
    """A folder does not fit into one task."""


def pack_submission(folder: Path) -> bytes:
    """A submission as a compressed tar, under the name of its folder.

    What grading never reads does not travel: hidden files, where a link leads to, what is in files that are too large.

    Raises:
        TooLarge: it has more than LARGEST_PACKED bytes then.
    """
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=6) as tar:
        for parent, folders, files in os.walk(folder):
            there = Path(parent)
            folders[:] = sorted(name for name in folders if not name.startswith((".", "__pycache__")))
            links = [name for name in folders if (there / name).is_symlink()]
            for name in [*folders, *sorted(files)]:
                if not name.startswith("."):
                    _add(tar, there / name, f"{folder.name}/{(there / name).relative_to(folder)}")
            folders[:] = [name for name in folders if name not in links]
            if packed.tell() > LARGEST_PACKED:
                raise TooLarge
        if not tar.members:
            tar.addfile(_member(folder.name, tarfile.DIRTYPE))
    if packed.tell() > LARGEST_PACKED:
        raise TooLarge
    return packed.getvalue()


def _member(name: str, kind: bytes) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.mode = kind, 0o755 if kind == tarfile.DIRTYPE else 0o644
    return member


def _add(tar: tarfile.TarFile, path: Path, name: str) -> None:
    if path.is_symlink():
        member = _member(name, tarfile.SYMTYPE)
        member.linkname = LEAD_NOWHERE
        tar.addfile(member)
    elif path.is_dir():
        tar.addfile(_member(name, tarfile.DIRTYPE))
    elif path.is_file():
        content = path.read_bytes() if path.stat().st_size <= LARGEST_FILE else bytes(LARGEST_FILE + 1)
        member = _member(name, tarfile.REGTYPE)
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))


def pack_result(folder: Path, most_bytes: int = LARGEST_PACKED) -> bytes:
    """What a grading left, as a compressed tar; without its timelines if it is larger than most_bytes with them."""
    for without in ((), ("timeline.html",)):
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=6) as tar:
            for path in sorted(folder.rglob("*")):
                if path.is_file() and not path.is_symlink() and path.name not in without:
                    tar.add(path, str(path.relative_to(folder)), recursive=False)
        if packed.tell() <= most_bytes:
            return packed.getvalue()
    raise TooLarge


def unpack(packed: bytes, into: Path) -> None:
    """Unpack what one of the two above has packed; nothing is written outside `into`.

    Raises:
        tarfile.TarError: it is no such thing, or leads outside.
        TooLarge: it would fill the disk.
    """
    with tarfile.open(fileobj=io.BytesIO(packed), mode="r:gz") as tar:
        left = LARGEST_UNPACKED
        for number, member in enumerate(tar):
            left -= member.size
            if left < 0 or number > MOST_MEMBERS:
                raise TooLarge
            tar.extract(member, into, set_attrs=False, filter="data")
