"""Nothing outlives a command: a small helper process ends and removes what the command leaves behind.

The helper is this same file, run by a bare Python in a session of its own, so that Ctrl-C does not reach it.
Its standard input is a pipe from the command. When the command ends, in whatever way, SIGKILL included, the
kernel closes the pipe; the helper then kills the processes and removes the folders and the compose projects it was
told of, and exits.

    server = janitor().start_process(["valkey-server", "valkey.conf"])
    folder = temporary_folder()
"""

import os
import sys
import time

if __name__ != "__main__":  # the helper starts in half the time without these
    import atexit
    import errno
    import pathlib
    import re
    import secrets
    import subprocess
    import threading
    import weakref

KILLED_WITHIN_SECONDS = 3.0  # a killed process may still have to give its memory back
REMOVED_WITHIN_SECONDS = 3.0
CLOSED_WITHIN_SECONDS = 15.0
CONTAINERS_REMOVED_WITHIN_SECONDS = 60.0
LOOK_AGAIN_SECONDS = 0.5  # the engine goes on with what a killed client had asked for

PROJECT_LABEL = "com.docker.compose.project"


def process_mark(pid: int) -> str:
    """Return what tells this process from a later one with the same number: its start time, in clock ticks.

    Read from /proc (Linux). "-" where it cannot be known: no such process, or no /proc (macOS).
    """
    return _stat_field(pid, 19) or "-"


def is_running(pid: int) -> bool:
    """Tell whether the process exists and has not ended; a zombie that nobody has waited for has ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return _stat_field(pid, 0) not in ("Z", "X")


def _stat_field(pid: int, index: int) -> str | None:
    """Field of /proc/PID/stat, counted from the state, which follows the name in brackets."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[index].decode()
    except (OSError, IndexError):
        return None


# ---- the helper process: below, until the next line of this kind, only what loads fast ----


def _help() -> None:
    """Read orders until the command has gone; then clean up."""
    import signal

    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGTSTP"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    processes: dict[int, tuple[str, bool]] = {}
    folders: dict[bytes, str] = {}
    projects: set[str] = set()
    for line in sys.stdin.buffer:
        try:
            _obey(line.rstrip(b"\n"), processes, folders, projects)
        except ValueError:
            continue  # not an order: the others are still to be carried out
    kill_processes(processes)
    for folder, identity in folders.items():
        remove_folder(folder, identity)
    for project in projects:
        remove_project(project, looks=2)


def _obey(line: bytes, processes: dict, folders: dict, projects: set) -> None:
    """Note one order.

    `process PID MARK alone|leads`, `forget-process PID`, `folder IDENTITY PATH`, `forget-folder PATH`,
    `project NAME` or `forget-project NAME`.
    """
    order, _, rest = line.partition(b" ")
    if order == b"process":
        pid, mark, group = rest.decode().split()
        processes[int(pid)] = (process_mark(int(pid)) if mark == "look" else mark, group == "leads")
    elif order == b"forget-process":
        processes.pop(int(rest), None)
    elif order == b"folder":
        identity, _, path = rest.partition(b" ")
        folders[path] = identity.decode()
    elif order == b"forget-folder":
        folders.pop(rest, None)
    elif order == b"project":
        projects.add(rest.decode())
    elif order == b"forget-project":
        projects.discard(rest.decode())


def _leads_a_group(pid: int) -> bool:
    try:
        return os.getpgid(pid) == pid
    except OSError:
        return False


def kill_processes(processes: dict[int, tuple[str, bool]]) -> None:
    """Kill every process, and its group where it leads one; return when they have ended."""
    import contextlib

    ours = []
    for pid, (mark, led_a_group) in processes.items():
        if process_mark(pid) not in (mark, "-"):
            continue  # the number belongs to another program by now
        ours.append(pid)
        # While a group has members, its number is given to no other process: it is still the one we knew.
        kill = os.killpg if led_a_group or _leads_a_group(pid) else os.kill
        with contextlib.suppress(OSError):
            kill(pid, 9)
    deadline = time.monotonic() + KILLED_WITHIN_SECONDS
    while any(is_running(pid) for pid in ours) and time.monotonic() < deadline:
        time.sleep(0.002)


def remove_folder(folder: bytes, identity: str) -> None:
    """Remove the folder with all that is in it, unless another one lies in its place."""
    import contextlib

    deadline = time.monotonic() + REMOVED_WITHIN_SECONDS
    while True:
        if folder_identity(folder) not in (identity, "-") and identity != "-":
            return
        remove_tree(folder)
        if not os.path.lexists(folder) or os.path.islink(folder) or time.monotonic() > deadline:
            return
        for path, _, _ in os.walk(folder):  # a folder closed by chmod keeps rmtree out
            with contextlib.suppress(OSError):
                os.chmod(path, 0o700)
        time.sleep(0.01)  # or a dying process still wrote into it


def remove_tree(folder: "bytes | str | os.PathLike") -> None:
    """Remove a folder, whatever is in it; what cannot be removed stays, and nothing is raised."""
    import shutil

    try:
        shutil.rmtree(folder, ignore_errors=True)
    except RecursionError:  # folders in folders, a thousand deep and more: somebody means mischief
        import subprocess

        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        for command in (["chmod", "-R", "u+rwx"], ["rm", "-rf"]):
            subprocess.run([*command, "--", folder], **quiet)


