"""The warm starter: a process that has imported the broker's clients and forks once for each script.

Run by the grader as `python -I starter.py FD MODULE...`; FD is its end of a socket pair. A new Python that imports
a client takes a quarter of a second, a fork of this one some milliseconds. The forked child becomes what
`python script.py` would be: its own session, environment, working folder, arguments, `sys.path` and limits.

Lines of JSON come in:  {"start": N, "script": …, "args": […], "cwd": …, "env": {…}, "out": …, "err": …, "stacks": …,
"limits": {…}, "cold": bool, "clock": seconds} and {"signal": S, "to": N, "group": bool}.
Lines of JSON go out:   {"ready": pid}, {"started": N, "pid": …} and {"exited": N, "status": …}.
When the socket closes, everything that it started is killed, descendants that changed their session included.

Where the scripts are isolated from the grader, the first line that comes in is {"isolate": {"user": uid or null,
"doors": FD, "held": [FD, …], "readable": [path, …]}}; the answer is {"isolated": what is wrong, or ""}. From then on
scripts are started as that user, and {"door": …} has a socket or a folder opened here; its descriptor goes out on the
socket "doors".
"""

import atexit
import builtins
import contextlib
import datetime
import errno
import faulthandler
import gc
import importlib
import json
import os
import resource
import selectors
import signal
import socket
import sys
import threading
import time
import types

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 4, 36, 38


