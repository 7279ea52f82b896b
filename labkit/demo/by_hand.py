"""The presenter's keys that lay hands on the scene, outside the script: a kill, a pause, a broker's death, workers.

The script goes on all the same, and what it then does not see it says; a jump to any step sets the scene anew.
"""

from labkit.demo.act import Act
from labkit.demo.presenter import BROKER, FEWER, KILL, MORE, PAUSE
from labkit.demo.stage import NOTE
from labkit.demo.watch import Watch
from labkit.grader.actor import Actor
from labkit.grader.failure import CheckFailed, InfrastructureError

MOST = 4  # workers: as many as a small screen has rows for
NAMES = ("eve", "frank", "heidi", "ivan")  # none that a script uses: it would have two workers of one name


class ByHand:
    """Called with a key, it does what the key says, and tells the room in a line."""

    def __init__(self, act: Act, watch: Watch) -> None:
        self._act, self._watch = act, watch
        self._busy = False
        self._does = {
            KILL: self._kill,
            PAUSE: self._pause,
            BROKER: self._restart_broker,
            MORE: self._add,
            FEWER: self._remove,
        }

    def __call__(self, key: str) -> None:
        if (
            self._busy or self._watch.hurries
        ):  # with a broker that starts, or on the way to a step: nobody sees it
            return
        self._busy = True
        try:
            words = self._does[key]()
        except (CheckFailed, InfrastructureError) as trouble:
            words = str(trouble).partition("\n")[0]
        finally:
            self._busy = False
        self._watch.line(NOTE, f"(by hand: {words})")

    def _kill(self) -> str:
        name = self._one() or next(iter(self._living()), "")
        if not name:
            return "there is no worker to kill"
        self._living()[name].kill("by hand")
        return f"{name} was killed with SIGKILL"

    def _pause(self) -> str:
        if paused := [name for name, actor in self._living().items() if actor.process.paused]:
            self._living()[paused[-1]].resume()
            return f"{paused[-1]} goes on (SIGCONT)"
        name = self._one()
        if not name:
            return "there is no worker to pause"
        self._living()[name].pause()
        return f"{name} is paused (SIGSTOP); p once more, and it goes on"

    def _restart_broker(self) -> str:
        if not self._act.owns_broker:
            return "the broker was given by URL, and is not ours to kill"
        if self._act.scene.holdings.broker_down or not self._act.scene.holdings.is_ready():
            return "the broker is down just now"
        self._act.do_kill_broker()
        self._watch.line(NOTE, "(by hand: the broker was killed with SIGKILL)")
        self._act.do_restart_broker()
        return "the broker was started again, on what it had written down"

    def _add(self) -> str:
        if not self._act.scene.holdings.is_ready():
            return "the broker is not there yet"
        if len(self._living()) >= MOST:
            return f"{MOST} workers are enough for this stage"
        name = next(name for name in NAMES if name not in self._living())
        self._act.do_worker(name)
        return f"{name} was started"

    def _remove(self) -> str:
        living = self._awake()
        if not living:
            return "there is no worker to stop"
        self._living()[living[-1]].terminate()
        return f"{living[-1]} was asked to stop (SIGTERM), and finishes what it has in hand"

    def _living(self) -> dict[str, Actor]:
        return {name: actor for name, actor in self._act.workers.items() if actor.running}

    def _one(self) -> str:
        """A worker to lay hands on: the first that has a task in hand, or the first of all; none that stands still."""
        at_work, awake = self._act.scene.at_work(), self._awake()
        return next((name for name in awake if name in at_work), next(iter(awake), ""))

    def _awake(self) -> list[str]:
        return [name for name, actor in self._living().items() if not actor.process.paused]
