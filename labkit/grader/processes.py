"""The submission's scripts as processes: started through the warm starter, watched, signalled, ended."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from labkit.grader.history import EXITED, KILLED, PAUSED, RESUMED, STARTED, STOPPED, History

STARTER = Path(__file__).with_name("starter.py")
LIMITS = {  # of one script; names of the `resource` module, in bytes, seconds or counts
    "RLIMIT_AS": 2 * 1024**3,
    "RLIMIT_CPU": 60,
    "RLIMIT_FSIZE": 64 * 1024**2,
    "RLIMIT_NOFILE": 256,
    "RLIMIT_CORE": 0,
}
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
        self.excused = False  # whether it may end with a status other than 0
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
        self._history.add(self.name, EXITED, detail="" if self.killed else exit_words(status))

    def signal(self, number: int, *, group: bool = False) -> None:
        self._starter.tell(signal=int(number), to=self._number, group=group)

    def _signal_and_wait(self, number: int) -> None:
        """Return when the signal is on its process: what a check lets go on afterward comes after it."""
        self.signalled.clear()
        self.signal(number)
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
        self._history.add(self.name, PAUSED, detail="SIGSTOP")
        self.signal(signal.SIGSTOP, group=True)

    def resume(self) -> None:
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
        for path in Path(f"/proc/{self.pid}/task").glob("*/schedstat"):
            with contextlib.suppress(OSError, ValueError):
                ran, stood, _ = path.read_text().split()
                busy.append((int(ran) + int(stood)) / 1e9)
        return max(busy)

    def starved_seconds(self) -> float:
        """How long the threads of the process have stood in line for a processor; 0 where the system does not tell."""
        stood = 0.0
        for path in Path(f"/proc/{self.pid}/task").glob("*/schedstat"):
            with contextlib.suppress(OSError, ValueError):
                stood += int(path.read_text().split()[1]) / 1e9
        return stood

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
        return f"ended by {signal.Signals(-status).name}"
    return "exited" if status == 0 else f"exited with status {status}"


def _read(path: Path, *, tail: bool = False) -> str:
    """The first bytes of a file that a script wrote, or the last."""
    try:
        with path.open("rb") as file:
            if tail:
                file.seek(max(0, os.fstat(file.fileno()).st_size - SHOWN_OUTPUT))
            return file.read(SHOWN_OUTPUT).decode("utf-8", "replace")
    except OSError:
        return ""


class Starter:
    """Our end of the warm starter. One serves a whole run."""

    def __init__(self, modules: list[str], folder: Path) -> None:
        """Start it; it imports `modules` while we go on. Output files of the scripts go to `folder`."""
        ours, theirs = socket.socketpair()
        os.set_inheritable(theirs.fileno(), True)
        # Its own environment is clean: what a script sees is only what its request says.
        clean = {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8"}
        # Not in the janitor's care, which would kill it together with us: it has to outlive us for a moment, to end
        # what it started, and ends itself when the socket closes.
        self._process = subprocess.Popen(
            [sys.executable, "-I", str(STARTER), str(theirs.fileno()), *modules], pass_fds=[theirs.fileno()], env=clean,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        theirs.close()
        self._socket = ours
        self._folder = folder
        self._lock = threading.Lock()
        self._processes: dict[int, Process] = {}
        self.alive = True
        self._reader = threading.Thread(target=self._listen, name="starter", daemon=True)
        self._reader.start()

    def start(self, script: Path, args: list[str], name: str, env: dict[str, str], cwd: Path, history: History,
              *, cold: bool = False, limits: dict[str, int] | None = None) -> Process:  # fmt: skip
        """Start `python script args…` in `cwd` with exactly the environment `env`; limits are over those of LIMITS."""
        with self._lock:
            number = len(self._processes) + 1
            process = Process(self, number, name, str(script), self._folder, history)
            self._processes[number] = process
        self.tell(
            start=number, script=str(script), args=args, cwd=str(cwd), env=env, out=str(process.out),
            err=str(process.err), stacks=str(process.stacks), limits=LIMITS | (limits or {}), cold=cold,
        )  # fmt: skip
        return process

    def tell(self, **request: object) -> None:
        with self._lock:
            self._socket.sendall(json.dumps(request).encode() + b"\n")

    def _listen(self) -> None:
        for line in self._socket.makefile("rb"):
            message = json.loads(line)
            if "started" in message:
                self._processes[message["started"]].note_started(message["pid"])
            elif "signalled" in message:
                self._processes[message["signalled"]].signalled.set()
            elif "exited" in message:
                self._processes[message["exited"]].note_exited(message["status"])
        self.alive = False
        for process in list(self._processes.values()):
            process.exited.set()  # nobody will hear of it any more

    def close(self) -> None:
        """End everything that was started, and the starter."""
        self._socket.shutdown(socket.SHUT_RDWR)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(1)
        self._socket.close()
