"""A worker that was paused, lost its lease, and comes back: what it still does, and that it changes nothing."""

from labkit.demo.acts.dead_letters import DeadLetters
from labkit.demo.acts.webhook_queue import WebhookQueue
from labkit.demo.sight import PATIENCE, Sight
from labkit.grader.actor import Actor
from labkit.grader.commands import TAKING
from labkit.grader.history import COMMAND, WORK_FINISHED
from labkit.grader.scene import Scene


class Latecomer:
    """task: the one that it had in hand, 0 before anybody was paused."""

    def __init__(self, scene: Scene, queue: WebhookQueue, letters: DeadLetters) -> None:
        self.scene, self.queue, self.letters = scene, queue, letters
        self.task = 0
        self._worker: Actor | None = None

    def pause(self, worker: Actor, task: int) -> None:
        """SIGSTOP this worker, with this task in hand, and wait until it stands still."""
        self.task, self._worker = task, worker
        worker.pause()

    def resume(self) -> None:
        """SIGCONT: it goes on where it stood."""
        self._worker.resume()

    def sends_again(self) -> Sight:
        """It delivers what was delivered: the endpoint has both requests."""
        name = self._worker.name

        def there() -> str:
            requests = self.scene.endpoint.requests_for(self.task)
            if self._finished() is None or len({request.key for request in requests}) != 1:
                return ""
            return f"{name} sends task {self.task}: request {len(requests)}, with the key of the first"

        return Sight(f"{name} goes on, and sends task {self.task} once more", there, PATIENCE)

    def is_fenced_off(self) -> Sight:
        """It has gone on to its next take: its acknowledgement has changed nothing."""
        name = self._worker.name

        def there() -> str:
            finished, commands = self._finished(), self.scene.history.events(COMMAND, name)
            if finished is None or not any(e.at > finished and e.verb in TAKING - {"EVAL"} for e in commands):
                return ""
            delivered, counted = len(self.scene.history.tasks(WORK_FINISHED)), self.queue.counter("done")
            if counted != delivered or self.task in self.scene.where() or self.task in self.letters.now():
                said = f"{self.queue.name}:count:done says {counted}"
                self.scene.fail(f"{name} came too late: {delivered} tasks are delivered, and {said}.")
            return f"{name} may not acknowledge it any more: still {counted} are counted as done"

        return Sight("the late acknowledgement changes nothing", there, PATIENCE)

    def _finished(self) -> float | None:
        """When it had done its work after all; None before."""
        ends = [
            e.at for e in self.scene.history.events(WORK_FINISHED, self._worker.name) if self.task in e.tasks
        ]
        return ends[0] if ends else None
