"""Policy 4, reliable: strict order, and a task stays at the broker until it is done. Who waits is woken by a token."""

from levels import BLOCK_SECONDS, DEAD, LEVELS, WAKE, list_of, processing
from strict import waiting

__all__ = ["enqueue", "finish", "take", "waiting"]  # what every policy has


def enqueue(broker, level, body):
    """Push a task at the left end of the list of its level, and leave a token for a worker that waits."""
    push_and_wake = """
        redis.call('LPUSH', KEYS[1], ARGV[1])
        if redis.call('EXISTS', KEYS[2]) == 0 then redis.call('LPUSH', KEYS[2], 'a task') end
    """  # the token stays until somebody takes it: a push just before the wait wakes as well as one within it
    broker.eval(push_and_wake, 2, list_of(level), WAKE, body)


def take(broker, name):
    """Move the oldest task of the most urgent level into this worker's list; when there is none, wait for a token."""
    take_the_first = """
        local wake, own, body = KEYS[1], KEYS[2], false
        for level = 3, #KEYS do
            body = body or redis.call('LMOVE', KEYS[level], own, 'RIGHT', 'LEFT')
        end
        local left = redis.call('EXISTS', unpack(KEYS, 3))
        if body and left > 0 and redis.call('EXISTS', wake) == 0 then
            redis.call('LPUSH', wake, 'more')
        end
        return body
    """  # whoever takes and sees more wakes the next: one token is then enough for any number of tasks
    lists = [list_of(level) for level in LEVELS]
    body = broker.eval(take_the_first, 2 + len(lists), WAKE, processing(name), *lists)
    if body is None:
        broker.blpop(WAKE, timeout=BLOCK_SECONDS)  # then the worker comes back and looks again
    return body


def finish(broker, name, body, dead_letter=None):
    """The work on a task is over: remove it from this worker's list, and keep its dead letter, if there is one."""
    remove_and_bury = """
        local ours = redis.call('LREM', KEYS[1], 1, ARGV[1])
        if ours == 1 and ARGV[2] then redis.call('LPUSH', KEYS[2], ARGV[2]) end
    """  # one script: a crash leaves the task in one list or the other; one that is no longer ours is not buried
    letters = [dead_letter] if dead_letter else []
    broker.eval(remove_and_bury, 2, processing(name), DEAD, body, *letters)
