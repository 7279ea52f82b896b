"""Workers of the solutions: the cost of one task beside a bare loop, and the cost of waiting."""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from labkit.bench import Row
from labkit.brokers import EmbeddedValkey
from labkit.course import VALKEY, Lab, lab, labs
from labkit.janitor import janitor, temporary_folder

BODY_BYTES = 222  # a task as the labs send it, in JSON
IDLE_SECONDS = 10
LOOKS_WITHIN_SECONDS = 30
COUNTED = {  # of all that a server executes, what a worker sends; the rest sets up a connection
    "rpop", "brpop", "lpush", "lrange", "incr", "blmove", "lmove", "lrem", "set", "scan", "eval", "del", "exists",
}  # fmt: skip

NO_WORK = """

import time as _time

_tasks = int(os.environ["BENCH_TASKS"])
_seen = 0
_began = 0.0


def {work}(task):
    \"\"\"No work: what is measured is the worker around it. Says how long all tasks but the first took.\"\"\"
    global _seen, _began
    _seen += 1
    if _seen == 1:
        _began = _time.perf_counter()
    if _seen == _tasks:
        os.write(int(os.environ["BENCH_FD"]), str(_time.perf_counter() - _began).encode())
    return "nothing"
"""

BARE_LOOP = """
import os
import redis
from {module} import {work}

broker = redis.Redis.from_url(os.environ["VALKEY_URL"])
while True:
    body = broker.blmove("{queue}", "{queue}:processing:bare", 2, "RIGHT", "LEFT")
    if body is not None:
        {work}(body)
        broker.lrem("{queue}:processing:bare", 1, body)
"""


@dataclass(frozen=True)
class Loop:
    """A lab whose worker is measured: what a task of its queue holds beside the id, and what its worker sends.

    sends: the commands, in lower case, that come from the worker and not from within one of its scripts.
    """

    number: int
    task: dict
    sends: frozenset[str]


LOOPS = (
    Loop(
        3,
        {"image": "a.jpg", "operation": "rotate"},
        frozenset({"blmove", "lmove", "lrem", "set", "scan", "eval"}),
    ),
    Loop(
        4,
        {"type": "webhook", "version": 1, "data": {}, "max_retries": 5, "attempts": 0},
        frozenset({"blmove", "set", "scan", "eval", "lrange"}),
    ),
)


def worker_overhead(rounds: int) -> list[Row]:
    """The solutions' reliable workers against a bare BLMOVE + LREM loop: no work, one core, in turns."""
    return [row for loop in LOOPS for row in overhead(loop, rounds)]


def overhead(loop: Loop, rounds: int) -> list[Row]:
    """One lab's worker against the bare loop on the same tasks."""
    tasks = 3000
    folder = bench_folder(lab(loop.number))
    solution, bare, a_task = [], [], []
    with EmbeddedValkey(appendonly="off") as broker, Pinned(broker.pid):
        for _ in range(rounds):
            before = commands_sent(broker, loop.sends)
            solution.append(tasks_a_second(folder / "worker.py", broker, loop, tasks))
            a_task.append((commands_sent(broker, loop.sends) - before) / tasks)
            bare.append(tasks_a_second(folder / "bare.py", broker, loop, tasks))
    ratios = [a / b for a, b in zip(solution, bare, strict=True)]
    return [
        (f"lab {loop.number}'s worker, no-op tasks", f"{statistics.median(solution):,.0f}/s",
         f"{statistics.median(ratios):.2f} of the bare loop"),
        (f"bare BLMOVE + LREM loop, lab {loop.number}'s tasks", f"{statistics.median(bare):,.0f}/s", ""),
        (f"lab {loop.number}'s worker, commands a task", f"{statistics.median(a_task):.2f}", ""),
    ]  # fmt: skip