def prctl(option, value):
    """Ask Linux for what it can do about orphans; other systems go without."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


class Starter:
    def __init__(self, control):
        self.control = control
        self.running = {}  # pid -> N
        self.pids = {}  # N -> pid
        self.isolated = False
        self.user = None  # the uid as which scripts are started, if it is not ours
        self.doors = None
        self.held = []  # descriptors that are open as long as we live

    def say(self, **message):
        with contextlib.suppress(OSError):
            self.control.sendall(json.dumps(message).encode() + b"\n")

    def serve(self):
        """Serve requests until the socket closes. In a forked child: return the request to run."""
        wakeup, wakeup_write = os.pipe()
        os.set_blocking(wakeup, False)
        os.set_blocking(wakeup_write, False)
        signal.set_wakeup_fd(wakeup_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        chooser = selectors.DefaultSelector()
        chooser.register(self.control, selectors.EVENT_READ)
        chooser.register(wakeup, selectors.EVENT_READ)
        received = b""
        while True:
            for key, _ in chooser.select():
                if key.fileobj == wakeup:
                    with contextlib.suppress(BlockingIOError):
                        os.read(wakeup, 4096)
                    self.reap()
                    continue
                try:
                    data = self.control.recv(65536)
                except ConnectionResetError:  # the grader was killed with something unread
                    data = b""
                if not data:
                    return None
                *lines, received = (received + data).split(b"\n")
                for line in lines:
                    request = json.loads(line)
                    if "signal" in request:
                        self.send_signal(request)
                    elif "isolate" in request:
                        self.isolate(**request["isolate"])
                    elif "door" in request:
                        self.open_door(**request)
                    elif self.fork(request) == 0:
                        chooser.close()
                        self.let_go()
                        signal.set_wakeup_fd(-1)
                        os.close(wakeup)
                        os.close(wakeup_write)
                        return request

    def fork(self, request):
        request["parent"], request["user"] = os.getpid(), self.user
        pid = os.fork()
        if pid:
            self.running[pid] = request["start"]
            self.pids[request["start"]] = pid
            self.say(started=request["start"], pid=pid)
        return pid

    def send_signal(self, request):
        pid = self.pids.get(request["to"])
        if pid is not None:  # not reaped yet, so the number cannot belong to another process
            with contextlib.suppress(ProcessLookupError, PermissionError):
                if request.get("group"):
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(pid, request["signal"])
                        pid = None
                if pid is not None:  # also one that was forked just now, and leads no group yet
                    os.kill(pid, request["signal"])
        self.say(signalled=request["to"])

    def reap(self):
        ended, orphans = [], False
        for pid, status in dead_children():
            number = self.running.pop(pid, None)
            if number is None:
                orphans = True  # it may have left children to us, which were of another thread, or came late
                continue
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)  # what it left running in its session
            self.pids.pop(number)
            ended.append((number, os.waitstatus_to_exitcode(status)))
        if ended or (orphans and self.isolated):
            self.end_strays()  # once for all: a fork bomb leaves hundreds
        for number, status in ended:
            self.say(exited=number, status=status)

    def isolate(self, user, doors, held, readable):
        """From now on, start scripts as this user, with nothing of ours in their reach."""
        self.isolated, self.user, self.held = True, user, held
        self.doors = socket.socket(fileno=doors)
        prctl(PR_SET_DUMPABLE, 0)  # a script of the same user may not look into us, nor change us
        prctl(
            PR_SET_NO_NEW_PRIVS, 1
        )  # nothing that a script starts gets rights: no sudo, where none asks for a word
        self.end_user()  # what is left of a grading that was killed
        wrong = []
        if user is not None:
            wrong = [path for path in readable if not self.as_user(is_within_reach, path)]
        self.say(isolated=f"{wrong[0]} is out of reach for another user" if wrong else "")

    def let_go(self):
        """In a forked child: give up what only the starter is to have."""
        if self.isolated:
            self.doors.close()
            for descriptor in self.held:
                os.close(descriptor)
            prctl(PR_SET_DUMPABLE, 1)

    def as_user(self, do, *args):
        """Call a function as the scripts' user, in a child; return whether its result was true."""
        pid = os.fork()
        if pid == 0:
            done = False
            with contextlib.suppress(Exception):
                become_user(self.user)
                done = do(*args)
            os._exit(not done)
        return os.waitpid(pid, 0)[1] == 0

    def open_door(self, door, port=0):
        """Hand out a bound socket ("bind"), one that is connected to a port ("connect"), or our view of /proc."""
        opened = -1
        try:
            if door == "proc":
                opened = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
            else:
                opened = socket.socket().detach()
                made = socket.socket(fileno=opened)
                made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if door == "bind":
                    made.bind(("127.0.0.1", 0))
                else:
                    made.setblocking(False)
                    with contextlib.suppress(BlockingIOError):  # who asked will see what becomes of it
                        made.connect(("127.0.0.1", port))
                made.detach()
            socket.send_fds(self.doors, [b"+"], [opened])
        except OSError as error:
            with contextlib.suppress(OSError):
                self.doors.sendall((error.errno or errno.EIO).to_bytes(2, "big"))
        finally:
            if opened >= 0:
                os.close(opened)

    def end_user(self):
        """Kill all that runs as the scripts' user, however it came there; in one go, so that nothing forks away."""
        if self.user is not None:
            self.as_user(os.kill, -1, signal.SIGKILL)

    def end_strays(self):
        """Kill the orphans that came to us: descendants of a script that has ended."""
        for pid in children_of(os.getpid()):
            if pid not in self.running:
                end_family(pid)

    def end_all(self):
        if os.getpid() == 1:
            return  # in a process table of our own all others end with us
        self.end_user()
        while True:
            for pid in self.running:  # not reaped yet, so the number cannot belong to another process
                for kill in (os.killpg, os.kill):
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        kill(pid, signal.SIGKILL)
            for pid in children_of(os.getpid()):
                end_family(pid)
            try:
                while pid := os.waitpid(-1, os.WNOHANG)[0]:
                    self.running.pop(pid, None)
            except ChildProcessError:
                return  # and so without descendants: those whose parents had died were given to us
            time.sleep(0.001)


def dead_children():
    """Reap the children that are dead by now: the pid and the status of each."""
    with contextlib.suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            yield found


def children_of(pid):
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as listing:
            return [int(word) for word in listing.read().split()]
    except OSError:
        return []


