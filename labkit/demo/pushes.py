"""Takes note of the tasks that a script of the submission pushes, whoever asked it to: a second terminal, too."""

from labkit.course import RABBITMQ
from labkit.grader.actor import Actor
from labkit.grader.lane import BEFORE, Command, Lane
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
        if self.scene.run.lab.broker == RABBITMQ:
            actor.lane.names = _Adopting(self.scene)
        else:
            actor.lane.gates.append(self._note)

    async def _note(self, _lane: Lane, command: Command, when: str) -> None:
        if when != BEFORE:
            return
        for place, body in enumerate(command.args):
            is_task = id_in(body) or (command.verb in PUSHING and place > 0)
            if is_task and not self.scene.tasks.numbers_in(body):
                self.scene.adopt(body)


class _Adopting:
    """The names of a lane of AMQP, which asks for those in a body before it passes it on: there a new task gets its."""

    def __init__(self, scene: Scene) -> None:
        self.scene, self.shown = scene, scene.tasks.shown

    def numbers_in(self, value: object) -> tuple[int, ...]:
        found = self.scene.tasks.numbers_in(value)
        if not found and isinstance(value, bytes) and id_in(value):
            found = (self.scene.adopt(value).number,)
        return found
