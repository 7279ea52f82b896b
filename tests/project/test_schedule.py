"""Checks that wait for others: begun early, given up when one of those fails, and not begun while nothing passes."""

import threading
import time

import pytest

from labkit.course import lab
from labkit.grader import submission
from labkit.grader.failure import CheckFailed
from labkit.grader.hold_ups import DOUBTFUL_SECONDS
from labkit.grader.run import Run
from labkit.grader.schedule import FAILED, NOT_RUN, PASSED, TIMED_OUT, Check, Schedule

LONG = 60  # seconds: a scene that nobody gives up would wait so long
SOON = 10


@pytest.fixture(scope="module")
def run():
    with Run(lab(3), submission.read(lab(3), lab(3).solution)) as running:
        yield running


def check(name, play, *after):
    return Check(name, name, 1, after, play)


def passes():
    pass


def fails():
    raise CheckFailed("it does not work")


def outcomes(schedule, *names):
    return [schedule.outcome(name).outcome for name in names]


def test_a_check_is_begun_before_those_that_it_waits_for_have_ended(run):
    begun = threading.Event()

    def waits_until_the_other_is_begun():
        assert begun.wait(SOON)

    def begins(stage):
        begun.set()

    checks = [
        check("first", passes),
        check("slow", waits_until_the_other_is_begun, "first"),
        check("later", begins, "slow"),
    ]
    schedule = Schedule(run, checks)
    assert outcomes(schedule, "first", "slow", "later") == [PASSED] * 3


def test_a_play_is_given_up_when_a_check_fails_that_it_waits_for(run):
    begun = threading.Event()

    def fails_when_the_other_has_begun():
        assert begun.wait(SOON)
        fails()

    def waits(scene):
        begun.set()
        scene.wait(lambda: False, within=LONG)

    checks = [
        check("first", passes),
        check("failing", fails_when_the_other_has_begun),
        check("waiting", waits, "failing"),
        check("after that", waits, "waiting"),
    ]
    began = time.monotonic()
    schedule = Schedule(run, checks)
    assert outcomes(schedule, "failing", "waiting", "after that") == [FAILED, NOT_RUN, NOT_RUN]
    assert schedule.outcome("after that").waits_for == "failing"
    assert time.monotonic() - began < LONG


def test_nothing_more_is_begun_while_nothing_has_passed(run):
    begun = threading.Event()

    def fails_after_a_while():
        begun.wait(0.5)  # long enough for the others, if they were begun
        fails()

    checks = [
        check("first", fails_after_a_while),
        check("second", begun.set, "first"),
        check("third", begun.set, "second"),
    ]
    schedule = Schedule(run, checks)
    assert outcomes(schedule, "first", "second", "third") == [FAILED, NOT_RUN, NOT_RUN]
    assert not begun.is_set()


def test_what_a_play_found_out_does_not_count_when_it_should_not_have_been_played(run):
    ended = threading.Event()

    def fails_when_the_other_has_ended():
        assert ended.wait(SOON)
        fails()

    checks = [
        check("first", passes),
        check("failing", fails_when_the_other_has_ended),
        check("quick", ended.set, "failing"),
    ]
    schedule = Schedule(run, checks)
    assert schedule.outcome("quick").outcome == NOT_RUN


def test_a_check_that_must_be_alone_is_begun_when_all_others_have_ended(run):
    begun, seen = threading.Event(), []

    def slow():
        seen.append(begun.wait(0.5))  # long enough for the other, if it were begun

    checks = [
        check("first", passes),
        Check("alone", "alone", 1, ("first",), begun.set, alone=True),
        check("slow", slow, "first"),
    ]
    schedule = Schedule(run, checks)
    assert outcomes(schedule, "first", "alone", "slow") == [PASSED] * 3
    assert seen == [False]


def test_a_stopped_schedule_touches_its_run_no_more(run):
    begun, over = threading.Event(), threading.Event()

    def waits(scene):
        begun.set()
        try:
            scene.wait(lambda: False, within=LONG)
        finally:
            over.set()

    schedule = Schedule(run, [check("waiting", waits), check("later", passes, "waiting")])
    assert begun.wait(SOON)
    schedule.stop()
    assert over.is_set()
    assert not {"waiting", "later"} & {thread.name for thread in threading.enumerate()}
    assert outcomes(schedule, "waiting", "later") == [NOT_RUN, NOT_RUN]


def test_a_key_of_another_type_is_the_submissions_doing(run):
    def looks(scene):
        scene.ask("SET", scene.queue, "no list")
        scene.depth()

    found = Schedule(run, [check("looks", looks)]).outcome("looks")
    assert found.outcome == FAILED
    assert "another type than its contract says" in found.message


def test_a_check_that_never_ends_keeps_no_other_from_its_outcome(run, monkeypatch):
    monkeypatch.setattr("labkit.grader.schedule.GIVEN_UP_WITHIN_SECONDS", 0.5)
    over = threading.Event()
    schedule = Schedule(run, [check("first", passes), check("endless", over.wait, "first")], timeout=1)
    try:
        assert outcomes(schedule, "first", "endless") == [PASSED, TIMED_OUT]
    finally:
        over.set()


def hold_up(scene):
    """Keep the proxies waiting, as a machine does that has too much to do."""

    async def hold():
        time.sleep(DOUBTFUL_SECONDS + 0.1)

    scene.loop.call(hold())
    assert scene.wait(lambda: scene.hold_ups.make_doubtful([]), within=SOON)


@pytest.mark.parametrize(
    ("held_up", "wrong", "outcome", "plays"),
    [
        ({1}, {1}, PASSED, 2),
        ({1}, {1, 2}, FAILED, 2),
        ({1, 2}, {1, 2}, FAILED, 2),
        ({1}, set(), PASSED, 1),
        (set(), {1}, FAILED, 1),
    ],
)
@pytest.mark.parametrize("in_cases", [False, True])
def test_a_failure_in_a_scene_that_was_held_up_counts_when_it_comes_twice(
    run, in_cases, held_up, wrong, outcome, plays
):
    played = []

    def play(scene):
        played.append(scene)
        scene.push(1)
        if len(played) in held_up:
            hold_up(scene)
        scene.expect(len(played) not in wrong, f"wrong at play {len(played)}")

    def play_case(stage):
        stage.play_each(["case"], lambda case: play(stage.scene(case)))

    found = Schedule(run, [check("check", play_case if in_cases else lambda scene: play(scene))]).outcome(
        "check"
    )
    assert (found.outcome, len(played)) == (outcome, plays)
    assert found.scenes == played[-1:], "the one that counts has a timeline"
    assert found.counts["sent"] == 1
    if outcome == FAILED:
        assert f"wrong at play {plays}" in found.message
