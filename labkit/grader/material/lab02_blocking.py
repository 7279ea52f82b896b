"""Lab 2: report tasks, bodies that are none, what must stand in the reports, and a hand on the monitor."""

import asyncio
import io
import os
import re
import threading
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from labkit.grader.files import content
from labkit.grader.lane import BEFORE, Command, Lane

if TYPE_CHECKING:
    from labkit.grader.actor import Actor
    from labkit.grader.scene import Scene

USERS = ["ada", "grace", "hedy", "katherine"]
REPORTS = ["sales", "visits", "returns"]


def _asking(**fields: object) -> dict:
    return {"id": str(uuid.uuid4()), "user": "ada", "report": "sales"} | fields


BAD_TASKS: dict[str, bytes | dict] = {
    "a body that is not JSON": b"sales for ada please",
    "bytes that are not UTF-8": b"\xff\xfe\x00sales",
    "a JSON list": b"[1, 2, 3]",
    "an object without an id": b'{"user": "ada", "report": "sales"}',
    "JSON nested 20,000 deep": b"[" * 20_000,
    "a task without a user": {"id": str(uuid.uuid4()), "report": "sales"},
    "a report that does not exist": _asking(report="weather"),
    "a list of reports": _asking(report=["sales", "visits"]),
    "a user of a thousand letters": _asking(user="a" * 1000),
}


def new_task(scene) -> dict:
    """An ordinary task; which report and for whom is up to the scene's seed."""
    return {
        "id": str(uuid.UUID(int=scene.random.getrandbits(128), version=4)),
        "user": scene.random.choice(USERS),
        "report": scene.random.choice(REPORTS),
    }


def trouble_with(path: Path, task: dict) -> str:
    """What is wrong with the report of a task; "" if it opens and is about the right user and report."""
    import pypdf

    if (written := content(path)) is None:
        return "it is no ordinary file" if os.path.lexists(path) else "there is no such file"
    try:
        text = " ".join(pypdf.PdfReader(io.BytesIO(written)).pages[0].extract_text().split())
    except Exception as error:  # whatever pypdf raises on what is no PDF
        return f"it does not open as a PDF ({type(error).__name__}: {error})"
    if not re.search(rf"\bfor {task['user']}, report {task['report']}, task {task['id']}\b", text):
        begins = f"it begins: {text[:80]}" if text else "there is no text in it"
        return f"it is not about {task['report']} for {task['user']}; {begins}"
    return ""


class SecondLook:
    """Holds a monitor between its two looks: before the first command after a pause of `pause` seconds.

    For scene.lie_in_wait. Times are the scene's, in seconds. However slow the machine is, what happens until
    release() happens between the looks.
    """

    def __init__(self, scene: "Scene", pause: float) -> None:
        self._scene, self._pause = scene, pause
        self._released = asyncio.Event()
        self.reached = threading.Event()
        self.began = self.first_ended = self.came_back = 0.0

    def arm(self, actor: "Actor") -> None:
        actor.lane.gates.append(self._gate)

    def release(self) -> None:
        self._scene.loop.loop.call_soon_threadsafe(self._released.set)

    async def _gate(self, lane: Lane, command: Command, when: str) -> None:
        now = self._scene.history.now()
        if self.reached.is_set():
            return
        self.began = self.began or now
        if when == BEFORE and self.first_ended and now - self.first_ended > self._pause:
            self.came_back = now
            self.reached.set()
            self._scene.history.wake()
            await self._released.wait()
        else:
            self.first_ended = now

    def rates(self, tasks: int) -> tuple[float, float]:
        """The lowest and the highest rate, in tasks a second, that the monitor can have seen, rounding left aside."""
        shortest, longest = self.came_back - self.first_ended, self._scene.history.now() - self.began
        return tasks / longest, tasks / shortest
