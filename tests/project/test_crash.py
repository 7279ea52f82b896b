"""Crash points: a fault strikes at its point; one whose point does not come is given up."""

import time

import pytest

from labkit.course import lab
from labkit.grader import submission
from labkit.grader.crash import BEFORE, Fault, Point
from labkit.grader.expectations import kill
from labkit.grader.run import Run
from labkit.grader.stage import Stage

LONG = 60  # seconds; a point that nobody gives up would be waited for so long


@pytest.fixture
def scene():
    with Run(lab(3), submission.read(lab(3), lab(3).solution)) as running:
        stage = Stage(running, "crash points")
        yield stage.scene()
        stage.close()


def struck(scene, point):
    """Whether a kill at this point of alice's has come to pass, while she does one task."""
    scene.settings = {"BLOCK_SECONDS": 0.2}
    fault = scene.lie_in_wait("alice", Fault(scene, point, kill))
    scene.push(1)
    scene.start("worker.py", "alice")
    return fault.wait(LONG)


def test_a_fault_strikes_at_its_point(scene):
    assert struck(scene, Point("LREM", 1, BEFORE))
    assert not scene.actors[0].running
    assert len(scene.where()) == 1, "killed before she acknowledged"


def test_a_point_that_does_not_come_is_given_up_when_all_is_done(scene):
    began = time.monotonic()
    assert not struck(scene, Point("LREM", 99, BEFORE))
    assert time.monotonic() - began < LONG
    assert scene.actors[0].running
    assert not scene.where()


@pytest.mark.parametrize("nth, judged", [(1, True), (99, False)])
def test_without_its_fault_a_scene_in_which_all_is_done_is_not_judged(nth, judged):
    """A script that is loaded once is loaded in one scene only: the others have no such point."""
    seen = []

    def begin(scene):
        scene.settings = {"BLOCK_SECONDS": 0.2}
        scene.push(1)
        scene.start("worker.py", "alice")

    with Run(lab(3), submission.read(lab(3), lab(3).solution)) as running:
        stage = Stage(running, "crash points", replay={"point": {"verb": "LREM", "nth": nth, "when": BEFORE}})
        stage.at_every_point("alice", begin, seen.append, kill, calm=seen.append)
        stage.close()
    assert len(seen) == judged
    assert stage.facts["crash points"] == judged
