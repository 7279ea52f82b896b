"""The submission's scripts as processes: started through the warm starter, watched, signalled, ended."""

import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING

from labkit.grader.failure import CheckFailed, InfrastructureError
from labkit.grader.history import EXITED, KILLED, PAUSED, RESUMED, STARTED, STOPPED, History

if TYPE_CHECKING:
    from labkit.grader.sandbox import Sandbox

STARTER = Path(__file__).with_name("starter.py")
LIMITS = {  # of one script; names of the `resource` module, in bytes, seconds or counts
    "RLIMIT_AS": 2 * 1024**3,
    "RLIMIT_CPU": 60,
    "RLIMIT_FSIZE": 64 * 1024**2,
    "RLIMIT_NOFILE": 256,
    "RLIMIT_CORE": 0,
}
READY_WITHIN_SECONDS = 60.0  # it imports the clients first
BLAMED_WITHIN_SECONDS = 5.0
SHOWN_OUTPUT = 64 * 1024  # bytes of a script's output that are read back


class Process:
    """One script that was started. `status` is its exit status, negative for a signal, None while it runs."""

    def __init__(
        self, starter: "Starter", number: int, name: str, script: str, folder: Path, history: History
    ):
        self.name, self.script = name, script
        self.pid: int | None = None
        self.status: int | None = None
        self.exited = threading.Event()
        self.started = threading.Event()
        self.signalled = threading.Event()  # the last signal has been sent
        self.killed = False
        self.paused = False  # by SIGSTOP
        self.excused = False  # whether it may end with a status other than 0
        self.ended_because = ""  # of which limit it was ended, in words
        self.out, self.err, self.stacks = (folder / f"{number}.{kind}" for kind in ("out", "err", "stacks"))
        self._starter, self._number, self._history = starter, number, history
        self._done = []  # called when it has ended

    def when_done(self, call) -> None:
        self._done.append(call)

    def note_started(self, pid: int) -> None:
        self.pid = pid
        self.started.set()
        self._history.add(self.name, STARTED, detail=self.script)

    def note_exited(self, status: int) -> None:
        self.status = status
        self.exited.set()
        for call in self._done:
            call()
        self._history.add(self.name, EXITED, detail="" if self.killed else self.ending())

    def end_because(self, words: str) -> None:
        """End the process and its session for what it did: "it used more than 3 GB of memory"."""
        if self.running and not self.ended_because:
            self.ended_because = words
            self.signal(signal.SIGKILL, group=True)

    def ending(self) -> str:
        """How it ended, in words."""
        return f"ended: {self.ended_because}" if self.ended_because else exit_words(self.status)

    def signal(self, number: int, *, group: bool = False) -> None:
        self._starter.tell(signal=int(number), to=self._number, group=group)

    def _signal_and_wait(self, number: int, *, group: bool = False) -> None:
        """Return when the signal is on its process: what a check lets go on afterward comes after it."""
        self.signalled.clear()
        self.signal(number, group=group)
        self.signalled.wait(5)

    def kill(self, detail: str = "", tasks: tuple[int, ...] = ()) -> None:
        """SIGKILL the process and its session. Does not wait: what it still says is not listened to."""
        self.killed = True
        self._history.add(self.name, KILLED, detail=detail, tasks=tasks)
        self.signal(signal.SIGKILL, group=True)

    def terminate(self) -> None:
        """SIGTERM: ask the process to stop."""
        self.excused = True
        self._history.add(self.name, STOPPED, detail="SIGTERM")
        self._signal_and_wait(signal.SIGTERM)

    def interrupt(self) -> None:
        """SIGINT: what Ctrl-C in its terminal would send."""
        self._history.add(self.name, STOPPED, detail="Ctrl-C")
        self._signal_and_wait(signal.SIGINT)

    def pause(self) -> None:
        self.paused = True
        self._history.add(self.name, PAUSED, detail="SIGSTOP")
        self._signal_and_wait(signal.SIGSTOP, group=True)

    def resume(self) -> None:
        self.paused = False
        self._history.add(self.name, RESUMED, detail="SIGCONT")
        self.signal(signal.SIGCONT, group=True)

    @property
    def running(self) -> bool:
        return not self.exited.is_set()

    def output(self) -> str:
        return _read(self.out)

    def errors(self) -> str:
        return _read(self.err, tail=True)

    def busy_seconds(self) -> float:
        """How long the busiest thread has run or stood in line for a processor; 0 where the system does not tell.

        Standing in line counts: on a machine with much to do an endless loop gets only a part of a core.
        """
        busy = [0.0]
        for path in self._threads("schedstat"):
            with contextlib.suppress(OSError, ValueError):
                ran, stood, _ = path.read_text().split()
                busy.append((int(ran) + int(stood)) / 1e9)
        return max(busy)

    def starved_seconds(self) -> float:
        """How long the threads of the process have stood in line for a processor; 0 where the system does not tell."""
        stood = 0.0
        for path in self._threads("schedstat"):
            with contextlib.suppress(OSError, ValueError):
                stood += int(path.read_text().split()[1]) / 1e9
        return stood

    def _threads(self, name: str) -> list[Path]:
        """The file of this name of each of its threads; none of a process that ends while we look."""
        tasks = self._starter.proc / str(self.pid) / "task"
        with contextlib.suppress(OSError):
            return [tasks / thread / name for thread in os.listdir(tasks)]
        return []

    def where(self) -> str:
        """The line of the submission that the process is at just now: "worker.py line 41, in take"; may be empty."""
        if not self.running or not self.stacks.exists():
            return ""
        before = self.stacks.stat().st_size
        self.signal(signal.SIGUSR2)
        deadline, size = time.monotonic() + 1, before
        while time.monotonic() < deadline and not self.exited.wait(0.02):
            size, earlier = self.stacks.stat().st_size, size
            if before < size == earlier:  # all of it is there: nothing more came
                return innermost_line(_read(self.stacks, tail=True), Path(self.script).parent)
        return ""


