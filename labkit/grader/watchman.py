"""Watches what the scripts of a submission use together, which no limit of one process tells, and ends offenders.

What a script uses is what its whole family uses: its children and theirs. What it writes is its scene's folder.
"""

import contextlib
import os
import threading
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from labkit.grader.account import Account
from labkit.grader.failure import CheckFailed
from labkit.grader.processes import Process, Starter

EVERY_SECONDS = 0.4
FILES_EVERY = 2  # rounds
MEGABYTE = 1024**2
DEEPEST = 40  # folders within one another


@dataclass(frozen=True)
class Allowance:
    """What one scene's scripts may use together, and all together. In bytes, or counts."""

    memory: int = 3 * 1024 * MEGABYTE  # all together
    disk: int = 512 * MEGABYTE  # a scene
    disk_of_all: int = 1536 * MEGABYTE
    files: int = 10_000  # a scene
    output: int = 8 * MEGABYTE  # one script, on each of stdout and stderr
    processes: int = 100  # one script


ALLOWANCE = Allowance()


@dataclass
class _Use:
    """What a script and its descendants use: bytes of memory and of files without a name, and how many they are."""

    memory: int = 0
    nameless: dict[tuple[int, int], int] = field(default_factory=dict)  # (device, number of the file): bytes
    processes: int = 0


class Watchman:
    """Looks every EVERY_SECONDS, in a thread of its own, until it is closed.

    scenes: the folder that holds the scenes' own; account: the user that the scripts run as, if it is not ours.
    """

    def __init__(
        self, starter: Starter, scenes: Path, account: Account | None, allowance: Allowance = ALLOWANCE
    ) -> None:
        self._starter, self._scenes, self._account, self._allowance = starter, scenes, account, allowance
        self._own = _memory(
            starter.proc / str(starter.pid)
        )  # each fork shares it with the starter, and is not charged
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchman", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        rounds = 0
        while not self._ended.wait(EVERY_SECONDS):
            rounds += 1
            scripts = self._starter.processes()
            if not scripts:
                continue
            with contextlib.suppress(OSError, CheckFailed):  # the starter is gone
                self._look_at_processes(scripts, files=rounds % FILES_EVERY == 0)
                if rounds % FILES_EVERY == 0:
                    self._look_at_files(scripts)

    # ---- processes --------------------------------------------------------------------------------------------

    def _look_at_processes(self, scripts: list[Process], *, files: bool) -> None:
        uses = self._uses({script.pid for script in scripts if script.pid}, files=files)
        allowed = self._allowance
        for script in scripts:
            if uses[script.pid].processes > allowed.processes:
                script.end_because(f"it started more than {allowed.processes} processes")
        nameless: dict[tuple[int, int], int] = {}
        for use in uses.values():
            nameless |= use.nameless
        if sum(use.memory for use in uses.values()) > allowed.memory:
            greediest = max(scripts, key=lambda script: uses[script.pid].memory)
            greediest.end_because(f"it used more than {_size(allowed.memory)} of memory")
        elif sum(nameless.values()) > allowed.disk:
            greediest = max(scripts, key=lambda script: sum(uses[script.pid].nameless.values()))
            greediest.end_because(f"it wrote more than {_size(allowed.disk)} into files without a name")

    def _uses(self, scripts: set[int], *, files: bool) -> dict[int | None, _Use]:
        """What each script uses, by its pid; None stands for what has no script any more."""
        uses: dict[int | None, _Use] = defaultdict(_Use)
        waiting = [(pid, pid if pid in scripts else None) for pid in self._children(self._starter.pid)]
        while waiting:
            pid, script = waiting.pop()
            place = self._starter.proc / str(pid)
            use = uses[script]
            use.processes += 1
            if use.processes > self._allowance.processes:
                continue  # enough is known of it; a fork bomb leaves us a small part of the processors
            use.memory += max(0, _memory(place) - self._own)
            if files:
                use.nameless |= _nameless(place)
            waiting += [(child, script) for child in self._children(pid)]
        return uses

    def _children(self, pid: int) -> list[int]:
        """The processes that the threads of this one have started; none where the system does not tell."""
        found = []
        tasks = self._starter.proc / str(pid) / "task"
        with contextlib.suppress(OSError):  # it ends just now
            for thread in os.listdir(tasks):
                found += map(int, (tasks / thread / "children").read_text().split())
        return found

    # ---- files ------------------------------------------------------------------------------------------------

    def _look_at_files(self, scripts: list[Process]) -> None:
        allowed = self._allowance
        by_scene: dict[Path, list[Process]] = defaultdict(list)
        for script in scripts:
            by_scene[self._scenes / Path(script.script).parent.name].append(script)
            if any(_length(path) > allowed.output for path in (script.out, script.err)):
                script.end_because(f"it printed more than {_size(allowed.output)}")
        sizes = {}
        for scene, there in by_scene.items():
            size, files, deepest = measure([scene], allowed.files)
            sizes[scene] = size
            for script in there:
                if size > allowed.disk:
                    script.end_because(f"it wrote more than {_size(allowed.disk)}")
                elif files > allowed.files:
                    script.end_because(f"it made more than {allowed.files:,} files")
                elif deepest > DEEPEST:
                    script.end_because(f"it made folders in folders, more than {DEEPEST} deep")
        litter = measure(self._account.litter(), allowed.files) if self._account else (0, 0, 0)
        if sum(sizes.values()) > allowed.disk_of_all:
            for script in by_scene[max(sizes, key=sizes.get)]:
                script.end_because(f"all scripts together wrote more than {_size(allowed.disk_of_all)}")
        if litter[0] > allowed.disk or litter[1] > allowed.files or litter[2] > DEEPEST:
            for script in scripts:
                script.end_because(
                    "the submission filled the folders for temporary files that all users share"
                )


