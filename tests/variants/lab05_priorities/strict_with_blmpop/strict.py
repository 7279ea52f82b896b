"""Policy 1, strict: a list for each level. A class; taken with BLMPOP, finished with one pipeline."""

import json

from levels import BLOCK_SECONDS, DEAD, LEVELS, list_of

__all__ = ["enqueue", "finish", "take", "waiting"]


class Lists:
    """The three lists, by the level that each is for."""

    def __init__(self):
        self.keys = dict(zip(LEVELS, map(list_of, LEVELS), strict=True))

    def enqueue(self, broker, level, body):
        with broker.pipeline(transaction=True) as together:
            together.lpush(self.keys[level], body)
            together.execute()

    def take(self, broker, name):
        popped = broker.blmpop(BLOCK_SECONDS, len(self.keys), *self.keys.values(), direction="RIGHT", count=1)
        if popped:
            _, (body,) = popped
            return body
        return None

    def finish(self, broker, name, body, dead_letter=None):
        if dead_letter:
            broker.lpush(DEAD, json.dumps(json.loads(dead_letter) | {"by": name}))

    def waiting(self, broker):
        with broker.pipeline(transaction=False) as looks:
            for key in self.keys.values():
                looks.llen(key)
            return dict(zip(self.keys, looks.execute(), strict=True))


lists = Lists()
enqueue, take, finish, waiting = lists.enqueue, lists.take, lists.finish, lists.waiting
