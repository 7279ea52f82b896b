"""`./lab grade`: what it says of submissions as they come in, and what it does when something of its own fails."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import threading
from dataclasses import dataclass
from pathlib import Path

import jsonschema
import pytest
from grading import edited, wrong_ones
from watching import descendants, needs_proc, wait_until

from labkit import course
from labkit.course import ROOT
from labkit.grade.ungraded import checks_of

LAB, OTHER = course.lab(2), course.lab(3)
LONGEST_SECONDS = 240
RESULT = json.loads((ROOT / "labkit" / "grader" / "result.schema.json").read_text())
GRADE = json.loads((ROOT / "labkit" / "grade" / "grade.schema.json").read_text())


@dataclass
class Graded:
    """How one call of the command ended; `out` is the folder with the grades."""

    status: int
    said: str
    out: Path

    @property
    def only(self) -> dict:
        """The one grade record, which is as its schema says."""
        [path] = self.out.glob("*/grade.json")
        record = json.loads(path.read_text())
        jsonschema.validate(record, GRADE)
        for result in record["labs"]:
            jsonschema.validate({key: value for key, value in result.items() if key != "folder"}, RESULT)
        return record


def start(*words, out, before=(), **environment):
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return subprocess.Popen(
        [*before, sys.executable, "-m", "labkit", "grade", *map(str, words), "--out", str(out)],
        env=clean | {"PYTHONPATH": str(ROOT)} | environment, cwd=out.parent, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def finish(process, out) -> Graded:
    try:
        said, _ = process.communicate(timeout=LONGEST_SECONDS)
    finally:
        process.kill()
    return Graded(process.returncode, said, out)


def grade(*words, out, **more) -> Graded:
    return finish(start(*words, out=out, **more), out)


def a_copy(folder, lab=LAB, make=None) -> Path:
    """A submission that holds one lab, within `folder`: the solution, or what `make` lays out."""
    submission = folder / "anna"
    inside = submission / lab.slug
    inside.mkdir(parents=True)
    (make or edited(lab.solution, []))(inside)
    return submission


# ---- what there is in a submission ----


@pytest.fixture(scope="module")
def one_of_two(tmp_path_factory):
    """The solution of one lab, graded on two."""
    folder = tmp_path_factory.mktemp("grade")
    submission = a_copy(folder)
    return grade(submission, "--lab", LAB.number, "--lab", OTHER.number, out=folder / "out")


def test_a_lab_that_is_there_is_graded(one_of_two):
    assert one_of_two.status == 0, one_of_two.said
    played, _ = one_of_two.only["labs"]
    assert (played["outcome"], played["points"]) == ("passed", played["max_points"])
    assert (one_of_two.out / "anna" / played["folder"] / "timeline.html").is_file()


def test_a_lab_that_is_not_there_has_no_points_and_one_line(one_of_two):
    _, missing = one_of_two.only["labs"]
    assert (missing["outcome"], missing["points"], missing["folder"]) == ("failed", 0, "")
    assert missing["max_points"] == sum(check["points"] for check in checks_of(OTHER)) > 0
    assert missing["notes"] == [f"{OTHER.slug} is not in what was handed in."]
    assert {check["outcome"] for check in missing["checks"]} == {"not run"}
    assert "Traceback" not in one_of_two.said


def test_a_labs_folder_without_its_scripts_has_no_points_and_one_line(tmp_path):
    submission = a_copy(
        tmp_path, make=lambda folder: (folder / "README.md").write_text("I will do it tomorrow.\n")
    )
    graded = grade(submission, out=tmp_path / "out")
    assert graded.status == 0, graded.said
    [missing] = graded.only["labs"]
    assert (missing["outcome"], missing["points"]) == ("failed", 0) and missing["max_points"] > 0
    assert len(missing["notes"]) == 1 and f"{LAB.slug} holds none of" in missing["notes"][0]


def test_what_is_handed_in_is_not_written_over(tmp_path):
    """The grades go to the folder in which the submissions are."""
    (tmp_path / "in").mkdir()
    submission = a_copy(tmp_path / "in", make=lambda folder: (folder / "notes.txt").write_text("mine\n"))
    for _ in range(2):
        graded = grade(submission, "--lab", LAB.number, out=tmp_path / "in")
        assert graded.status == 0, graded.said
        assert (submission / LAB.slug / "notes.txt").read_text() == "mine\n"
        assert graded.only["name"] == "in-anna"


def test_the_totals_are_those_of_the_labs(one_of_two):
    record = one_of_two.only
    for key in ("points", "max_points"):
        assert record[key] == sum(result[key] for result in record["labs"])
    assert (record["name"], record["outcome"]) == ("anna", "failed")


def test_the_checks_of_a_lab_are_told_without_playing_it(one_of_two):
    played, _ = one_of_two.only["labs"]
    told = [(check["id"], check["title"], check["max_points"], check["task"]) for check in played["checks"]]
    assert told == [(one["id"], one["title"], one["points"], one["todo"]) for one in checks_of(LAB)]


def test_a_refused_archive_has_no_points_and_one_line(tmp_path):
    with tarfile.open(tmp_path / "bert.tar", "w") as archive:
        archive.add(LAB.solution / "worker.py", "../worker.py")
    graded = grade(tmp_path / "bert.tar", "--lab", LAB.number, out=tmp_path / "out")
    assert graded.status == 0, graded.said
    record = graded.only
    assert (record["name"], record["points"], record["outcome"]) == ("bert", 0, "failed")
    assert len(record["notes"]) == 1 and "bert.tar" in record["notes"][0]
    assert "Traceback" not in graded.said
    assert not (tmp_path / "worker.py").exists()


@pytest.mark.parametrize(
    "words, said",
    [(("nobody.zip",), "nobody.zip is not there"), ((".", "--format", "pdf"), "there is no format pdf")],
)
def test_a_wrong_command_is_told_in_one_line(tmp_path, words, said):
    graded = grade(*words, out=tmp_path / "out")
    assert graded.status == 2
    assert said in graded.said and len(graded.said.strip().splitlines()) == 1
    assert not graded.out.exists()


# ---- the time is over ----


def test_when_the_time_is_over_what_has_ended_counts(tmp_path):
    first, *_ = checks_of(LAB)
    hangs = edited(LAB.solution, [])

    def make(folder):
        hangs(folder)
        worker = folder / "worker.py"
        worker.write_text(worker.read_text().replace("def main():", "def main():\n    stopping.wait(600)", 1))

    graded = grade(a_copy(tmp_path, make=make), "--lab", LAB.number, "--timeout", 6, out=tmp_path / "out")
    assert graded.status == 0, graded.said
    [result] = graded.only["labs"]
    assert graded.only["outcome"] == result["outcome"] == "timed out"
    outcomes = {check["id"]: check["outcome"] for check in result["checks"]}
    assert outcomes[first["id"]] == "passed" and result["points"] >= first["points"]
    late = [check for check in result["checks"] if check["outcome"] == "timed out"]
    assert late and set(outcomes.values()) <= {"passed", "failed", "timed out", "not run"}
    assert any("worker.py line" in check["message"] for check in late)


# ---- a lost point is explained, and played again ----


def test_a_lost_point_is_explained_and_played_again(tmp_path):
    wrong = next(one for one in wrong_ones(OTHER) if one.check == "a_killed_worker_loses_nothing")
    submission = a_copy(tmp_path, OTHER, edited(OTHER.solution, wrong.edits))
    graded = grade(submission, "--lab", OTHER.number, "--explain", out=tmp_path / "out")
    assert graded.status == 0, graded.said
    [result] = graded.only["labs"]
    failed = next(check for check in result["checks"] if check["id"] == wrong.check)
    assert failed["outcome"] == "failed"
    story = failed["message"].splitlines()
    assert (
        story[0] in graded.said and f"{failed['title']}: {failed['max_points']} points not got" in graded.said
    )
    assert any(line.strip().startswith("+") and "killed" in line for line in story), "no step says when"
    [command] = {line.strip() for line in graded.said.splitlines() if f"{wrong.check}.json" in line}
    again = grade(*command.split()[2:], out=tmp_path / "unused")
    assert again.status == 1
    assert story[0] in again.said


# ---- infrastructure ----


def kill_each_broker(grading, times):
    """Kill the broker of a grading under way, so many times, each its own."""
    killed = set()

    def brokers():
        return {pid for pid, line in descendants(grading.pid).items() if "valkey-server" in line} - killed

    while len(killed) < times and grading.poll() is None:
        for pid in wait_until(lambda: brokers() or (grading.poll() is not None and {0}), 60) - {0}:
            os.kill(pid, signal.SIGKILL)
            killed.add(pid)
    return killed


@needs_proc
@pytest.mark.parametrize("times, outcome, status", [(1, "passed", 0), (2, "infrastructure", 3)])
def test_a_broker_that_is_killed_from_outside_costs_no_point(tmp_path, times, outcome, status):
    started = start(a_copy(tmp_path), "--lab", LAB.number, out=tmp_path / "out")
    killer = threading.Thread(target=kill_each_broker, args=(started, times))
    killer.start()
    graded = finish(started, tmp_path / "out")
    killer.join()
    assert graded.status == status, graded.said
    record = graded.only
    assert record["outcome"] == outcome, graded.said
    assert "graded 2 times" in record["labs"][0]["notes"][-1]
    assert (record["points"] == record["max_points"]) == (outcome == "passed")


def test_a_port_that_is_taken_is_infrastructure(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"redis://127.0.0.1:{taken.getsockname()[1]}/0"
        graded = grade(a_copy(tmp_path), "--lab", LAB.number, "--brokers", url, out=tmp_path / "out")
    assert graded.status == 3, graded.said
    assert graded.only["outcome"] == "infrastructure"
    assert {check["outcome"] for check in graded.only["labs"][0]["checks"]} == {"infrastructure"}


@pytest.mark.skipif(not shutil.which("bwrap"), reason="a disk that is full is made with bubblewrap")
def test_a_full_disk_is_infrastructure(tmp_path):
    submission = a_copy(tmp_path)
    disk = tmp_path / "disk"
    disk.mkdir()
    small = ["bwrap", "--dev-bind", "/", "/", "--size", "200000", "--tmpfs", str(disk), "--"]
    graded = grade(submission, "--lab", LAB.number, out=tmp_path / "out", before=small, TMPDIR=str(disk))
    assert graded.status == 3, graded.said
    record = graded.only
    assert record["outcome"] == "infrastructure"
    assert "Traceback" not in graded.said
    said = {check["message"] for check in record["labs"][0]["checks"] if check["outcome"] == "infrastructure"}
    assert said and all("No space left on device" in one or "disk is full" in one for one in said), said