def measure(roots: Iterable[Path], most: int) -> tuple[int, int, int]:
    """Bytes on the disk and files in these folders, and how deep they are; not counted on beyond `most` files."""
    size = files = deepest = 0
    waiting = [(os.fspath(root), 1) for root in roots]
    while waiting and files <= most and deepest <= DEEPEST:
        path, depth = waiting.pop()
        deepest = max(deepest, depth)
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    files += 1
                    if files > most:
                        break
                    with contextlib.suppress(OSError):
                        size += entry.stat(follow_symlinks=False).st_blocks * 512
                        if entry.is_dir(follow_symlinks=False):
                            waiting.append((entry.path, depth + 1))
        except NotADirectoryError:
            size += os.lstat(path).st_blocks * 512
            files += 1
        except OSError:
            continue  # gone meanwhile, or closed to us
    return size, files, deepest


def _memory(process: Path) -> int:
    """Bytes that this process has in memory: those of files, which it shares with others, are left out."""
    try:
        with open(process / "status", "rb") as status:
            fields = dict(
                line.split(b":", 1) for line in status if line.startswith((b"RssAnon", b"RssShmem"))
            )
        return sum(int(kilobytes.split()[0]) for kilobytes in fields.values()) * 1024
    except (OSError, ValueError):
        return 0


def _nameless(process: Path) -> dict[tuple[int, int], int]:
    """The bytes of each file that this process has open and that is in no folder: removed, or never in any."""
    found = {}
    with contextlib.suppress(OSError), os.scandir(process / "fd") as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                status = os.stat(entry.path)
                if status.st_nlink == 0 and status.st_blocks:
                    found[status.st_dev, status.st_ino] = status.st_blocks * 512
    return found


def _length(path: Path) -> int:
    with contextlib.suppress(OSError):
        return path.stat().st_size
    return 0


def _size(count: int) -> str:
    """In words: "512 MB", "3 GB"."""
    megabytes = count // MEGABYTE
    return f"{megabytes} MB" if megabytes % 1024 else f"{megabytes // 1024} GB"
