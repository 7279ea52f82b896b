"""The requests that arrive at the endpoint of lab 4: each of them, and when retries come, as the server sees it."""

import json
import math
from collections import Counter
from dataclasses import dataclass

from labkit.demo.view import DONE, FAINT, GONE, STRONG, WAITING, Panel, Points, Strip, Words
from labkit.grader.endpoint import NEVER, Request
from labkit.grader.scene import Scene

PLACES = 24  # of a storm's line; requests of one place are counted together
LAST, LAST_RETRY = 3, "3rd"  # how often each task is tried again in a storm, at least


@dataclass(frozen=True)
class Storm:
    """Tasks that failed together; their retries are shown for so many seconds from the first failure on."""

    label: str
    tasks: range
    seconds: float


class Arrivals:
    """See the module. storming: whether the storms are shown in place of each request."""

    def __init__(self, scene: Scene) -> None:
        self.scene, self.endpoint = scene, scene.endpoint
        self.storms: list[Storm] = []
        self.storming = False

    def answers(self, task: int) -> list[str]:
        """The answers to the requests for a task, one after the other."""
        return [request.answer for request in self.endpoint.requests_for(task)]

    def begin_storm(self, label: str, tasks: range, seconds: float) -> None:
        self.storms.append(Storm(label, tasks, seconds))
        self.storming = True

    def retries(self, storm: Storm) -> list[float]:
        """When requests came that were no task's first, in seconds from the first of all."""
        seen: set[int] = set()
        came: list[float] = []
        began = 0.0
        for request in [each for each in list(self.endpoint.requests) if each.task in storm.tasks]:
            began = began or request.at
            if request.task in seen and request.at - began < storm.seconds:
                came.append(request.at - began)
            seen.add(request.task)
        return came

    def seconds_of_last(self, storm: Storm) -> float:
        """Within how many seconds the last retries of all its tasks came; infinity before they all did."""
        requests = [self.endpoint.requests_for(task) for task in storm.tasks]
        if any(len(each) <= LAST for each in requests):
            return math.inf
        last = [each[LAST].at for each in requests]
        return max(last) - min(last)

    # ---- what there is to see -----------------------------------------------------------------------------

    def panel(self) -> Panel:
        override = self.endpoint.override
        now = f"endpoint: {f'{said(override)} to all' if override else 'as the address says'}"
        if self.storming:
            rows = tuple(self._storm_row(storm) for storm in self.storms)
            return Panel(now, (12, 0, 13), rows, note="retries as they come, counted", lines=2)
        rows, seen = [], Counter()
        for request in list(self.endpoint.requests):
            seen[request.task] += 1
            rows.append(_request_row(request, seen[request.task]))
        note = f"{len(rows)} requests"
        return Panel(now, (5, 8, 11, 0), tuple(rows), note=note, lines=2, log=True)

    def _storm_row(self, storm: Storm) -> tuple[Words, Points, str]:
        places = Counter(int(at / storm.seconds * PLACES) for at in self.retries(storm))
        marks = tuple((place / PLACES, str(count)) for place, count in sorted(places.items()))
        took = self.seconds_of_last(storm)
        last = f"{LAST_RETRY} in {took:.1f} s" if took < math.inf else ""
        return Words(storm.label, STRONG), Points(marks, 1.0, WAITING), last

    def lay_out(self) -> None:
        """For each task the requests that the endpoint saw, as a file in the scene's output folder."""
        for task in self.scene.tasks:
            requests = [
                {"at": round(each.at, 3), "answer": said(each.answer), "body": self.scene.json(each.body)}
                for each in self.endpoint.requests_for(task.number)
            ]
            if requests:
                path = self.scene.outputs / f"{task.id}.json"
                path.write_text(json.dumps({"id": task.id, "requests": requests}, indent=2) + "\n")


def _request_row(request: Request, nth: int) -> tuple[Words, str, str, Strip]:
    look = DONE if request.answer == "200" else GONE
    when = Words(f"{request.at:5.1f}", FAINT)
    return when, f"task {request.task}", f"request {nth}", Strip(((f" {said(request.answer)} ", look),))


def said(answer: str) -> str:
    """An answer of the endpoint in a word or two."""
    return "no answer" if answer == NEVER else answer
