"""The demonstration of lab 3: it shows what it says, says what it did not show, and leaves nothing behind."""

import contextlib
import inspect
import io
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree
from pathlib import Path

import pytest
from PIL import Image
from rich.cells import cell_len
from rich.console import Console

from labkit import course
from labkit.demo import script
from labkit.demo.act import Act
from labkit.demo.live import HEIGHT, WIDTH, LiveStage
from labkit.demo.stage import SAY
from labkit.demo.view import DEAD, WORKS, Sent, View, WorkerView
from labkit.janitor import is_running, process_mark

LAB = course.lab(3)
LONGEST_LINE = 72  # of narration; a panel of 80 columns holds 76, and a mark
WITHIN_SECONDS = 90  # a whole demonstration, at SPEED, on a machine that is busy
SPEED = 20
PLAY = """
import json, sys
from pathlib import Path
from labkit import course
from labkit.demo import play
asked = json.loads(sys.argv[1])
course.STATE = Path(asked.pop("state"))  # not the student's own .lab
folders = {name: Path(asked.pop(name)) for name in ("photos", "submission") if asked.get(name)}
sys.exit(play(course.lab(3), folders.get("photos"), folders.get("submission"), **asked))
"""


class Demo:
    """One demonstration in a process of its own, with temporary folders of its own."""

    def __init__(self, home, **asked):
        self.state, self.temporary = home / "state", home / "tmp"
        self.temporary.mkdir(exist_ok=True)
        self.out = self.state / "lab03" / "demo" / "out"
        asked = {"state": str(self.state), "plain": True, "speed": SPEED} | asked
        asked = {name: str(value) if isinstance(value, Path) else value for name, value in asked.items()}
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

    def leaves_nothing(self, family):
        """Tell whether no process of the family and no temporary folder is there any more."""

        def gone():
            folders = [*self.temporary.iterdir(), *self.state.glob("lab03/.*")]
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
    (folder / "elsewhere.jpg").symlink_to(LAB.solution / "images.py")
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
    """Read lines until one holds the words; return it."""
    seen = []
    for line in stream:
        seen.append(line)
        if words in line:
            return line
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


def edited_solution(folder, name, before, after):
    """A submission: the solution with one edit."""
    shutil.copytree(LAB.solution, folder)
    text = (folder / name).read_text()
    assert before in text
    (folder / name).write_text(text.replace(before, after))
    return folder


def test_it_shows_all_that_it_says_and_loses_nothing(home):
    demo = Demo(home)
    demo.out.mkdir(parents=True)
    (demo.out / "of the last time.jpg").touch()
    ended = demo.run()
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert not ended.stderr
    expected = sum(len(step.see) for step in script.read(LAB).steps)
    assert (ended.stdout.count("[seen]"), ended.stdout.count("[NOT SEEN]")) == (expected, 0), ended.stdout
    assert "verdict: sent 12, done once 12, duplicated 0, lost 0, recovered 1\n" in ended.stdout
    killed = re.search(r"alice has task (\d+) in hand", ended.stdout).group(1)
    assert f"task {killed} lies in images:processing:alice" in ended.stdout
    assert f"task {killed}, in hand at the kill, was done by bob" in ended.stdout
    spoken = [line for line in ended.stdout.splitlines() if not line.startswith(("verdict:", "the "))]
    assert all(re.match(r" *\d+\.\d s  ", line) for line in spoken), "a line without its time"
    assert not re.search(r"[^\n\x20-\x7e]", ended.stdout), "a control character, or one that ASCII has not"

    pictures = sorted(path.name for path in demo.out.iterdir())
    assert [name[:3] for name in pictures] == [f"{number:02}-" for number in range(1, 13)], pictures
    for name in pictures:
        Image.open(demo.out / name).load()
    timeline = xml.etree.ElementTree.parse(demo.out.parent / "timeline.svg")
    assert "alice" in "".join(timeline.getroot().itertext())
    assert not list(demo.temporary.iterdir())
    assert any((demo.state / "lab03" / "photos").iterdir()), "the photographs are drawn once, and kept"


def test_it_works_on_anyones_photographs_and_only_reads_them(home, photos):
    before = {path: (path.lstat().st_mtime_ns, path.lstat().st_size) for path in (photos, *photos.iterdir())}
    demo = Demo(home, photos=photos)
    ended = demo.run()
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert {path: (path.lstat().st_mtime_ns, path.lstat().st_size) for path in before} == before
    assert set(photos.iterdir()) == before.keys() - {photos}
    worked_on = {name.split("-", 2)[2] for name in (path.name for path in demo.out.iterdir())}
    assert worked_on == {"-count.jpg", "[bold]a:heart:b.jpg", "Größe-{0}-日本.png"}
    assert not (demo.state / "lab03" / "photos").exists(), "nothing is drawn when photographs are given"


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


