"""The presenter's keys, in a terminal of their own: on, to a step, hands on the scene, the end."""

import contextlib
import fcntl
import os
import signal
import struct
import termios

import pytest
from demonstration import Demo, Terminal, family_of

from labkit import course
from labkit.demo import presenter as presenting
from labkit.demo import script
from labkit.demo.presenter import HELP
from labkit.demo.stage import PlainStage

STEPS = script.read(course.lab(3)).last
WAITS = HELP.format(last=STEPS)


class Presenter:
    """Types at a demonstration in one terminal, and reads what it shows."""

    def __init__(self, home, photos, **asked):
        folder = {"photos": photos} if photos else {}
        self.demo = Demo(home, **({"stage": "single", "auto": False} | folder | asked))
        self.terminal = Terminal(self.demo)

    def types(self, keys):
        os.write(self.terminal.master, keys.encode())

    def resizes(self, columns, rows):
        size = struct.pack("HHHH", rows, columns, 0, 0)
        fcntl.ioctl(self.terminal.master, termios.TIOCSWINSZ, size)

    def sees(self, *words):
        """All these words come on the screen, in this order, after what was seen before."""
        for each in words:
            self.terminal.read_until(each.encode())
            self.terminal.seen = self.terminal.seen.partition(each.encode())[2]

    def goes_on_until(self, words, waits=WAITS):
        """Press Enter at every cue until the words are shown; waits: what the stage says at a cue."""
        while words.encode() not in self.terminal.seen:
            shown, cue, later = self.terminal.seen.partition(waits.encode())
            if cue:
                self.terminal.seen = later
                self.types("\r")
            else:
                assert self.terminal.read(), f"{words!r} was never shown: {shown[-2000:]!r}"
        self.sees(words)

    def end(self):
        while self.terminal.read():
            pass
        return self.terminal.status()


@pytest.fixture
def performance(home):
    """Begins a demonstration; whatever becomes of the test, it is ended."""
    made = []

    def begin(photos, **asked):
        made.append(Presenter(home, photos, **asked))
        return made[-1]

    yield begin
    for each in made:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(each.terminal.pid, signal.SIGKILL)
            each.terminal.status()


@pytest.fixture
def presenter(performance, photos):
    return performance(photos)


def test_each_step_waits_for_a_key_and_q_ends_it(presenter):
    presenter.sees(f"step 1 of {STEPS}")
    for number in range(2, 5):
        presenter.goes_on_until(f"step {number} of {STEPS}")
    family = family_of(presenter.terminal.pid)
    presenter.types("q")
    assert presenter.end() == 0
    assert presenter.demo.leaves_nothing(family)
    assert not presenter.demo.out.exists(), "what was not played to its end replaces nothing"


def test_who_ends_it_when_all_is_seen_is_told_the_verdict(presenter):
    presenter.sees(f"step 1 of {STEPS}")
    presenter.types(f"{STEPS}\r")
    presenter.sees("Exactly once: nobody has it.", "were done twice, and no other")
    presenter.types("q")
    assert presenter.end() == 0
    assert b"what became of the tasks" in presenter.terminal.seen
    assert presenter.demo.out.exists()


def test_hands_are_laid_on_workers_and_broker_and_a_step_sets_all_anew(presenter):
    presenter.goes_on_until("are at work")
    presenter.types("k")
    presenter.sees("was killed with SIGKILL)", "✗ KILLED")
    presenter.types("+")
    presenter.sees("was started)")
    presenter.types("p")
    presenter.sees("is paused (SIGSTOP)")
    presenter.types("p")
    presenter.sees("goes on (SIGCONT))")
    presenter.types("b")
    presenter.sees("the broker was killed with SIGKILL)", "the broker was started again")
    presenter.types("-")
    presenter.sees("was asked to stop (SIGTERM)")
    presenter.types("2")
    presenter.sees("to step 2: Enter; Esc: stay here")
    presenter.types("\x7f")
    presenter.types("99\r")
    presenter.sees(f"there is no step 99: the last is {STEPS}")
    presenter.types("3\r")
    presenter.sees(f"step 3 of {STEPS}", "are at work")
    family = family_of(presenter.terminal.pid)
    presenter.types("q")
    assert presenter.end() == 0
    assert presenter.demo.leaves_nothing(family)


