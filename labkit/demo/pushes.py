"""Takes note of the tasks that a script of the submission pushes, whoever asked it to: a second terminal, too."""

from labkit.grader.actor import Actor
from labkit.grader.proxy import BEFORE, Command, Lane
from labkit.grader.scene import Scene
from labkit.grader.tasks import id_in

PUSHING = {"LPUSH", "RPUSH", "LPUSHX", "RPUSHX"}


class Pushes:
    """Lies in wait for a producer: each new task on its wire is sent from the moment before it reaches the broker.

    Looking into the queue afterward would miss what a worker takes at once.
    """

    def __init__(self, scene: Scene) -> None:
        self.scene = scene

    def arm(self, actor: Actor) -> None:
        """Called by the scene before the producer's process is started."""
        actor.lane.gates.append(self._note)

    async def _note(self, _lane: Lane, command: Command, when: str) -> None:
        if when != BEFORE:
            return
        known = {task.body for task in self.scene.tasks}
        for place, body in enumerate(command.args):
            is_task = id_in(body) or (command.verb in PUSHING and place > 0)
            if is_task and body not in known:
                self.scene.adopt(body)