def remove_project(name: str, looks: int = 1) -> None:
    """Remove the containers, networks and volumes that carry the label of this compose project.

    looks: how often, LOOK_AGAIN_SECONDS apart, nothing must be found. 1 will do where nobody may still be making some.
    """
    deadline = time.monotonic() + CONTAINERS_REMOVED_WITHIN_SECONDS
    while looks and time.monotonic() < deadline:
        found = False
        for listed, removed in (
            (("ps", "-aq"), ("rm", "-f", "-v")),
            (("network", "ls", "-q"), ("network", "rm")),
            (("volume", "ls", "-q"), ("volume", "rm", "-f")),
        ):
            if some := _docker(*listed, "--filter", f"label={PROJECT_LABEL}={name}"):
                found = True
                _docker(*removed, *some)
        looks -= not found
        if looks and not found:
            time.sleep(LOOK_AGAIN_SECONDS)


def _docker(*arguments: str) -> list[str]:
    """The words that the docker command prints; none if it fails."""
    import subprocess

    try:
        done = subprocess.run(
            ["docker", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=CONTAINERS_REMOVED_WITHIN_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.decode().split()


def folder_identity(folder: bytes | str) -> str:
    """Device and inode of a folder; "-" where there is none."""
    try:
        status = os.lstat(folder)
    except OSError:
        return "-"
    return f"{status.st_dev}:{status.st_ino}"


if __name__ == "__main__":
    _help()
    sys.exit()


# ---- the command's side ----

SHORT_ENOUGH = (
    70  # a Unix socket's path has at most 103 bytes on macOS; the rest is for names inside the folder
)

# The shell gives its own number to the helper and only then becomes the program: there is no moment at which
# a program runs and nobody would end it, even if this command is killed between the two.
_ANNOUNCE_AND_BECOME = 'echo "process $$ look leads" >&0; exec "$@" </dev/null'


STARTS_TRIED = 3


def _started(command: list[str], **popen_options) -> "subprocess.Popen":
    """Start a program; try again when the kernel was short of memory just then (exec may call that EFAULT)."""
    for _ in range(STARTS_TRIED - 1):
        try:
            return subprocess.Popen(command, **popen_options)
        except OSError as error:
            if error.errno not in (errno.EFAULT, errno.ENOMEM, errno.EAGAIN):
                raise
            time.sleep(0.05)
    return subprocess.Popen(command, **popen_options)


class Janitor:
    """What to end and to remove when this process is no more. Safe to use from several threads."""

    def __init__(self) -> None:
        self._reset()
        _janitors.add(self)

    def _reset(self) -> None:
        self._owner = os.getpid()
        self._lock = threading.RLock()
        self._helper: subprocess.Popen | None = None
        self._processes: dict[int, tuple[str, bool]] = {}
        self._folders: dict[bytes, str] = {}
        self._projects: set[str] = set()

    def start_process(self, command: list[str], **popen_options) -> subprocess.Popen:
        """Start a program in a session of its own, watched before its first instruction.

        Takes what subprocess.Popen takes, except stdin (which is /dev/null) and start_new_session.
        A program that cannot be executed ends with status 126 or 127 and a line on stderr, as in a shell.
        """
        with self._lock:
            self._tell(None)
            process = _started(
                ["/bin/sh", "-c", _ANNOUNCE_AND_BECOME, "sh", *command],
                stdin=self._helper.stdin,
                start_new_session=True,
                **popen_options,
            )
            self._processes[process.pid] = (process_mark(process.pid), True)
            return process

    def watch_process(self, pid: int) -> None:
        """Have this process, and its group if it leads one, killed at the end."""
        with self._lock:
            self._processes[pid] = (process_mark(pid), _leads_a_group(pid))
            self._tell(self._process_line(pid))

    def forget_process(self, pid: int) -> None:
        """Leave this process alone: it has been waited for, or it may stay."""
        with self._lock:
            if self._processes.pop(pid, None) is not None:
                self._tell(f"forget-process {pid}".encode())

    def watch_folder(self, path: str | os.PathLike) -> None:
        """Have this folder removed at the end.

        ValueError unless it lies inside the system's folder for temporary files or inside a folder .lab.
        """
        folder = _removable(path)
        with self._lock:
            self._folders[folder] = folder_identity(folder)
            self._tell(b"folder %s %s" % (self._folders[folder].encode(), folder))

    def forget_folder(self, path: str | os.PathLike) -> None:
        """Leave this folder alone: it has been removed, or it may stay."""
        folder = _removable(path)
        with self._lock:
            if self._folders.pop(folder, None) is not None:
                self._tell(b"forget-folder " + folder)

    def watch_project(self, name: str) -> None:
        """Have all that belongs to this compose project removed at the end: containers, networks, volumes.

        ValueError unless it is called as ours are, lab- and eight hexadecimal digits: a project of somebody's own is
        never touched.
        """
        if not re.fullmatch(r"lab-[0-9a-f]{8}", name):
            raise ValueError(f"will not remove the compose project {name!r}: it is not one of ours")
        with self._lock:
            self._projects.add(name)
            self._tell(f"project {name}".encode())

    def forget_project(self, name: str) -> None:
        """Leave this compose project alone: it has been removed, or it may stay."""
        with self._lock:
            if name in self._projects:
                self._projects.discard(name)
                self._tell(f"forget-project {name}".encode())

    def close(self) -> None:
        """Clean up now, and return when it is done."""
        with self._lock:
            if self._helper is None or self._owner != os.getpid():
                return
            self._tell(None)  # a helper that somebody killed is replaced, and told everything again
            helper = self._helper
            self._helper = None
            self._processes.clear()
            self._folders.clear()
            within = CLOSED_WITHIN_SECONDS + (CONTAINERS_REMOVED_WITHIN_SECONDS if self._projects else 0)
            self._projects.clear()
            helper.stdin.close()
            try:
                helper.wait(within)
            except subprocess.TimeoutExpired:
                helper.returncode = 0  # it goes on without us

    def _tell(self, line: bytes | None) -> None:
        """Give one order to the helper; start the helper first if there is none."""
        if self._owner != os.getpid():
            self._reset()
        alive = self._helper is not None and self._helper.poll() is None
        if not alive or (line is not None and not self._write(line)):
            self._start_helper()

    def _process_line(self, pid: int) -> bytes:
        mark, leads = self._processes[pid]
        return f"process {pid} {mark} {'leads' if leads else 'alone'}".encode()

    def _write(self, line: bytes) -> bool:
        try:
            os.write(self._helper.stdin.fileno(), line + b"\n")  # one write: lines of threads never mix
        except BrokenPipeError:
            return False
        return True

    def _start_helper(self) -> None:
        """Start a helper and tell it all that is watched."""
        if self._helper is not None:
            self._helper.stdin.close()
            self._helper.wait()
        self._helper = subprocess.Popen(
            [sys.executable, "-I", "-S", os.path.abspath(__file__)],
            bufsize=0,
            stdin=subprocess.PIPE,  # not inheritable: only who is given it keeps the helper waiting
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
        )
        for pid in self._processes:
            self._write(self._process_line(pid))
        for folder, identity in self._folders.items():
            self._write(b"folder %s %s" % (identity.encode(), folder))
        for project in self._projects:
            self._write(f"project {project}".encode())

    def _let_go_after_fork(self) -> None:
        """In a forked child: drop the copy of the pipe, or the helper would wait for the child as well."""
        if self._helper is not None:
            self._helper.stdin.close()
            self._helper.returncode = 0  # not our child
        self._reset()


def _removable(path: str | os.PathLike) -> bytes:
    """Return the folder's real path, or refuse it with ValueError.

    The repository itself may have been cloned into a folder for temporary files: of what is in it, only what
    lies in .lab may go; and nothing may go that contains it, or the home or current folder.
    """
    given = pathlib.Path(path)
    real = given.parent.resolve() / given.name
    repository = pathlib.Path(__file__).resolve().parents[1]
    temporary = any(root.resolve() in real.parents for root in _temporary_roots())
    ours = ".lab" in real.parent.parts or (temporary and repository not in real.parents)
    kept = (repository, pathlib.Path.home().resolve(), pathlib.Path.cwd())
    holds_kept = any(real == folder or real in folder.parents for folder in kept)
    if not ours or holds_kept or real.name in ("", "..") or real.is_symlink() or "\n" in str(real):
        raise ValueError(f"will not remove {given}: it is neither a temporary folder nor inside .lab")
    return os.fsencode(real)


def _temporary_roots() -> list[pathlib.Path]:
    """The system's folders for temporary files.

    Not tempfile.gettempdir: to find out, it writes a file and removes it, and a kill in between leaves it.
    """
    given = pathlib.Path(os.environ.get("TMPDIR") or "/tmp")
    return [given, pathlib.Path("/tmp")] if given.is_dir() else [pathlib.Path("/tmp")]


_janitors: "weakref.WeakSet[Janitor]" = weakref.WeakSet()
_the_janitor = Janitor()


def janitor() -> Janitor:
    """Return this process's janitor. It starts its helper when it is first told something."""
    return _the_janitor


def temporary_folder(prefix: str = "lab-") -> pathlib.Path:
    """Make an empty folder that only this user may open, and that goes when this process does.

    Its path is short, so that a Unix socket may lie in it.
    """
    roots = [root.resolve() for root in _temporary_roots()]
    root = next((root for root in roots if len(os.fsencode(root)) <= SHORT_ENOUGH), roots[-1])
    while (folder := root / f"{prefix}{secrets.token_hex(4)}").exists():
        pass
    _the_janitor.watch_folder(folder)  # before it exists: there is no moment at which it could be left
    folder.mkdir(mode=0o700)
    return folder


def _after_fork_in_child() -> None:
    for each in list(_janitors):
        each._let_go_after_fork()


os.register_at_fork(after_in_child=_after_fork_in_child)
atexit.register(_the_janitor.close)
