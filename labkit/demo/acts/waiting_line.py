"""The line of those who wait at the broker in a blocking command, and whom each task woke."""

from collections.abc import Collection
from dataclasses import dataclass

from labkit.demo.view import FAINT, IN_HAND, STRONG, Panel, Strip, Words
from labkit.grader.history import BROKER_KILLED, COMMAND, EXITED, KILLED, REPLY, SENT, STARTED, Event
from labkit.grader.scene import Scene

SHOWN = 6


@dataclass(frozen=True)
class Woken:
    """A task that was handed out. line: who waited when it was pushed, whoever had waited longest first."""

    task: int
    who: str
    line: tuple[str, ...]

    @property
    def is_first(self) -> bool:
        return self.line[:1] == (self.who,)


class WaitingLine:
    """Read from the history: a worker stands in line from a blocking command on, until that is answered."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.shown = 0  # the number of the first task that the panel tells of; 0: it is not shown

    def now(self, names: Collection[str]) -> tuple[str, ...]:
        """Who of these waits now, whoever has waited longest first."""
        return self._line(self.scene.history.events(), names)

    def woken(self, task: int, names: Collection[str]) -> Woken | None:
        """Whom the task woke; None while nobody was, or when it was handed out more than once."""
        events = self.scene.history.events()
        handed = [event for event in events if event.what == REPLY and task in event.tasks and event.blocking]
        sent = next((place for place, event in enumerate(events) if _sends(event, task)), None)
        if len(handed) != 1 or sent is None:
            return None
        return Woken(task, handed[0].who, self._line(events[:sent], names))

    @staticmethod
    def _line(events: list[Event], names: Collection[str]) -> tuple[str, ...]:
        since: dict[str, float] = {}
        for event in events:
            if event.what == BROKER_KILLED:
                since.clear()
            elif event.who in names and event.what == COMMAND and event.blocking:
                since[event.who] = event.at
            elif event.what in (REPLY, STARTED, EXITED, KILLED):
                since.pop(event.who, None)
        return tuple(sorted(since, key=since.__getitem__))

    def panel(self, names: Collection[str]) -> Panel:
        """Who stands in line now, and whom the last tasks woke."""
        line = self.now(names)
        tasks = [task.number for task in self.scene.tasks if task.number >= self.shown]
        woken = [woken for task in tasks if (woken := self.woken(task, names))][-SHOWN:]
        rows = (
            ("in line", Words(", ".join(line) or "nobody", STRONG if line else FAINT)),
            ("woken", Strip(tuple((f"{each.task} {each.who}", IN_HAND) for each in woken))),
        )
        return Panel("at the broker: who has waited longest is first", (8, 0), rows, lines=3)


def _sends(event: Event, task: int) -> bool:
    return event.what == SENT and task in event.tasks
