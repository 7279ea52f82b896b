"""Why a broker does not answer: what the submission did to it is told from trouble that is nobody's."""

import pytest

from labkit.brokers import EmbeddedValkey
from labkit.grader.blame import MANY_KEYS, MEMORY_BYTES, Blame, bound


@pytest.fixture
def broker():
    with EmbeddedValkey(appendonly="off") as started:
        bound(started)
        yield started


def test_a_calm_broker_blames_nobody(broker):
    assert Blame(broker).find() == ""


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (("EVAL", f"for i = 1, {MANY_KEYS} do redis.call('SET', i, i) end", 0), f"{MANY_KEYS:,} keys"),
        (("SETRANGE", "much", int(0.95 * MEMORY_BYTES), "x"), "filled its memory"),
    ],
    ids=["many keys", "one huge key"],
)
def test_what_was_written_is_found_and_stays_found(broker, command, told):
    blame = Blame(broker)
    with broker.connect() as connection:
        connection.ask(*command)
        assert told in blame.find()
        connection.ask("FLUSHALL")  # a private server
    assert told in blame.find()


def test_a_broker_that_has_died_blames_nobody(broker):
    broker.kill()
    assert Blame(broker).find() == ""
