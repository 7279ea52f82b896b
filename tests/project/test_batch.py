"""A class is graded: many submissions, the gradebook, what went wrong most often, and several machines.

What a batch does with its submissions is tried with a small grader of the tests' own, which takes no time; what comes
of them in the end with the real one.
"""

import contextlib
import csv
import html.parser
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import grading
import pytest
import redis
from watching import wait_until

from labkit import course
from labkit.brokers import EmbeddedValkey
from labkit.course import ROOT
from labkit.grade import batch, one
from labkit.grade.celery_app import TASKS
from labkit.grade.mistakes import Mistakes, shape
from labkit.grade.names import unique_names
from labkit.grade.packed import LARGEST_PACKED, TooLarge, pack_submission, unpack
from labkit.grade.sources import fetch
from labkit.janitor import is_running

LAB = course.lab(2)
REQUEST = one.Request(labs=(LAB,), isolation="none")
LONGEST_SECONDS = 120
GONE_WITHIN_SECONDS = 10
NASTY = "<script>alert(1)</script>"


# ---- a grader that takes no time -------------------------------------------------------------------------------


def a_check(name="a_check", outcome="failed", message="It went wrong.", title="A check that fails", points=0):
    return {
        "id": name, "title": title, "task": 0, "points": points, "max_points": 10, "outcome": outcome,
        "message": message, "waits_for": "", "hidden": False, "seconds": 0.1, "verdict": {}, "facts": {},
        "timeline": "", "replay": "",
    }  # fmt: skip


def a_grade(source, name, checks, digest="", notes=()):
    """A grade record of one lab with these checks."""
    outcomes = [check["outcome"] for check in checks]
    outcome = next((each for each in ("infrastructure", "timed out", "failed") if each in outcomes), "passed")
    points, most = (sum(check[key] for check in checks) for key in ("points", "max_points"))
    lab = {
        "schema": "task-queue-labs/result", "version": 1, "lab": LAB.slug, "submission": source,
        "started": "2026-11-22T16:00:00+00:00", "seconds": 0.1, "broker": {"kind": "valkey", "version": "9"},
        "seed": 0, "points": points, "max_points": most, "outcome": outcome, "notes": [], "checks": checks,
        "isolation": "none", "folder": "lab02",
    }  # fmt: skip
    return {
        "schema": one.SCHEMA, "version": one.VERSION, "name": name, "source": source, "digest": digest,
        "commit": "", "committed": "", "started": lab["started"], "seconds": 0.1, "isolation": "none",
        "points": points, "max_points": most, "outcome": outcome, "notes": list(notes), "labs": [lab],
    }  # fmt: skip


class Grader:
    """Grades at once: what a submission's worker.py holds is its outcome. `graded` are the names, in order."""

    def __init__(self):
        self.graded = []

    def __call__(self, source, name, request, out):
        self.graded.append(name)
        with tempfile.TemporaryDirectory() as place:
            handed = fetch(source, Path(place))
            outcome = (handed.folder / LAB.slug / "worker.py").read_text()
        if outcome == "dies":
            raise RuntimeError("the grader is gone")
        points = 10 if outcome == "passed" else 0
        grade = a_grade(source, name, [a_check(outcome=outcome, points=points)], handed.digest)
        folder = out / name
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "lab02").mkdir(parents=True)
        (folder / "lab02" / "timeline.html").write_text("a timeline")
        (folder / "grade.json").write_text(json.dumps(grade))
        return grade


def submission(folder, outcome="passed"):
    """A submission for the grader above; its path as a source."""
    (folder / LAB.slug).mkdir(parents=True, exist_ok=True)
    (folder / LAB.slug / "worker.py").write_text(outcome)
    return str(folder)


def a_class(folder, **outcomes):
    return [submission(folder / name, outcome) for name, outcome in outcomes.items()]


def gradebook(out):
    """The rows of gradebook.csv, by name."""
    with open(out / "gradebook.csv", newline="") as file:
        return {row["name"]: row for row in csv.DictReader(file)}


