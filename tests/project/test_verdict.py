"""What became of each task, from histories written by hand: every task is exactly one thing."""

import pytest

from labkit.grader.history import (
    BROKER_KILLED,
    BROKER_RESTARTED,
    COMMAND,
    KILLED,
    REPLY,
    SENT,
    WORK_FAILED,
    WORK_FINISHED,
    WORK_STARTED,
    History,
)
from labkit.grader.verdict import Verdict, in_hand, judge


class Play:
    """A history in short words: who did what to which task."""

    def __init__(self, sent=1):
        self.history = History()
        self.tasks = list(range(1, sent + 1))
        self.numbers = {}
        for number in self.tasks:
            self.history.add("grader", SENT, tasks=(number,))

    def command(self, who, verb, *, names=(), hands=(), answered=True, **reply):
        """A command that names tasks, and its answer, which may hand some over."""
        self.numbers[who] = number = self.numbers.get(who, 0) + 1
        self.history.add(who, COMMAND, verb=verb, tasks=names, number=number)
        if answered:
            self.history.add(who, REPLY, verb=verb, tasks=hands, number=number, **reply)

    def take(self, who, *tasks, **more):
        self.command(who, "BLMOVE", hands=tasks, **more)

    def work(self, who, *tasks):
        for task in tasks:
            self.history.add(who, WORK_STARTED, tasks=(task,))
            self.history.add(who, WORK_FINISHED, tasks=(task,))

    def acknowledge(self, who, *tasks, **more):
        self.command(who, "LREM", names=tasks, **more)

    def do(self, who, *tasks):
        for task in tasks:
            self.take(who, task)
            self.work(who, task)
            self.acknowledge(who, task)

    def kill(self, who):
        self.history.add(who, KILLED)

    def judge(self, where=None, dead=()) -> Verdict:
        verdict = judge(self.history, self.tasks, where or {}, set(dead))
        groups = (verdict.done_once, verdict.duplicated, verdict.lost, verdict.waiting, verdict.dead)
        assert sorted(number for group in groups for number in group) == self.tasks, (
            "each task is exactly one thing"
        )
        assert verdict.sent == len(self.tasks)
        assert verdict.counts()["done_once"] == len(verdict.done_once)
        return verdict

    def held_by(self, who):
        return in_hand(self.history.events(), who)


def test_done_once():
    play = Play(3)
    play.do("alice", 1, 3)
    play.do("bob", 2)
    verdict = play.judge()
    assert verdict.done_once == [1, 2, 3]
    assert verdict.done == 3
    assert not verdict.recovered


def test_lost_waiting_and_dead():
    play = Play(4)
    play.take("alice", 1)
    play.kill("alice")
    verdict = play.judge(where={2: ["images"], 3: ["images:processing:alice"]}, dead=[4])
    assert (verdict.lost, verdict.waiting, verdict.dead, verdict.done) == ([1], [2, 3], [4], 0)


def test_what_was_done_and_is_dead_or_still_queued_counts_as_done():
    play = Play(2)
    play.work("alice", 1, 2)
    verdict = play.judge(where={1: ["images"]}, dead=[2])
    assert verdict.done_once == [1, 2]
    assert verdict.done_and_dead == [2]


def test_failed_work_is_not_done():
    play = Play()
    play.take("alice", 1)
    play.history.add("alice", WORK_STARTED, tasks=(1,))
    play.history.add("alice", WORK_FAILED, tasks=(1,))
    assert play.judge(where={1: ["images"]}).waiting == [1]


def test_unexpected_is_work_that_nobody_asked_for():
    play = Play()
    play.do("alice", 1)
    play.history.add("alice", WORK_FINISHED, detail="0000-made-up")
    verdict = play.judge()
    assert verdict.unexpected == ["0000-made-up"]
    assert verdict.done_once == [1]


# ---- repeats, and what excuses them ----


def test_a_repeat_without_a_fault_has_no_excuse():
    play = Play()
    play.do("alice", 1)
    play.do("bob", 1)
    verdict = play.judge()
    assert verdict.duplicated == verdict.repeated_without_cause == [1]


