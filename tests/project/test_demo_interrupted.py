"""A demonstration that is interrupted, killed, or loses its terminal: nothing of it is left."""

import os
import re
import signal

import pytest
from demonstration import Demo, Terminal, family_of, read_until


@pytest.mark.parametrize(
    ("lab", "moment", "number"),
    [
        (3, "Tasks on large photographs", signal.SIGINT),
        (3, "tasks wait in images", signal.SIGTERM),
        (3, "are at work", signal.SIGINT),
        (3, "SIGKILL!", signal.SIGINT),
        (3, "has made the picture of task 13", signal.SIGTERM),
        (3, "stands still; task 15", signal.SIGHUP),
        (3, "What became of", signal.SIGINT),
        (1, "the page still loads", signal.SIGINT),
        (1, "$ curl", signal.SIGTERM),
        (1, "are at work", signal.SIGHUP),
        (2, "Now tasks come", signal.SIGINT),
        (2, "are alive, and try to connect", signal.SIGTERM),
        (4, "was told to wait", signal.SIGINT),
        (4, "$ python dlq.py", signal.SIGHUP),
        (5, "ten thousand", signal.SIGTERM),
        (5, "SIGKILL, with a reset", signal.SIGINT),
        (6, "It takes a moment", signal.SIGTERM),
        (6, "She comes again", signal.SIGHUP),
        (6, "broker is started again", signal.SIGINT),
    ],
)
def test_a_signal_at_any_moment_ends_it_and_leaves_nothing(home, photos, lab, moment, number):
    demo = Demo(home, lab=lab, **({"photos": photos} if lab in (3, 6) else {}))
    with demo.playing() as process:
        read_until(process.stdout, moment)
        family = family_of(process.pid)
        process.send_signal(number)
        _, said = process.communicate()
        assert process.returncode == 128 + number
    assert said == "lab: the demonstration was stopped; nothing of it is left running\n"
    assert len(family) >= 4, "the demonstration, its janitor, the starter and the broker at least"
    assert demo.leaves_nothing(family)
    assert not demo.out.exists(), "a demonstration that was stopped replaces nothing"


KILLED_AT = [
    (3, "He cannot, and does it again"),  # not at "SIGKILL!", where the only script may be dead already
    (1, "$ curl"),
    (2, "who knows nothing of it"),
    (4, "and waits for an answer"),
    (5, "bob works beside"),
    (6, "Lab 3 waited here"),
]


@pytest.mark.parametrize(("lab", "moment"), KILLED_AT)
def test_killed_itself_it_leaves_nothing_either(home, photos, lab, moment):
    demo = Demo(home, lab=lab, **({"photos": photos} if lab in (3, 6) else {}))
    with demo.playing() as process:
        read_until(process.stdout, moment)
        family = family_of(process.pid)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        assert len(family) >= 5, "a script at least, beside the machinery"
        assert demo.leaves_nothing(family)


def test_a_signal_while_the_photographs_are_drawn_leaves_none_half_drawn(home):
    demo = Demo(home)
    with demo.playing() as process:
        read_until(process.stdout, "being drawn")
        family = family_of(process.pid)
        process.send_signal(signal.SIGINT)
        process.communicate()
        assert process.returncode == 130
    assert demo.leaves_nothing(family)
    assert not list(demo.folder.iterdir())


def test_a_reader_that_has_gone_ends_it_without_a_traceback(home, photos):
    demo = Demo(home, photos=photos)
    with demo.playing() as process:
        read_until(process.stdout, "are at work")
        family = family_of(process.pid)
        process.stdout.close()
        assert "Traceback" not in (said := process.stderr.read()) and "Exception" not in said
        assert process.wait() == 128 + signal.SIGPIPE
    assert demo.leaves_nothing(family)


def test_in_a_terminal_it_ends_and_restores_it(home, photos):
    terminal = Terminal(Demo(home, photos=photos, stage="single"))
    while terminal.read():
        pass
    assert terminal.status() == 0
    assert b"\x1b[?1049h" in terminal.seen, "the live view has a screen of its own"
    assert terminal.is_restored()
    _, _, left = terminal.seen.rpartition(b"\x1b[?1049l")
    words = re.sub(r"\x1b\[[\d;?]*[a-z]", "", left.decode(), flags=re.IGNORECASE)
    assert re.search(r"done once +12 .*duplicated +2 .*lost +1 .*recovered +3 ", words, re.DOTALL), words
    assert str(home / "state" / "lab03" / "demo" / "out") in words


def test_ctrl_c_in_a_terminal_restores_it_and_leaves_nothing(home, photos):
    demo = Demo(home, photos=photos, stage="single")
    terminal = Terminal(demo)
    terminal.read_until(b"KILLED")
    family = family_of(terminal.pid)
    os.write(terminal.master, b"\x03")
    while terminal.read():
        pass
    assert terminal.status() == 130
    assert terminal.is_restored()
    _, _, left = terminal.seen.rpartition(b"\x1b[?1049l")
    assert left.count(b"\n") == 1 and b"stopped" in left, "one line on the terminal's own screen"
    assert demo.leaves_nothing(family)


def test_a_closed_terminal_ends_it_and_leaves_nothing(home, photos):
    demo = Demo(home, photos=photos, stage="single")
    terminal = Terminal(demo)
    terminal.read_until(b"KILLED")
    family = family_of(terminal.pid)
    os.close(terminal.master)
    assert terminal.status() == 128 + signal.SIGHUP
    assert demo.leaves_nothing(family)
