"""The warm starter: a process that has imported the broker's clients and forks once for each script.

Run by the grader as `python -I starter.py FD MODULE...`; FD is its end of a socket pair. A new Python that imports
a client takes a quarter of a second, a fork of this one some milliseconds. The forked child becomes what
`python script.py` would be: its own session, environment, working folder, arguments, `sys.path` and limits.

Lines of JSON come in:  {"start": N, "script": …, "args": […], "cwd": …, "env": {…}, "out": …, "err": …, "stacks": …,
"limits": {…}, "cold": bool} and {"signal": S, "to": N, "group": bool}.
Lines of JSON go out:   {"ready": pid}, {"started": N, "pid": …} and {"exited": N, "status": …}.
When the socket closes, everything that it started is killed, descendants that changed their session included.
"""

import atexit
import builtins
import contextlib
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
import types

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


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
                data = self.control.recv(65536)
                if not data:
                    return None
                *lines, received = (received + data).split(b"\n")
                for line in lines:
                    request = json.loads(line)
                    if "signal" in request:
                        self.send_signal(request)
                    elif self.fork(request) == 0:
                        chooser.close()
                        signal.set_wakeup_fd(-1)
                        os.close(wakeup)
                        os.close(wakeup_write)
                        return request

    def fork(self, request):
        request["parent"] = os.getpid()
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
                (os.killpg if request.get("group") else os.kill)(pid, request["signal"])
        self.say(signalled=request["to"])

    def reap(self):
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            number = self.running.pop(pid, None)
            if number is not None:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(pid, signal.SIGKILL)  # what it left running in its session
                self.pids.pop(number)
                self.end_strays()
                self.say(exited=number, status=os.waitstatus_to_exitcode(status))

    def end_strays(self):
        """Kill the orphans that came to us: descendants of a script that has ended."""
        for pid in children_of(os.getpid()):
            if pid not in self.running:
                end_family(pid)

    def end_all(self):
        for pid in list(self.running):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
        while pids := children_of(os.getpid()):
            for pid in pids:
                end_family(pid)
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, 0)[0]:
                    pass


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


def become(request):
    """Turn this forked child into the process that `python script.py` would be; run the script."""
    sys.excepthook = show_without_us
    os.setsid()
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != request["parent"]:
        os._exit(1)  # it died before we could ask to die with it
    for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    for path, fd in ((os.devnull, 0), (request["out"], 1), (request["err"], 2)):
        flags = os.O_RDONLY if fd == 0 else os.O_WRONLY | os.O_CREAT | os.O_APPEND
        opened = os.open(path, flags, 0o644)
        os.dup2(opened, fd)
        os.close(opened)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    limit(request["limits"])
    script, args = request["script"], request["args"]
    if request["cold"]:
        os.execv(sys.executable, [sys.executable, script, *args])
    faulthandler.register(signal.SIGUSR2, open(request["stacks"], "w"), all_threads=True)  # noqa: SIM115
    sys.stdout.reconfigure(line_buffering=True)
    sys.argv = [script, *args]
    sys.path.insert(0, os.path.dirname(script))
    leave(status_of(script))


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
