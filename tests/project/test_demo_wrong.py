"""What a demonstration shows of a submission that is wrong: it is not seen, and the room is told what was."""

import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from demonstration import LABS, Demo

from labkit import course, stubs
from labkit.demo.player import LEFT_OUT

ON_PHOTOGRAPHS = (3, 6)  # these labs' demonstrations


@dataclass(frozen=True)
class Wrong:
    """A lab's solution with one edit in one file, and what the demonstration must say of it: patterns."""

    lab: int
    file: str
    before: str
    after: str
    said: tuple[str, ...]

    def write(self, folder):
        """Write the submission into a new folder; return it."""
        shutil.copytree(course.lab(self.lab).solution, folder)
        text = (folder / self.file).read_text()
        assert self.before in text
        (folder / self.file).write_text(text.replace(self.before, self.after))
        return folder


GIVEN_BACK = "    broker.lrem(processing(name), 1, body)\n\n\ndef set"
FENCE = "if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 0 then return 0 end\n        count(KEYS[2])"
REPLAYED = 'return 1\n    """\n    return broker.eval(script, 2, DEAD'
PUSHED = f"redis.call('LPUSH', KEYS[2], ARGV[2])\n        {REPLAYED}"

WRONG = {
    "the newest first": Wrong(
        1,
        "worker.py",
        "broker.rpop(QUEUE)",
        "broker.lpop(QUEUE)",
        (r"\[NOT SEEN\] alice begins with task 1, the oldest\n.* alice began with task 22\.",),
    ),
    "nothing is set aside": Wrong(
        1,
        "worker.py",
        "        set_aside(broker, body, reason)\n",
        "",
        (r"\[NOT SEEN\] tasks \d+ and \d+ are set aside, each with its reason\n.* Set aside: no task\.",),
    ),
    "SIGTERM ends it in the middle of a task": Wrong(
        1,
        "worker.py",
        "lambda *_: stopping.set()",
        "lambda *_: sys.exit()",
        (
            r"\[NOT SEEN\] alice was asked to stop, and stays for task \d+\n",
            r"alice has ended, with task \d+ in hand",
        ),
    ),
    "a web page that sends the mail itself": Wrong(
        1,
        "producer.py",
        "    enqueue(broker, task)\n    return",
        "    __import__('mailer').send(task)\n    return",
        (r"\[NOT SEEN\] the answer is 202, and names a task",),
    ),
    "SIGTERM ends it in its wait": Wrong(
        2,
        "worker.py",
        "for number in (signal.SIGINT, signal.SIGTERM):",
        "for number in (signal.SIGINT,):",
        (r"\[NOT SEEN\] alice ends when asked to",),
    ),
    "its broker takes it along": Wrong(
        2,
        "worker.py",
        "            reconnect(broker, name, error)",
        "            return",
        (r"\[NOT SEEN\] alice, bob and carol are alive, and try to connect again",),
    ),
    "it polls": Wrong(
        2,
        "worker.py",
        "broker.brpop(QUEUE, timeout=BLOCK_SECONDS)",
        "(None, broker.rpop(QUEUE))",
        (
            r"\[NOT SEEN\] alice waits at the broker, in a blocking command",
            r"alice looks with RPOP, which does not wait for a task\.",
            r"No worker was killed\.",
        ),
    ),
    "a list where a sorted set should be": Wrong(
        5,
        "sorted_set.py",
        "redis.call('ZADD', KEYS[2], ARGV[1] + number, ARGV[2])",
        "redis.call('LPUSH', KEYS[2], ARGV[2])",
        (r"\[NOT SEEN\] .*\n.*WRONGTYPE",),
    ),
    "nobody looks after the dead": Wrong(
        3,
        "recovery.py",
        "if name != me:",
        "if name == me:",
        (
            r"\[NOT SEEN\] task \d+ is back in the queue",
            r"Task \d+ is in images:processing:alice\.",
            r"lost 1, recovered 0, waiting 1\n",
        ),
    ),
    "who was paused gives its task back": Wrong(
        3,
        "worker.py",
        GIVEN_BACK,
        "    if not broker.lrem(processing(name), 1, body):\n        broker.rpush(QUEUE, body)\n\n\ndef set",
        (
            r"\[seen\] dave has done task 15; no list holds it",
            r"\[NOT SEEN\] bob finishes task 15, and nothing comes of it",
            r"Task 15 was done by dave, then bob, then \w+\.",
        ),
    ),
    "a backoff that does not grow": Wrong(
        4,
        "failures.py",
        "2 ** (attempts - 1)",
        "1",
        (r"\[NOT SEEN\] all tasks wait as long as they may", r"No wait was longer than 0\.[12] s\."),
    ),
    "a backoff without jitter": Wrong(
        4,
        "failures.py",
        "random.uniform(0, longest)",
        "longest",
        (
            r"\[NOT SEEN\] the waits are spread below their limits",
            r"Each wait was as long as it may be: they come back together\.",
        ),
    ),
    "who comes too late acknowledges": Wrong(
        4,
        "moves.py",
        FENCE,
        "redis.call('LREM', KEYS[1], 1, ARGV[1])\n        count(KEYS[2])",
        (
            r"\[NOT SEEN\] the late acknowledgement changes nothing",
            r"came too late: 23 tasks are delivered, and webhooks:count:done says 24\.",
        ),
    ),
    "a replay that loses the task": Wrong(
        4,
        "moves.py",
        PUSHED,
        REPLAYED,
        (
            r"\[NOT SEEN\] 25 tasks are delivered",
            r"Nobody works any more, no list holds a task, and 24 are delivered\.",
            r"Lost: task 28\.",
        ),
    ),
    "turns that are always the first level's": Wrong(
        5,
        "fair.py",
        "first = next(turns)",
        "first = LEVELS[0]",
        (
            r"\[NOT SEEN\] each level has its share, the more urgent the more",
            r"Of 20 mails high 20, normal 0, low 0\.",
            r"none is lost",
        ),
    ),
    "a sorted set with the newest first": Wrong(
        5,
        "sorted_set.py",
        "ARGV[1] + number",
        "ARGV[1] - number",
        (
            r"\[NOT SEEN\] by their scores: H3 H4 H7 N5 N6 L1 L2 L8",
            r"By their scores: H7 H4 H3 N6 N5 L8 L2 L1\.",
        ),
    ),
    "turns that are not those of the setting": Wrong(
        5,
        "fair.py",
        'os.environ.get("TURNS", ',
        "str(",
        (r"\[NOT SEEN\] each level has the same share", r"Of 9 mails high 6, normal 3, low 0\."),
    ),
    "tasks that are kept in memory alone": Wrong(
        6,
        "producer.py",
        "DeliveryMode.Persistent",
        "DeliveryMode.Transient",
        (r"(?s)is started again.*\[NOT SEEN\].*What became of", r"Lost: tasks 21 and 22\."),
    ),
    "a wait that does not double": Wrong(
        6,
        "topology.py",
        "2 ** (attempts - 1)",
        "1",
        (
            r"\[NOT SEEN\] task 14 is done after all",
            r"Task 14 was in images.retry.2 for 0\.3 s, and not for 0\.6 s\.",
        ),
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_not_seen(home, photos, what):
    wrong = WRONG[what]
    given = {"photos": photos} if wrong.lab in ON_PHOTOGRAPHS else {}
    ended = Demo(home, lab=wrong.lab, submission=wrong.write(home / "wrong"), **given).run()
    assert ended.returncode == 1, ended.stdout + ended.stderr
    for pattern in wrong.said:
        assert re.search(pattern, ended.stdout), f"{pattern}\n{ended.stdout}"


BLMOVE = 'return broker.blmove(QUEUE, processing(name), BLOCK_SECONDS, "RIGHT", "LEFT")'
BRPOP = "taken = broker.brpop(QUEUE, BLOCK_SECONDS)\n    return taken and taken[1]"
WORK = "    try:\n        output = process(read_task(body))\n"


@pytest.mark.parametrize(
    ("right", "wrong"), [(BLMOVE, BRPOP), (WORK, f"    acknowledge(broker, name, body)\n{WORK}")]
)
def test_a_submission_that_loses_tasks_is_shown_to_lose_them_too(home, photos, right, wrong):
    """It takes as the one beside it does, or acknowledges first."""
    submission = Wrong(3, "worker.py", right, wrong, ()).write(home / "wrong")
    ended = Demo(home, photos=photos, submission=submission).run()
    assert ended.returncode == 1, ended.stdout + ended.stderr
    own, popped = map(int, re.search(r"alice has task (\d+), popper task (\d+): ", ended.stdout).groups())
    assert f"[seen] task {popped} is in no list" in ended.stdout
    assert f"[NOT SEEN] task {own} lies in images:processing:alice" in ended.stdout
    assert f"Task {own} is in no list at all." in ended.stdout
    assert f"Lost: tasks {own} and {popped}." in ended.stdout
    assert "duplicated 0, lost 2, recovered 0" in ended.stdout


def test_a_mail_that_is_lost_without_a_kill_is_missed(home):
    """And on a machine without curl the second terminal is Python's."""
    twice = "body = take(broker) and take(broker)  # and what has become of the first?"
    submission = Wrong(1, "worker.py", "body = take(broker)", twice, ()).write(home / "wrong")
    ended = Demo(home, lab=1, submission=submission).run(PATH=str(Path(sys.executable).parent))
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert re.search(r"\$ python \S*labkit/demo/post.py http://\S+ '\{", ended.stdout)
    assert "[seen] task 2 came from a second terminal" in ended.stdout
    assert "[NOT SEEN] alice begins with task 1, the oldest\n" in ended.stdout
    assert "alice began with task 2." in ended.stdout
    assert "[NOT SEEN] only the task in hand at the kill is lost" in ended.stdout
    assert re.search(r"verdict: sent 22, done once \d+, duplicated 0, lost \d+", ended.stdout)
    assert "Ask the class" not in ended.stdout, "it would ask about what was not seen"


@pytest.mark.parametrize("lab", LABS)
def test_a_stub_is_told_what_is_not_written_yet(home, lab):
    stub = home / "stub"
    stubs.write(course.lab(lab), stub)
    ended = Demo(home, lab=lab, submission=stub).run()
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert re.search(r"^ *[\d.]+ s    \w+\.py: TODO \d: .+\.$", ended.stdout, re.MULTILINE), ended.stdout
    assert ended.stdout.count(LEFT_OUT) == 1
    assert "verdict: sent 0, " in ended.stdout
