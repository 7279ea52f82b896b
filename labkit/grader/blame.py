"""Why the broker does not answer, where that is the submission's own doing: else it would read as infrastructure.

A submission's user may send scripts and write keys. A script that never ends holds up everybody at the broker; keys
without measure fill its memory, or make every look at all of them last too long. A script is ended here, or the
broker with it; the memory has a bound; of many keys it is said that they are there.
"""

import threading
import time

from labkit.brokers import Broker
from labkit.resp import ReplyError

MEMORY_BYTES = 512 * 1024**2  # of a broker of ours; a lab's own tasks take a few MB
FULL = 0.9
MANY_KEYS = 100_000  # of all scenes together; a lab's own tasks take a few hundred
TRIES = 3
ENDS_WITHIN_SECONDS = 10.0  # a script that has written cannot be killed, but may end
LOOK_AGAIN_SECONDS = 0.2


def bound(broker: Broker) -> None:
    """Bound the memory of a server that is ours and has just started."""
    if _is_ours(broker):
        with broker.connect() as connection:
            connection.ask("CONFIG", "SET", "maxmemory", MEMORY_BYTES)


class Blame:
    """Of one run. Once something is found it stays: what comes later may be its consequence."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._lock = threading.Lock()
        self._found = ""

    def find(self) -> str:
        """Look at a broker that did not answer as it should; return what the submission did to it, or ""."""
        with self._lock:
            if not self._found and _is_ours(self._broker):
                self._found = self._look()
            return self._found

    def _look(self) -> str:
        for _ in range(TRIES):
            try:
                with self._broker.connect() as connection:
                    connection.ask("PING")
                    return _memory(connection.ask("INFO", "memory").decode()) or _keys(
                        connection.ask("DBSIZE")
                    )
            except ReplyError as answer:
                return self._end_script() if str(answer).startswith("BUSY") else ""
            except TimeoutError:
                continue  # a server says that it is busy only after some seconds
            except OSError:
                return ""
        return ""

    def _end_script(self) -> str:
        deadline = time.monotonic() + ENDS_WITHIN_SECONDS
        while time.monotonic() < deadline:
            try:
                with self._broker.connect() as connection:
                    connection.ask("SCRIPT", "KILL")
                return (
                    "A script that was sent to the broker did not end; it held up everybody, and was killed."
                )
            except ReplyError as answer:
                if str(answer).startswith("NOTBUSY"):
                    return "A script that was sent to the broker held up everybody there for many seconds."
                time.sleep(LOOK_AGAIN_SECONDS)  # UNKILLABLE: it has written
            except OSError:
                return ""
        self._broker.kill()
        return "A script that was sent to the broker did not end; since it had written, the broker had to be killed."


def _memory(facts: str) -> str:
    used = next(
        (int(line.split(":")[1]) for line in facts.splitlines() if line.startswith("used_memory:")), 0
    )
    if used < FULL * MEMORY_BYTES:
        return ""
    return f"What was written to the broker has filled its memory of {MEMORY_BYTES // 1024**2} MB."


def _keys(count: int) -> str:
    if count < MANY_KEYS:
        return ""
    return (
        f"What was written to the broker are {count:,} keys; whoever asks for all of them waits for too long."
    )


def _is_ours(broker: Broker) -> bool:
    return broker.can_kill and broker.protocol == "redis"