def test_a_kill_between_the_work_and_the_acknowledgement_excuses_one_repeat():
    play = Play(2)
    play.take("alice", 1)
    play.work("alice", 1)
    play.kill("alice")
    play.do("bob", 1, 2)
    verdict = play.judge()
    assert (verdict.duplicated, verdict.excused, verdict.repeated_without_cause) == ([1], [1], [])
    assert verdict.recovered == [1]
    play.work("carol", 1)
    assert play.judge().repeated_without_cause == [1]


@pytest.mark.parametrize("when", ["before the work", "after the acknowledgement"])
def test_a_kill_at_another_moment_excuses_nothing(when):
    play = Play()
    play.take("alice", 1)
    if when == "after the acknowledgement":
        play.work("alice", 1)
        play.acknowledge("alice", 1)
    play.kill("alice")
    play.do("bob", 1)
    play.work("carol", 1)
    assert play.judge().repeated_without_cause == [1]


def test_an_acknowledgement_without_an_answer_has_not_happened():
    play = Play()
    play.take("alice", 1)
    play.work("alice", 1)
    play.acknowledge("alice", 1, answered=False)
    play.kill("alice")
    play.do("bob", 1)
    verdict = play.judge()
    assert verdict.excused == [1] and not verdict.repeated_without_cause


def test_a_kill_does_not_excuse_a_repeat_of_somebody_elses_task():
    play = Play(2)
    play.take("alice", 1)
    play.work("alice", 1)
    play.do("bob", 2)
    play.kill("alice")
    play.do("carol", 1, 2)
    verdict = play.judge()
    assert (verdict.excused, verdict.repeated_without_cause) == ([1], [2])


def test_two_kills_excuse_two_repeats():
    play = Play()
    for who in ("alice", "bob"):
        play.take(who, 1)
        play.work(who, 1)
        play.kill(who)
    play.do("carol", 1)
    verdict = play.judge()
    assert (verdict.duplicated, verdict.repeated_without_cause) == ([1], [])


def test_a_broker_that_is_being_killed_may_still_hand_out_a_task():
    play = Play(1)
    play.history.add("broker", BROKER_KILLED)
    play.take("alice", 1)
    play.work("alice", 1)
    play.history.add("broker", BROKER_RESTARTED)
    play.do("alice", 1)
    assert play.judge().repeated_without_cause == []
    play.do("alice", 1)
    assert play.judge().repeated_without_cause == [1]


def test_a_killed_broker_excuses_one_repeat_of_every_task_in_hand():
    play = Play(3)
    play.take("alice", 1)
    play.history.add("alice", WORK_STARTED, tasks=(1,))
    play.take("bob", 2)
    play.do("bob", 3)
    play.history.add("broker", BROKER_KILLED)
    play.history.add("alice", WORK_FINISHED, tasks=(1,))
    play.history.add("broker", BROKER_RESTARTED)
    play.do("alice", 1, 2, 3)
    verdict = play.judge()
    assert (verdict.duplicated, verdict.excused, verdict.repeated_without_cause) == ([1, 3], [1], [3])
    assert verdict.recovered == [1, 2]


def test_a_killed_rabbitmq_may_bring_back_what_was_acknowledged_and_each_copy_of_it():
    play = Play(2)
    play.command("alice", "basic.deliver", hands=(1,))
    play.history.add("alice", WORK_FAILED, tasks=(1,))
    play.command("alice", "basic.publish", names=(1,))  # to a retry queue
    play.command("alice", "basic.ack", names=(1,))
    for task in (1, 2):
        play.command("alice", "basic.deliver", hands=(task,))
        play.work("alice", task)
        play.command("alice", "basic.ack", names=(task,))
    play.history.add("broker", BROKER_KILLED)
    play.history.add("broker", BROKER_RESTARTED)
    play.work("alice", 1, 1, 2)
    assert play.judge().repeated_without_cause == []
    play.work("alice", 2)
    assert play.judge().repeated_without_cause == [2]


def test_recovered_was_hit_and_done_all_the_same():
    play = Play(2)
    play.take("alice", 1)
    play.kill("alice")
    play.do("bob", 1, 2)
    verdict = play.judge()
    assert (verdict.done_once, verdict.recovered) == ([1, 2], [1])


# ---- in whose hands ----


def test_a_task_is_in_hand_from_the_take_to_the_acknowledgement():
    play = Play()
    assert play.held_by("alice") == set()
    play.take("alice", 1)
    assert play.held_by("alice") == {1}
    play.work("alice", 1)
    assert play.held_by("alice") == {1}
    play.acknowledge("alice", 1)
    assert play.held_by("alice") == set()


