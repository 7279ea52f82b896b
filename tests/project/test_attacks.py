"""The attacks of tests/attacks: each ends in a clear outcome, gains nothing, disturbs nobody and leaves nothing.

They are graded one after the other, and beside them, all the time, an honest submission, again and again.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jsonschema
import pytest
from arena import (
    GONE_WITHIN_SECONDS,
    HONEST_POINTS,
    LAB,
    SECRET,
    Arena,
    Attack,
    Gradings,
    attacks,
    files_of,
    processes_of,
)
from grading import checks
from test_check_command import SCHEMA

from labkit.grade.one import Request, grade

LEVELS = ["none", "process", "bubblewrap"]  # from the weakest to the strongest
STRONGEST = "bubblewrap" if shutil.which("bwrap") else "process"
AT_PROCESS_TOO = {
    "becomes_a_daemon", "fills_the_disk", "fills_the_memory", "forks_without_end", "kills_its_ancestors",
    "overwrites_the_report", "reads_the_grader",
}  # fmt: skip
LONGEST_REPORT = 4 * 2**20  # bytes of a result, or of a timeline, whatever the submission has said
ORDER = re.compile(r"^\s*::|##(vso)?\[", re.MULTILINE)  # lines that the runner of a workflow obeys
TAGS = ("<script>alert", "<img src=x")  # of the attacks' own
ATTACKS = attacks()
CASES = [(attack, STRONGEST) for attack in ATTACKS]
CASES += [
    (attack, "process") for attack in ATTACKS if attack.name in AT_PROCESS_TOO and STRONGEST != "process"
]


@pytest.fixture(scope="module")
def arena() -> Iterator[Arena]:
    made = Arena()
    yield made
    made.close()


@pytest.fixture(scope="module")
def gradings(request, arena) -> Iterator[Gradings]:
    """The gradings of all attacks that the selected tests are about."""
    items = [
        item for item in request.session.items if item.path == request.path and hasattr(item, "callspec")
    ]
    wanted = [(item.callspec.params["attack"], item.callspec.params["level"]) for item in items]
    made = Gradings(arena, [case for case in wanted if is_held(*case)], STRONGEST)
    yield made
    made.close()


def is_held(attack: Attack, level: str) -> bool:
    return LEVELS.index(attack.holds) <= LEVELS.index(level)


@pytest.mark.parametrize("attack, level", CASES, ids=[f"{attack.name}-{level}" for attack, level in CASES])
def test_an_attack_fails(attack, level, gradings):
    if not is_held(attack, level):
        pytest.skip("only bubblewrap holds it, which is not on this machine")
    after = gradings.attack(attack, level)
    graded = after.graded

    def expect(condition: object, message: str) -> None:
        if not condition:
            pytest.fail(f"{message}\n{graded}", pytrace=False)

    expect(graded.result, "The grader left no result.")
    expect_a_clear_end(expect, attack, graded.result)
    expect_words_that_harm_nobody(expect, attack, graded)
    expect(not after.processes, f"Processes are left: {after.processes}")
    expect(not after.files, f"Files are left: {after.files[:10]}")
    expect(not after.outside, f"It has done what it was not to do: {after.outside[:10]}")
    expect(not graded.calls, f"It has called somebody: {graded.calls}")
    expect(not graded.listened, "It could be called from outside.")
    beside = gradings.beside(graded)
    expect(beside and beside[-1].began > graded.ended, "No honest submission was graded afterward.")
    for honest in beside:
        passed = honest.result and honest.result["points"] == HONEST_POINTS
        expect(passed, f"An honest submission was disturbed:\n{honest}\nBeside it went on:")


def expect_a_clear_end(expect: Callable, attack: Attack, result: dict) -> None:
    """The outcome is the one that is meant, in the words that are meant, and its points are those of its checks."""
    jsonschema.validate(result, SCHEMA)
    played = {check["id"]: check for check in result["checks"]}
    outcomes = {check["outcome"] for check in played.values()}
    expect(
        "infrastructure" not in outcomes, "What the submission has done reads as the grader's own trouble."
    )
    check = played[attack.check]
    expect(check["outcome"] in attack.outcome, f"{attack.check} was to end as {' or '.join(attack.outcome)}.")
    choices = [[words] if isinstance(words, str) else words for words in attack.says]
    missing = [words for words in choices if not any(each in check["message"] for each in words)]
    expect(not missing, f"{attack.check} does not say {missing}.")
    missing = [words for words in attack.notes if not any(words in note for note in result["notes"])]
    expect(not missing, f"No note says {missing}.")
    earned = sum(check["max_points"] for check in played.values() if check["outcome"] == "passed")
    expect(result["points"] == earned, f"It has {result['points']} points, and has earned {earned}.")


def expect_words_that_harm_nobody(expect: Callable, attack: Attack, graded) -> None:
    """Nothing secret is told, nothing steers a terminal, a workflow or a browser, and all of it is short."""
    expect(
        "Traceback (most" not in graded.output and "INTERNALERROR" not in graded.output, graded.output[-2000:]
    )
    given_away = [secret for secret in (SECRET, *attack.never) if secret in graded.all_words]
    expect(not given_away, f"Given away: {given_away}")
    expect(not ORDER.search(graded.shown_words), "The runner of a workflow would obey it.")
    steering = {char for char in graded.shown_words if not char.isprintable()} - {"\n"}
    expect(not steering, f"It steers the terminal: {steering}")
    expect(not any("\n" in note for note in graded.result["notes"]), "A note is one line.")
    page = (graded.folder / "result" / "timeline.html").read_text()
    expect(not any(tag in page for tag in TAGS), "A browser would run it.")
    sizes = {path.name: path.stat().st_size for path in (graded.folder / "result").iterdir()}
    expect(max(sizes.values()) < LONGEST_REPORT, f"The report is too large: {sizes}")


def test_an_archive_that_leaves_its_folder_is_refused_whole(tmp_path):
    archive = tmp_path / "submission.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(LAB.solution, LAB.slug)
        tar.add(LAB.solution / "worker.py", f"../{'../' * 20}{tmp_path}/escaped.py".replace("//", "/"))
    graded = grade(str(archive), "anna", Request(labs=(LAB,)), tmp_path / "out")
    assert (graded["outcome"], graded["points"]) == ("failed", 0)
    assert graded["max_points"] > 0 and graded["notes"]
    assert {check["outcome"] for check in graded["labs"][0]["checks"]} == {"not run"}
    assert sorted(os.listdir(tmp_path)) == ["out", "submission.tar.gz"]


def test_there_are_enough_attacks_and_each_is_told_in_full():
    assert len(ATTACKS) >= 26
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS)
    assert {attack.name for attack in ATTACKS if is_held(attack, "process")} >= AT_PROCESS_TOO
    for attack in ATTACKS:
        assert attack.check in checks(attack.lab), attack.name
        assert set(attack.outcome) <= {"passed", "failed", "timed out"}, attack.name
        assert len(attack.why) > 40 and attack.why.endswith((".", "?")), attack.name
        assert attack.first or attack.files or attack.links or attack.make or attack.edits, attack.name


def test_what_an_attack_leaves_would_be_seen(arena):
    mark = arena.words("nobody")["MARK"]
    assert not processes_of(mark) and not files_of(mark)
    left = subprocess.Popen([sys.executable, "-c", "input()", mark], stdin=subprocess.PIPE)
    file = Path(f"/tmp/{mark}-1")
    try:
        file.touch()
        assert soon(lambda: processes_of(mark).keys() == {left.pid})
        assert files_of(mark) == [str(file)]
    finally:
        file.unlink()
        left.communicate()
    with socket.create_connection(("127.0.0.1", int(arena.words("nobody")["LISTENER"]))) as call:
        call.sendall(mark.encode())
    assert soon(lambda: arena.calls_since(0))


def soon(condition: Callable[[], object]) -> object:
    """Wait for the condition; its last value."""
    deadline = time.monotonic() + GONE_WITHIN_SECONDS
    while not (value := condition()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return value
