"""The stage of several terminals: the real command, in a terminal that is itself a pane of another tmux."""

import io
import os
import pickle
import re
import shlex
import signal
import subprocess
import sys

import pytest
from demonstration import SIZES, WITHIN_SECONDS, Demo, still_there, wait_until
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text
from test_demo_view import VIEW

from labkit import course
from labkit.brokers import InfrastructureError
from labkit.demo import layout, script, stages, tmux
from labkit.demo.layout import PANES
from labkit.demo.live import HEIGHT, WIDTH, LiveStage
from labkit.demo.presenter import HELP
from labkit.demo.view import BROKER, WORKERS, Panel, View
from labkit.janitor import process_mark

LAST = script.read(course.lab(3)).last
WAITS = HELP.format(last=LAST)
TITLES = ("workers", "tasks: ", "on the wire")
LARGE = (160, 45)
FAST = 10
DRIVE = """
import os, sys
from pathlib import Path
from labkit import cli, course
course.STATE, told = Path(sys.argv[1]), Path(sys.argv[2])
told.write_text(str(os.getpid()))
sys.argv[1:] = sys.argv[3:]
cli.run()
"""


SHOW = """
import os, pickle, sys, time
from pathlib import Path
from rich.console import Console
from labkit.demo import tmux
from labkit.demo.tmux_stage import TmuxStage
Path(sys.argv[2]).write_text(str(os.getpid()))
views = pickle.loads(Path(sys.argv[-1]).read_bytes())
stage = TmuxStage("a title", Console(), 9, tmux.find())
try:
    stage.open()
    stage.line("say", "a line")
    stage.prompt("keys")
    while views:
        stage.show(views[0])
        views = views[len(stage.typed()) :]
        time.sleep(0.02)
finally:
    stage.close()
"""


@pytest.fixture(scope="module", autouse=True)
def program():
    """tmux is there, or the package manager brings it; where it may not, the tests say so."""
    try:
        path = tmux.install(may_install=True)
        tmux.require(path)
    except InfrastructureError as reason:
        pytest.skip(str(reason))
    return path


