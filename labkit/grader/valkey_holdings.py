"""What a Valkey or Redis holds of a scene: its keys, what is in them, and which of its tasks lie where."""

from labkit.brokers import Broker, InfrastructureError
from labkit.grader import commands
from labkit.grader.history import History
from labkit.grader.holdings import DEAD_LETTERS, Holdings
from labkit.grader.resp_proxy import RespLane
from labkit.grader.tasks import Tasks

CENSUS = """
local read = {
    list = function(key) return redis.call('LRANGE', key, 0, -1) end,
    string = function(key) return {redis.call('GETRANGE', key, 0, 1048575)} end,
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


class ValkeyHoldings(Holdings):
    """The scene has a user of its own, who may touch only its keys.

    own_login, database: of a broker that was given by URL, where no user can be added.
    """

    def __init__(
        self,
        broker: Broker,
        tasks: Tasks,
        history: History,
        user: str,
        own_login: tuple[str, str] | None = None,
        database: int = 0,
    ) -> None:
        super().__init__(broker, tasks, history)
        self.login = broker.add_user(user, tasks.queue)
        self._own_login, self._database = own_login, database
        self._connection = broker.connect()

    def lane(self, name: str) -> RespLane:
        login = (self.login.user, self.login.password) if self.login else self._own_login
        refused = frozenset() if self.login else frozenset(commands.ADMINISTRATION)
        address = lambda: (self.broker.host, self.broker.port)  # noqa: E731  (asked anew after a restart)
        return RespLane(name, self.history, self.tasks, address, login, refused)

    def environment(self, lane: RespLane) -> dict[str, str]:
        return {"VALKEY_URL": f"redis://127.0.0.1:{lane.port}/{self._database}"}

    def connect_again(self) -> None:
        self._connection.close()
        self._connection = self.broker.connect()

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

    def ping(self) -> None:
        with self.broker.connect() as connection:
            connection.ask("PING")

    def push(self, body: bytes) -> None:
        self.ask("LPUSH", self.tasks.queue, body)

    def depth(self) -> int:
        return self.ask("LLEN", self.tasks.queue)

    def clear(self) -> None:
        self.broker.clear(self.tasks.queue)

    def keys(self) -> list[str]:
        return sorted(self._census(f"{self.tasks.queue}*"))

    def contents(self, key: str) -> list[bytes]:
        """Everything that a key holds, whatever its type; a list from its left end on."""
        return self._census(key).get(key, [])

    def _census(self, pattern: str) -> dict[str, list]:
        """All keys that match, with what they hold, at one moment: between two commands a task could move."""
        answer = self.ask("EVAL", CENSUS, 0, pattern)
        return {key.decode("utf-8", "replace"): values for key, values in answer}

    def where_and_dead(self) -> tuple[dict[int, list[str]], set[int]]:
        """Both at one moment: a task that circulates is not seen twice, nor missed."""
        held: dict[int, list[str]] = {}
        dead: set[int] = set()
        for key, values in sorted(self._census(f"{self.tasks.queue}*").items()):
            for number in [number for value in values for number in self.tasks.numbers_in(value)]:
                if key.endswith(DEAD_LETTERS):
                    dead.add(number)
                else:
                    held.setdefault(number, []).append(self.tasks.called_by_students(key))
        return held, dead