def innermost_line(stacks: str, folder: Path) -> str:
    """The innermost frame of the main thread that lies in `folder`, from faulthandler's text."""
    main_thread = stacks.split("Current thread")[-1] if "Current thread" in stacks else stacks
    for line in main_thread.splitlines():
        parts = line.strip().split('"')
        if len(parts) == 3 and parts[0] == "File " and Path(parts[1]).parent == folder:
            number, _, function = parts[2].removeprefix(", line ").partition(" in ")
            return f"{Path(parts[1]).name} line {number}, in {function}"
    return ""


def exit_words(status: int) -> str:
    """How a process ended, in words."""
    if status < 0:
        return f"ended by {signal_name(-status)}"
    return "exited" if status == 0 else f"exited with status {status}"


def signal_name(number: int) -> str:
    """SIGKILL for 9; for one that has no name, such as most of the real-time signals: signal 40."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _read(path: Path, *, tail: bool = False) -> str:
    """The first bytes of a file that a script wrote, or the last; "" if a script has put something else there."""
    try:
        # Not through a link, which could lead to what the script may not read; no pipe, which could keep us waiting.
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return ""
            if tail:
                file.seek(max(0, os.fstat(file.fileno()).st_size - SHOWN_OUTPUT))
            return file.read(SHOWN_OUTPUT).decode("utf-8", "replace")
    except OSError:
        return ""


class Starter:
    """Our end of the warm starter. One serves a whole run.

    proc: where the processes that it reports are found; blame: in words, if it died and the submission has done it.
    """

    def __init__(self, modules: list[str], folder: Path, sandbox: "Sandbox | None" = None) -> None:
        """Start it; it imports `modules` while we go on. Output files of the scripts go to `folder`.

        sandbox: what isolates it and the scripts; see isolated() for when it does.
        """
        ours, theirs = socket.socketpair()
        os.set_inheritable(theirs.fileno(), True)
        # Its own environment is clean: what a script sees is only what its request says.
        clean = {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8"}
        command = [sys.executable, "-I", str(STARTER), str(theirs.fileno()), *modules]
        passed = [theirs.fileno()]
        self._limits: dict[str, int] = {}  # beside LIMITS
        if sandbox:
            command = sandbox.around(command)
            passed += sandbox.descriptors
            self._limits = sandbox.limits
        # Not in the janitor's care, which would kill it together with us: it has to outlive us for a moment, to end
        # what it started, and ends itself when the socket closes.
        self._process = subprocess.Popen(
            command, pass_fds=passed, env=clean, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        theirs.close()
        self._socket = ours
        self._folder = folder
        self._lock = threading.Lock()
        self._processes: dict[int, Process] = {}
        self._sandbox = sandbox
        self._isolated: Future[str] = Future()
        self.proc = Path("/proc")
        self.blame = ""
        self._own_pid = 0
        self._closing = False
        self.alive = True
        self._reader = threading.Thread(target=self._listen, name="starter", daemon=True)
        self._reader.start()
        if sandbox:
            self.tell(isolate=sandbox.request())

    def isolated(self) -> None:
        """Return when the scripts are isolated.

        Raises:
            InfrastructureError: they cannot be.
        """
        try:
            wrong = self._isolated.result(READY_WITHIN_SECONDS)
        except TimeoutError:
            wrong = "it does not answer"
        if wrong:
            raise InfrastructureError(f"the sandbox could not be set up: {wrong}")

    @property
    def pid(self) -> int:
        """The starter's own number in the process table of `proc`."""
        return self._own_pid

    def processes(self) -> list[Process]:
        """All scripts that are running."""
        with self._lock:
            return [process for process in self._processes.values() if process.running]

    def start(self, script: Path, args: list[str], name: str, env: dict[str, str], cwd: Path, history: History,
              *, cold: bool = False, limits: dict[str, int] | None = None, clock: float = 0) -> Process:  # fmt: skip
        """Start `python script args…` in `cwd` with exactly the environment `env`.

        limits are over those of LIMITS; the script's clock is so many seconds before the machine's (not if cold).
        """
        with self._lock:
            number = len(self._processes) + 1
            process = Process(self, number, name, str(script), self._folder, history)
            self._processes[number] = process
        self.tell(
            start=number, script=str(script), args=args, cwd=str(cwd), env=env, out=str(process.out),
            err=str(process.err), stacks=str(process.stacks), limits=LIMITS | self._limits | (limits or {}), cold=cold,
            clock=clock,
        )  # fmt: skip
        return process

    def tell(self, **request: object) -> None:
        """Send one request.

        Raises:
            CheckFailed: the starter is dead, and a script of the submission has killed it.
        """
        try:
            with self._lock:
                self._socket.sendall(json.dumps(request).encode() + b"\n")
        except OSError:
            if self._sandbox:
                self._reader.join(BLAMED_WITHIN_SECONDS)
            if self.blame:
                raise CheckFailed(self.blame) from None
            raise

    def _listen(self) -> None:
        with contextlib.suppress(ConnectionError):  # it died and had not read all that we had sent
            for line in self._socket.makefile("rb"):
                self._hear(json.loads(line))
        if self._sandbox:
            self._note_death()
        self.alive = False
        for process in list(self._processes.values()):
            process.exited.set()  # nobody will hear of it any more

    def _hear(self, message: dict) -> None:
        if "started" in message:
            self._processes[message["started"]].note_started(message["pid"])
        elif "signalled" in message:
            self._processes[message["signalled"]].signalled.set()
        elif "exited" in message:
            self._processes[message["exited"]].note_exited(message["status"])
        elif "ready" in message:
            self._own_pid = message["ready"]
        elif "isolated" in message:
            self._isolated.set_result(message["isolated"])

    def _note_death(self) -> None:
        """Find out who is to blame that it has gone."""
        if not self._isolated.done():
            self._isolated.set_result("it has ended, see above")
        if not self._closing:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.blame = self._sandbox.blame(self._process.wait(BLAMED_WITHIN_SECONDS))

    def close(self) -> None:
        """End everything that was started, and the starter."""
        self._closing = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(1)
        self._socket.close()