class Room:
    """A terminal of a size of its own, in which `./lab demo 3 ...` runs: one can type, and look at it.

    It is the pane of a tmux on a socket of its own, `outer`; its shell stays when the demonstration has ended.
    """

    def __init__(
        self, program, folder, name, *options, size=(WIDTH, HEIGHT), speed=FAST, script=DRIVE, **changed
    ):
        """script: what runs in it; changed: of the environment of the demonstration."""
        self.program, self.socket = program, folder / f"{name}.tmux"
        self.told, self.ended, self.said = (folder / f"{name}.{what}" for what in ("pid", "status", "stderr"))
        self.demo = Demo(folder)
        environment = {"LANG": "C.UTF-8", "PYTHONUTF8": "1", "COLORTERM": "truecolor"} | changed
        words = ["/usr/bin/env", *(f"{key}={text}" for key, text in environment.items())]
        words += [sys.executable, "-c", script, self.demo.state / name, self.told]
        words += ["demo", "3", "--speed", speed, *options]
        line = f"{shlex.join(map(str, words))} 2> {self.said}; echo $? > {self.ended}; exec cat"
        self.tells("new-session", "-d", "-x", size[0], "-y", size[1], "sh", "-c", line)
        self.tells("set-option", "-g", "status", "off")

    def tells(self, *words):
        """Give the terminal's own tmux a command; return what it says."""
        command = [self.program, "-S", self.socket, "-f", os.devnull, *words]
        return subprocess.run(
            list(map(str, command)),
            env=self.demo.environment,
            capture_output=True,
            text=True,
            timeout=WITHIN_SECONDS,
        ).stdout

    def types(self, *keys):
        self.tells("send-keys", *keys)

    def screen(self):
        return self.tells("capture-pane", "-p").splitlines()

    def sees(self, *words, within=WITHIN_SECONDS):
        """Wait until all these words are on the screen at once; return the screen."""
        shown = []

        def there():
            shown[:] = self.screen()
            return all(any(each in line for line in shown) for each in words)

        assert wait_until(there, within), f"{words} were never on the screen: " + "\n".join(shown)
        return list(shown)

    def narration(self):
        """What is said, and what the keys do."""
        lines = self.screen()
        ends = [number for number, line in enumerate(lines) if "━━ workers ━" in line]
        return lines[1 : ends[0] if ends else None]

    def goes_on_until(self, words):
        """Press Enter once at every cue, until the words are on the screen."""

        def there():
            before = self.narration()
            shown = "\n".join(self.screen())
            if words not in shown and WAITS in "\n".join(before):
                self.types("Enter")
                wait_until(lambda: self.narration() != before, WITHIN_SECONDS)
            return words in shown

        assert wait_until(there, WITHIN_SECONDS), f"{words!r} was never shown: " + "\n".join(self.screen())

    @property
    def pid(self):
        assert wait_until(lambda: self.told.exists() and self.told.read_text(), WITHIN_SECONDS)
        return int(self.told.read_text())

    def status(self):
        """Wait for the end of the demonstration; return its exit status."""
        assert wait_until(lambda: self.ended.exists() and self.ended.read_text(), WITHIN_SECONDS), (
            "it has not ended: " + "\n".join(self.screen())
        )
        return int(self.ended.read_text())

    def processes(self):
        """All that the demonstration has started, with their marks: what names its temporary folder, or descends."""
        listing = subprocess.run(
            ["ps", "-A", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True
        )
        found, parents = {}, {}
        for line in listing.stdout.splitlines():
            pid, parent, arguments = (
                line.split(None, 2) if len(line.split(None, 2)) == 3 else (*line.split(), "")
            )
            parents[int(pid)] = int(parent)
            if f"{self.demo.temporary}/" in arguments:
                found[int(pid)] = process_mark(int(pid))
        family = {self.pid}
        while more := {pid for pid, parent in parents.items() if parent in family} - family:
            family |= more
        return found | {pid: process_mark(pid) for pid in family}

    def inner(self, *words):
        """Ask the demonstration's own tmux."""
        (socket,) = self.demo.temporary.glob("lab-*/tmux")
        command = [self.program, "-S", str(socket), *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=WITHIN_SECONDS).stdout.split()

    def leaves_nothing(self, family):
        def gone():
            left = [pid for pid, mark in family.items() if still_there(pid, mark)]
            return not left and not list(self.demo.temporary.iterdir())

        return wait_until(gone, WITHIN_SECONDS)

    def is_restored(self):
        """Whether the terminal has its own screen and its cursor again, and shows what is typed."""
        modes = "#{alternate_on} #{cursor_flag} #{mouse_any_flag}"
        restored = wait_until(lambda: self.tells("display-message", "-p", modes).strip() == "0 1 0")
        self.types("-l", "typed")
        return restored and any("typed" in line for line in self.sees("typed", within=20))

    def close(self):
        self.tells("kill-server")


@pytest.fixture
def room(program, home, photos):
    """Makes a room; all are closed in the end, and what is left of them is ended."""
    made = []

    def make(*options, own_photos=True, **more):
        options = ("--photos", photos, *options) if own_photos else options
        made.append(Room(program, home, f"room{len(made)}", *options, **more))
        return made[-1]

    yield make
    for each in made:
        family = each.processes() if each.told.exists() else {}
        each.close()
        wait_until(lambda family=family: not any(still_there(*known) for known in family.items()), 20)
        for pid, mark in family.items():
            if still_there(pid, mark):
                os.kill(pid, signal.SIGKILL)


def title_of(line):
    """The titles in a line of borders, or nothing where it is none."""
    return re.findall(r"━━ (.+?) ━", line)


def expect_panes(screen, width):
    """The panes are there with their titles; no line is longer than the terminal."""
    titles = [title for line in screen for title in title_of(line)]
    for wanted in (f"Lab 3: {course.lab(3).title}", *TITLES):
        assert sum(title.startswith(wanted) for title in titles) == 1, f"{wanted!r} is not one of {titles}"
    assert all(cell_len(line) <= width for line in screen)


def test_driven_by_keys_at_two_sizes_it_shows_all_and_ends_with_q(room):
    stage = room("--tmux")
    expect_panes(stage.sees(f"step 1 of {LAST}", WAITS), WIDTH)
    stage.goes_on_until(f"step 2 of {LAST}")
    stage.sees(WAITS)
    stage.types("Space")
    stage.goes_on_until(f"step 3 of {LAST}")
    stage.goes_on_until("are at work")
    screen = stage.sees("● works")
    expect_panes(screen, WIDTH)
    assert len(screen) == HEIGHT

    stage.types("k")
    stage.sees("was killed with SIGKILL)", "✗ KILLED")
    stage.types("+")
    stage.sees("was started)")
    stage.types("p")
    stage.sees("is paused (SIGSTOP)")
    stage.types("p")
    stage.sees("goes on (SIGCONT))")
    stage.types("b")
    stage.sees("the broker was started again")
    stage.types("-")
    stage.sees("was asked to stop (SIGTERM)")

    count = len(stage.inner("list-panes", "-s"))
    stage.types("C-b", "%")
    stage.types("C-b", "d")
    stage.types("C-b", ":")
    stage.types("M-x", "Up", "C-z", "F1", "9", "9", "Enter")
    stage.sees(f"there is no step 99: the last is {LAST}")
    assert len(stage.inner("list-panes", "-s")) == count
    assert not stage.inner("list-keys")

    stage.tells("resize-window", "-x", "60", "-y", "20")
    small = stage.sees("This needs 80 × 24; there are 60 × 20.")
    assert not any(title.startswith(TITLES) for line in small for title in title_of(line))
    stage.tells("resize-window", "-x", LARGE[0], "-y", LARGE[1])
    expect_panes(stage.sees("was killed with SIGKILL)", *TITLES), LARGE[0])
    stage.tells("resize-window", "-x", WIDTH, "-y", HEIGHT)
    stage.sees("was asked to stop (SIGTERM)", *TITLES)
    assert wait_until(
        lambda: stage.inner("display", "-p", "#{window_width}x#{window_height}") == [f"{WIDTH}x{HEIGHT}"]
    )
    expect_panes(stage.screen(), WIDTH)

    stage.types("2", "Enter")
    expect_panes(stage.sees(f"step 2 of {LAST}", WAITS), WIDTH)
    family = stage.processes()
    stage.types("q")
    assert stage.status() == 0
    assert not stage.said.read_text()
    assert stage.leaves_nothing(family)
    assert stage.is_restored()


def test_by_itself_it_plays_to_its_end_and_leaves_the_report_on_the_users_own_screen(room):
    stage = room("--auto", size=LARGE, speed=20)
    expect_panes(stage.sees(f"step 2 of {LAST}"), LARGE[0])
    family = stage.processes()
    status = stage.status()
    screen = "\n".join(stage.screen())
    assert status == 0, screen + stage.said.read_text()
    assert "what became of the tasks" in screen and "Ask the class:" in screen
    assert stage.leaves_nothing(family)


def expect_end(stage, end, status, *, restored=True):
    """It ends with this status once `end` is done, and leaves nothing."""
    stage.sees(*TITLES, WAITS)
    family = stage.processes()
    end(stage)
    if restored:
        assert stage.status() == status
        assert stage.is_restored()
    assert stage.leaves_nothing(family)


def client_of(stage):
    """The process id of the tmux that shows it in the user's terminal."""
    (pid,) = stage.inner("list-clients", "-F", "#{client_pid}")
    return int(pid)


def server_of(stage):
    (pid,) = stage.inner("display-message", "-p", "#{pid}")
    return int(pid)


def pane_of(stage):
    return int(stage.inner("list-panes", "-s", "-F", "#{pane_pid}")[-1])


@pytest.mark.parametrize(
    ("end", "status"),
    [
        pytest.param(lambda stage: stage.types("C-c"), 130, id="Ctrl-C"),
        pytest.param(lambda stage: os.kill(stage.pid, signal.SIGTERM), 143, id="SIGTERM"),
        pytest.param(lambda stage: os.kill(stage.pid, signal.SIGKILL), 137, id="SIGKILL"),
        pytest.param(lambda stage: os.kill(client_of(stage), signal.SIGTERM), 129, id="client ended"),
        pytest.param(lambda stage: os.kill(client_of(stage), signal.SIGKILL), 129, id="client killed"),
        pytest.param(lambda stage: stage.inner("detach-client", "-s", "stage"), 129, id="detached"),
        pytest.param(lambda stage: os.kill(server_of(stage), signal.SIGKILL), 129, id="server killed"),
        pytest.param(lambda stage: os.kill(pane_of(stage), signal.SIGKILL), 129, id="pane killed"),
    ],
)
def test_however_it_ends_it_leaves_nothing_and_the_terminal_as_it_was(room, end, status):
    expect_end(room("--tmux"), end, status)


def test_a_closed_terminal_ends_it(room):
    stage = room()
    expect_end(stage, Room.close, 129, restored=False)


def test_two_at_once_do_not_meet(room):
    one, other = room("--tmux"), room("--tmux")
    for stage in (one, other):
        stage.sees(*TITLES, WAITS)
    one.types("q")
    assert one.status() == 0
    assert one.is_restored()
    other.goes_on_until(f"step 2 of {LAST}")
    family = other.processes()
    other.types("q")
    assert other.status() == 0
    assert other.leaves_nothing(family)


def fake_tmux(folder, text):
    """A PATH on which tmux is this script."""
    folder.mkdir()
    (folder / "tmux").write_text(f"#!/bin/sh\n{text}\n")
    (folder / "tmux").chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


@pytest.mark.parametrize(
    ("options", "says", "size", "words"),
    [
        ((), "echo tmux 3.0", SIZES[0], r"tmux 3\.0 is too old: .*3\.2 or newer; upgrade it, or --single "),
        (("--tmux",), "echo tmux 2.9a", SIZES[0], r"tmux 2\.9a is too old"),
        (
            (),
            '[ "$1" = -V ] && echo tmux 3.4 || { echo no pty >&2; exit 1; }',
            SIZES[0],
            r"tmux .*: no pty; --single",
        ),
        (("--tmux",), "echo tmux 3.4", (70, 24), r"--tmux needs .*80 × 24 .*this has 70 × 24"),
        (("--single",), "echo tmux 3.4", (80, 20), r"--single needs .*80 × 24 .*this has 80 × 20"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(room, home, options, says, size, words):
    stage = room(*options, size=size, PATH=fake_tmux(home / "bin", says))
    assert stage.status() == 3
    assert re.fullmatch(r"lab: [^\n]+\n", stage.said.read_text())
    assert re.search(words, stage.said.read_text()), stage.said.read_text()
    assert not list(stage.demo.temporary.iterdir())


def test_a_terminal_that_is_too_small_has_plain_lines_and_is_told_why(room):
    stage = room(size=(70, 24))
    stage.sees("[seen] popper and alice are at work")
    words = f"{stages.NOT_LIVE} needs a terminal of 80 × 24 characters, and this has 70 × 24"
    assert stage.said.read_text() == f"lab: {words}\n"
    family = stage.processes()
    os.kill(stage.pid, signal.SIGINT)
    assert stage.status() == 128 + signal.SIGINT
    assert stage.leaves_nothing(family)


def without_tmux():
    """A PATH on which there is none."""
    return "/nonexistent"


def test_without_tmux_all_is_in_one_terminal_and_says_so(room):
    stage = room(PATH=without_tmux())
    stage.sees(stages.IN_ONE, WAITS)
    stage.types("q")
    assert stage.status() == 0


def test_without_tmux_it_can_not_be_asked_for(room):
    stage = room("--tmux", PATH=without_tmux())
    assert stage.status() == 3
    assert re.fullmatch(r"lab: tmux is not installed: [^\n]+--single[^\n]+\n", stage.said.read_text())


@pytest.mark.parametrize("option", ["--single", "--tmux"])
def test_without_a_terminal_it_can_not_be_asked_for(home, option):
    demo = Demo(home, stage=option.removeprefix("--"))
    ended = demo.run()
    assert (ended.returncode, ended.stdout) == (3, "")
    assert ended.stderr == f"lab: {option} needs a terminal; --plain prints lines\n"


# ---- the layout -------------------------------------------------------------------------------------------


def views():
    """Moments with few panels and with many, such as labs have."""
    workers = Panel(
        "workers", (8, 0), (("alice", "works"), ("bob", "waits")), ("", ""), lines=2, pane=WORKERS
    )
    tasks = Panel("tasks", (8, 0), tuple((f"row {number}", "") for number in range(5)))
    log = tuple((str(number), f"command {number}") for number in range(50))
    wire = Panel("on the wire", (4, 0), log, lines=3, log=True, pane=BROKER)
    spare = Panel("on the wire", (4, 0), log, lines=3, log=True, spare=True, pane=BROKER)
    letters = Panel("letters", (0,), (("a",), ("b",), ("c",), ("d",)))
    endpoint = Panel(
        "endpoint", (0,), tuple((f"request {number}",) for number in range(9)), lines=2, log=True
    )
    copied = Panel("to be copied", (WIDTH,), (("c" * WIDTH,), ("d" * WIDTH,)), copied=True)
    return [
        View(0, ()),
        View(1, (workers, tasks, wire)),
        View(2, (workers, tasks, letters, endpoint, spare)),
        View(3, (workers, tasks, endpoint, spare, copied)),
        VIEW,
    ]


def rooms_of(cells):
    """From a layout as tmux writes it: for each pane its columns and lines, its place, without the title's line."""
    found = {}
    for width, height, left, top, pane in re.findall(r"(\d+)x(\d+),(\d+),(\d+),(\d+)(?![\dx])", cells):
        first = int(top) == 0
        found[PANES[int(pane)]] = (int(width), int(height) - first, int(left), int(top) + first)
    return found


@pytest.mark.parametrize("size", [SIZES[0], LARGE])
def test_panes_come_and_go_as_there_is_room_and_show_what_they_should(room, home, size):
    shown = [views()[number] for number in (1, 2, 3, 2, 1, 3)]
    (home / "views").write_bytes(pickle.dumps(shown))
    stage = room(home / "views", own_photos=False, script=SHOW, size=size)
    for view in shown:
        laid = layout.lay_out(view, *size)
        wanted = {}
        for name, (width, height, left, top) in rooms_of(laid.cells).items():
            said, title = [Text("a line")], "a title · step 0 of 9"
            content = layout.content(name, view, said, title, "keys", width, height)
            wanted |= {(top + place, left, width): line.plain for place, line in enumerate(content.lines)}
            wanted[top - 1, left + 3, len(content.title)] = content.title

        def there(wanted=wanted):
            screen = [line.ljust(size[0]) for line in stage.screen()]
            return len(screen) == size[1] and all(
                screen[row][left : left + width].rstrip() == text.rstrip()
                for (row, left, width), text in wanted.items()
            )

        assert wait_until(there, WITHIN_SECONDS), "\n".join([*stage.screen(), "was not:", *wanted.values()])
        family = stage.processes()
        stage.types("n")
    assert stage.status() == 0
    assert stage.leaves_nothing(family)


@pytest.mark.parametrize("size", [*SIZES, (100, 30), LARGE, (250, 70), (80, 60)])
@pytest.mark.parametrize("number", range(len(views())))
def test_all_panes_together_fill_the_terminal_and_nothing_wraps(size, number):
    view = views()[number]
    laid = layout.lay_out(view, *size)
    rooms = rooms_of(laid.cells)
    assert set(rooms) == set(laid.shown)
    taken = {(x, y) for width, height, left, top in rooms.values()
             for x in range(left, left + width) for y in range(top - 1, top + height)}  # fmt: skip
    beside = len({left for _, _, left, _ in rooms.values()}) - 1
    assert len(taken) == (size[0] - beside) * size[1], f"a gap, or two panes at one place: {laid.cells}"
    said = []
    for name, (width, height, _, _) in rooms.items():
        content = layout.content(name, view, said, "a title", "keys", width, height)
        assert [cell_len(line.plain) for line in content.lines] == [width] * height, (name, content)


def test_on_the_smallest_terminal_all_is_shown_that_one_terminal_shows():
    for view in views()[1:4]:
        stage = LiveStage("a title", Console(file=io.StringIO(), width=WIDTH, height=HEIGHT))
        for number in range(4):
            stage.line("say", f"line {number}")
        stage.show(view)
        alone = [line.plain.strip("│╭╰├─╮╯┤ ") for line in stage.screen(WIDTH, HEIGHT)]
        shown = []
        for name, (width, height, _, _) in rooms_of(layout.lay_out(view, WIDTH, HEIGHT).cells).items():
            content = layout.content(name, view, stage._said, "a title", "", width, height)
            shown += [content.title, *(line.plain.strip("─ ") for line in content.lines)]
        logged = [row for panel in view.panels if panel.log for row in panel.rows]
        rows = [
            row
            for panel in view.panels
            if panel.log and not panel.spare
            for row in panel.rows[-panel.lines :]
        ]
        spare = [" ".join(row) for row in logged if row not in rows]
        missing = [line for line in alone if not any(re.split("  | ─", line)[0] in each for each in shown)]
        assert not [line for line in missing if re.sub(" +", " ", line) not in spare]