@pytest.fixture
def grade():
    return Grader()


@pytest.fixture
def out(tmp_path):
    return tmp_path / "graded"


# ---- names -----------------------------------------------------------------------------------------------------


def test_each_submission_has_a_folder_of_its_own():
    sources = [
        "x/anna/lab03_reliable",
        "x/ben/lab03_reliable",
        "in/a.zip",
        "in/a",
        "other/a",
        "in/A",
        "in/index.html",
    ]
    names = list(unique_names(sources).values())
    assert names[:3] == ["anna-lab03_reliable", "ben-lab03_reliable", "a"]
    assert len({name.casefold() for name in names}) == len(sources), names
    assert "index.html" not in names, "the class's own page would be overwritten"


def test_names_stay_when_a_submission_is_added():
    sources = ["in/a.zip", "in/a", "other/a", "anna/lab02_blocking"]
    names = unique_names(sources)
    assert unique_names(sources) == names
    assert list(unique_names([*sources, "third/a"]).values())[:4] == list(names.values())
    before = unique_names(["first/a", *sources], names)  # as from an earlier run
    assert {each: before[each] for each in names} == names


def test_no_name_is_that_of_what_lies_there_already():
    assert list(unique_names(["in/anna"], {}, ["Anna"]).values()) == ["in-anna"]
    assert list(unique_names(["in/anna"], {os.path.abspath("in/anna"): "anna"}, ["anna"]).values()) == [
        "anna"
    ]


def test_one_submission_named_twice_is_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "anna").mkdir()
    assert list(unique_names(["anna", "./anna", str(tmp_path / "anna")]).values()) == ["anna"]


def test_a_long_name_fits():
    names = unique_names([f"in/{'a' * 100}.zip", f"in/{'a' * 100}", f"in/{'a' * 100}.tar"])
    assert len(set(names.values())) == 3
    assert all(len(name) <= 64 for name in names.values())


# ---- a batch ---------------------------------------------------------------------------------------------------


def test_a_batch_is_graded_and_its_outcomes_are_no_failure_of_the_command(tmp_path, out, grade, capsys):
    sources = a_class(tmp_path / "in", anna="passed", ben="failed", cleo="timed out")
    assert batch.run(sources, REQUEST, out, jobs=2, formats=["html"], grade=grade) == 0
    rows = gradebook(out)
    assert {name: row["points"] for name, row in rows.items()} == {"anna": "10", "ben": "0", "cleo": "0"}
    assert rows["ben"]["lab02"] == "0"
    assert rows["ben"]["max"] == "10"
    assert "A check that fails: It went wrong." in rows["ben"]["look at"]
    said = capsys.readouterr().out
    for number, name in ((1, "anna"), (2, "ben"), (3, "cleo")):
        assert re.search(rf"\d/3  {name} ", said), (number, said)
    assert "3 submissions: 1 failed, 1 passed, 1 timed out." in said


def test_one_bad_submission_spoils_no_other(tmp_path, out, grade, capsys):
    sources = a_class(tmp_path / "in", anna="passed", ben="dies", cleo="passed")
    bomb = tmp_path / "in" / "no-archive.zip"
    bomb.write_text("PK no archive")

    def real(source, *more):
        return one.grade(source, *more) if "zip" in source or "nobody" in source else grade(source, *more)

    status = batch.run([*sources, str(bomb), str(tmp_path / "nobody")], REQUEST, out, jobs=2, grade=real)
    rows = gradebook(out)
    assert status == 3
    assert rows["anna"]["points"] == rows["cleo"]["points"] == "10"
    assert (rows["ben"]["outcome"], rows["ben"]["points"]) == (
        "infrastructure",
        "",
    )  # nobody's fault: no zero
    assert "the grader is gone" in rows["ben"]["look at"]
    assert "no such folder" in rows["nobody"]["look at"]
    assert rows["nobody"]["points"] == rows["no-archive"]["points"] == "0"
    assert all("\n" not in row["look at"] for row in rows.values())
    assert "1 submission could not be graded" in capsys.readouterr().err


