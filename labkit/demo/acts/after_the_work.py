"""Holds a worker that has done a task and has not yet told the broker so: after a kill there it is done twice."""

import math

from labkit.grader.actor import Actor
from labkit.grader.crash import Hold
from labkit.grader.history import WORK_FINISHED
from labkit.grader.lane import BEFORE, Command
from labkit.grader.scene import Scene

AN_HOUR = 3600  # seconds that a worker must be able to wait for an answer while it is held


class AfterTheWork(Hold):
    """Holds the first command that has to do with the task whose work is finished. task, verb: of that command.

    The worker lives on, and so does a heartbeat that it sends on another connection.
    """

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene, 0, longest=math.inf)
        self.task, self.verb = 0, ""
        self._armed = math.inf

    def arm(self, actor: Actor) -> None:
        self._armed = self.scene.history.now()
        super().arm(actor)

    def is_here(self, command: Command, when: str) -> bool:
        done = self.scene.history.events(WORK_FINISHED, self.actor.name)
        number = next((n for event in reversed(done) if event.at > self._armed for n in event.tasks), 0)
        its_list = f":processing:{self.actor.name}".encode()
        concerned = number in command.tasks or any(arg.endswith(its_list) for arg in command.args)
        if when != BEFORE or not number or not concerned:
            return False
        self.task, self.verb = number, command.verb
        return True
