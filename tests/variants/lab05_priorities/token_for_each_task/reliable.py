"""Policy 4, reliable: a token for each task; when no task is left, the tokens that are left mean nothing, and go."""

from levels import BLOCK_SECONDS, DEAD, LEVELS, WAKE, list_of, processing
from strict import waiting

__all__ = ["enqueue", "finish", "take", "waiting"]


def enqueue(broker, level, body):
    with broker.pipeline(transaction=True) as together:
        together.lpush(list_of(level), body)
        together.rpush(WAKE, level)
        together.execute()


def take(broker, name):
    take_or_tidy = """
        for level = 3, #KEYS do
            local body = redis.call('RPOPLPUSH', KEYS[level], KEYS[2])
            if body then return body end
        end
        redis.call('DEL', KEYS[1])
        return false
    """
    keys = [WAKE, processing(name), *map(list_of, LEVELS)]
    body = broker.eval(take_or_tidy, len(keys), *keys)
    if body is None and broker.blmpop(BLOCK_SECONDS, 1, WAKE, direction="LEFT"):
        body = broker.eval(take_or_tidy, len(keys), *keys)
    return body


def finish(broker, name, body, dead_letter=None):
    def both(together):
        ours = body in together.lrange(processing(name), 0, -1)
        together.multi()
        if ours:
            together.lrem(processing(name), 1, body)
        if ours and dead_letter:
            together.lpush(DEAD, dead_letter)

    broker.transaction(both, processing(name))
