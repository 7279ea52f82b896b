"""The checks of lab 3. They play the submission's own scripts against a real broker; see labs/lab03_reliable."""

import pytest


@pytest.mark.check(points=4)
def test_tasks_are_done(scene):
    """Every task is done once, oldest first."""
    scene.push(6)
    scene.start("worker.py", "alice")
    scene.wait_done()
    scene.expect(scene.done_order() == [1, 2, 3, 4, 5, 6], f"done in the order {scene.done_order()}")


@pytest.mark.check(points=6, after="tasks_are_done")
def test_a_killed_worker_loses_nothing(stage):
    """A worker killed at any point loses nothing."""

    def first(scene):
        scene.settings = {"HEARTBEAT_SECONDS": 0.5, "BLOCK_SECONDS": 0.2}
        scene.push(1, b"rubbish", 1)
        scene.start("worker.py", "alice")

    def calm(scene):
        scene.wait_done()
        alice = scene.actors[0]
        scene.wait_until(lambda: alice.empty_takes() >= 2, "idle")

    def then(scene):
        scene.start("worker.py", "bob")
        scene.wait_done(quiet=3)

    stage.at_every_point("alice", first, then, lambda alice, point: alice.kill(point), calm=calm)
