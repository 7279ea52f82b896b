"""Zip and tar archives, unpacked member by member. Nothing that an archive says of itself is believed.

Only files and folders are written, under names that stay within the folder; what is really unpacked is counted.
"""

import bz2
import gzip
import hashlib
import lzma
import re
import stat
import struct
import tarfile
import tempfile
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from labkit.grade.refused import BadSource

MOST_FILES = 10_000
MOST_BYTES = 100_000_000  # unpacked, all together; also of the archive itself
LONGEST_PATH = 400  # bytes
LONGEST_PART = 200  # bytes; file systems allow 255
AT_ONCE = 64 * 1024
LARGEST_HEADER = 4_000_000  # bytes that a reader of archives may ask for at once, such as a zip's directory
MOST_XZ_MEMORY = 128_000_000  # bytes; xz -9 needs half of it
PLAIN_ZIP = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}  # the others unpack a small piece without a limit
# What Python's readers of archives raise at a broken one.
BROKEN = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error, EOFError, ValueError,
    LookupError, OverflowError, RuntimeError,
)  # fmt: skip


def unpack(archive: Path, into: Path) -> str:
    """Unpack a zip or a tar (plain, gz, xz or bz2) into an empty folder; return the sha256 of the archive's bytes.

    Raises:
        BadSource: it is no archive, broken, encrypted, too large, or has a member that is refused.
        OSError: the archive cannot be read, or the folder not written to.
    """
    with archive.open("rb") as file:
        digest = _digest(file)
        file.seek(0)
        start = file.read(6)
        file.seek(0)
        try:
            if start.startswith(b"PK"):
                _unzip(file, Unpacker(into))
            elif start.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00")):
                with tempfile.TemporaryFile(dir=into) as plain:
                    _inflate(file, start, plain)
                    _untar(plain, Unpacker(into))
            else:
                _untar(file, Unpacker(into))
        except BROKEN as error:
            raise BadSource(broken(error)) from None
        except OSError as error:
            if error.errno is not None:
                raise
            raise BadSource(broken(error)) from None  # gzip and bz2 say so of their data
    return digest


class Unpacker:
    """Where the members of one archive, or the files of one commit, go: first all are placed, then they are written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._names = 0
        self._bytes = 0

    def place(self, name: str) -> Path:
        """Where a member of this name goes; every member counts. Raises BadSource for a name that is refused."""
        self._names += 1
        if self._names > MOST_FILES:
            raise BadSource(f"it holds more than {MOST_FILES:,} files; hand in the labs' folders only")
        return self.folder.joinpath(*parts_of(name))

    def write(self, path: Path, source: BinaryIO) -> None:
        """Write a file. Raises BadSource where one is already, or when all together have become too large."""
        self.make_folder(path.parent)
        try:
            with path.open("xb") as file:
                while chunk := source.read(AT_ONCE):
                    self._bytes += len(chunk)
                    if self._bytes > MOST_BYTES:
                        raise BadSource(too_large())
                    file.write(chunk)
        except FileExistsError:
            raise BadSource(f"{self._told(path)} is in it twice") from None

    def make_folder(self, path: Path) -> None:
        try:
            path.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise BadSource(f"{self._told(path)} is a file and a folder in it") from None

    def _told(self, path: Path) -> str:
        return shortened(str(path.relative_to(self.folder)))


def parts_of(name: str) -> tuple[str, ...]:
    """The parts of a member's name, none of which leads out of the folder.

    Raises:
        BadSource: it is absolute, has `..`, a backslash or a drive letter, is too long, or no text.
    """
    if any(unicodedata.category(char) in ("Cc", "Cs") for char in name):
        raise BadSource(f"{shortened(name)}: its name is not text")
    parts = PurePosixPath(name).parts
    if name.startswith("/") or "\\" in name or re.match(r"[A-Za-z]:", name) or ".." in parts:
        raise BadSource(f"{shortened(name)} would be written outside its folder")
    if len(name.encode()) > LONGEST_PATH or any(len(part.encode()) > LONGEST_PART for part in parts):
        raise BadSource(f"{shortened(name)}: its name is too long")
    return parts


def broken(error: Exception) -> str:
    return f"it is a broken archive, or none ({shortened(str(error)) or type(error).__name__})"


def shortened(name: str) -> str:
    """A member's name as it can be told."""
    return name if len(name) <= 60 else f"{name[:60]}…"


