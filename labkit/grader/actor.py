"""A process on the scene: what a check starts, watches and kills."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from labkit.grader import commands
from labkit.grader.history import COMMAND, REPLY, WORK_FINISHED, WORK_STARTED
from labkit.grader.lane import Lane
from labkit.grader.processes import Process

if TYPE_CHECKING:
    from labkit.grader.scene import Scene

# How long anything may take that needs no waiting; generous, for a machine that is busy.
PATIENCE_SECONDS = 10.0


class Actor:
    """A process with its lane to the broker. `token` is what its work module shows to the ledger."""

    process: Process

    def __init__(self, scene: "Scene", name: str, lane: Lane, token: str) -> None:
        self.scene, self.name, self.lane, self.token = scene, name, lane, token
        self.began = time.monotonic()
        self.services: list = []  # its lanes to what there is beside the broker

    def kill(self, detail: str = "") -> None:
        """SIGKILL, and wait until it is dead. From this moment nothing that it says is passed on or believed."""
        self.scene.loop.call(self._cut())  # first: nothing that it did counts as done after its death
        self.scene.run.ledger.dismiss(self.token)
        self.process.kill(detail)
        self.process.exited.wait(PATIENCE_SECONDS)

    async def _cut(self) -> None:
        for lane in (self.lane, *self.services):
            lane.cut()

    def lose_connections(self) -> None:
        """Its connections to the broker die, as when a network fails; it may connect again."""
        self.scene.loop.loop.call_soon_threadsafe(self.lane.hang_up)

    def lose_broker(self) -> None:
        """Its connections die, and nobody answers any more, as when the broker is gone."""
        self.scene.loop.call(self.lane.close())

    def terminate(self) -> None:
        self.process.terminate()

    def interrupt(self) -> None:
        """SIGINT, as Ctrl-C sends it."""
        self.process.interrupt()

    def pause(self) -> None:
        self.process.pause()

    def resume(self) -> None:
        self.process.resume()

    @property
    def running(self) -> bool:
        return self.process.running

    def wait_exit(self, within: float = PATIENCE_SECONDS, *, question: str = "") -> int:
        """Wait until the process has ended; return its exit status."""
        ended = f"{self.name} was to end"
        self.scene.wait_until(lambda: not self.process.running, ended, within=within, question=question)
        return self.process.status

    def waits_for_a_task(self) -> bool:
        """Whether the process stands in a blocking command just now."""
        return any(command.blocking for command in list(self.lane.in_flight.values()))

    def has_waited_for(self, seconds: float) -> Callable[[], bool]:
        """A condition to wait for: the process stands in a blocking command, and has for so long.

        Unlike silence it does not come true of a process that only stands in line for a processor.
        """

        def has_waited() -> bool:
            waits = {number for number, command in list(self.lane.in_flight.items()) if command.blocking}
            long_ago = self.scene.history.now() - seconds
            sent = self.scene.history.events(COMMAND, self.name) if waits else []
            return any(event.number in waits and event.at < long_ago for event in sent)

        return has_waited

    def has_looked(self) -> bool:
        """Whether it has sent a take."""
        return any(event.verb in commands.TAKING for event in self.scene.history.events(COMMAND, self.name))

    def looked_within(self, seconds: float) -> bool:
        """Whether it has sent a take in the last seconds."""
        takes = [e.at for e in self.scene.history.events(COMMAND, self.name) if e.verb in commands.TAKING]
        return self.scene.history.now() - max(takes, default=-seconds) < seconds

    def replies(self) -> int:
        """How many of its commands have been answered."""
        return len(self.scene.history.events(REPLY, self.name))

    def has_been_silent_for(self, seconds: float) -> Callable[[], bool]:
        """A condition to wait for: it has sent something, and for so long nothing more."""
        events = self.scene.history.events
        return lambda: (
            self.scene.history.now() - max((e.at for e in events(COMMAND, self.name)), default=1e9) > seconds
        )

    def commands_sent(self) -> int:
        return len(self.scene.history.events(COMMAND, self.name))

    def looks_in_vain(self, since: float) -> bool:
        """Whether it has looked for tasks since this time and found none; a consumer is one who looks all the time."""
        return self.empty_takes(since) >= 2 or self._consumes()

    def _consumes(self) -> bool:
        return any(command.verb in commands.CONSUMING for command in list(self.lane.in_flight.values()))

    def empty_takes(self, since: float = 0) -> int:
        """How many takes in a row, up to now and since this time, have brought this process nothing."""
        count = 0
        for event in reversed(self.scene.history.events(who=self.name)):
            if event.what in (WORK_STARTED, WORK_FINISHED) or event.at < since:
                break
            if event.what != REPLY or event.verb not in commands.TAKING or event.detail:
                continue  # an error is no look
            if not event.blocking and event.args[:1] != (self.scene.run.lab.queue,):
                continue  # a look into some other list, or a script that may have done anything
            if not event.empty:
                break
            count += 1
        return count
