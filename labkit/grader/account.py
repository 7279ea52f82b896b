"""The unprivileged user as which a submission runs where the grader is root: one that nobody else is, for one run.

Each run borrows a number of its own, so that two gradings at once cannot signal each other's processes, nor write each
other's files, and so that the limit on a user's processes counts for this submission alone.
"""

import contextlib
import fcntl
import os
import pwd
import stat
import subprocess
from pathlib import Path

from labkit.brokers import InfrastructureError
from labkit.janitor import remove_tree

FIRST, SLOTS = 64000, 1000  # numbers of users; one that the machine knows by name is left out
LOCKS = Path("/var/run/task-queue-labs")  # root's; who holds the lock on a file there has its number
SHARED = [Path("/tmp"), Path("/var/tmp"), Path("/dev/shm")]  # folders in which any user may leave something


class Account:
    """A borrowed user; `uid` is the number of its group, too. Only root can borrow one."""

    def __init__(self) -> None:
        """Raises InfrastructureError if there is none left, or no place for the locks."""
        try:
            LOCKS.mkdir(mode=0o700, exist_ok=True)
            self.lock, self.uid = next(filter(None, map(_borrow, range(FIRST, FIRST + SLOTS))), (-1, -1))
        except OSError as error:
            raise InfrastructureError(f"no user can be borrowed for the submission: {error}") from None
        if self.uid < 0:
            raise InfrastructureError(f"all {SLOTS} users for submissions are in use")

    def show(self, folder: Path) -> None:
        """Let the user read all that is in this folder."""
        for path, _, files in os.walk(folder):
            _set(path, 0, self.uid, 0o750)
            for name in files:
                _set(os.path.join(path, name), 0, self.uid, 0o640)

    def give(self, folder: Path) -> None:
        """Make the file or folder, with all that is in it, the user's own."""
        os.chown(folder, self.uid, self.uid, follow_symlinks=False)
        for path, folders, files in os.walk(folder):
            for name in (*folders, *files):
                os.chown(os.path.join(path, name), self.uid, self.uid, follow_symlinks=False)

    def let_connect(self, path: Path) -> None:
        """Let the user connect to this socket."""
        _set(path, 0, self.uid, 0o660)

    def share(self, folder: Path) -> None:
        """Let the user list this folder and make new files in it; what is not its own it cannot replace."""
        _set(folder, 0, self.uid, 0o1770)

    def open_way(self, folder: Path) -> None:
        """Let the user through this folder to what is named in it, but not list it."""
        _set(folder, 0, self.uid, 0o710)

    def end_all(self) -> None:
        """Kill all that runs as the user. The starter has done so; this is for when it was killed."""
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            subprocess.run(
                ["/bin/sh", "-c", "kill -s KILL -- -1"],
                user=self.uid, group=self.uid, extra_groups=[],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=10,
            )  # fmt: skip

    def litter(self) -> list[Path]:
        """What the user has left in the folders that all users share."""
        found = []
        for shared in SHARED:
            with contextlib.suppress(OSError), os.scandir(shared) as entries:
                for entry in entries:
                    with contextlib.suppress(OSError):
                        if entry.stat(follow_symlinks=False).st_uid == self.uid:
                            found.append(Path(entry.path))
        return found

    def close(self) -> None:
        """Give the number back; nothing is left of what the user had."""
        for path in self.litter():
            if path.is_dir() and not path.is_symlink():
                remove_tree(path)
            else:
                path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            os.unlink(LOCKS / str(self.uid))
        os.close(self.lock)


def _borrow(uid: int) -> tuple[int, int] | None:
    """The lock on this number, and the number; None if it is somebody else's."""
    with contextlib.suppress(KeyError):
        pwd.getpwuid(uid)
        return None
    path = LOCKS / str(uid)
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with contextlib.suppress(OSError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.stat(path).st_ino == os.fstat(lock).st_ino:  # else it was given back just now, and removed
            return lock, uid
    os.close(lock)
    return None


def _set(path: str | Path, owner: int, group: int, mode: int) -> None:
    if not stat.S_ISLNK(os.lstat(path).st_mode):
        os.chown(path, owner, group)
        os.chmod(path, mode)
