"""All waiting of a demonstration: meanwhile the moment is shown, several times a second, and signals are heard."""

import time
from collections.abc import Callable

from labkit.demo.sight import PATIENCE
from labkit.demo.signals import Signals
from labkit.demo.stage import Stage
from labkit.demo.view import View
from labkit.grader.scene import Scene

FRAME_SECONDS = 0.1
READING = 36.0  # characters a second: a line stays in sight for longer than the pause that it makes


class Watch:
    """Looks at the scene for the room. `view` makes what is shown; it is set before anything is waited for.

    Whatever waits raises Stopped when the demonstration is to end.
    """

    view: Callable[[], View]

    def __init__(self, scene: Scene, stage: Stage, signals: Signals, speed: float) -> None:
        """speed: 2 gives the room half the time to read; what must be seen is waited for all the same."""
        self.scene, self.stage, self.speed = scene, stage, speed
        self._signals = signals
        self._next_frame = 0.0

    def until(self, condition: Callable[[], object], within: float = PATIENCE) -> object:
        """Wait until the condition is true and return its value; None after `within` seconds."""
        return self.scene.wait(lambda: self.look() or condition(), within=within)

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
        return self.scene.wait(condition, within=within)

    def pause(self, seconds: float) -> None:
        """Give the room time; nothing else is awaited by the clock. Not scaled by speed."""
        self.until(lambda: False, seconds)

    def look(self) -> None:
        """Show the moment, if it is time for that."""
        self._signals.check()
        if time.monotonic() >= self._next_frame:
            self.show()

    def show(self) -> None:
        """Show the moment now."""
        self.stage.show(self.view())
        self._next_frame = time.monotonic() + FRAME_SECONDS

    def line(self, kind: str, text: str) -> float:
        """Show a line; return the seconds that it takes to read it, at the speed of the demonstration."""
        self.stage.line(kind, text)
        return len(text) / READING / self.speed