def test_a_take_without_an_answer_hands_nothing_over():
    play = Play()
    play.take("alice", 1, answered=False)
    assert play.held_by("alice") == set()


def test_acknowledgement_and_next_take_in_one_script():
    play = Play(2)
    play.take("alice", 1)
    play.work("alice", 1)
    play.command("alice", "EVALSHA", names=(1,), hands=(2,))
    assert play.held_by("alice") == {2}


def test_an_acknowledgement_within_multi_counts_when_exec_is_answered():
    play = Play()
    play.take("alice", 1)
    play.work("alice", 1)
    play.command("alice", "MULTI")
    play.command("alice", "LREM", names=(1,), detail="QUEUED")
    assert play.held_by("alice") == {1}
    play.command("alice", "EXEC")
    assert play.held_by("alice") == set()


@pytest.mark.parametrize(
    "ending", ["DISCARD", "EXEC that found a watched key changed", "EXEC without an answer"]
)
def test_an_acknowledgement_within_multi_that_does_not_happen(ending):
    play = Play()
    play.take("alice", 1)
    play.work("alice", 1)
    play.command("alice", "MULTI")
    play.command("alice", "LREM", names=(1,), detail="QUEUED")
    play.command("alice", ending.split()[0], answered="without" not in ending, empty="watched" in ending)
    assert play.held_by("alice") == {1}
    play.kill("alice")
    play.do("bob", 1)
    assert play.judge().excused == [1]


def test_an_error_is_no_acknowledgement():
    play = Play()
    play.take("alice", 1)
    play.work("alice", 1)
    play.command("alice", "LREM", names=(1,), detail="WRONGTYPE wrong kind of value", empty=True)
    assert play.held_by("alice") == {1}


def test_a_take_within_multi_hands_over_at_exec():
    play = Play()
    play.command("alice", "MULTI")
    play.command("alice", "LMOVE", detail="QUEUED")
    assert play.held_by("alice") == set()
    play.command("alice", "EXEC", hands=(1,))
    assert play.held_by("alice") == {1}


def test_a_kill_empties_the_hands():
    play = Play()
    play.take("alice", 1)
    play.kill("alice")
    assert play.held_by("alice") == set()


# ---- at most once --------------------------------------------------------------------------------------------


def test_a_task_that_its_take_removed_is_parted_with_when_the_work_is_done():
    play = Play(2)
    play.command("alice", "RPOP", hands=(1,))
    assert play.held_by("alice") == {1}
    play.work("alice", 1)
    assert play.held_by("alice") == set()
    play.command("alice", "RPOP", hands=(2,))
    play.kill("alice")
    verdict = play.judge()
    assert (verdict.done_once, verdict.lost, verdict.recovered) == ([1], [2], [])
    assert (verdict.lost_in_hand, verdict.lost_without_cause) == ([2], [])


def test_a_task_that_its_take_moved_is_in_hand_until_it_is_acknowledged():
    play = Play(1)
    play.take("alice", 1)
    play.work("alice", 1)
    assert play.held_by("alice") == {1}


def test_a_task_that_was_removed_put_back_and_taken_safely_is_in_hand_until_it_is_acknowledged():
    play = Play(1)
    play.command("bob", "RPOP", hands=(1,))
    play.command("bob", "LPUSH", names=(1,))
    play.take("bob", 1)
    play.work("bob", 1)
    assert play.held_by("bob") == {1}
    play.kill("bob")
    play.do("carol", 1)
    verdict = play.judge()
    assert (verdict.duplicated, verdict.excused, verdict.repeated_without_cause) == ([1], [1], [])


def test_a_loss_without_a_fault_is_nobodys_promise():
    play = Play(3)
    play.command("alice", "RPOP", hands=(1, 2))  # two at a time, and the second is forgotten
    play.work("alice", 1)
    play.history.add("alice", WORK_STARTED, tasks=(2,))
    play.history.add("alice", WORK_FAILED, tasks=(2,))
    play.command("alice", "LPUSH", names=(2,))  # set aside somewhere from where it vanished
    play.command("alice", "RPOP", hands=(3,))
    play.kill("alice")
    verdict = play.judge()
    assert (verdict.lost, verdict.lost_in_hand, verdict.lost_without_cause) == ([2, 3], [3], [2])
