"""All waiting of a demonstration: meanwhile the moment is shown, several times a second, and signals are heard."""

import contextlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from labkit.demo.presenter import Presenter
from labkit.demo.sight import PATIENCE
from labkit.demo.signals import Signals
from labkit.demo.stage import NOT_SEEN, Stage
from labkit.demo.view import View
from labkit.grader.failure import InfrastructureError
from labkit.grader.scene import Scene
from labkit.resp import ReplyError

FRAME_SECONDS = 0.1
READING = 20.0  # characters a second: a room reads, and somebody speaks
HURRY = 20.0  # how many times as fast the steps are played before the one that was asked for
UNTIL_SOMEBODY_COMES = 24 * 3600.0  # seconds


class Watch:
    """Looks at the scene for the room. `view` makes what is shown; it is set before anything is waited for.

    Whatever waits raises Stopped, Quit or Jump when the demonstration is to end, or to go on elsewhere. A broker that
    is still starting is not waited for besides: the room is told what happens meanwhile.
    """

    view: Callable[[], View]

    def __init__(
        self, scene: Scene, stage: Stage, signals: Signals, speed: float, presenter: Presenter
    ) -> None:
        """speed: 2 gives the room half the time to read; what must be seen is waited for all the same."""
        self.scene, self.stage, self.presenter = scene, stage, presenter
        self.hurries = False  # whether it is on its way to a step that was asked for: then nobody reads
        self._speed, self._signals = speed, signals
        self._next_frame = 0.0

    @property
    def speed(self) -> float:
        """How many times as fast as usual it is played just now."""
        return self._speed * (HURRY if self.hurries else 1)

    def until(self, condition: Callable[[], object], within: float = PATIENCE) -> object:
        """Wait until the condition is true and return its value; None after `within` seconds."""
        return self.scene.history.wait_until(lambda: self.look() or condition(), within)

    def expect(
        self, condition: Callable[[], object], expected: str, within: float = PATIENCE, task: int = 0
    ) -> object:
        """Wait until the condition is true and return its value; CheckFailed, with the story of `task`, if it is not.

        A script that dies, or whose TODO is not written, ends the wait at once.
        """
        values: list[object] = []

        def there() -> object:
            self.look()
            values[:] = values or filter(None, [condition()])
            return values

        self.scene.wait_until(there, expected, within=within, task=task)
        return values[0]

    def still(self, condition: Callable[[], object], within: float) -> object:
        """Wait as `until` does, and show nothing meanwhile: what is measured just now must not wait for a picture."""
        self._signals.check()
        return self.scene.history.wait_until(condition, within)

    def meanwhile(self, call: Callable[[], object], within: float = PATIENCE) -> None:
        """Make a call that takes seconds, in a thread: meanwhile the room sees what happens. Raises what it raises."""
        pool = ThreadPoolExecutor(1, "meanwhile")
        made = pool.submit(call)
        pool.shutdown(wait=False)
        if not self.until(made.done, within):
            raise InfrastructureError(f"the broker did not answer within {within:g} s")
        made.result()

    def pause(self, seconds: float) -> None:
        """Give the room time; nothing else is awaited by the clock. Not scaled by speed."""
        self.until(lambda: False, seconds)

    def cue(self, read_until: float) -> None:
        """Wait for the presenter to go on; where it plays by itself, until the room has read: to that moment."""
        if self.presenter.auto or self.hurries:
            self.read(read_until)
            return
        self.presenter.tell("")
        self.until(self.presenter.goes_on, UNTIL_SOMEBODY_COMES)
        self.presenter.tell("…")

    def read(self, moment: float) -> None:
        """Give the room time to read, until this moment of the clock, or until the presenter goes on."""
        if not self.hurries:
            self.until(self.presenter.goes_on, moment - time.monotonic())

    def look(self) -> None:
        """Show the moment, if it is time for that, and hear what signals and keys ask for."""
        self._signals.check()
        self.presenter.look()
        if time.monotonic() >= self._next_frame:
            self.show()

    def show(self) -> None:
        """Show the moment now; one whose panels the broker does not answer stays as it was."""
        with contextlib.suppress(ReplyError):  # a key may hold what the code on stage has put there
            try:
                self.stage.show(self.view())
            except OSError:
                if not self.scene.holdings.broker_down:
                    raise
        self._next_frame = time.monotonic() + FRAME_SECONDS

    def line(self, kind: str, text: str) -> float:
        """Show a line; return the seconds that it takes to read it, at the speed of the demonstration."""
        if not self.hurries or kind == NOT_SEEN:
            self.stage.line(kind, text)
        return len(text) / READING / self.speed