def end_family(pid):
    """Stop a process before its children are looked up, so that it cannot fork away, then kill them all."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGSTOP)
        for child in children_of(pid):
            end_family(child)
        os.kill(pid, signal.SIGKILL)


def limit(limits):
    """Set resource limits by their name in the `resource` module; one that the system refuses is left out."""
    for name, value in limits.items():
        with contextlib.suppress(ValueError, OSError, AttributeError):
            resource.setrlimit(getattr(resource, name), (value, value))


def is_within_reach(path):
    return os.access(path, os.X_OK if os.path.isdir(path) else os.R_OK)


def become_user(user):
    """Become another user for good, with a group of the same number and no other."""
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)
    prctl(PR_SET_DUMPABLE, 1)  # as any program of this user is: it may look at itself in /proc


def set_clock(ahead):
    """Make the clock of this process go `ahead` seconds before the machine's, for all that asks Python for the time.

    Clocks that only go forward (time.monotonic) stay as they are: they do not tell the time of day.
    """
    if not ahead:
        return
    now, now_ns, real = time.time, time.time_ns, datetime.datetime

    class Clock(real):
        @classmethod
        def now(cls, tz=None):
            return cls.fromtimestamp(now() + ahead, tz)

        today = now

        @classmethod
        def utcnow(cls):
            return cls.now(datetime.UTC).replace(tzinfo=None)

    time.time = lambda: now() + ahead
    time.time_ns = lambda: now_ns() + int(ahead * 1e9)
    datetime.datetime = Clock


def become(request):
    """Turn this forked child into the process that `python script.py` would be; run the script."""
    sys.excepthook = show_without_us
    os.setsid()
    if request["user"] is None:
        die_with(request["parent"])
    for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    for path, fd in ((os.devnull, 0), (request["out"], 1), (request["err"], 2)):
        flags = os.O_RDONLY if fd == 0 else os.O_WRONLY | os.O_CREAT | os.O_APPEND
        try:
            opened = os.open(path, flags, 0o644)
        except FileNotFoundError:
            os._exit(1)  # the run's folder is gone: the run is over
        os.dup2(opened, fd)
        os.close(opened)
    stacks = None if request["cold"] else open(request["stacks"], "w")  # noqa: SIM115
    os.chdir(request["cwd"])
    if request["user"] is not None:  # what was opened before is in a folder that is closed to this user
        become_user(request["user"])
        die_with(request["parent"])  # only now: with another user the wish would be forgotten
    os.environ.clear()
    os.environ.update(request["env"])
    limit(request["limits"])
    set_clock(request["clock"])
    script, args = request["script"], request["args"]
    if request["cold"]:
        os.execv(sys.executable, [sys.executable, script, *args])
    faulthandler.register(signal.SIGUSR2, stacks, all_threads=True)
    sys.stdout.reconfigure(line_buffering=True)
    sys.argv = [script, *args]
    sys.path.insert(0, os.path.dirname(script))
    leave(status_of(script))


def die_with(parent):
    """Be killed when the starter dies, in whatever way."""
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)  # it died before we could ask to die with it


def status_of(script):
    """Run a script; return the exit status that Python gives it, having said what Python says."""
    try:
        run(script)
    except SystemExit as ending:
        if ending.code is None or isinstance(ending.code, int):
            return ending.code or 0
        print(ending.code, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        sys.excepthook(*sys.exc_info())
        return -signal.SIGINT
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return 1
    return 0


def leave(status):
    """End as Python does: wait for the threads, call the exit functions, write out what is buffered.

    Only one thing is left out: taking every module apart. Doing that touches all the memory that this process shares
    with the starter, and the copying costs more than all the rest of a short script.
    """
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    if status == -signal.SIGINT:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit(status & 0xFF)


def run(script):
    """Run a script as the module __main__, which it stays for its threads and its exit functions."""
    main_module = types.ModuleType("__main__")
    main_module.__dict__.update(__file__=script, __builtins__=builtins, __cached__=None)
    sys.modules["__main__"] = main_module
    try:
        with open(script, "rb") as file:
            source = file.read()
    except OSError as error:
        print(f"python: can't open file {script!r}: [Errno {error.errno}] {error.strerror}", file=sys.stderr)
        sys.exit(2)
    exec(compile(source, script, "exec"), main_module.__dict__)


def show_without_us(kind, error, trace):
    """Print an uncaught exception as Python does, without the frames of this file."""
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    sys.__excepthook__(kind, error.with_traceback(trace), trace)


def main():
    control = socket.socket(fileno=int(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    for module in sys.argv[2:]:
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
    gc.freeze()  # the children's collector must not touch, and so copy, what they share
    starter = Starter(control)
    starter.say(ready=os.getpid())
    request = starter.serve()
    if request is None:
        starter.end_all()
        return None
    control.close()
    return request


if __name__ == "__main__":
    if (job := main()) is not None:
        become(job)
