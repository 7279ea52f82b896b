"""What the commands of Valkey and Redis mean to a queue: which block, which take, which only set up a connection."""

BLOCKING = {
    "BLPOP", "BRPOP", "BLMOVE", "BRPOPLPUSH", "BLMPOP", "BZPOPMIN", "BZPOPMAX", "BZMPOP", "WAIT", "WAITAOF",
}  # fmt: skip
TAKING = {
    "LPOP", "RPOP", "BLPOP", "BRPOP", "LMPOP", "BLMPOP", "LMOVE", "BLMOVE", "RPOPLPUSH", "BRPOPLPUSH",
    "ZPOPMIN", "ZPOPMAX", "BZPOPMIN", "BZPOPMAX", "ZMPOP", "BZMPOP", "XREADGROUP", "XAUTOCLAIM", "EVAL", "EVALSHA",
    "FCALL",
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
REMOVING_FROM_BROKER = {"LPOP", "RPOP", "BLPOP", "BRPOP", "LMPOP", "BLMPOP", "ZPOPMIN", "ZPOPMAX", "BZPOPMIN"}

REMOVING_A_TASK = {"LREM", "ZREM", "HDEL", "SREM", "XACK", "XDEL"}  # commands that name the task they remove

DELETING = {"DEL", "UNLINK"}
MOVING = {"LMOVE", "BLMOVE", "RPOPLPUSH", "BRPOPLPUSH"}
PUTTING = {"LPUSH", "RPUSH", "LPUSHX", "RPUSHX", "ZADD", "XADD", "HSET", "SET", "SADD"}


def goes_to(verb: str, args: tuple[str, ...]) -> str:
    """The key into which a command puts the task that it names or hands out; "" if it leaves the broker."""
    if verb in MOVING and len(args) > 1:
        return args[1]
    return args[0] if verb in PUTTING and args else ""


def describe(verb: str, args: tuple[str, ...], task: int, *, reply: bool) -> str:
    """What a command, or its reply, did with task number `task`, in a few plain words."""
    key = args[0] if args else ""
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
    if verb in ("EVAL", "EVALSHA", "FCALL"):
        return f"ran a script on task {task}"
    return f"read task {task}" if reply else f"named task {task}"
