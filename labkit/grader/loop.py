"""An event loop in a thread of its own, shared by all proxies and ledgers of a run."""

import asyncio
import threading
from collections.abc import Coroutine
from typing import TypeVar

T = TypeVar("T")


LOOK_EVERY_SECONDS = 0.05
UNNOTICED_SECONDS = 0.005  # later than this counts as late


class Loop:
    """late: for how many seconds in all it has not come to what was due, because the machine had too much to do."""

    def __init__(self) -> None:
        self.late = 0.0
        self.loop = asyncio.new_event_loop()
        self._due = self.loop.time() + LOOK_EVERY_SECONDS
        self.loop.call_at(self._due, self._look)
        self._thread = threading.Thread(target=self.loop.run_forever, name="loop", daemon=True)
        self._thread.start()

    def _look(self) -> None:
        behind = self.loop.time() - self._due
        if behind > UNNOTICED_SECONDS:
            self.late += behind
        self._due = self.loop.time() + LOOK_EVERY_SECONDS
        self.loop.call_at(self._due, self._look)

    def call(self, coroutine: Coroutine[None, None, T]) -> T:
        """Run a coroutine there and return its result here. Not to be called from the loop's own thread."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result()

    def close(self) -> None:
        self.call(self._cancel_all())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    async def _cancel_all(self) -> None:
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