def test_a_report_that_cannot_be_written_is_one_row(tmp_path, out, grade):
    def in_the_way(source, name, *more):
        found = grade(source, name, *more)
        if name == "ben":
            (out / name / "html").write_text("a file where a folder is to be")
        return found

    sources = a_class(tmp_path / "in", anna="passed", ben="passed")
    assert batch.run(sources, REQUEST, out, formats=["html"], grade=in_the_way) == 3
    rows = gradebook(out)
    assert rows["anna"]["outcome"] == "passed"
    assert "its reports could not be written" in rows["ben"]["look at"]


def test_several_are_graded_at_a_time_and_no_more(tmp_path, out, grade):
    both = threading.Barrier(2, timeout=30)
    at_once, most = set(), []

    def together(source, name, *more):
        at_once.add(name)
        most.append(len(at_once))
        both.wait()  # ends only if two are here
        at_once.discard(name)
        return grade(source, name, *more)

    sources = a_class(tmp_path / "in", **dict.fromkeys("abcdef", "passed"))
    assert batch.run(sources, REQUEST, out, jobs=2, grade=together) == 0
    assert max(most) == 2


def test_two_batches_never_write_to_one_folder(tmp_path, out, grade, capsys):
    def another(source, name, *more):
        assert batch.run([source], REQUEST, out, grade=grade) == 2
        return grade(source, name, *more)

    assert batch.run(a_class(tmp_path / "in", anna="passed"), REQUEST, out, grade=another) == 0
    assert "another ./lab grade is writing to" in capsys.readouterr().err


# ---- taking up again -------------------------------------------------------------------------------------------


def test_what_is_finished_is_taken_over(tmp_path, out, grade, capsys):
    sources = a_class(tmp_path / "in", anna="passed", ben="failed")
    batch.run(sources, REQUEST, out, grade=grade)
    before = (out / "gradebook.csv").read_text()
    added = submission(tmp_path / "in" / "cleo")
    assert batch.run([added, *sources], REQUEST, out, formats=["html"], grade=grade) == 0
    assert grade.graded == ["anna", "ben", "cleo"]
    assert "2 of 3 taken over" in capsys.readouterr().out
    assert set(before.splitlines()) <= set((out / "gradebook.csv").read_text().splitlines())
    assert (out / "anna" / "html" / "report.html").is_file()  # a format that was not asked for then
    assert "What was not understood" in (out / "index.html").read_text()


def spoil(path, text):
    path.write_text(text)


AGAIN = {
    "what was handed in has changed": lambda folder, out: submission(folder, "failed"),
    "the record is torn": lambda folder, out: spoil(out / "anna" / "grade.json", '{"schema": "task-que'),
    "it was interrupted before the end": lambda folder, out: (out / "anna" / "request.json").unlink(),
}


@pytest.mark.parametrize("why", AGAIN)
def test_what_is_not_finished_is_graded_again(tmp_path, out, grade, why):
    sources = a_class(tmp_path / "in", anna="passed", ben="passed")
    batch.run(sources, REQUEST, out, grade=grade)
    AGAIN[why](tmp_path / "in" / "anna", out)
    batch.run(sources, REQUEST, out, grade=grade)
    assert grade.graded == ["anna", "ben", "anna"]


@pytest.mark.parametrize("other", [{"labs": (course.lab(3),)}, {"brokers": "path"}, {"seed": 7}])
def test_what_was_asked_for_otherwise_is_graded_again(tmp_path, out, grade, other):
    sources = a_class(tmp_path / "in", anna="passed")
    batch.run(sources, REQUEST, out, grade=grade)
    batch.run(sources, one.Request(**vars(REQUEST) | other), out, grade=grade)
    assert grade.graded == ["anna", "anna"]


