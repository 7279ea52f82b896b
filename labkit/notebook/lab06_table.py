"""The table of lab 6's notebook: who gives you what, each line with the checks that show it."""

from labkit.course import lab

YOU, BROKER, NOBODY = "**You wrote it**", "**The broker has it**", "**Nobody has it**"
HEAD = ("What is promised", "Labs 3 and 4, on Valkey", "Lab 6, on RabbitMQ", "The checks that show it")

# the promise; who keeps it in labs 3 and 4; who in lab 6; the checks: number of the lab, and name without "test_"
ROWS = [
    (
        "A killed worker's task comes back",
        f"{YOU}: lists, heartbeats or leases, a script",
        f"{BROKER}: it sees the connection end",
        ["3 a_killed_worker_loses_nothing", "6 a_killed_worker_loses_nothing"],
    ),
    (
        "... and is known as one that comes back",
        f"{YOU} in lab 4: it has one attempt more. {NOBODY} in lab 3",
        f"{BROKER}: `redelivered`",
        ["4 a_task_that_kills_its_worker_dies", "6 a_repeated_task_is_known_as_one"],
    ),
    (
        "Long work keeps its task",
        f"{YOU}: a thread that beats",
        f"{YOU}: the work in a thread, so that the heartbeats go on",
        ["3 a_living_worker_is_left_alone", "6 long_work_keeps_its_connection"],
    ),
    (
        "A worker that hangs loses its task",
        f"{YOU} in lab 4: `WORK_SECONDS`",
        f"{BROKER}, after half an hour: `consumer_timeout`",
        ["4 a_worker_that_hangs_loses_its_task"],
    ),
    (
        "An acknowledgement that comes too late does no harm",
        f"{YOU} in lab 4: what `LREM` answers",
        f"{YOU}: a delivery tag is of one channel; the broker ends one that sends another's",
        ["4 a_worker_that_hangs_loses_its_task", "6 an_outcome_that_comes_too_late_is_dropped"],
    ),
    (
        "What is queued survives the death of the broker",
        f"{BROKER}: `appendfsync always`, or `WAITAOF`",
        f"{BROKER}: durable, persistent, confirmed. You wait for the confirm",
        ["3 a_killed_broker_loses_nothing", "6 a_killed_broker_loses_nothing"],
    ),
    (
        "Scripts connect again",
        f"{YOU}",
        f"{YOU}: pika does not",
        ["3 a_killed_broker_loses_nothing", "6 a_killed_broker_loses_nothing"],
    ),
    (
        "Another try after a while",
        f"{YOU} in lab 4: a sorted set, and who looks into it",
        f"{BROKER}: a TTL and a dead-letter exchange. You choose the queue",
        ["4 waits_are_waited", "6 what_fails_is_tried_again_later"],
    ),
    (
        "What failed together comes back one by one",
        f"{YOU} in lab 4: jitter",
        f"{NOBODY}: all in a queue wait equally long",
        ["4 waits_are_spread"],
    ),
    (
        "Tries come to an end",
        f"{YOU} in lab 4",
        f"{YOU}: the header `attempts`",
        ["4 retries_run_out", "6 retries_come_to_an_end"],
    ),
    (
        "Dead letters say why they are dead",
        f"{YOU} in lab 4",
        f"{YOU}: the header `reason`",
        ["4 what_is_no_task_is_buried", "6 rubbish_becomes_a_dead_letter"],
    ),
    (
        "Dead letters are replayed",
        f"{YOU} in lab 4: `dlq.py`",
        f"{NOBODY}: it would be a script, or the shovel plugin",
        ["4 a_dead_letter_is_replayed"],
    ),
    (
        "A slow worker holds up one task only",
        f"{YOU}: take one at a time",
        f"{BROKER}: a prefetch of 1",
        ["3 three_workers_share", "6 a_slow_worker_holds_up_one_task"],
    ),
    (
        "The next tasks are there when one is done",
        f"{NOBODY}: each is asked for",
        f"{BROKER}: a higher prefetch",
        ["6 a_slow_worker_holds_up_one_task"],
    ),
    (
        "Waiting costs nothing",
        f"{NOBODY}: a few commands a second",
        f"{BROKER}: it pushes",
        ["3 an_idle_worker_costs_little", "6 an_idle_worker_costs_nothing"],
    ),
    (
        "A full queue holds up the producers",
        f"{YOU} in lab 3: a script",
        f"{BROKER}, not used here: `x-max-length` with `reject-publish`",
        ["3 producers_never_pass_the_limit"],
    ),
    (
        "All agree on what the queue is",
        f"{NOBODY}: a key is what is first written to it",
        f"{BROKER}: PRECONDITION_FAILED",
        ["6 a_queue_declared_otherwise_is_explained"],
    ),
    (
        "What is confirmed is on several machines",
        f"{NOBODY}: `WAIT` asks the replicas, and a new master may lose it all the same",
        f"{BROKER}: quorum queues, on a cluster",
        ["6 a_quorum_queue_will_do"],
    ),
    (
        "A stop in good order",
        f"{YOU}",
        f"{YOU}. The broker takes back what was not begun",
        ["3 a_worker_stops_when_asked", "6 a_worker_stops_when_asked"],
    ),
    (
        "A task takes effect exactly once",
        f"{NOBODY}: the work must bear being done twice",
        f"{NOBODY}: the work must bear being done twice",
        ["3 a_killed_worker_loses_nothing", "6 a_repeated_task_is_known_as_one"],
    ),
]


def who_gives_you_what() -> str:
    """The table in Markdown, with links from a notebook to the checks. LookupError if there is no such check."""
    lines = [HEAD, ["---"] * len(HEAD)]
    for promise, valkey, rabbitmq, checks in ROWS:
        lines.append((promise, valkey, rabbitmq, "<br>".join(_link(*check.split()) for check in checks)))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _link(number: str, name: str) -> str:
    grader = lab(int(number)).grader
    if f"def test_{name}(" not in grader.read_text(encoding="utf-8"):
        raise LookupError(f"{grader.name} has no check test_{name}")
    return f"[{number}: `{name}`](../tests/{grader.name})"
