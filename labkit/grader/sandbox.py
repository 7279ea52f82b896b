"""What isolates a submission: the levels `process` and `bubblewrap`. At the level `none` there is no sandbox.

The starter is what gets isolated; it starts the scripts within. The grader, the broker and the proxies stay outside.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from labkit.brokers import InfrastructureError
from labkit.grader import readable
from labkit.grader.account import Account
from labkit.grader.doors import Doors, OpenDoors
from labkit.grader.processes import STARTER

NONE, PROCESS, BUBBLEWRAP, REQUIRE_BUBBLEWRAP = "none", "process", "bubblewrap", "require-bubblewrap"
MOST_PROCESSES = 512  # and threads, of a submission: what the kernel allows its user


class Sandbox:
    """The level `process`: the scripts run as a user that nobody else is, where we are root.

    level: which one it is; notes: what an instructor should know of it; limits: resource limits of each script;
    descriptors: those that the starter gets.
    """

    level = PROCESS

    def __init__(self, folder: Path) -> None:
        """folder: the run's own, of which only some of the things in it are for the scripts."""
        self.folder = folder
        self.account = Account() if os.getuid() == 0 else None
        self._ours, self._theirs = socket.socketpair()
        self._out_of_memory = out_of_memory()
        self.descriptors = [self._theirs.fileno(), *([self.account.lock] if self.account else [])]
        ours = 0 if self.account else _threads_of_ours()
        self.limits = {} if ours is None else {"RLIMIT_NPROC": MOST_PROCESSES + ours}
        if self.account:
            self.account.open_way(folder)

    def around(self, command: list[str]) -> list[str]:
        """The command line that starts the starter isolated."""
        return readable.around(command, [self.folder, STARTER]) if self.account else command

    def request(self) -> dict:
        """What the starter is told: see starter.py."""
        return {
            "user": self.account.uid if self.account else None,
            "doors": self._theirs.fileno(),
            "held": self.descriptors[1:],
            "readable": [os.__file__, sys.executable, str(self.folder)] if self.account else [],
        }

    def doors(self, ask: Callable[..., None], loop: asyncio.AbstractEventLoop) -> Doors:
        """The doors between us and the scripts; the starter is there."""
        self._theirs.close()
        return OpenDoors()

    def proc(self, doors: Doors) -> Path:
        """Where the processes are found that the starter reports."""
        return Path("/proc")

    def give(self, folder: Path) -> None:
        """Let the scripts do as they like in this folder."""
        if self.account:
            self.account.give(folder)

    def show(self, folder: Path) -> None:
        """Let the scripts read what is in this folder."""
        if self.account:
            self.account.show(folder)

    def share(self, folder: Path) -> None:
        """Let the scripts see what is in this folder, and add to it; what is in it keeps its owner."""
        if self.account:
            self.account.share(folder)

    def let_connect(self, path: Path) -> None:
        """Let the scripts connect to this socket."""
        if self.account:
            self.account.let_connect(path)

    def open_way(self, folder: Path) -> None:
        """Let the scripts through this folder to what they know by name."""
        if self.account:
            self.account.open_way(folder)

    def blame(self, status: int) -> str:
        """Why the starter ended with this status, if it is the submission's doing; "" if not.

        Where the scripts are of our own user they can send it a signal.
        """
        if self.account or status >= 0 or out_of_memory() > self._out_of_memory:
            return ""
        return (
            "The process that had started the scripts was ended by "
            f"{signal.Signals(-status).name}, which nobody but a script of the submission sends."
        )

    def close(self) -> None:
        """When the starter has ended: leave nothing behind."""
        self._ours.close()
        self._theirs.close()
        if self.account:
            self.account.end_all()
            self.account.close()


def choose(asked: str, folder: Path, notes: list[str]) -> Sandbox | None:
    """The sandbox of the level that was asked for; None for `none`. A lower level than asked for is told in a note.

    Raises:
        InfrastructureError: the level cannot be had, and there is no other in its place.
    """
    if asked == NONE:
        return None
    if asked in (BUBBLEWRAP, REQUIRE_BUBBLEWRAP):
        from labkit.grader import bubblewrap

        if not (trouble := bubblewrap.trouble()):
            return bubblewrap.Bubblewrap(folder)
        if asked == REQUIRE_BUBBLEWRAP:
            raise InfrastructureError(f"{trouble}, and --isolation {REQUIRE_BUBBLEWRAP} asks for it")
        notes.append(f"Isolated as a process, without a sandbox: {trouble}.")
    return Sandbox(folder)


def out_of_memory() -> int:
    """How often the kernel has killed a process for want of memory; 0 where it does not tell."""
    try:
        with open("/proc/vmstat") as counts:
            return int(dict(line.split() for line in counts).get("oom_kill", 0))
    except OSError:
        return 0


def _threads_of_ours() -> int | None:
    """How many threads our user has now, on the whole machine; None where the system does not tell."""
    if sys.platform != "linux":
        return None
    count = 0
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if entry.stat().st_uid == os.getuid():
                count += len(os.listdir(entry / "task"))
    return count