def too_large() -> str:
    return f"it is larger than {MOST_BYTES // 1_000_000} MB when it is unpacked"


class _Careful:
    """A file that gives no more at once than a header may have: a broken length then costs no memory."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, size: int = -1) -> bytes:
        if size > LARGEST_HEADER:
            raise BadSource(f"its headers are too large, or it holds far more than {MOST_FILES:,} files")
        content = self._file.read(LARGEST_HEADER + 1 if size < 0 else size)
        if len(content) > LARGEST_HEADER:
            raise BadSource("its headers are too large")
        return content


def _unzip(file: BinaryIO, unpacker: Unpacker) -> None:
    with zipfile.ZipFile(_Careful(file)) as archive:
        places = {}
        for member in archive.infolist():
            name, kind = member.orig_filename, stat.S_IFMT(member.external_attr >> 16)
            places[member] = unpacker.place(name)
            if member.flag_bits & 0x41:
                raise BadSource("it is encrypted; hand in one without a password")
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise BadSource(f"{shortened(name)} is a link or a device")
            if member.compress_type not in PLAIN_ZIP:
                raise BadSource(
                    f"{shortened(name)} is not packed as zips usually are (deflate); pack it anew"
                )
        for member, path in places.items():
            if member.is_dir():
                unpacker.make_folder(path)
            else:
                with archive.open(member) as source:
                    unpacker.write(path, source)


def _untar(file: BinaryIO, unpacker: Unpacker) -> None:
    with tarfile.open(fileobj=_Careful(file), mode="r:", encoding="utf-8") as archive:
        places = {}
        for member in archive:
            if member.size < 0:
                raise BadSource("it is a broken archive (a negative size)")
            if not (member.isdir() or member.isreg()) or member.issparse():
                raise BadSource(f"{shortened(member.name)} is a link, a device or a sparse file")
            places[member] = unpacker.place(member.name)
        file.seek(archive.offset)
        if file.read(tarfile.BLOCKSIZE).strip(b"\0"):
            raise BadSource("it is a broken archive (it ends in its middle)")
        for member, path in places.items():
            if member.isdir():
                unpacker.make_folder(path)
            else:
                unpacker.write(path, archive.extractfile(member))


def _inflate(file: BinaryIO, start: bytes, plain: BinaryIO) -> None:
    """Write what a compressed file holds, up to the limit."""
    size = 0
    for chunk in _unxz(file) if start.startswith(b"\xfd") else _chunks(_opened(file, start)):
        size += len(chunk)
        if size > MOST_BYTES:
            raise BadSource(too_large())
        plain.write(chunk)
    plain.seek(0)


def _opened(file: BinaryIO, start: bytes) -> BinaryIO:
    return bz2.BZ2File(file) if start.startswith(b"BZh") else gzip.GzipFile(fileobj=file)


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    while chunk := file.read(AT_ONCE):
        yield chunk


def _unxz(file: BinaryIO) -> Iterator[bytes]:
    """Unlike lzma.LZMAFile, with a limit on the memory that the file asks for."""
    stream = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MOST_XZ_MEMORY)
    while not stream.eof:
        data = file.read(AT_ONCE) if stream.needs_input else b""
        if stream.needs_input and not data:
            raise EOFError("it ends too early")
        yield stream.decompress(data, AT_ONCE)


def _digest(file: BinaryIO) -> str:
    digest, size = hashlib.sha256(), 0
    for chunk in _chunks(file):
        size += len(chunk)
        if size > MOST_BYTES:
            raise BadSource(f"the archive is larger than {MOST_BYTES // 1_000_000} MB")
        digest.update(chunk)
    return digest.hexdigest()
