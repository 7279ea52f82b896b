"""What a broker holds of a scene: which of its tasks lie where. The grader's own look, behind the proxy's back.

Each kind of broker has a subclass: valkey_holdings.py and rabbitmq_holdings.py.
"""

import abc
import re

from labkit.brokers import Broker, InfrastructureError
from labkit.grader.history import History
from labkit.grader.lane import Lane
from labkit.grader.tasks import Tasks

DEAD_LETTERS = (":rejected", ":dead", ".dead")  # how the keys or queues end in which a task is set aside
DELAYED = re.compile(
    r":delayed$|\.retry(\.\d+)?$"
)  # how the key ends in which a task waits until it is tried again


class Holdings(abc.ABC):
    """Used by one thread at a time."""

    def __init__(self, broker: Broker, tasks: Tasks, history: History) -> None:
        self.broker, self.tasks, self.history = broker, tasks, history
        self.broker_down = False  # by a fault of ours

    # ---- the way of the scene's processes to the broker -------------------------------------------------------

    @abc.abstractmethod
    def lane(self, name: str) -> Lane:
        """A lane for a process of this name; not open yet."""

    @abc.abstractmethod
    def environment(self, lane: Lane) -> dict[str, str]:
        """The variable that tells the process where its broker is: the lane."""

    # ---- the grader's own ---------------------------------------------------------------------------------------

    def is_ready(self) -> bool:
        """Whether the broker can be asked already.

        Raises:
            InfrastructureError: it will never be.
        """
        return True

    def seconds_unready(self, since: float) -> float:
        """How long the broker could not be asked yet, since this time of the monotonic clock."""
        return 0.0

    @abc.abstractmethod
    def push(self, body: bytes) -> None:
        """Put a body into the queue as a producer would."""

    @abc.abstractmethod
    def depth(self) -> int:
        """How many tasks wait in the queue."""

    @abc.abstractmethod
    def contents(self, key: str) -> list[bytes]:
        """Everything that a key, or a queue, holds."""

    @abc.abstractmethod
    def keys(self) -> list[str]:
        """The keys, or the queues, of the scene."""

    @abc.abstractmethod
    def where_and_dead(self) -> tuple[dict[int, list[str]], set[int]]:
        """For each task the keys that hold it, and the tasks in the dead-letter lists, at one moment."""

    def where(self) -> dict[int, list[str]]:
        """For each task the keys that hold it, dead-letter lists left out."""
        return self.where_and_dead()[0]

    def dead(self) -> set[int]:
        """The tasks in the dead-letter lists."""
        return self.where_and_dead()[1]

    def holds_any(self) -> bool:
        """Whether a task lies anywhere but in the dead letters; asked often while workers are at work."""
        return bool(self.where())

    @abc.abstractmethod
    def ping(self) -> None:
        """Ask for a sign of life, on a new connection; OSError if there is none."""

    @abc.abstractmethod
    def connect_again(self) -> None:
        """After a restart of the broker."""

    @abc.abstractmethod
    def clear(self) -> None:
        """Take everything of the scene off the broker."""

    @abc.abstractmethod
    def close(self) -> None: ...

    def expect_alive(self) -> None:
        """Raise InfrastructureError if the broker has died of something that is not our doing."""
        if self.broker_down:
            return
        try:
            self.ping()
        except OSError as error:
            raise InfrastructureError(f"the broker has died ({error})") from None
