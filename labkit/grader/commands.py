"""What the commands of Valkey and Redis, and the methods of AMQP, mean to a queue: which block, take, put, remove."""

FOR_GOOD = " (no ack)"  # behind the name of an AMQP method that hands tasks out and forgets them

BLOCKING = {
    "BLPOP", "BRPOP", "BLMOVE", "BRPOPLPUSH", "BLMPOP", "BZPOPMIN", "BZPOPMAX", "BZMPOP", "WAIT", "WAITAOF",
    "basic.consume", f"basic.consume{FOR_GOOD}",
}  # fmt: skip
TAKING = {
    "LPOP", "RPOP", "BLPOP", "BRPOP", "LMPOP", "BLMPOP", "LMOVE", "BLMOVE", "RPOPLPUSH", "BRPOPLPUSH",
    "ZPOPMIN", "ZPOPMAX", "BZPOPMIN", "BZPOPMAX", "ZMPOP", "BZMPOP", "XREADGROUP", "XAUTOCLAIM", "EVAL", "EVALSHA",
    "FCALL", "basic.consume", f"basic.consume{FOR_GOOD}", "basic.get", f"basic.get{FOR_GOOD}", "basic.deliver",
    f"basic.deliver{FOR_GOOD}",
}  # fmt: skip
CONNECTION = {"HELLO", "AUTH", "CLIENT", "SELECT", "READONLY", "QUIT", "RESET", "COMMAND"}
SUBSCRIBING = {
    "SUBSCRIBE",
    "PSUBSCRIBE",
    "SSUBSCRIBE",
    "UNSUBSCRIBE",
    "PUNSUBSCRIBE",
    "SUNSUBSCRIBE",
    "MONITOR",
}
# On a server that is not ours no access-control list protects the other keys, so the proxy refuses these itself.
ADMINISTRATION = {
    "ACL", "BGREWRITEAOF", "BGSAVE", "CLUSTER", "CONFIG", "DEBUG", "FAILOVER", "FLUSHALL", "FLUSHDB", "LATENCY",
    "MIGRATE", "MODULE", "MONITOR", "PSYNC", "REPLICAOF", "RESTORE", "SAVE", "SHUTDOWN", "SLAVEOF", "SLOWLOG",
    "SWAPDB", "SYNC", "KEYS", "MOVE", "SCRIPT FLUSH", "SCRIPT KILL", "FUNCTION FLUSH", "FUNCTION DELETE",
    "FUNCTION KILL", "FUNCTION RESTORE", "CLIENT KILL", "CLIENT PAUSE", "CLIENT NO-EVICT",
}  # fmt: skip
REMOVING_FROM_BROKER = {
    "LPOP", "RPOP", "BLPOP", "BRPOP", "LMPOP", "BLMPOP", "ZPOPMIN", "ZPOPMAX", "BZPOPMIN", "BZPOPMAX", "ZMPOP",
    "BZMPOP", f"basic.get{FOR_GOOD}", f"basic.deliver{FOR_GOOD}",
}  # fmt: skip

SCRIPTS = {"EVAL", "EVALSHA", "FCALL"}
REMOVING_A_TASK = {  # commands that name the task they remove
    "LREM", "ZREM", "HDEL", "SREM", "XACK", "XDEL", "basic.ack", "basic.reject", "basic.nack",
}  # fmt: skip
GIVING_BACK, REQUEUE = (
    {"basic.nack", "basic.reject"},
    "requeue",
)  # to the queue if that is asked, or to nobody
PUBLISHING = {
    "basic.publish"
}  # puts a copy into the broker: what is in hand stays there until it is acknowledged
CONSUMING = {"basic.consume", f"basic.consume{FOR_GOOD}"}  # goes on until it is cancelled
DELIVERIES = {"basic.deliver", f"basic.deliver{FOR_GOOD}"}  # come without having been asked for one by one

READING = {
    "EXISTS", "GET", "HEXISTS", "HGET", "HGETALL", "HMGET", "HVALS", "LINDEX", "LPOS", "LRANGE", "MGET", "SISMEMBER",
    "SMEMBERS", "WATCH", "ZRANGE", "ZRANGEBYSCORE", "ZRANK", "ZSCORE",
}  # fmt: skip
DELETING = {"DEL", "UNLINK"}
MOVING = {"LMOVE", "BLMOVE", "RPOPLPUSH", "BRPOPLPUSH"}
PUTTING = {"LPUSH", "RPUSH", "LPUSHX", "RPUSHX", "ZADD", "XADD", "HSET", "SET", "SADD", *PUBLISHING}


def goes_to(verb: str, args: tuple[str, ...]) -> str:
    """The key into which a command puts the task that it names or hands out; "" if it leaves the broker."""
    if verb in MOVING | PUBLISHING and len(args) > 1:
        return args[1]  # by the default exchange, the routing key is the name of the queue
    return args[0] if verb in PUTTING and args else ""


def keys_of_script(args: tuple[str, ...]) -> tuple[str, ...]:
    """The keys that a script or a function is called with: the number of them stands before them."""
    count = int(args[1]) if len(args) > 1 and args[1].isdecimal() else 0
    return args[2 : 2 + count]


AMQP_WORDS = {
    "basic.deliver": "was handed task {task}",
    f"basic.deliver{FOR_GOOD}": "was handed task {task}; the broker no longer has it",
    "basic.get": "was handed task {task}",
    f"basic.get{FOR_GOOD}": "was handed task {task}; the broker no longer has it",
    "basic.publish": "put task {task} into {where}",
    "basic.return": "got task {task} back: there is no queue {where}",
    "basic.ack": "acknowledged task {task}",
    "basic.nack": "refused task {task}",
    "basic.reject": "refused task {task}",
}


def describe(verb: str, args: tuple[str, ...], task: int, *, reply: bool) -> str:
    """What a command, or its reply, did with task number `task`, in a few plain words."""
    key = args[0] if args else ""
    if verb in AMQP_WORDS:
        if verb in GIVING_BACK and REQUEUE in args:
            return f"gave task {task} back"
        again = ", redelivered" if "redelivered" in args else ""
        return AMQP_WORDS[verb].format(task=task, where=goes_to(verb, args) or key) + again
    if reply and verb in REMOVING_FROM_BROKER:
        return f"took task {task}; the broker no longer has it"
    if reply and verb in MOVING and len(args) > 1:
        return f"moved task {task} to {args[1]}"
    if reply and verb in TAKING:
        return f"was handed task {task}"
    if verb in PUTTING:
        return f"put task {task} into {key}"
    if verb in REMOVING_A_TASK:
        return f"removed task {task} from {key}"
    if verb in SCRIPTS:
        keys = ", ".join(keys_of_script(args))
        return f"ran a script on task {task}{f' (keys: {keys})' if keys else ''}"
    return f"read task {task}" if reply else f"named task {task}"
