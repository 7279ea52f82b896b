"""One commit of a git repository, as a folder. Git only fetches it; the files are written by us.

So nothing of a repository has a say here: no hook, filter, attribute or submodule, and no setting of the user's.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from labkit.grade.archives import AT_ONCE, MOST_BYTES, MOST_FILES, Unpacker, shortened, too_large
from labkit.grade.refused import BadSource
from labkit.grader.failure import InfrastructureError
from labkit.janitor import janitor

WITHIN_SECONDS = 120  # all of git's work on one source
LARGEST_FILE_OF_GIT = 2 * MOST_BYTES  # bytes; a history is fetched as one file
LONGEST_LISTING = 500 * MOST_FILES  # bytes
NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]*")
HASH = re.compile(r"[0-9a-f]{4,64}")
SETTINGS = """\
[safe]
    directory = *
[protocol "ext"]
    allow = never
[core]
    hooksPath = /dev/null
    askPass = /bin/false
[fetch]
    recurseSubmodules = false
    unpackLimit = 1
[gc]
    auto = 0
[maintenance]
    auto = false
"""
KEPT = re.compile(
    r"PATH|TMPDIR|SSH_AUTH_SOCK|SSL_CERT_(FILE|DIR)|GIT_SSL_CAINFO|(https?|all|no)_proxy", re.IGNORECASE
)
# In git's words, what says nothing about the repository.
MACHINE = (
    r"resolve host|unable to access|connect|timed out|unable to look up|network|early EOF|hung up|ssl|certificate|"
    r"no space left|disk quota|out of memory|cannot fork|input/output error|HTTP 5\d\d|returned error: (5\d\d|429)"
)
# Started under a limit on the size of a file, in blocks of 512 bytes, its standard input from a file.
LIMITED = 'ulimit -f "$1"; exec <"$2"; shift 2; exec "$@"'


@dataclass(frozen=True)
class Fetched:
    """The files of one commit; its full hash, and its committer date (ISO 8601, UTC; "" if it has none that is one)."""

    folder: Path
    commit: str
    committed: str
    notes: tuple[str, ...]


def fetch(place: str, commit: str, into: Path) -> Fetched:
    """Fetch a commit (a hash, also a short one, a branch or a tag; "": the latest) from a URL or a folder.

    Raises:
        BadSource: no such repository or commit, or it is too large.
        InfrastructureError: no git, no network, no room on the disk, or it takes too long.
    """
    if shutil.which("git") is None:
        raise InfrastructureError("git is not installed: install it, or hand in folders and archives")
    if commit and not NAME.fullmatch(commit):
        raise BadSource(f"{shortened(commit)} is no name of a commit")
    files = into / "files"
    files.mkdir()
    git = Git(into)
    try:
        found = git.fetch(os.path.abspath(place) if os.path.isdir(place) else place, commit or "HEAD")
        committed = _utc(git.line("rev-list", "--max-count=1", "--format=%ct", found))
        notes = _write(git, found, Unpacker(files))
    finally:
        git.close()
    return Fetched(files, found, committed, tuple(notes))


class Git:
    """A repository of our own, empty at first, and git run on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "git"
        self.folder.mkdir()
        self._ends = time.monotonic() + WITHIN_SECONDS
        settings = self.folder / "settings"
        settings.write_text(SETTINGS)
        self.environment = {name: value for name, value in os.environ.items() if KEPT.fullmatch(name)} | {
            "HOME": str(self.folder),
            "LC_ALL": "C",
            "GIT_DIR": str(self.folder / "repository"),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": str(settings),
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ALLOW_PROTOCOL": "file:git:http:https:ssh",
            "GIT_NO_LAZY_FETCH": "1",
            "GIT_NO_REPLACE_OBJECTS": "1",
            "GIT_SSH_COMMAND": "ssh -oBatchMode=yes",
        }
        self.run("init", "--quiet", "--bare", "--template=", str(self.folder / "repository"))

    def run(self, *arguments: str, stdin: Path = Path(os.devnull), most: int = LARGEST_FILE_OF_GIT) -> Path:
        """Run git, and return the file that holds its output. It is ended when it writes a file of `most` bytes.

        Raises:
            BadSource: there is no such thing in the repository, or it is too large.
            InfrastructureError: the network, the disk or the time.
        """
        output, errors = self.folder / "output", self.folder / "errors"
        command = [
            "/bin/sh",
            "-c",
            LIMITED,
            "sh",
            str(most // 512),
            str(stdin),
            "git",
            *arguments,
        ]
        with output.open("wb") as out, errors.open("wb") as err:
            git = janitor().start_process(
                command, stdout=out, stderr=err, env=self.environment, cwd=self.folder
            )
            try:
                status = git.wait(max(0.0, self._ends - time.monotonic()))
            except subprocess.TimeoutExpired:
                raise InfrastructureError(f"git was not done within {WITHIN_SECONDS} s") from None
            finally:
                _end(git)
        if status:
            raise _failure(errors)
        return output

    def line(self, *arguments: str) -> str:
        return self.run(*arguments).read_text("utf-8", "replace").strip()

    def fetch(self, place: str, commit: str) -> str:
        """Fetch a commit alone; only where that cannot be, all branches and tags. Return its full hash."""
        try:
            self.run("fetch", "--quiet", "--no-tags", "--depth=1", "--", place, commit)
            return self.line("rev-parse", "--verify", "FETCH_HEAD^{commit}")
        except BadSource:
            if not HASH.fullmatch(commit):
                raise
        everything = "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"
        self.run("fetch", "--quiet", "--no-tags", "--", place, *everything)
        try:
            return self.line("rev-parse", "--verify", f"{commit}^{{commit}}")
        except BadSource:
            raise BadSource(f"its repository has no commit {commit}") from None

    def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def _end(git: subprocess.Popen) -> None:
    """End git, if it has not ended, and what it has started, such as ssh."""
    if git.poll() is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(git.pid, signal.SIGKILL)
        git.wait()
    janitor().forget_process(git.pid)


def _failure(errors: Path) -> Exception:
    """What git's last words mean: that the source is none, or that the machine or the network is in trouble."""
    with errors.open("rb") as file:
        lines = file.read(AT_ONCE).decode("utf-8", "replace").splitlines()
    said = [line for line in lines if line.startswith(("fatal:", "error:"))] or lines
    if not said:
        return BadSource("its repository is too large")
    if any(re.search(MACHINE, re.sub("'[^']*'", "", line), re.IGNORECASE) for line in lines):  # but for names
        return InfrastructureError(f"git says: {said[0][:200]}")
    return BadSource(f"git says: {said[0][:200]}")


def _utc(seconds: str) -> str:
    try:
        return datetime.fromtimestamp(int(seconds.splitlines()[-1]), UTC).isoformat()
    except (ValueError, OverflowError, IndexError, OSError):
        return ""


def _write(git: Git, commit: str, unpacker: Unpacker) -> list[str]:
    """Write the files of a commit; return a line for what was left out."""
    notes, wanted, total = [], [], 0
    for mode, kind, blob, size, name in _listed(git, commit):
        if mode == "120000":
            notes.append(f"{shortened(name)} is a link; it was not followed.")
        elif kind == "commit":
            notes.append(f"{shortened(name)} is a submodule; it was left out.")
        else:
            wanted.append((blob, size, unpacker.place(name)))
            total += size
        if total > MOST_BYTES:
            raise BadSource(too_large())
    blobs = git.folder / "blobs"
    blobs.write_text("".join(f"{blob}\n" for blob, _, _ in wanted))
    with git.run("cat-file", "--batch", "--buffer", stdin=blobs).open("rb") as contents:
        for blob, size, path in wanted:
            if contents.readline() != f"{blob} blob {size}\n".encode():
                raise BadSource(f"its repository is broken at {path.relative_to(unpacker.folder)}")
            unpacker.write(path, _Part(contents, size))
            contents.read(1)
    return notes


def _listed(git: Git, commit: str) -> Iterator[tuple[str, str, str, int, str]]:
    listing = git.run("ls-tree", "-r", "-z", "-l", "--full-tree", commit, most=LONGEST_LISTING)
    for entry in listing.read_bytes().split(b"\0")[:-1]:
        facts, _, name = entry.partition(b"\t")
        mode, kind, blob, size = facts.decode().split()
        yield mode, kind, blob, int(size) if size.isdigit() else 0, name.decode("utf-8", "surrogateescape")


class _Part:
    """So many bytes of a file, as a file."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._left = file, size

    def read(self, most: int) -> bytes:
        content = self._file.read(min(most, self._left))
        self._left -= len(content)
        return content
