"""What the broker holds of a scene: its keys, what is in them, and which of its tasks lie where."""

from labkit.brokers import Broker, InfrastructureError
from labkit.grader.tasks import Tasks

DEAD_LETTERS = (":rejected", ":dead")
CENSUS = """
local read = {
    list = function(key) return redis.call('LRANGE', key, 0, -1) end,
    string = function(key) return {redis.call('GET', key)} end,
    set = function(key) return redis.call('SMEMBERS', key) end,
    zset = function(key) return redis.call('ZRANGE', key, 0, -1) end,
    hash = function(key) return redis.call('HGETALL', key) end,
    stream = function(key) return redis.call('XRANGE', key, '-', '+') end,
}
local found, cursor = {}, '0'
repeat
    local page = redis.call('SCAN', cursor, 'MATCH', ARGV[1], 'COUNT', 1000)
    cursor = page[1]
    for _, key in ipairs(page[2]) do
        local holds = read[redis.call('TYPE', key).ok]
        found[#found + 1] = {key, holds and holds(key) or {}}
    end
until cursor == '0'
return found
"""


class Holdings:
    """The grader's own look at the broker, behind the proxy's back. Used by one thread at a time."""

    def __init__(self, broker: Broker, tasks: Tasks) -> None:
        self._broker, self._tasks = broker, tasks
        self._connection = broker.connect()
        self.broker_down = False  # by a fault of ours

    def connect_again(self) -> None:
        self._connection.close()
        self._connection = self._broker.connect()

    def close(self) -> None:
        self._connection.close()

    def ask(self, *command: str | bytes | int) -> object:
        """Send a command; keys are given whole (scene.queue + ":processing").

        Raises:
            InfrastructureError: the broker is gone, and we did not kill it.
        """
        try:
            return self._connection.ask(*command)
        except ConnectionError as error:
            if self.broker_down:
                raise
            raise InfrastructureError(f"the broker has died ({error})") from None

    def expect_alive(self) -> None:
        """Raise InfrastructureError if the broker has died of something that is not our doing."""
        if self.broker_down:
            return
        try:
            with self._broker.connect() as connection:
                connection.ask("PING")
        except OSError as error:
            raise InfrastructureError(f"the broker has died ({error})") from None

    def keys(self) -> list[str]:
        """The keys of the scene."""
        return sorted(self._census(f"{self._tasks.queue}*"))

    def contents(self, key: str) -> list[bytes]:
        """Everything that a key holds, whatever its type; a list from its left end on."""
        return self._census(key).get(key, [])

    def _census(self, pattern: str) -> dict[str, list]:
        """All keys that match, with what they hold, at one moment: between two commands a task could move."""
        answer = self.ask("EVAL", CENSUS, 0, pattern)
        return {key.decode("utf-8", "replace"): values for key, values in answer}

    def where(self) -> dict[int, list[str]]:
        """For each task the keys that hold it, dead-letter lists left out."""
        return self.where_and_dead()[0]

    def dead(self) -> set[int]:
        """The tasks in the dead-letter lists."""
        return self.where_and_dead()[1]

    def where_and_dead(self) -> tuple[dict[int, list[str]], set[int]]:
        """Both at one moment: a task that circulates is not seen twice, nor missed."""
        held: dict[int, list[str]] = {}
        dead: set[int] = set()
        for key, values in sorted(self._census(f"{self._tasks.queue}*").items()):
            for number in [number for value in values for number in self._tasks.numbers_in(value)]:
                if key.endswith(DEAD_LETTERS):
                    dead.add(number)
                else:
                    held.setdefault(number, []).append(self._tasks.called_by_students(key))
        return held, dead
