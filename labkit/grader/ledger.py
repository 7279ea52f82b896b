"""The ledger: the grader's own book of who started and finished the work on which task, and when.

The work module that the submission runs is the course's, with report_work.py appended; it tells the ledger before
and after each task and waits for the answer, so that a scene can hold the work, slow it, or make it fail by task.
"""

import asyncio
import json
import math
import secrets
from collections.abc import Callable
from pathlib import Path

from labkit.grader.history import WORK_FAILED, WORK_FINISHED, WORK_STARTED, History
from labkit.grader.lane import Names
from labkit.grader.loop import Loop

LONGEST_LINE = 64 * 1024
NOTHING_LEFT = "said to be finished, but nothing was made"


class WorkControl:
    """What the work of one scene is told to do. Tasks are given by number; ALL stands for every task.

    left_by(task's id): whether the work on a task has left what it was to make. That it is done is believed only then.
    """

    ALL = -1

    def __init__(
        self,
        loop: Loop,
        history: History,
        names: Names,
        left_by: Callable[[str], bool] = lambda task_id: True,
    ) -> None:
        self._loop, self.history, self.names, self._left_by = loop, history, names, left_by
        self._held: set[int] = set()
        self._let_go: set[str] = set()
        self._failing: dict[int, tuple[str, float]] = {}  # what it says, and how many times more
        self._slow: dict[int, float] = {}
        self._changed = asyncio.Event()

    def hold(self, *tasks: int) -> None:
        """Make the work on these tasks (none given: all) wait at its start until release, whoever does it."""
        self._held.update(tasks or (self.ALL,))

    def release(self, *tasks: int) -> None:
        """Let the work on these tasks (none given: all) go on."""
        if tasks:
            self._held.difference_update(tasks)
        else:
            self._held.clear()
        self._loop.loop.call_soon_threadsafe(self._changed.set)

    def let_go(self, who: str) -> None:
        """Let this process go on with whatever task; the others are held as before."""
        self._let_go.add(who)
        self._loop.loop.call_soon_threadsafe(self._changed.set)

    def fail(self, task: int, message: str, times: float = math.inf) -> None:
        """Make the work on this task raise an OSError, so many times."""
        self._failing[task] = message, times

    def slow(self, task: int, seconds: float) -> None:
        """Make the work on this task (or ALL) last this much longer."""
        self._slow[task] = seconds

    def holds(self) -> bool:
        return bool(self._held)

    def _is_held(self, task: int, who: str) -> bool:
        return who not in self._let_go and (task in self._held or self.ALL in self._held)

    async def report(self, who: str, event: str, task_id: str, error: str) -> dict:
        """Write one report into the history; return the order for the work."""
        tasks = self.names.numbers_in(task_id.encode())
        task = tasks[0] if tasks else 0
        kind = {"started": WORK_STARTED, "finished": WORK_FINISHED, "failed": WORK_FAILED}.get(event)
        if kind is None:
            return {}
        if kind == WORK_FINISHED and tasks and not self._left_by(task_id):
            kind, error = WORK_FAILED, NOTHING_LEFT
        self.history.add(who, kind, tasks=tasks, detail=error or ("" if tasks else task_id[:60]))
        if kind != WORK_STARTED:
            return {}
        while self._is_held(task, who):
            self._changed.clear()
            await self._changed.wait()
        if seconds := self._slow.get(task, self._slow.get(self.ALL, 0)):
            await asyncio.sleep(seconds)
        message, times = self._failing.get(task, ("", 0))
        if times < 1:
            return {}
        self._failing[task] = message, times - 1
        return {"fail": message}


class Ledger:
    """Listens on a unix socket for the work modules of all scenes of a run."""

    def __init__(self, loop: Loop, path: Path) -> None:
        self.path = path
        self._loop = loop
        self._processes: dict[str, tuple[str, WorkControl]] = {}
        loop.call(self._open())

    async def _open(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, self.path, limit=LONGEST_LINE)

    def admit(self, who: str, control: WorkControl) -> str:
        """Return the token with which process `who` of a scene reports."""
        token = secrets.token_hex(16)
        self._processes[token] = (who, control)
        return token

    def dismiss(self, token: str) -> None:
        """Believe nothing more that comes with this token: its process was killed or has ended."""
        self._processes.pop(token, None)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            line = json.loads(await reader.readline())
            who, control = self._processes[line["token"]]
            report = control.report(who, str(line["event"]), str(line["task"]), str(line.get("error", "")))
            writer.write(json.dumps(await report).encode() + b"\n")
            await writer.drain()
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            pass  # not one of ours, or it died in the middle: there is nobody to answer
        except asyncio.CancelledError:
            pass  # the run is over; asyncio in Python 3.11 would print a traceback about a handler that is cancelled
        finally:
            writer.close()

    def close(self) -> None:
        self._loop.loop.call_soon_threadsafe(self._server.close)