def bench_folder(lab: Lab) -> Path:
    """A copy of the lab's solution whose work does nothing, with the bare loop beside it."""
    folder = temporary_folder()
    for path in lab.solution.glob("*.py"):
        (folder / path.name).write_bytes(path.read_bytes())
    module, work = lab.work.split(".")
    with (folder / f"{module}.py").open("a") as file:
        file.write(NO_WORK.format(work=work))
    (folder / "bare.py").write_text(BARE_LOOP.format(module=module, work=work, queue=lab.queue))
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


def tasks_a_second(script: Path, broker: EmbeddedValkey, loop: Loop, tasks: int) -> float:
    """Have a worker do `tasks` tasks that wait for it; return how many it did in a second."""
    with broker.connect() as connection:
        for number in range(tasks):
            body = json.dumps({"id": f"{number:08}-0000-4000-8000-000000000000"} | loop.task)
            connection.ask("LPUSH", lab(loop.number).queue, body.ljust(BODY_BYTES))
    answer, theirs = os.pipe()  # not its standard output: reading that would cost the core that is measured
    settings = {"BENCH_TASKS": str(tasks), "BENCH_FD": str(theirs)}
    process = start_worker(script, broker, settings, pass_fds=[theirs])
    os.close(theirs)
    try:
        seconds = os.read(answer, 100)
        if not seconds:
            raise RuntimeError(f"{script.name} ended before its tasks were done")
        return (tasks - 1) / float(seconds)
    finally:
        os.close(answer)
        end(process)
        with broker.connect() as connection:
            connection.ask("FLUSHALL")  # a private server of this benchmark's own


def start_worker(
    script: Path, broker: EmbeddedValkey, settings: dict[str, str], pass_fds: Sequence[int] = ()
) -> subprocess.Popen:
    """Start a worker with these settings in its environment; what it prints is thrown away."""
    environment = os.environ | {"VALKEY_URL": broker.url} | settings
    command = [sys.executable, str(script), "alice"]
    return janitor().start_process(command, env=environment, pass_fds=pass_fds, stdout=subprocess.DEVNULL)


def end(process: subprocess.Popen) -> None:
    """SIGKILL a worker."""
    process.kill()
    process.wait()
    janitor().forget_process(process.pid)


def commands_sent(broker: EmbeddedValkey, counted: Collection[str] = COUNTED) -> int:
    """How many of these commands the server has executed so far, by default all but those that set up a connection."""
    with broker.connect() as connection:
        lines = connection.ask("INFO", "commandstats").decode().splitlines()
    calls = dict(line.removeprefix("cmdstat_").split(":", 1) for line in lines if line.startswith("cmdstat_"))
    return sum(int(calls[name].split("calls=")[1].split(",")[0]) for name in counted if name in calls)


def idle_cost(rounds: int) -> list[Row]:
    """What an idle worker of each lab on Valkey sends, with the settings that it comes with.

    A RabbitMQ pushes tasks: what its idle worker costs is in bytes, and notebooks/lab06_rabbitmq.ipynb counts them.
    """
    asking = [each for each in labs() if each.broker == VALKEY]
    return [
        (f"lab {each.number}'s worker, idle commands a second", f"{idle(each):.1f}", "") for each in asking
    ]


def idle(lab: Lab) -> float:
    """Commands a second of the lab's worker on an empty queue.

    Raises:
        RuntimeError: the worker ended, or never looked for a task.
    """
    folder = temporary_folder()
    with EmbeddedValkey(appendonly="off") as broker:
        process = start_worker(lab.solution / "worker.py", broker, {"OUTPUT_DIR": str(folder)})
        try:
            deadline = time.monotonic() + LOOKS_WITHIN_SECONDS
            while not (before := commands_sent(broker)):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"lab {lab.number}'s worker did not look for a task")
                time.sleep(0.01)
            time.sleep(IDLE_SECONDS)  # what is measured is a rate
            return (commands_sent(broker) - before) / IDLE_SECONDS
        finally:
            end(process)
