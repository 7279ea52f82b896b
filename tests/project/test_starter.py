"""The warm starter: a forked script is what `python script.py` would be, and nothing outlives its end."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from labkit.course import ROOT
from labkit.grader import processes
from labkit.grader.history import History
from labkit.grader.processes import Starter
from labkit.janitor import is_running

WITHIN_SECONDS = 10


@pytest.fixture(scope="module")
def starter(tmp_path_factory):
    running = Starter(["argparse", "random", "uuid"], tmp_path_factory.mktemp("log"))
    yield running
    running.close()


@pytest.fixture
def start(starter, tmp_path):
    """Write a program and start it as a script; a relative marker in it lies in the script's folder."""

    def started(program, *args, env=None, wait=True, name="script.py"):
        script = tmp_path / name
        if program is not None:
            script.write_text(program)
        process = starter.start(script, list(args), "script", env or {"A": "1"}, tmp_path, History())
        if wait:
            assert process.exited.wait(WITHIN_SECONDS)
        return process

    return started


def wait_until(condition, within=WITHIN_SECONDS):
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def number_in(path):
    """The number that a script writes into a file, whole, as soon as it is there."""
    assert wait_until(lambda: path.exists() and path.read_text().endswith("\n")), path
    return int(path.read_text())


def test_a_process_may_end_while_it_is_looked_at(start):
    for number in range(60):
        process = start("pass\n", wait=False, name=f"short{number}.py")
        assert process.started.wait(WITHIN_SECONDS)
        while not process.exited.is_set():
            assert process.busy_seconds() >= 0 and process.starved_seconds() >= 0


def test_a_signal_without_a_name_is_told_by_its_number(start):
    assert "signal 40" in start("import os; os.kill(os.getpid(), 40)").ending()


@pytest.mark.parametrize(
    "put", ["os.symlink('secret', path)", "os.mkfifo(path)", "os.mkdir(path)"], ids=["link", "pipe", "folder"]
)
def test_what_a_script_puts_in_place_of_its_output_is_not_read(start, tmp_path, put):
    (tmp_path / "secret").write_text("the solution")
    path = "path = os.readlink('/proc/self/fd/2')"
    process = start(
        f"import os, sys\n{path}\nos.remove(path)\n{put.replace('secret', str(tmp_path / 'secret'))}\n"
    )
    assert process.status == 0
    assert process.errors() == ""


# ---- the same as python script.py ----

ALIKE = {
    "arguments": "import sys; print(sys.argv, sys.path[0], __name__, __file__)",
    "environment": "import os; print(sorted(os.environ.items()), os.getcwd(), os.getenv('A'))",
    "main module": "import __main__; x = 1; print(__main__.x, __main__.__file__, __spec__)",
    "no standard input": "import sys; print(repr(sys.stdin.read()), sys.stdout.encoding)",
    "signals": "import signal as s; print([s.getsignal(n) for n in (15, 13, 17)], s.pthread_sigmask(0, []))",
    "open files": "import os; print([fd for fd in range(3, 50) if os.path.exists(f'/proc/self/fd/{fd}') and "
    "'stacks' not in os.readlink(f'/proc/self/fd/{fd}')])",
    "exit status": "import sys; sys.exit(7)",
    "exit with words": "import sys; sys.exit('no broker')",
    "exit without status": "raise SystemExit",
    "exception": "def f():\n    return 1 / 0\n\nf()\n",
    "chained exception": "try:\n    {}['x']\nexcept KeyError:\n    raise ValueError('second')\n",
    "syntax error": "def take(:\n    pass\n",
    "indentation": "if True:\npass\n",
    "interrupted": "raise KeyboardInterrupt",
    "killed by itself": "import os; os.kill(os.getpid(), 9)",
    "terminated": "import os; os.kill(os.getpid(), 15)",
    "ended by a signal without a name": "import os; os.kill(os.getpid(), 40)",
    "hard exit": "import os; print('seen'); os._exit(3)",
    "threads are finished": "import threading, time\n"
    "threading.Thread(target=lambda: (time.sleep(0.1), print(x))).start()\n"
    "x = 'after the end of the script'\n",
    "exit functions": "import atexit\natexit.register(lambda: print(x))\nx = 'last'\nprint('first')\n",
    "exit function after an exception": "import atexit\natexit.register(print, 2)\nraise OSError(1)\n",
    "a thread's exception": "import threading as t\nt.Thread(target=lambda: 1 / 0, name='t').start()\n",
    "processes": "import multiprocessing as m\n"
    "with m.get_context('fork').Pool(2) as p:\n    print(p.map(abs, [-1, -2]))\n",
    "pickling": "import pickle\nclass C: pass\nprint(type(pickle.loads(pickle.dumps(C()))).__name__)\n",
    "annotations": "x: int = 3\nprint(x, __annotations__)\n",
    "encoding": "# -*- coding: latin-1 -*-\nprint('caf\\u00e9')\n",
    "empty": "",
}


