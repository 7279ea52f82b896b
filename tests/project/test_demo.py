"""The demonstrations: they show what they say, say what they did not show, and leave nothing behind."""

import contextlib
import inspect
import io
import json
import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
import xml.etree.ElementTree
from email import message_from_bytes
from pathlib import Path

import pypdf
import pytest
from PIL import Image
from rich.cells import cell_len
from rich.console import Console

from labkit import course, stubs
from labkit.brokers import EmbeddedValkey
from labkit.demo import script
from labkit.demo.acts import act_of
from labkit.demo.live import HEIGHT, WIDTH, LiveStage
from labkit.demo.stage import NOTE, SAY, SEEN
from labkit.demo.view import DONE, GONE, STRONG, Bar, Panel, Tiles, View, Words
from labkit.janitor import is_running, process_mark

LABS = [lab.number for lab in course.labs()]
LONGEST_LINE = 72  # of narration; a panel of 80 columns holds 76, and a mark
WITHIN_SECONDS = 90  # a whole demonstration, at SPEED, on a machine that is busy
SPEED = 20
SIZES = ((WIDTH, HEIGHT), (120, 40))
PLAY = """
import io, json, sys
from pathlib import Path
from rich.console import Console
from labkit import course, demo
from labkit.demo.live import LiveStage
asked = json.loads(sys.argv[1])
course.STATE = Path(asked.pop("state"))  # not the student's own .lab
folders = {name: Path(asked.pop(name)) for name in ("photos", "submission") if asked.get(name)}
lab, frames, sizes = course.lab(asked.pop("lab")), open(asked.pop("frames"), "w", buffering=1), asked.pop("sizes")

class Both(demo.PlainStage):
    # prints lines, and notes beside them what the live view has on its screen at this moment
    def __init__(self, clock):
        super().__init__(clock)
        self.live = LiveStage(lab.title, Console(file=io.StringIO(), width=80, height=24))
    def line(self, kind, text):
        super().line(kind, text)
        self.live.line(kind, text)
        self.note()
    def show(self, view):
        super().show(view)
        self.live.show(view)
        self.note()
    def note(self):
        for width, height in sizes:
            lines = [line.plain for line in self.live.screen(width, height)]
            frames.write(json.dumps([width, height, lines]) + chr(10))

demo.PlainStage = Both
sys.exit(demo.play(lab, folders.get("photos"), folders.get("submission"), **asked))
"""


class Demo:
    """One demonstration in a process of its own, with temporary folders of its own."""

    def __init__(self, home, lab=3, **asked):
        self.lab = course.lab(lab)
        self.state, self.temporary, self.frames = home / "state", home / "tmp", home / "frames"
        self.temporary.mkdir(exist_ok=True)
        self.folder = self.state / f"lab{lab:02}"
        self.out = self.folder / "demo" / "out"
        own = {
            "state": self.state,
            "lab": lab,
            "frames": self.frames,
            "sizes": SIZES,
            "plain": True,
            "speed": SPEED,
        }
        asked = {
            name: str(value) if isinstance(value, Path) else value for name, value in (own | asked).items()
        }
        self.command = [sys.executable, "-c", PLAY, json.dumps(asked)]
        self.environment = {name: text for name, text in os.environ.items() if name != "LAB_DEMO_SPEED"}
        self.environment |= {"TMPDIR": str(self.temporary), "PYTHONPATH": str(course.ROOT)}

    def run(self, **environment):
        """Play it to its end; return the finished process, with its status and what it said."""
        return subprocess.run(
            self.command,
            env=self.environment | environment,
            capture_output=True,
            text=True,
            timeout=WITHIN_SECONDS,
        )

    @contextlib.contextmanager
    def playing(self):
        """Play it, with pipes to read from; ended at the latest after WITHIN_SECONDS."""
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        with subprocess.Popen(self.command, env=self.environment, **pipes) as process:
            alarm = threading.Timer(WITHIN_SECONDS, process.kill)
            alarm.start()
            try:
                yield process
            finally:
                process.kill()
                alarm.cancel()

    def screens(self, size):
        """What the live view had on a screen of this size, moment by moment: lists of lines."""
        moments = map(json.loads, self.frames.read_text().splitlines())
        return [lines for width, height, lines in moments if (width, height) == size]

    def leaves_nothing(self, family):
        """Tell whether no process of the family and no temporary folder is there any more."""

        def gone():
            folders = [*self.temporary.iterdir(), *self.folder.glob(".*")]
            return not folders and not any(still_there(pid, mark) for pid, mark in family.items())

        return wait_until(gone)


