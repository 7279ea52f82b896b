"""What the history of a scene tells of waiting: how long tasks waited, and how often workers looked for nothing."""

import math

from labkit.demo.moment import is_in_vain
from labkit.grader.history import REPLY, SENT, STARTED, WORK_STARTED, History


def looks_in_vain(history: History, name: str) -> list[float]:
    """When the takes of the process that has this name now were answered with nothing, in seconds of the scene."""
    started = max((event.at for event in history.events(STARTED, name)), default=0.0)
    return [event.at for event in history.events(REPLY, name) if event.at > started and is_in_vain(event)]


def sent_at(history: History, task: int) -> float:
    """When a task was sent: the moment before its push reached the broker; not a number for one that was not."""
    return next((event.at for event in history.events(SENT) if task in event.tasks), math.nan)


def seconds_to_take(history: History, task: int) -> float:
    """From the push of a task until it was handed to a worker; not a number while it was not."""
    taken = (event.at for event in history.events(REPLY) if task in event.tasks)
    return next(taken, math.nan) - sent_at(history, task)


def seconds_to_start(history: History, task: int) -> float:
    """From the push of a task until the work on it began; not a number while it did not."""
    begun = (event.at for event in history.events(WORK_STARTED) if task in event.tasks)
    return next(begun, math.nan) - sent_at(history, task)