@pytest.mark.parametrize("what", ALIKE)
def test_a_script_is_run_as_python_would(start, tmp_path, what):
    env = {"A": "1", "PYTHONUNBUFFERED": "1", "LANG": "C.UTF-8", "PATH": os.environ["PATH"]}
    process = start(ALIKE[what], "alice", "--count", "3", env=env)
    real = subprocess.run(
        [sys.executable, process.script, "alice", "--count", "3"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, env=env, cwd=tmp_path,
    )  # fmt: skip
    assert process.output() == real.stdout
    assert process.errors() == real.stderr
    assert process.status == real.returncode


def test_a_script_that_is_not_there(start):
    process = start(None, name="absent.py")
    assert process.status == 2
    assert "can't open file" in process.errors() and "Traceback" not in process.errors()


def test_two_scripts_do_not_draw_the_same_random_numbers(start):
    program = "import random, uuid; print(random.random(), uuid.uuid4())"
    [a, b], [c, d] = start(program).output().split(), start(program).output().split()
    assert a != c and b != d


def test_output_is_there_before_the_end(start, tmp_path):
    program = "import time; print('begun'); open('ready', 'w').close(); time.sleep(60)"
    process = start(program, wait=False)
    assert wait_until((tmp_path / "ready").exists)
    assert process.output() == "begun\n"
    process.kill()
    assert process.exited.wait(WITHIN_SECONDS)
    assert process.status == -signal.SIGKILL


def test_where_a_script_is(start, tmp_path):
    program = "def inner():\n    open('ready', 'w').close()\n    while True: pass\n\ninner()\n"
    process = start(program, wait=False)
    assert wait_until((tmp_path / "ready").exists)
    assert wait_until(lambda: process.where() == "script.py line 3, in inner")
    assert process.where() == "script.py line 3, in inner"
    before = process.busy_seconds()
    assert wait_until(lambda: process.busy_seconds() > before + 0.1)
    process.kill()
    process.exited.wait(WITHIN_SECONDS)
    assert process.where() == ""


# ---- limits ----


@pytest.fixture
def limits(monkeypatch):
    monkeypatch.setattr(processes, "LIMITS", small := dict(processes.LIMITS))
    return small


def test_endless_output_ends(start, limits):
    limits["RLIMIT_FSIZE"] = 1_000_000
    process = start("while True: print('x' * 1000)")
    assert process.out.stat().st_size <= 1_000_000
    assert process.status in (1, 120)  # 120: at its end Python could not flush the output, either
    assert "File too large" in process.errors()


def test_a_file_that_grows_without_end_ends(start, limits, tmp_path):
    limits["RLIMIT_FSIZE"] = 1_000_000
    process = start("with open('big', 'wb') as f:\n    while True: f.write(bytes(100_000))")
    assert process.status == 1 and "File too large" in process.errors()
    assert (tmp_path / "big").stat().st_size <= 1_000_000


def test_memory_has_an_end(start, limits):
    limits["RLIMIT_AS"] = 500_000_000
    process = start("x = [bytearray(10**8) for _ in range(10)]")
    assert process.status == 1
    assert "MemoryError" in process.errors()


def test_a_crowd_of_threads_has_room(start):
    process = start(
        "import threading\nb = threading.Barrier(64)\n"
        "ts = [threading.Thread(target=lambda: (bytearray(10**6), b.wait())) for _ in range(64)]\n"
        "[t.start() for t in ts]; [t.join() for t in ts]; print('done')"
    )
    assert process.output() == "done\n", process.errors()


def test_processor_time_has_an_end(start, limits):
    limits["RLIMIT_CPU"] = 1
    process = start("while True: pass")
    assert process.status in (-signal.SIGXCPU, -signal.SIGKILL)


def test_the_last_words_of_a_long_complaint_are_read(start):
    process = start(
        "import sys\nfor n in range(20_000): print('noise', n, file=sys.stderr)\nraise OSError('the end')"
    )
    assert process.errors().rstrip().endswith("OSError: the end")


# ---- descendants ----

SLEEPS = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
IN_A_SESSION = f"""
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", {SLEEPS!r}], start_new_session=True)
print(child.pid, file=open("pid", "w"))
"""
DAEMON = """
import os, signal, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        with open("pid", "w") as file:
            print(os.getpid(), file=file)
        time.sleep(600)
    os._exit(0)
os.wait()
while not os.path.exists("pid"):
    time.sleep(0.01)
"""


@pytest.mark.parametrize("program", [IN_A_SESSION, DAEMON], ids=["in a session of its own", "daemon"])
@pytest.mark.parametrize("ending", ["exits", "is killed"])
def test_descendants_end_with_the_script(start, tmp_path, program, ending):
    stay = "" if ending == "exits" else "\ntime.sleep(600)\n"
    process = start(program + stay, wait=False, env=dict(os.environ))
    pid = number_in(tmp_path / "pid")
    if ending == "is killed":
        assert is_running(pid)
        process.kill()
    assert process.exited.wait(WITHIN_SECONDS)
    assert wait_until(lambda: not is_running(pid))


def test_another_script_is_left_alone_when_one_ends(start, tmp_path):
    process = start(IN_A_SESSION + "\ntime.sleep(600)\n", wait=False, env=dict(os.environ), name="first.py")
    pid = number_in(tmp_path / "pid")
    start("print('short')", name="second.py")
    assert is_running(pid) and process.running
    process.kill()
    assert wait_until(lambda: not is_running(pid))


GRADES = """
import sys, time
from pathlib import Path
from labkit.grader.history import History
from labkit.grader.processes import Starter
folder = Path(sys.argv[1])
starter = Starter([], folder)
process = starter.start(folder / "script.py", [], "script", {"A": "1"}, folder, History())
process.started.wait()
print(starter._process.pid, process.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("program", [IN_A_SESSION, DAEMON], ids=["in a session of its own", "daemon"])
def test_nothing_outlives_the_grader(tmp_path, how, program):
    (tmp_path / "script.py").write_text(program + "\ntime.sleep(600)\n")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    grader = subprocess.Popen(
        [sys.executable, "-c", GRADES, str(tmp_path)],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment, start_new_session=True,
    )  # fmt: skip
    pids = [int(word) for word in grader.stdout.readline().split()] + [number_in(tmp_path / "pid")]
    assert all(is_running(pid) for pid in pids) and len(pids) == 3
    os.killpg(grader.pid, how)
    grader.wait(WITHIN_SECONDS)
    grader.stdout.close()
    assert wait_until(lambda: not any(is_running(pid) for pid in pids)), pids


def test_a_starter_that_dies_is_noticed(tmp_path):
    (tmp_path / "script.py").write_text("import time; time.sleep(600)")
    starter = Starter([], tmp_path)
    process = starter.start(tmp_path / "script.py", [], "script", {}, tmp_path, History())
    assert process.started.wait(WITHIN_SECONDS)
    os.kill(starter._process.pid, signal.SIGKILL)
    assert process.exited.wait(WITHIN_SECONDS)
    assert not starter.alive
    assert wait_until(lambda: not is_running(process.pid))
    starter.close()


def test_a_module_that_hides_pythons_own_is_seen_only_by_a_fresh_interpreter(starter, tmp_path):
    Path(tmp_path / "uuid.py").write_text("print('mine')")
    (tmp_path / "script.py").write_text("import uuid, os; print(os.environ['A'], __name__)")
    said = {}
    for cold in (False, True):
        process = starter.start(
            tmp_path / "script.py", [], "script", {"A": "1"}, tmp_path, History(), cold=cold
        )
        assert process.exited.wait(WITHIN_SECONDS)
        said[cold] = process.output()
    assert said[True] == "mine\n1 __main__\n"
    assert not re.search("mine", said[False])


@pytest.mark.parametrize("ahead", [-3600, 3600])
def test_the_clock_of_a_script_can_be_wrong(starter, tmp_path, ahead):
    script = tmp_path / "script.py"
    script.write_text(
        "import time\n"
        "from datetime import UTC, datetime\n"
        "print(time.time(), time.time_ns() / 1e9, datetime.now(UTC).timestamp(), datetime.now().timestamp())\n"
    )
    before = time.time()
    process = starter.start(script, [], "script", {"A": "1"}, tmp_path, History(), clock=ahead)
    assert process.exited.wait(WITHIN_SECONDS)
    told = [float(word) for word in process.output().split()]
    assert len(told) == 4, process.errors()
    assert all(before <= clock - ahead <= time.time() for clock in told)


def test_a_signal_reaches_a_script_that_was_forked_just_now(starter, tmp_path):
    script = tmp_path / "script.py"
    script.write_text("import threading\nthreading.Event().wait()\n")
    for _ in range(40):  # often enough to come before the script leads a group of its own
        process = starter.start(script, [], "script", {"A": "1"}, tmp_path, History())
        process.kill()
        assert process.exited.wait(WITHIN_SECONDS)