@pytest.fixture
def home():
    """A folder with a short path, or a broker's socket in it could not be opened."""
    folder = Path(tempfile.mkdtemp(prefix="demo-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """A few photographs, quickly drawn, with names that a terminal or a command line could misread."""
    folder = tmp_path_factory.mktemp("photographs")
    across = Image.linear_gradient("L").resize((900, 600))
    for turn, name in enumerate(("-count.jpg", "[bold]a:heart:b.JPG", "Größe {0} 日本.png")):
        Image.merge("RGB", [across.rotate(angle + 40 * turn) for angle in (0, 90, 180)]).save(folder / name)
    (folder / "notes.txt").write_text("not a photograph\n")
    (folder / "torn.jpg").write_bytes(b"\xff\xd8\xff not one either")
    (folder / "folder.jpg").mkdir()
    (folder / "elsewhere.jpg").symlink_to(course.lab(3).solution / "images.py")
    return folder


def wait_until(event, within=10):
    """Wait for the event; tell whether it came in time."""
    deadline = time.monotonic() + within
    while not event():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def read_until(stream, words):
    """Read lines until one holds the words; return all that were read."""
    seen = []
    for line in stream:
        seen.append(line)
        if words in line:
            return "".join(seen)
    raise AssertionError(f"{words!r} was never said; this was: {''.join(seen)}")


def family_of(pid):
    """The process and all that descend from it, each with its mark."""
    listing = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True)
    children = {}
    for line in listing.stdout.splitlines():
        child, parent = map(int, line.split())
        children.setdefault(parent, []).append(child)
    family, left = {}, [pid]
    while left:
        each = left.pop()
        family[each] = process_mark(each)
        left += children.get(each, [])
    return family


def still_there(pid, mark):
    return is_running(pid) and process_mark(pid) == mark


def edited_solution(folder, lab, name, before, after):
    """A submission: the lab's solution with one edit."""
    shutil.copytree(course.lab(lab).solution, folder)
    text = (folder / name).read_text()
    assert before in text
    (folder / name).write_text(text.replace(before, after))
    return folder


def expect_all_seen(demo, ended, *, left_out=0):
    """It ended well, and all its sights came; every line has its time, and a log can hold it."""
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert not ended.stderr
    expected = sum(len(step.see) for step in script.read(demo.lab).steps) - left_out
    assert (ended.stdout.count("[seen]"), ended.stdout.count("[NOT SEEN]")) == (expected, 0), ended.stdout
    spoken, _, rest = ended.stdout.partition("verdict: ")
    assert all(re.match(r" *\d+\.\d s  ", line) for line in spoken.splitlines()), "a line without its time"
    assert not re.search(r"[^\n\x20-\x7e]", ended.stdout), "a control character, or one that ASCII has not"
    assert rest.splitlines()[3].startswith("Ask the class: "), "the question is the last that is said"
    assert not list(demo.temporary.iterdir())


def expect_screens_that_fit(demo, ended):
    """At every moment the live view filled the screen, line by line; what was said and seen was cut nowhere."""
    for size in SIZES:
        screens = demo.screens(size)
        assert screens
        for lines in screens:
            assert [cell_len(line) for line in lines] == [size[0]] * size[1], "\n".join(lines)
    whole = {line for lines in demo.screens(SIZES[0]) for line in lines}
    for mark, words in re.findall(r"^ *[\d.]+ s  (  \[seen\] )?(\w.*)$", ended.stdout, re.MULTILINE):
        told = f"  ✓ {words}" if mark else words
        assert any(line.removeprefix("│ ").startswith(f"{told} ") for line in whole), (
            f"cut, or never shown: {told}"
        )


def test_lab_3_shows_all_that_it_says_and_loses_nothing(home):
    demo = Demo(home)
    demo.out.mkdir(parents=True)
    (demo.out / "of the last time.jpg").touch()
    ended = demo.run()
    expect_all_seen(demo, ended)
    expect_screens_that_fit(demo, ended)
    assert "verdict: sent 12, done once 12, duplicated 0, lost 0, recovered 1\n" in ended.stdout
    killed = re.search(r"alice has task (\d+) in hand", ended.stdout).group(1)
    assert f"task {killed} lies in images:processing:alice" in ended.stdout
    assert f"task {killed}, in hand at the kill, was done by bob" in ended.stdout

    pictures = sorted(path.name for path in demo.out.iterdir())
    assert [name[:3] for name in pictures] == [f"{number:02}-" for number in range(1, 13)], pictures
    for name in pictures:
        Image.open(demo.out / name).load()
    timeline = xml.etree.ElementTree.parse(demo.out.parent / "timeline.svg")
    assert "alice" in "".join(timeline.getroot().itertext())
    assert any((demo.folder / "photos").iterdir()), "the photographs are drawn once, and kept"


def test_lab_1_loses_the_mail_in_hand_and_takes_what_anyone_posts(home):
    demo = Demo(home, lab=1)
    with demo.playing() as process:
        said = read_until(process.stdout, "came from a second terminal")
        port = int(re.search(r"listens on port (\d+)", said).group(1))
        typed = "\n".join(
            demo.screens(SIZES[0])[-1][-2:]
        )  # as one copies it, with the spaces at the line's end
        answer = subprocess.run(["sh", "-c", typed], capture_output=True, text=True, timeout=WITHIN_SECONDS)
        assert uuid.UUID(json.loads(answer.stdout)["id"]), typed
        rest, errors = process.communicate()
    ended = subprocess.CompletedProcess(process.args, process.returncode, said + rest, errors)
    expect_all_seen(demo, ended)
    expect_screens_that_fit(demo, ended)
    assert f"$ curl -X POST http://127.0.0.1:{port}/send-email -d " in said
    assert re.search(r"answered 202 after \d+ ms: task 1 is queued, and no worker runs", said)
    counts = re.search(r"verdict: sent (\d+), done once (\d+), duplicated 0, lost 1, recovered 0\n", rest)
    sent, done = map(int, counts.groups())
    assert done == sent - 1 >= 16
    killed = re.search(r"has task (\d+) in hand", rest).group(1)
    assert f"lost: task {killed}, in hand at the kill, as expected; and no other" in rest
    waited, pause = map(int, re.search(r"waited (\d+) ms, of a pause of (\d+) ms", rest).groups())
    quick, slow = map(int, re.search(r"waited (\d+) ms, not (\d+) ms", rest).groups())
    assert pause / 2 <= waited == slow > quick
    looks = [int(number) for number in re.findall(r"looked (\d+) times in", rest)]
    assert looks[1] > 2 * looks[0] > 0, "a tenth of the pause, and many more looks in vain"

    mails = [message_from_bytes(path.read_bytes()) for path in demo.out.iterdir()]
    assert len(mails) == done
    assert sum(mail["To"] == "you@example.com" for mail in mails) == 2, "the demonstration's own, and ours"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=1)


def test_lab_2_compares_both_and_survives_its_broker(home):
    demo = Demo(home, lab=2)
    ended = demo.run()
    expect_all_seen(demo, ended)
    expect_screens_that_fit(demo, ended)
    assert "verdict: sent 18, done once 18, duplicated 0, lost 0\n" in ended.stdout
    polled, blocked = map(int, re.search(r"polling sent (\d+) commands, alice (\d+)", ended.stdout).groups())
    assert polled > blocked
    alice, polling = map(int, re.search(r"average: alice (\d+) ms, polling (\d+) ms", ended.stdout).groups())
    assert alice < polling
    moments = ["\n".join(lines) for lines in demo.screens(SIZES[0])]
    assert any("broker: KILLED" in moment and moment.count("✗ no broker") == 3 for moment in moments)
    numbers = r"(\d+ +){6}"
    side_by_side = rf"│ polling +{numbers}{polling} +│\n│ alice +{numbers}{alice} +│"
    assert any(re.search(side_by_side, moment) for moment in moments), "six pairs, and their means"
    reports = sorted(demo.out.iterdir())
    assert [path.name[:3] for path in reports] == [f"{number:02}-" for number in range(1, 19)]
    assert all(len(pypdf.PdfReader(path).pages) == 1 for path in reports)


def test_where_the_broker_is_not_ours_to_kill_that_is_left_out(home):
    with EmbeddedValkey() as broker:
        demo = Demo(home, lab=2, brokers=broker.url)
        ended = demo.run()
    steps = [step for step in script.read(demo.lab).steps if step.own_broker]
    expect_all_seen(demo, ended, left_out=sum(len(step.see) for step in steps))
    assert ended.stdout.count("(left out: the broker was given by URL") == len(steps)
    assert "verdict: sent 15, done once 15, duplicated 0, lost 0\n" in ended.stdout


def test_it_works_on_anyones_photographs_and_only_reads_them(home, photos):
    before = {path: (path.lstat().st_mtime_ns, path.lstat().st_size) for path in (photos, *photos.iterdir())}
    demo = Demo(home, photos=photos)
    ended = demo.run()
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert {path: (path.lstat().st_mtime_ns, path.lstat().st_size) for path in before} == before
    assert set(photos.iterdir()) == before.keys() - {photos}
    worked_on = {name.split("-", 2)[2] for name in (path.name for path in demo.out.iterdir())}
    assert worked_on == {"-count.jpg", "[bold]a:heart:b.jpg", "Größe-{0}-日本.png"}
    assert not (demo.folder / "photos").exists(), "nothing is drawn when photographs are given"


@pytest.mark.parametrize("kind", ["missing", "empty", "without a photograph"])
def test_a_folder_without_photographs_is_refused_in_one_line(home, photos, kind):
    folder = home / "given"
    if kind != "missing":
        folder.mkdir()
    if kind == "without a photograph":
        shutil.copy(photos / "torn.jpg", folder)
    ended = Demo(home, photos=folder).run()
    assert ended.returncode == 2
    assert not ended.stdout
    assert re.fullmatch(
        rf"lab: {re.escape(str(folder))} (cannot be read|holds no JPEG or PNG).*\n", ended.stderr
    )


def test_photographs_are_for_lab_3(home, photos):
    ended = Demo(home, lab=1, photos=photos).run()
    assert (ended.returncode, ended.stdout) == (2, "")
    assert re.fullmatch(r"lab: .*lab 1 does not work on photographs\.\n", ended.stderr)


def test_a_submission_that_loses_tasks_is_shown_to_lose_one(home, photos):
    take = 'return broker.blmove(QUEUE, processing(name), BLOCK_SECONDS, "RIGHT", "LEFT")'
    took = "taken = broker.brpop(QUEUE, BLOCK_SECONDS)\n    return taken and taken[1]"
    wrong = edited_solution(home / "wrong", 3, "worker.py", take, took)
    ended = Demo(home, photos=photos, submission=wrong).run()
    assert ended.returncode == 1, ended.stdout + ended.stderr
    lost = re.search(r"alice has task (\d+) in hand", ended.stdout).group(1)
    assert f"[NOT SEEN] task {lost} lies in images:processing:alice" in ended.stdout
    assert f"Task {lost} is in no list at all." in ended.stdout
    assert f"Lost: task {lost}." in ended.stdout
    assert "verdict: sent 12, done once 11, duplicated 0, lost 1, recovered 0\n" in ended.stdout


def test_a_submission_that_recovers_nothing_ends_and_says_so(home, photos):
    wrong = edited_solution(home / "wrong", 3, "recovery.py", "if name != me:", "if name == me:")
    ended = Demo(home, photos=photos, submission=wrong).run()
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert re.search(r"\[NOT SEEN\] task \d+ is back in the queue", ended.stdout)
    assert re.search(r"Task \d+ is in images:processing:alice\.", ended.stdout)
    assert "lost 0, recovered 0, waiting 1\n" in ended.stdout


def test_a_mail_that_is_lost_without_a_kill_is_missed(home):
    """And on a machine without curl the second terminal is Python's."""
    twice = "body = take(broker) and take(broker)  # and what has become of the first?"
    wrong = edited_solution(home / "wrong", 1, "worker.py", "body = take(broker)", twice)
    demo = Demo(home, lab=1, submission=wrong)
    ended = demo.run(PATH=str(Path(sys.executable).parent))
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert re.search(r"\$ python \S*labkit/demo/post.py http://\S+ '\{", ended.stdout)
    assert "[seen] task 2 came from a second terminal" in ended.stdout
    assert "[NOT SEEN] every task is done\n" in ended.stdout
    assert "Nobody works any more, and not every task is done." in ended.stdout
    assert "[NOT SEEN] only the task in hand at the kill is lost" in ended.stdout
    assert re.search(r"verdict: sent 12, done once \d, duplicated 0, lost \d", ended.stdout)
    assert "Ask the class" not in ended.stdout, "it would ask about what was not seen"


def test_a_worker_that_polls_is_told_from_one_that_waits(home):
    wait, poll = "broker.brpop(QUEUE, timeout=BLOCK_SECONDS)", "(None, broker.rpop(QUEUE))"
    wrong = edited_solution(home / "wrong", 2, "worker.py", wait, poll)
    ended = Demo(home, lab=2, submission=wrong).run()
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert "[NOT SEEN] alice waits at the broker, in a blocking command" in ended.stdout
    assert "alice looks with RPOP, which does not wait for a task." in ended.stdout
    assert "0 tasks were sent." in ended.stdout


@pytest.mark.parametrize("lab", LABS)
def test_a_stub_is_told_what_is_not_written_yet(home, lab):
    stub = home / "stub"
    stubs.write(course.lab(lab), stub)
    ended = Demo(home, lab=lab, submission=stub).run()
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert re.search(r"^ *[\d.]+ s    \w+\.py: TODO \d: .+\.$", ended.stdout, re.MULTILINE), ended.stdout
    assert "verdict: sent 0, " in ended.stdout


@pytest.mark.parametrize(
    ("asked", "environment", "status", "words"),
    [
        ({"brokers": "redis://127.0.0.1:1/0"}, {}, 3, "127.0.0.1:1"),
        ({"submission": "/nonexistent"}, {}, 2, "/nonexistent"),
        ({"speed": None}, {"LAB_DEMO_SPEED": "fast"}, 2, "LAB_DEMO_SPEED"),
    ],
)
def test_what_it_cannot_play_it_says_in_one_line(home, photos, asked, environment, status, words):
    ended = Demo(home, photos=photos, **asked).run(**environment)
    assert (ended.returncode, ended.stdout) == (status, "")
    assert re.fullmatch(r"lab: .+\n", ended.stderr)
    assert words in ended.stderr
    assert not list((home / "tmp").iterdir())


@pytest.mark.parametrize(
    ("lab", "moment", "number"),
    [
        (3, "tasks on large photographs", signal.SIGINT),
        (3, "tasks wait in the queue", signal.SIGTERM),
        (3, "are at work", signal.SIGINT),
        (3, "SIGKILL!", signal.SIGINT),
        (3, "heartbeat", signal.SIGHUP),
        (3, "What became of", signal.SIGINT),
        (1, "$ curl", signal.SIGTERM),
        (1, "are at work", signal.SIGHUP),
        (2, "Now tasks come", signal.SIGINT),
        (2, "are alive, and try to connect", signal.SIGTERM),
    ],
)
def test_a_signal_at_any_moment_ends_it_and_leaves_nothing(home, photos, lab, moment, number):
    demo = Demo(home, lab=lab, **({"photos": photos} if lab == 3 else {}))
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


@pytest.mark.parametrize(("lab", "moment"), [(3, "SIGKILL!"), (1, "$ curl"), (2, "There is nothing to do")])
def test_killed_itself_it_leaves_nothing_either(home, photos, lab, moment):
    demo = Demo(home, lab=lab, **({"photos": photos} if lab == 3 else {}))
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


class Terminal:
    """A demonstration in a terminal of its own: what it writes is collected, and one can type."""

    def __init__(self, demo):
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            with contextlib.suppress(BaseException):
                os.system(f"stty rows {HEIGHT} columns {WIDTH}")
                settings = {"TERM": "xterm-256color", "LANG": "C.UTF-8", "PYTHONUTF8": "1"}
                os.execve(sys.executable, demo.command, demo.environment | settings)
            os._exit(127)
        self.seen = b""
        self._alarm = threading.Timer(WITHIN_SECONDS, os.kill, (self.pid, signal.SIGKILL))
        self._alarm.start()

    def read(self):
        """Take what was written; False at the end."""
        with contextlib.suppress(OSError):  # how Linux tells that nobody holds the other end
            written = os.read(self.master, 65536)
            self.seen += written
            return bool(written)
        return False

    def read_until(self, words):
        while words not in self.seen:
            assert self.read(), f"{words!r} was never shown; the end was: {self.seen[-2000:]!r}"

    def status(self):
        """Wait for its end; return its exit status."""
        _, status = os.waitpid(self.pid, 0)
        self._alarm.cancel()
        return os.waitstatus_to_exitcode(status)

    def is_restored(self):
        """Whether its last words on screen and cursor were to leave its own screen and show the cursor."""
        ends = [re.findall(pattern, self.seen)[-1] for pattern in (rb"\x1b\[\?1049[hl]", rb"\x1b\[\?25[hl]")]
        return ends == [b"\x1b[?1049l", b"\x1b[?25h"]


def test_in_a_terminal_it_ends_and_restores_it(home, photos):
    terminal = Terminal(Demo(home, photos=photos, plain=None))
    while terminal.read():
        pass
    assert terminal.status() == 0
    assert b"\x1b[?1049h" in terminal.seen, "the live view has a screen of its own"
    assert terminal.is_restored()
    _, _, left = terminal.seen.rpartition(b"\x1b[?1049l")
    words = re.sub(r"\x1b\[[\d;?]*[a-z]", "", left.decode(), flags=re.IGNORECASE)
    assert re.search(r"done once +12 .*lost +0 .*recovered +1 ", words, re.DOTALL), words
    assert str(home / "state" / "lab03" / "demo" / "out") in words


def test_ctrl_c_in_a_terminal_restores_it_and_leaves_nothing(home, photos):
    demo = Demo(home, photos=photos, plain=None)
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
    demo = Demo(home, photos=photos, plain=None)
    terminal = Terminal(demo)
    terminal.read_until(b"KILLED")
    family = family_of(terminal.pid)
    os.close(terminal.master)
    assert terminal.status() == 128 + signal.SIGHUP
    assert demo.leaves_nothing(family)


@pytest.mark.parametrize("lab", LABS)
def test_the_script_fits_the_view_and_the_act(lab):
    act, played = act_of(course.lab(lab)), script.read(course.lab(lab))
    longest = {"tasks": 12, "task": 12, "who": "katherine", **dict.fromkeys(played.settings, "0.25")}
    for step in played.steps:
        for line in step.say:
            assert len(line.format(**longest)) <= LONGEST_LINE, line
        for prefix, calls in (("do_", step.do), ("see_", step.see)):
            for name, *args in calls:
                inspect.signature(getattr(act, prefix + name)).bind(None, *args)
    for line in played.ask:
        assert len(line.format(**longest)) <= WIDTH, line
    assert played.shortest.keys() <= played.settings.keys()
    assert any(step.always for step in played.steps), "whatever happens, the tasks are counted in the end"


HOSTILE = "watermark [bold]a:heart:b {0} " + "日本" * 60 + ".jpg"
COMMAND = Words("BLMOVE images:heartbeat:x " + "long " * 60, tail="→ task 8")
VIEW = View(
    at=12.3,
    panels=(
        Panel(
            "workers",
            (8, 8, 0, 14),
            (
                (Words("alice", STRONG), Words("✗ KILLED", GONE), HOSTILE, Bar(0.5, GONE)),
                (Words("bob", STRONG), "○ waits", "", ""),
            ),
            ("", "", "in hand", "progress"),
            lines=3,
        ),
        Panel(
            "tasks: " + "12 " * 60,
            (17, 3, 0),
            (
                ("waiting", "  3", Tiles((10, 11, 12), DONE)),
                ("done", " 40", Tiles(tuple(range(1, 41)), DONE, newest=True)),
                ("in no list", "  1", Tiles((7,), GONE, "?")),
            ),
        ),
        Panel(
            "on the wire", (4, 0), tuple((str(number), COMMAND) for number in range(50)), lines=2, log=True
        ),
        Panel("only where there is room", (0,), (("spare",),), spare=True),
        Panel("to be copied", (WIDTH,), (("c" * WIDTH,),), copied=True),
    ),
)


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_the_live_view_fills_the_terminal_and_nothing_wraps(width, height):
    written = io.StringIO()
    stage = LiveStage(
        "Lab 3: Reliable queues", Console(file=written, width=width, height=height, force_terminal=True)
    )
    for number in range(60):
        stage.line(SAY, f"line {number} {'is long ' * 30}")
    stage.show(VIEW)
    lines = [line.plain for line in stage.screen(width, height)]
    text = "\n".join(lines)
    assert [cell_len(line) for line in lines] == [width] * height, text
    assert "line 59" in text, "the newest line is always in sight"
    assert re.search(r"waiting +3 +10 +11 +12 ", text)
    assert re.search(r"done +40 … .* 39  40 ", text), "where not all fit, the newest are shown"
    assert re.search(r"alice +✗ KILLED +watermark \[bold\]a:heart:b \{0\}", text), (
        "not an emoji, and no markup"
    )
    assert re.search(r"49 +BLMOVE images:heartbeat:x .*…  → task 8 ", text), "a log shows its last rows"
    assert ("spare" in text) == (height > HEIGHT)
    assert f"\n{'c' * WIDTH}" in text, "what is to be copied has no frame at its side"

    shown = re.sub(r"\x1b\[(\d+);1H", r"\n", written.getvalue())
    shown = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", shown).strip("\n")
    assert shown.split("\n") == lines, "each line is written where it belongs, and no more"


def test_only_what_changes_is_written_anew():
    written = io.StringIO()
    stage = LiveStage("a title", Console(file=written, width=WIDTH, height=HEIGHT, force_terminal=True))
    stage.show(VIEW)
    before = written.tell()
    stage.show(VIEW)
    assert written.tell() == before, "a selection in the terminal stays"
    stage.line(SEEN, "alice is at work")
    stage.line(NOTE, "and says so")
    changed = written.getvalue()[before:]
    assert "alice is at work" in changed and "and says so" in changed
    assert "ccc" not in changed
