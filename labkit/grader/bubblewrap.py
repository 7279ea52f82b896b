"""The level `bubblewrap`: bwrap gives the starter a view, a network and a process table of its own.

What a script sees there: the system's programs and libraries, Python with its packages, this run's scenes, and a small
private folder for temporary files. All but the scenes and that folder is read-only.
"""

import asyncio
import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from labkit.course import ROOT
from labkit.grader import processes
from labkit.grader.doors import Doors, SandboxDoors
from labkit.grader.sandbox import BUBBLEWRAP, Sandbox
from labkit.installing import Package
from labkit.installing import install as install_package

PROGRAM = "bwrap"
ANSWERS_WITHIN_SECONDS = 20.0
PRIVATE_BYTES = 128 * 1024**2  # in /tmp, and as many in /dev/shm
SPACES = ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
PRIVATE = ["--perms", "1777", "--size", str(PRIVATE_BYTES), "--tmpfs"]
EMPTY = ["--dev", "/dev", "--proc", "/proc", *PRIVATE, "/tmp", *PRIVATE, "/dev/shm"]
SYSTEM = ["/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"]  # links into /usr, where the two are one
SETTINGS = [
    "alternatives", "ca-certificates", "fonts", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime",
    "mime.types", "pki", "protocols", "services", "ssl",
]  # fmt: skip
OUR_SETTINGS = {
    "group": "root:x:0:\nstudent:x:{gid}:\n",
    "hosts": "127.0.0.1 localhost\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
    "passwd": "root:x:0:0:root:/:/bin/sh\nstudent:x:{uid}:{gid}:student:/tmp:/bin/sh\n",
}


@functools.cache
def trouble() -> str:
    """Why no sandbox can be made here, in words; "" if it can. Tries it."""
    if sys.platform != "linux":
        return "bubblewrap is a program for Linux"
    if not shutil.which(PROGRAM):
        return "bubblewrap is not installed"
    try:
        tried = subprocess.run(
            [PROGRAM, *_spaces(), "--ro-bind", "/", "/", *EMPTY, "--", "/bin/true"],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            timeout=ANSWERS_WITHIN_SECONDS,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"bubblewrap does not work here: {error}"
    if tried.returncode:
        said = (tried.stderr.strip().splitlines() or [f"status {tried.returncode}"])[0]
        return f"bubblewrap does not work here: {said}"
    return ""


def install(*, may_install: bool) -> str:
    """Install bubblewrap where it is missing and return the path of its program. A line on stderr says what is done.

    InfrastructureError, with what the user may do, where that cannot be or may not be done.
    """
    package = Package(
        "bubblewrap",
        apt="bubblewrap",
        brew="",
        find=lambda: shutil.which(PROGRAM),
        elsewhere="https://github.com/containers/bubblewrap",
    )
    path = install_package(package, may_install=may_install)
    trouble.cache_clear()
    return path


def _spaces() -> list[str]:
    """The options that separate the sandbox from the machine, as far as this bwrap knows them."""
    known = subprocess.run([PROGRAM, "--help"], capture_output=True, text=True, errors="replace").stdout
    # As the first process of its table, the starter gets no signal from within that it has not asked for.
    options = [*SPACES, "--as-pid-1", "--die-with-parent", "--new-session", "--hostname", "sandbox"]
    if os.getuid() == 0:  # the starter stays root, to become another user for each script, and can do no more
        options += ["--cap-drop", "ALL"]
        options += [word for name in ("SETUID", "SETGID", "KILL") for word in ("--cap-add", f"CAP_{name}")]
    else:
        options += ["--unshare-user"]
        options += ["--disable-userns"] if "--disable-userns" in known else []
    return options


class Bubblewrap(Sandbox):
    """See the module."""

    level = BUBBLEWRAP

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._proc = -1
        settings = folder / "etc"
        settings.mkdir()
        uid, gid = (self.account.uid,) * 2 if self.account else (os.getuid(), os.getgid())
        for name, text in OUR_SETTINGS.items():
            (settings / name).write_text(text.format(uid=uid, gid=gid))
            (settings / name).chmod(0o644)

    def around(self, command: list[str]) -> list[str]:
        mounts = [*EMPTY, *self._view(), "--remount-ro", "/dev", "--remount-ro", "/"]
        return [PROGRAM, *_spaces(), *mounts, "--chdir", "/", "--", *command]

    def _view(self) -> Iterator[str]:
        """The options that put into the sandbox what there is to see."""
        for path in filter(os.path.lexists, SYSTEM):
            yield from (
                ("--symlink", os.readlink(path), path) if os.path.islink(path) else ("--ro-bind", path, path)
            )
        for name in SETTINGS:
            yield from ("--ro-bind-try", f"/etc/{name}", f"/etc/{name}")
        for name in OUR_SETTINGS:
            yield from ("--ro-bind", str(self.folder / "etc" / name), f"/etc/{name}")
        seen = dict.fromkeys(("/usr", *_python(), str(processes.STARTER)), "--ro-bind")
        seen |= {str(self.folder / name): "--ro-bind" for name in ("ledger", "code")}
        seen |= {str(self.folder / name): "--bind" for name in ("scenes", "log")}
        if any(_holds(path, ROOT) for path in seen):
            seen[str(ROOT)] = "--tmpfs"  # the course, with its solutions: covered, but for what is needed
        for folder in _above(seen):
            yield from ("--dir", folder)
        for path in sorted(seen):  # what lies within another comes after it
            yield from (seen[path], path) if seen[path] == "--tmpfs" else (seen[path], path, path)

    def doors(self, ask: Callable[..., None], loop: asyncio.AbstractEventLoop) -> Doors:
        self._theirs.close()
        return SandboxDoors(ask, self._ours, loop)

    def proc(self, doors: SandboxDoors) -> Path:
        self._proc = doors.fetch(door="proc")
        return Path(f"/proc/self/fd/{self._proc}")

    def blame(self, status: int) -> str:
        return ""  # no signal of a script reaches the starter

    def close(self) -> None:
        if self._proc >= 0:
            os.close(self._proc)
        super().close()


def _python() -> list[str]:
    """The folders of the Python that we run on."""
    prefixes = [sys.base_prefix, sys.prefix]
    prefixes += [os.path.realpath(prefix) for prefix in prefixes]
    home = os.path.realpath(os.path.expanduser("~"))
    found = []
    for prefix in dict.fromkeys(prefixes):
        if _holds(prefix, home):  # a home that is Python's prefix as well: only what Python needs of it
            parts = (os.path.join(prefix, part) for part in ("bin", "lib", "lib64", "pyvenv.cfg"))
            found += filter(os.path.exists, parts)
        elif not _holds("/usr", prefix):
            found.append(prefix)
    return found


def _holds(folder: str, path: str | os.PathLike) -> bool:
    """Whether the folder is the path, or above it."""
    return folder in (os.fspath(path), *map(str, Path(path).parents))


def _above(paths: Iterable[str]) -> list[str]:
    """All folders above these, from the top on; those of the system are there."""
    above = {str(parent) for path in paths for parent in Path(path).parents} - {"/", "/tmp", "/usr"}
    return sorted(each for each in above if not each.startswith("/usr/"))