def test_more_time_is_for_those_that_ran_out_of_it(tmp_path, out, grade):
    sources = a_class(tmp_path / "in", anna="passed", ben="timed out")
    batch.run(sources, REQUEST, out, grade=grade)
    batch.run(sources, one.Request(**vars(REQUEST) | {"timeout": 900}), out, grade=grade)
    assert grade.graded == ["anna", "ben", "ben"]


def test_infrastructure_is_tried_again_and_fresh_takes_nothing_over(tmp_path, out, grade):
    sources = a_class(tmp_path / "in", anna="passed", ben="infrastructure")
    assert batch.run(sources, REQUEST, out, grade=grade) == 3
    batch.run(sources, REQUEST, out, grade=grade)
    assert grade.graded == ["anna", "ben", "ben"]
    batch.run(sources, REQUEST, out, fresh=True, grade=grade)
    assert grade.graded[3:] == ["anna", "ben"]


HANGS = """
import json, signal, subprocess, sys
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # it is ignored where the tests run in the background
sys.path[:0] = [{tests!r}]
from test_batch import Grader, REQUEST
from labkit.grade import batch
from labkit.janitor import janitor
at_once = Grader()
def grade(source, name, request, out):
    if name != "anna":
        sleeper = janitor().start_process(["sleep", "600"])
        print("at work", sleeper.pid, flush=True)
        sleeper.wait()
    return at_once(source, name, request, out)
sys.exit(batch.run(sys.argv[2:], REQUEST, Path(sys.argv[1]), jobs=2, grade=grade))
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_batch_that_is_stopped_keeps_what_is_finished(tmp_path, out, grade, how):
    sources = a_class(tmp_path / "in", anna="passed", ben="passed", cleo="passed")
    program = HANGS.format(tests=str(Path(__file__).parent))
    words = [sys.executable, "-c", program, str(out), *sources]
    with ended_after(
        subprocess.Popen(words, cwd=ROOT, env=environment(), stdout=-1, stderr=-1, text=True)
    ) as process:
        pids = []
        for line in process.stdout:
            pids += [int(line.split()[2])] if line.startswith("at work") else []
            if len(pids) == 2:
                break
        assert wait_until(lambda: "anna" in gradebook(out), LONGEST_SECONDS)
        process.send_signal(how)
        _, said = process.communicate(timeout=30)
    if how != signal.SIGKILL:
        assert process.returncode == 130, said
        assert "1 of 3 are graded" in said
        assert "The same command goes on" in said
    assert wait_until(lambda: not any(map(is_running, pids)), GONE_WITHIN_SECONDS)
    assert list(gradebook(out)) == ["anna"]
    assert "not yet graded" in (out / "index.html").read_text()
    assert batch.run(sources, REQUEST, out, grade=grade) == 0
    assert sorted(grade.graded) == ["ben", "cleo"]


@contextlib.contextmanager
def ended_after(process):
    """A process of the test's own, which goes with the test whatever happens."""
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def environment(**more):
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return clean | {"PYTHONPATH": str(ROOT)} | more


# ---- the gradebook and its page --------------------------------------------------------------------------------


def test_no_cell_is_a_formula(tmp_path, out):
    def grade(source, name, request, out):
        (out / name).mkdir(parents=True)
        return a_grade('=HYPERLINK("http://x","y")', name, [], notes=["+1 or\t@SUM(1); =1+1;@SUM(1)"]) | {
            "outcome": "failed"
        }

    sources = a_class(tmp_path / "in", **{"anna": "passed", "-ben": "passed"})
    batch.run(sources, REQUEST, out, grade=grade)
    for row in gradebook(out).values():
        assert not any(cell.lstrip().startswith(("=", "+", "-", "@", "\t", "\r")) for cell in row.values()), (
            row
        )
        assert row["source"].startswith("'=")
        assert not any(re.search(r";\s*[=+\-@]", cell) for cell in row.values()), row


