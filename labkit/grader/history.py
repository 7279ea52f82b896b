"""What happened in one scene, in order: commands and replies, work, kills and restarts.

Everything that the grader says about a submission is read from here. The idea of one history that is recorded
first and judged afterwards is Jepsen's (https://jepsen.io).
"""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from labkit.grader.failure import GivenUp

# What an event can be. A process sends a command and gets a reply; its work module starts and finishes work.
STARTED, EXITED, KILLED, STOPPED, PAUSED, RESUMED = (
    "started",
    "exited",
    "killed",
    "stopped",
    "paused",
    "resumed",
)
COMMAND, REPLY = "command", "reply"
WORK_STARTED, WORK_FINISHED, WORK_FAILED = "work started", "work finished", "work failed"
BROKER_KILLED, BROKER_RESTARTED = "broker killed", "broker restarted"
SENT = "sent"
REQUESTED = "request"  # an HTTP request came to the scene's endpoint; detail is the answer

OFTEN_SECONDS, SELDOM_SECONDS = 0.02, 0.05  # between two looks at a condition that is waited for


@dataclass(frozen=True)
class Event:
    """One thing that happened `at` seconds after the scene began, done by `who` (a process's name).

    verb and args are a command's own words, shortened; tasks are the numbers of the tasks that it names;
    empty says that a reply carried nothing (a take from an empty queue).
    """

    at: float
    who: str
    what: str
    verb: str = ""
    args: tuple[str, ...] = ()
    tasks: tuple[int, ...] = ()
    detail: str = ""
    number: int = 0  # which command of its process, to pair a reply with its command
    empty: bool = False
    blocking: bool = False
    link: int = 0  # which of its process's connections: what MULTI begins, EXEC ends on the same one


@dataclass
class History:
    """The events of a scene. Safe to use from several threads."""

    began: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self._events: list[Event] = []
        self._changed = threading.Condition()
        self.given_up = threading.Event()  # set when nobody wants to know any more how the scene ends

    def now(self) -> float:
        """Seconds since the scene began."""
        return time.monotonic() - self.began

    def add(self, who: str, what: str, **more: object) -> Event:
        with self._changed:
            event = Event(self.now(), who, what, **more)
            self._events.append(event)
            self._changed.notify_all()
        return event

    def wake(self) -> None:
        """Make those who wait look again: something outside the history changed."""
        with self._changed:
            self._changed.notify_all()

    def events(self, what: str | None = None, who: str | None = None) -> list[Event]:
        """The events so far, of one kind and of one process when these are given."""
        with self._changed:
            events = list(self._events)
        return [e for e in events if (what is None or e.what == what) and (who is None or e.who == who)]

    def tasks(self, what: str) -> set[int]:
        """The tasks to which this has happened, by number."""
        return {number for event in self.events(what) for number in event.tasks}

    def at_work(self) -> set[str]:
        """Who is at work just now."""
        working: set[str] = set()
        for event in self.events():
            if event.what == WORK_STARTED:
                working.add(event.who)
            elif event.what in (WORK_FINISHED, WORK_FAILED, EXITED, KILLED):
                working.discard(event.who)
        return working

    def __iter__(self) -> Iterator[Event]:
        return iter(self.events())

    def wait_until(self, condition: Callable[[], object], within: float) -> object:
        """Wait until `condition()` is true, looking again after events; return its value, or None in the end.

        It is looked at no more often than every 20 ms, since many scenes are played at once, and no less often than
        every 50 ms, for what changes without an event (a key that expires).

        Raises:
            GivenUp: somebody has given the scene up meanwhile.
        """
        deadline = time.monotonic() + within
        while True:
            seen = len(self._events)
            if self.given_up.is_set():
                raise GivenUp
            if value := condition():
                return value
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            time.sleep(min(left, OFTEN_SECONDS))
            with self._changed:
                if len(self._events) == seen:
                    self._changed.wait(max(0, min(left, SELDOM_SECONDS) - OFTEN_SECONDS))