class Typed(PlainStage):
    """A stage on which these keys are typed; it notes what it was told to say of them."""

    def __init__(self):
        super().__init__(lambda: 0.0)
        self.keys, self.told = "", ""

    def typed(self):
        keys, self.keys = self.keys, ""
        return keys

    def prompt(self, words):
        self.told = words


def test_a_number_that_waits_for_enter_stays_told():
    stage = Typed()
    keys = presenting.Presenter(stage, STEPS, auto=False)
    stage.keys = "2"
    keys.look()
    for _ in range(2):
        assert stage.told == "to step 2: Enter; Esc: stay here"
        keys.tell("")  # the stage waits for a key now
    stage.keys = "\x7f"
    keys.look()
    assert stage.told == WAITS
    stage.keys = "\r"
    keys.look()
    assert keys.goes_on()
    stage.keys = "2\r"
    with pytest.raises(presenting.Jump, match="step 2"):
        keys.look()


def test_who_is_paused_can_be_killed_and_one_more_comes_under_a_new_name(presenter):
    presenter.goes_on_until("are at work")
    for _ in range(2):
        presenter.types("k")
        presenter.sees("was killed with SIGKILL)")
    presenter.types("+")
    presenter.sees("eve was started)")
    presenter.types("p")
    presenter.sees("eve is paused (SIGSTOP)")
    presenter.types("k")
    presenter.sees("eve was killed with SIGKILL)")
    presenter.types("k")
    presenter.sees("there is no worker to kill")
    presenter.types("q")
    assert presenter.end() == 0


IN_OTHER_LABS = [
    (1, "are at work"),
    (2, "alice waits at the broker"),
    (4, "3 tasks are delivered, task"),
    (5, "5 mails are sent"),
    (6, "are at work"),
]


@pytest.mark.parametrize(("lab", "moment"), IN_OTHER_LABS)
def test_hands_are_laid_on_every_lab_and_the_room_sees_it(performance, photos, lab, moment):
    waits = HELP.format(last=script.read(course.lab(lab)).last)
    presenter = performance(photos if lab == 6 else None, lab=lab)
    presenter.goes_on_until(moment, waits)
    presenter.types("p")
    presenter.sees("is paused (SIGSTOP)", "‖ PAUSED")
    presenter.types("p")
    presenter.sees("goes on (SIGCONT))")
    presenter.types("b")
    presenter.sees("the broker was killed with SIGKILL)", "the broker was started again")
    presenter.types("k")
    presenter.sees("was killed with SIGKILL)", "✗ KILLED")
    family = family_of(presenter.terminal.pid)
    presenter.types("q")
    assert presenter.end() == 0
    assert presenter.demo.leaves_nothing(family)


def test_a_terminal_that_becomes_too_small_says_so_until_it_is_large_enough(presenter):
    presenter.goes_on_until(f"step 2 of {STEPS}")
    presenter.resizes(60, 20)
    presenter.sees("This needs 80 × 24; there are 60 × 20.")
    presenter.resizes(100, 30)
    presenter.sees(f"step 2 of {STEPS}", WAITS)
    presenter.types("q")
    assert presenter.end() == 0


def test_keys_are_heard_while_it_goes_on_by_itself(performance, photos):
    presenter = performance(photos, auto=True, speed=3)
    presenter.sees("are at work")
    presenter.types(f"{STEPS}\r")
    presenter.sees(f"step {STEPS} of {STEPS}")
    assert presenter.end() == 0
    assert b"what became of the tasks" in presenter.terminal.seen
    assert presenter.terminal.is_restored()