class Page(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.links, self.stack = [], [], []
        self.feed(text)
        assert not self.stack, self.stack

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag not in ("meta", "rect", "path"):
            self.stack.append(tag)
        self.links += [value for name, value in attributes if name in ("href", "src")]
        assert not any(name == "style" or name.startswith("on") for name, _ in attributes)

    handle_startendtag = handle_starttag

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag


def test_the_page_is_whole_and_harmless_and_its_links_lead_somewhere(tmp_path, out, grade):
    def hostile(source, name, *more):
        found = grade(source, name, *more)
        for check in found["labs"][0]["checks"]:
            check["message"] = check["title"] = f"{NASTY} \x1b[31m and so on"
        return found | {"notes": [NASTY], "source": NASTY}

    sources = a_class(tmp_path / "in", anna="passed", ben="failed", cleo="failed")
    batch.run(sources, REQUEST, out, formats=["html", "markdown"], grade=hostile)
    text = (out / "index.html").read_text()
    page = Page(text)
    assert "script" not in page.tags
    assert "\x1b" not in text + (out / "groups.md").read_text() + (out / "gradebook.csv").read_text()
    assert "Content-Security-Policy" in text
    assert "anna/html/report.html" in page.links
    assert "ben/lab02/timeline.html" in page.links
    for link in page.links:
        assert (out / link.partition("#")[0]).is_file(), link
    assert "<script" not in (out / "groups.md").read_text().replace("\\<script", "").replace(
        f"    {NASTY}", ""
    )


MANY = """
import json, resource, sys
from pathlib import Path
sys.path[:0] = [{tests!r}]
from test_batch import REQUEST, a_check, a_grade
from labkit.grade import batch
def grade(source, name, request, out):
    (out / name).mkdir(parents=True)
    found = a_grade(source, name, [a_check(name=f"c{{n}}", message=f"Task {{n}} was lost." * 20) for n in range(30)])
    return found | {{"notes": ["x" * 1_000_000]}}
sources = [f"{{sys.argv[1]}}/s{{n}}" for n in range(int(sys.argv[2]))]
status = batch.run(sources, REQUEST, Path(sys.argv[3]), grade=grade)
print(status, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_hardly_grows_with_the_class(tmp_path):
    peaks = {}
    for number in (20, 120):
        program = MANY.format(tests=str(Path(__file__).parent))
        words = [sys.executable, "-c", program, str(tmp_path), str(number), str(tmp_path / f"out{number}")]
        said = subprocess.check_output(words, cwd=ROOT, env=environment(), text=True).split()
        assert said[-2] == "0"
        peaks[number] = int(said[-1])
    assert peaks[120] - peaks[20] < 20_000, (
        f"kilobytes at 20 and 120 submissions: {peaks}"
    )  # the records: 100 MB


def test_on_a_terminal_a_bar_shows_how_far_it_is(tmp_path, out):
    sources = a_class(tmp_path / "in", anna="passed", ben="failed")
    program = f"""
import sys
from pathlib import Path
sys.path[:0] = [{str(Path(__file__).parent)!r}]
from test_batch import Grader, REQUEST
from labkit.grade import batch
sys.exit(batch.run(sys.argv[2:], REQUEST, Path(sys.argv[1]), grade=Grader()))
"""
    leader, follower = os.openpty()
    words = [sys.executable, "-c", program, str(out), *sources]
    with subprocess.Popen(
        words, cwd=ROOT, env=environment(TERM="xterm", COLUMNS="120"), stdout=follower, stderr=follower
    ) as process:
        os.close(follower)
        said = b""
        with contextlib.suppress(OSError):  # the end, on Linux
            while chunk := os.read(leader, 4096):
                said += chunk
    os.close(leader)
    assert process.returncode == 0, said
    assert b"2/2" in said
    assert b"ben: 0 of 10" in said


# ---- what the class did not understand -------------------------------------------------------------------------

LOST = """12 tasks went in; 11 were done. Lost: task 7.
    +0.412 s  alice   BRPOP images            took task 7; the broker no longer has it
Which command moves a task to a second list instead of removing it?"""
LOST_TOO = """12 tasks went in; 9 were done. Lost: tasks 3, 4 and 9.
    +1.002 s  bob     BRPOP images            took task 3; the broker no longer has it
    +1.102 s  bob     killed (SIGKILL) during the work on task 3
Which command moves a task to a second list instead of removing it?"""
CRASHED = """worker.py (alice) ended with status 1. Its last words:
    Traceback (most recent call last)
    worker.py line 33, in main
      handle(json.loads(raw))
    KeyError: 'photo'"""
SAME = {
    "other tasks, other numbers": (LOST, LOST_TOO),
    "another line of the program": (CRASHED, CRASHED.replace("33", "51").replace("handle(", "do(")),
    "another process": (CRASHED, CRASHED.replace("alice", "bob")),
    "ids": ("Done but never sent: id '94a1ca8d-7e5c-5601-a3fb-d4c2b8a0c985'.",
            "Done but never sent: id 'b190b04d-ad1e-4111-b3fb-f4c2b8a0c985'."),
    "moments": ("alice was killed after the take of task 3 (after BLMPOP number 1).",
                "bob was killed after the take of task 1 (after BLMPOP number 3)."),
    "where it hangs": ("alice stands still: its last command was BLMOVE a b at +0.2 s, and it is at worker.py line 9.",
                       "bob stands still: its last command was PING at +2.2 s."),
    "one or several": ("3 tasks went in; 1 was done.", "3 tasks went in; 2 were done."),
}  # fmt: skip
DIFFERENT = {
    "another question": (LOST, LOST.replace("Which command moves", "What must be done before you move")),
    "none and some": ("12 tasks went in; 11 were done.", "12 tasks went in; 0 were done."),
    "all and some": ("12 tasks went in; 12 were done.", "12 tasks went in; 11 were done."),
    "another error": (CRASHED, CRASHED.replace("KeyError: 'photo'", "TypeError: a str, not bytes")),
    "lost and repeated": (LOST, LOST.replace("Lost: task 7", "Done more than once: task 7")),
}


@pytest.mark.parametrize("what", SAME)
def test_tellings_of_one_mistake_come_together(what):
    one_telling, another = SAME[what]
    assert shape(one_telling) == shape(another)


@pytest.mark.parametrize("what", DIFFERENT)
def test_different_mistakes_stay_apart(what):
    one_telling, another = DIFFERENT[what]
    assert shape(one_telling) != shape(another)


def test_only_causes_are_counted_and_the_commonest_stands_first():
    mistakes = Mistakes()
    waits = a_check("later", "not run", "", "A later check")
    for name, story in (("anna", CRASHED), ("ben", LOST), ("cleo", LOST_TOO)):
        mistakes.add(a_grade("in", name, [a_check("first", message=story), waits]))
    assert [(one.check, one.names) for one in mistakes.commonest_first()] == [
        ("first", ["ben", "cleo"]),
        ("first", ["anna"]),
    ]


# ---- the real grader -------------------------------------------------------------------------------------------


def real_class(folder):
    """Four submissions that are graded quickly: two stubs, and twice the same mistake."""
    newest = next(wrong for wrong in grading.wrong_ones(LAB) if wrong.name == "newest_first")
    makers = {"stub": grading.the_stub(LAB), "stub2": grading.the_stub(LAB)}
    makers |= {name: grading.edited(LAB.solution, newest.edits) for name in ("newest", "newest2")}
    sources = []
    for name, make in makers.items():
        (folder / name / LAB.slug).mkdir(parents=True)
        make(folder / name / LAB.slug)
        sources.append(str(folder / name))
    return sources


@pytest.fixture(scope="module")
def graded_here(tmp_path_factory):
    """The class above, graded on this machine: its folder and its sources."""
    folder = tmp_path_factory.mktemp("class")
    sources = real_class(folder / "in")
    assert batch.run(sources, REQUEST, folder / "out", jobs=2, formats=["html"]) == 0
    return folder / "out", sources


def test_a_class_is_graded_by_the_real_grader(graded_here):
    out, _ = graded_here
    rows = gradebook(out)
    assert {row["outcome"] for row in rows.values()} == {"failed"}
    assert rows["stub"]["points"] == rows["stub2"]["points"] == "0"
    assert rows["newest"]["points"] == rows["newest2"]["points"] != "0"
    assert "TODO 1" in rows["stub"]["look at"]
    page = Page((out / "index.html").read_text())
    for name in rows:
        assert f"{name}/html/report.html" in page.links
        assert f"{name}/lab02/timeline.html" in page.links
    groups = (out / "groups.md").read_text()
    assert "The same: newest, newest2." in groups
    assert "The same: stub, stub2." in groups


# ---- several machines ------------------------------------------------------------------------------------------


@contextlib.contextmanager
def a_worker(url, log):
    """A worker process, and its output in `log`; it is there when it waits for submissions."""
    words = [sys.executable, "-m", "labkit.grade.on_celery", url]
    with open(log, "w") as said:
        process = subprocess.Popen(words, env=environment(), cwd="/", stdout=said, stderr=said)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def children(pid):
    """The processes that have this one for an ancestor."""
    listed = [
        line.split() for line in subprocess.check_output(["ps", "-eo", "pid=,ppid="], text=True).splitlines()
    ]
    found, parents = set(), {pid}
    while parents:
        parents = {int(child) for child, parent in listed if int(parent) in parents} - found
        found |= parents
    return found


def test_a_lost_worker_costs_nothing(tmp_path, graded_here):
    here, sources = graded_here
    out = tmp_path / "out"
    command = [sys.executable, "-c", COORDINATE, str(out), *sources]
    logs = [tmp_path / "alice.log", tmp_path / "bob.log"]
    with EmbeddedValkey() as broker, contextlib.ExitStack() as stack:
        alice, bob = (stack.enter_context(a_worker(broker.url, log)) for log in logs)
        coordinator = subprocess.Popen(
            command, cwd=ROOT, env=environment(URL=broker.url, LAB_GRADE_LEASE_SECONDS="4"),
            stdout=-1, stderr=-2, text=True,
        )  # fmt: skip
        with ended_after(coordinator):
            assert wait_until(lambda: "begun" in logs[0].read_text(), LONGEST_SECONDS), logs[0].read_text()
            of_alice = children(alice.pid)
            alice.kill()
            said, _ = coordinator.communicate(timeout=LONGEST_SECONDS)
        assert coordinator.returncode == 0, said
        assert "done" not in logs[0].read_text()  # it was in the middle
        assert "is handed out again" in said
        bob.terminate()
        bob.wait(30)
        client = redis.Redis.from_url(broker.url)
        assert client.keys("*") == []
        client.close()
    assert wait_until(lambda: not any(map(is_running, of_alice)), GONE_WITHIN_SECONDS)
    rows, expected = gradebook(out), gradebook(here)
    assert len(re.findall(r"^\d/4  ", said, re.MULTILINE)) == 4, said
    assert {name: (row["points"], row["outcome"], row["source"]) for name, row in rows.items()} == {
        name: (row["points"], row["outcome"], row["source"]) for name, row in expected.items()
    }
    for name in rows:
        there, then = (json.loads((place / name / "grade.json").read_text()) for place in (out, here))
        assert there["digest"] == then["digest"] != ""
        assert (out / name / "lab02" / "timeline.html").is_file()
        assert (out / name / "html" / "report.html").is_file()


COORDINATE = """
import os, signal, sys
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)
from labkit import course
from labkit.grade import batch, one
request = one.Request(labs=(course.lab(2),), isolation="none")
sys.exit(batch.run(sys.argv[2:], request, Path(sys.argv[1]), formats=["html"], celery=os.environ["URL"]))
"""


def test_a_broker_that_is_not_there_is_said_in_a_line(tmp_path, out, grade):
    from labkit.brokers import InfrastructureError

    with pytest.raises(InfrastructureError, match="does not answer") as told:
        batch.run(
            a_class(tmp_path / "in", anna="passed"), REQUEST, out, celery="redis://:secret@127.0.0.1:1/0"
        )
    assert "secret" not in str(told.value)


def test_what_cannot_travel_is_graded_here(tmp_path, out, grade):
    large = tmp_path / "in" / "large"
    submission(large)
    for number in range(12):
        (large / f"{number}.bin").write_bytes(os.urandom(1_000_000))
    with EmbeddedValkey() as broker:
        sources = [str(large), str(tmp_path / "nobody")]
        assert batch.run(sources, REQUEST, out, grade=grade_or_real(grade), celery=broker.url) == 0
        client = redis.Redis.from_url(broker.url)
        assert client.keys("*") == []
        client.close()
    assert gradebook(out)["large"]["points"] == "10"
    assert "no such folder" in gradebook(out)["nobody"]["look at"]


def grade_or_real(grade):
    return lambda source, *more: one.grade(source, *more) if "nobody" in source else grade(source, *more)


def test_several_workers_end_with_the_command_that_started_them(tmp_path):
    program = "import sys; from labkit.grade.on_celery import work; sys.exit(work(sys.argv[1], 2))"
    log = tmp_path / "log"
    with EmbeddedValkey() as broker, open(log, "w") as said:
        words = [sys.executable, "-c", program, broker.url]
        with ended_after(
            subprocess.Popen(words, cwd=ROOT, env=environment(), stdout=said, stderr=said)
        ) as process:
            assert wait_until(
                lambda: log.read_text().count("waiting for submissions") == 2, LONGEST_SECONDS
            ), log.read_text()
            there = children(process.pid)
            process.terminate()
            assert process.wait(60) == 0, log.read_text()
    assert wait_until(lambda: not any(map(is_running, there)), GONE_WITHIN_SECONDS)


def test_a_batch_that_is_stopped_takes_only_its_own_tasks_away(tmp_path, out):
    """Two coordinators, no worker: one is interrupted, and what the other has sent stays."""
    sources = a_class(tmp_path / "in", anna="passed", ben="passed")
    with EmbeddedValkey() as broker:
        client = redis.Redis.from_url(broker.url)
        client.set("somebody:else", "1")
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", COORDINATE, str(tmp_path / f"out{number}"), *sources],
                cwd=ROOT, env=environment(URL=broker.url), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )
            for number in range(2)
        ]  # fmt: skip
        try:
            assert wait_until(lambda: client.llen(TASKS) == 4, LONGEST_SECONDS), client.keys("*")
            for process, left in zip(processes, (2, 0), strict=True):
                process.send_signal(signal.SIGINT)
                assert process.wait(30) == 130
                assert client.llen(TASKS) == left
            assert client.keys("*") == [b"somebody:else"]
        finally:
            for process in processes:
                process.kill()
                process.wait()
            client.close()


def test_what_travels_is_what_is_graded(tmp_path):
    folder = tmp_path / "anna"
    (folder / "lab02_blocking").mkdir(parents=True)
    (folder / "lab02_blocking" / "worker.py").write_text("print(1)\n")
    (folder / "lab02_blocking" / "solution.py").symlink_to("/etc/passwd")
    (folder / "lab02_blocking" / "large.py").write_bytes(b"#" * 2_000_000)
    (folder / ".git").mkdir()
    (folder / ".git" / "config").write_text("secret")
    unpack(pack_submission(folder), tmp_path / "there")
    there = tmp_path / "there" / "anna" / "lab02_blocking"
    assert not (tmp_path / "there" / "anna" / ".git").exists()
    assert (there / "worker.py").read_text() == "print(1)\n"
    assert (there / "solution.py").is_symlink()
    assert not (there / "solution.py").exists()
    assert (there / "large.py").stat().st_size > 1024 * 1024  # so that it is left out there, too
    for number in range(LARGEST_PACKED // 1_000_000 + 2):
        (folder / f"{number}.bin").write_bytes(os.urandom(1_000_000))
    with pytest.raises(TooLarge):
        pack_submission(folder)
