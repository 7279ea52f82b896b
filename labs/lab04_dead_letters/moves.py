"""The moves of a task from one key to another; each is one step for the broker, so a crash finds it in one of them.

A worker may only move what is still in its own list: one that was thought dead, and whose task was taken away, finds
nothing there, and whatever it has to say about that task changes nothing.
"""

import json

from keys import BURIED, DEAD, DELAYED, DONE, PRELUDE, QUEUE, RETRIED, processing


def acknowledge(broker, name, body):
    """The task is done: remove it from the list of worker `name`, and count it. False if it was no longer there."""
    raise NotImplementedError(
        "TODO 6: remove the task from the worker's own list and count it, in one step, if it is still there"
    )


def retry_later(broker, name, body, task, wait):
    """Move the task from the worker's list to DELAYED, due in `wait` seconds. False if it was no longer there."""
    raise NotImplementedError(
        "TODO 10: move the task from the worker's own list to DELAYED, due in so many seconds, in "
        "one step, if it is still there"
    )


def bury(broker, name, body, letter):
    """Move the task from the worker's list to DEAD, as a dead letter. False if it was no longer there."""
    raise NotImplementedError(
        "TODO 7: move the task from the worker's own list to DEAD as a letter, and count it, in one "
        "step, if it is still there"
    )


def promote(broker):
    """Move what is due, by the broker's clock, from DELAYED to the left end of the queue."""
    raise NotImplementedError(
        "TODO 3: move what is due by the broker's clock from DELAYED to the left end of the queue, "
        "in one step"
    )


def replay(broker, letter, body):
    """Move a dead letter, given as it is in DEAD, back to the queue as this body. False if it was no longer there."""
    raise NotImplementedError(
        "TODO 12: move the dead letter out of DEAD and its task into the queue, in one step, if it "
        "is still there"
    )