def test_a_submission_that_loses_tasks_is_shown_to_lose_one(home, photos):
    take = 'return broker.blmove(QUEUE, processing(name), BLOCK_SECONDS, "RIGHT", "LEFT")'
    took = "taken = broker.brpop(QUEUE, BLOCK_SECONDS)\n    return taken and taken[1]"
    wrong = edited_solution(home / "wrong", "worker.py", take, took)
    ended = Demo(home, photos=photos, submission=wrong).run()
    assert ended.returncode == 1, ended.stdout + ended.stderr
    lost = re.search(r"alice has task (\d+) in hand", ended.stdout).group(1)
    assert f"[NOT SEEN] task {lost} lies in images:processing:alice" in ended.stdout
    assert f"Task {lost} is in no list at all." in ended.stdout
    assert f"Lost: task {lost}." in ended.stdout
    assert "verdict: sent 12, done once 11, duplicated 0, lost 1, recovered 0\n" in ended.stdout


def test_a_submission_that_recovers_nothing_ends_and_says_so(home, photos):
    wrong = edited_solution(home / "wrong", "recovery.py", "if name != me:", "if name == me:")
    ended = Demo(home, photos=photos, submission=wrong).run()
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert re.search(r"\[NOT SEEN\] task \d+ is back in the queue", ended.stdout)
    assert re.search(r"Task \d+ is in images:processing:alice\.", ended.stdout)
    assert "lost 0, recovered 0, waiting 1\n" in ended.stdout


def test_a_stub_is_told_what_is_not_written_yet(home, photos):
    ended = Demo(home, photos=photos, submission=LAB.folder).run()
    if "NotImplementedError" in (LAB.folder / "producer.py").read_text():
        assert ended.returncode == 1, ended.stdout + ended.stderr
        assert "producer.py: TODO 1" in ended.stdout
        assert "0 tasks were sent." in ended.stdout


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
    ("moment", "number"),
    [
        ("tasks on large photographs", signal.SIGINT),
        ("tasks wait in the queue", signal.SIGTERM),
        ("are at work", signal.SIGINT),
        ("SIGKILL!", signal.SIGINT),
        ("heartbeat", signal.SIGHUP),
        ("What became of", signal.SIGINT),
    ],
)
def test_a_signal_at_any_moment_ends_it_and_leaves_nothing(home, photos, moment, number):
    demo = Demo(home, photos=photos)
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


def test_a_signal_while_the_photographs_are_drawn_leaves_none_half_drawn(home):
    demo = Demo(home)
    with demo.playing() as process:
        read_until(process.stdout, "being drawn")
        family = family_of(process.pid)
        process.send_signal(signal.SIGINT)
        process.communicate()
        assert process.returncode == 130
    assert demo.leaves_nothing(family)
    assert not list((demo.state / "lab03").iterdir())


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


def test_the_script_fits_the_view_and_the_act():
    for step in script.read(LAB).steps:
        for line in step.say:
            assert len(line.format(tasks=12, task=12)) <= LONGEST_LINE, line
        for prefix, calls in (("do_", step.do), ("see_", step.see)):
            for name, *args in calls:
                inspect.signature(getattr(Act, prefix + name)).bind(None, *args)


@pytest.mark.parametrize(("width", "height"), [(WIDTH, HEIGHT), (120, 40)])
def test_the_live_view_fills_the_terminal_and_nothing_wraps(width, height):
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=True)
    stage = LiveStage(
        "Lab 3: Reliable queues", lambda number: f"watermark {number} {'日本' * 60}.jpg", console
    )
    view = View(
        at=12.3,
        total=12,
        waiting=[10, 11, 12],
        in_hand={"alice": [7], "bob": [8]},
        done=[1, 2, 3, 4, 5, 6, 9],
        rejected=[],
        elsewhere=[],
        workers=[WorkerView("alice", DEAD, 7, 0.5, 0.0), WorkerView("bob", WORKS, 8, 0.5, 2.5)],
        wire=[Sent(11.1, "bob", "BLMOVE images:heartbeat:x " + "long " * 60, "→ task 8")] * 50,
    )
    for number in range(60):
        stage.line(SAY, f"line {number} {'is long ' * 30}")
    console.print(stage._screen(view))
    text = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", console.file.getvalue()).rstrip("\n")
    lines = text.split("\n")
    assert [cell_len(line) for line in lines] == [width] * height, text
    assert "line 59" in text, "the newest line is always in sight"
    assert re.search(r"waiting +3 +10 +11 +12 ", text)
    assert re.search(r"processing:alice +1 ✗7 ", text)
    assert re.search(r"alice +✗ KILLED +7 .* EXPIRED", text), "death is told in words, not by color alone"
    assert "images:heartbeat:x" in text, "not an emoji"
    assert "→ task 8" in text
