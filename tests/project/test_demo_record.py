"""Recordings of demonstrations, and the pictures made from them: whole, valid whenever they end, and harmless."""

import json
import os
import re
import resource
import shutil
import signal
import stat
import subprocess
import sys
import time
import xml.etree.ElementTree

import pytest
from demonstration import LABS, Demo, Terminal, family_of, read_until, wait_until
from PIL import Image
from rich.cells import cell_len
from test_demo_keys import Presenter

from labkit import course
from labkit.brokers import InfrastructureError
from labkit.demo import cast_picture, pictures, script
from labkit.demo.cast import HEIGHT, WIDTH, BadRecording, RecordedStage, Recording
from labkit.demo.replay import LEAVE, at_end_of_step, read, screens
from labkit.demo.stage import NOTE, SAY, PlainStage
from labkit.demo.view import DONE, GONE, STRONG, Bar, Panel, Points, Tiles, View, Words

HOSTILE = """<script>&"'.jpg"""  # what a photograph may be called
STEPS = [step for step in script.read(course.lab(3)).steps if step.say]
VIEW = View(
    at=12.3,
    panels=(
        Panel("workers", (8, 0, 14), ((Words("alice", STRONG), f"{HOSTILE} Größe 日本 e\u0301", Bar(0.5, GONE)),)),
        Panel("tasks", (6, 0), (("done", Tiles((1, 12, 123), DONE)), ("waits", Points(((0.2, "7"),), 0.9)))),
    ),
)  # fmt: skip


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    """A folder with one photograph, quickly drawn: every task of the demonstration is about it."""
    folder = tmp_path_factory.mktemp("photographs")
    gray = Image.linear_gradient("L").resize((600, 400))
    Image.merge("RGB", [gray, gray.rotate(90), gray.rotate(180)]).save(folder / HOSTILE)
    return folder


@pytest.fixture(scope="module")
def played(tmp_path_factory, photo):
    """A whole demonstration in plain lines, recorded, and how it ended."""
    place = tmp_path_factory.mktemp("r")
    demo = Demo(place, photos=photo, record=place / "demo.cast", sizes=[])
    ended = demo.run()
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return demo, ended


@pytest.fixture
def cast(played):
    return read(played[0].state.parent / "demo.cast")


def recorded(path, *, steps=1):
    """A recording of a few moments, made without a demonstration."""
    with Recording(path, "Lab 3: Reliable queues", "./lab demo 3") as recording:
        stage = RecordedStage(PlainStage(lambda: 0.0), recording, steps)
        stage.open()
        for number in range(1, steps + 1):
            stage.step(number)
            stage.line(SAY, f"This is step {number}.")
            stage.show(VIEW)
        stage.close()
    return read(path)


def expect_whole(path):
    """Each line of the file is one of JSON, as the format says; return the header and the events."""
    *lines, rest = path.read_text(encoding="utf-8").split("\n")
    assert rest == ""
    header, *events = map(json.loads, lines)
    assert header["version"] == 2
    assert all(len(event) == 3 and event[1] in ("o", "m") for event in events)
    times = [event[0] for event in events]
    assert times == sorted(times) and times[0] >= 0
    return header, events


def test_a_recording_has_a_header_and_a_marker_for_each_step(played, cast):
    header, events = expect_whole(cast.path)
    assert (header["width"], header["height"]) == (WIDTH, HEIGHT)
    assert abs(header["timestamp"] - time.time()) < 3600
    assert header["title"] == "Lab 3: Reliable queues"
    assert header["command"] == "./lab demo 3"
    assert header["env"] == {"TERM": "xterm-256color"}
    markers = [text for _, kind, text in events if kind == "m"]
    for number, (marker, step) in enumerate(zip(markers, STEPS, strict=True), 1):
        words = re.sub(r"\\{\w+\\}", ".+", re.escape(step.say[0]))
        assert re.fullmatch(f"step {number}: {words}", marker), marker
    assert [path.name for path in cast.path.parent.glob("*.cast")] == ["demo.cast"]
    assert not list(cast.path.parent.glob(".*"))


def test_no_line_is_wider_than_the_screen_and_no_command_cut(played, cast):
    for _, terminal in screens(cast):
        assert len(terminal.rows) == HEIGHT
        assert all(cell_len(line) <= WIDTH for line in terminal.lines())
        assert not any("…" in line for line in terminal.lines() if "‹task" in line)


def test_it_is_what_a_terminal_of_this_size_is_sent(home, photo):
    """But for the colors, of which not every terminal has as many."""
    path = home / "demo.cast"
    demo = Demo(home, photos=photo, stage="single", record=path, sizes=[])
    demo.environment |= {"COLUMNS": str(WIDTH), "LINES": str(HEIGHT)}
    terminal = Terminal(demo)
    while terminal.read():
        pass
    assert terminal.status() == 0
    written = "".join(event.text for event in read(path).events if event.kind == "o")
    plain = re.compile(r"\x1b\[[\d;]*m")
    assert plain.sub("", written) == plain.sub("", terminal.seen.decode())
    assert "\x1b[1;38;2;" in written, "24 bits a color"


def test_it_ends_with_the_verdict_and_the_question(played, cast):
    *_, (_, terminal) = screens(cast)
    assert not terminal.is_live
    text = "\n".join(terminal.lines())
    counts = re.search(r"^verdict: (.+)$", played[1].stdout, re.MULTILINE)[1].split(", ")
    assert len(counts) >= 5
    for counted in counts:
        word, _, count = counted.rpartition(" ")
        assert re.search(rf"^│ {re.escape(word)} +{count} ", text, re.MULTILINE), text
    asked = [line.strip() for line in played[1].stdout.partition("Ask the class:")[2].splitlines()]
    assert "\n".join(["Ask the class:", *asked]) in text
    assert sum(LEAVE in event.text for event in cast.events) == 1


@pytest.mark.skipif(not shutil.which("tmux"), reason="no tmux, whose terminal it is compared with")
def test_a_real_terminal_shows_the_same(home, cast):
    """At the end of each step, and at the end of all."""
    tmux = ["tmux", "-S", str(home / "socket"), "-f", "/dev/null"]
    written = home / "written"
    moments, text = [], ""
    for event, terminal in screens(cast):
        if event.kind == "end" or (event.kind == "m" and terminal.is_live):
            moments.append((text, terminal.lines()))
        text += event.text if event.kind == "o" else ""
    environment = {name: value for name, value in os.environ.items() if name != "TMUX"} | {"LANG": "C.UTF-8"}
    try:
        for number, (text, expected) in enumerate(moments):
            written.write_text(text, encoding="utf-8", newline="")
            size = ["-x", str(WIDTH), "-y", str(HEIGHT)]
            show = ["sh", "-c", f"stty raw; cat '{written}'; sleep 300"]
            new = [*tmux, "-u", "new-session", "-d", "-s", f"m{number}", *size, *show]
            subprocess.run(
                [*new[:4], *new[4:], ";", "set", "-g", "status", "off"], check=True, env=environment
            )
            seen = []

            def alike(number=number, expected=expected, seen=seen):
                captured = subprocess.run(
                    [*tmux, "-u", "capture-pane", "-p", "-t", f"m{number}"],
                    capture_output=True,
                    env=environment,
                )
                seen[:] = [line.rstrip() for line in captured.stdout.decode().split("\n")[:HEIGHT]]
                return seen == expected

            assert wait_until(alike, within=60), "\n".join([*seen, "--- and not:", *expected])
            subprocess.run([*tmux, "kill-session", "-t", f"m{number}"], env=environment, check=number == 0)
    finally:
        subprocess.run([*tmux, "kill-server"], capture_output=True, env=environment)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_interrupted_it_is_a_recording_of_what_there_was(home, photo, number):
    place = home / "recordings"
    place.mkdir()
    demo = Demo(home, photos=photo, record=place / "demo.cast", sizes=[])
    with demo.playing() as process:
        read_until(process.stdout, "SIGKILL")
        on_the_screen = lambda: (place / "demo.cast").read_text().count("SIGKILL") > 1  # noqa: E731  (not in a marker)
        assert wait_until(on_the_screen, within=60)
        family = family_of(process.pid)
        process.send_signal(number)
        process.communicate()
        assert process.returncode == (130 if number == signal.SIGINT else -signal.SIGKILL)
    assert demo.leaves_nothing(family)
    assert list(place.iterdir()) == [place / "demo.cast"]
    _, events = expect_whole(place / "demo.cast")
    assert any(kind == "m" and "SIGKILL" in text for _, kind, text in events)
    assert any(LEAVE in text for _, _, text in events) == (number == signal.SIGINT), (
        "the terminal is restored"
    )
    left = next(step.number for step in STEPS if "SIGKILL" in step.say[0])
    assert "SIGKILL" in "\n".join(at_end_of_step(read(place / "demo.cast"), left).lines())


def test_keys_are_heard_and_the_recording_has_a_size_of_its_own(home, photo):
    path, second = home / "demo.cast", STEPS[1].say[0]
    presenter = Presenter(home, photo, record=path, sizes=[])
    presenter.goes_on_until(second)
    presenter.types("q")
    assert presenter.end() == 0
    assert presenter.terminal.is_restored()
    header, events = expect_whole(path)
    assert (header["width"], header["height"]) == (WIDTH, HEIGHT)
    assert [text[:7] for _, kind, text in events if kind == "m"] == ["step 1:", "step 2:"]
    assert second in "\n".join(at_end_of_step(read(path), 2).lines())
    assert any(LEAVE in text for _, _, text in events)


@pytest.mark.parametrize("kind", ["no folder", "a folder", "a device", "not allowed", "too long"])
def test_what_cannot_be_written_is_told_in_a_line_before_anything_is_started(home, photo, kind):
    closed = home / "closed"
    closed.mkdir(mode=0o555)
    path, words = {
        "no folder": (home / "nowhere" / "demo.cast", "There is no folder"),
        "a folder": (home, "is a folder"),
        "a device": ("/dev/null", "is no ordinary file"),
        "not allowed": (
            "/proc/demo.cast" if os.geteuid() == 0 else closed / "demo.cast",
            "cannot be written",
        ),
        "too long": (home / f"{'d' * 300}.cast", "cannot be written"),
    }[kind]
    if kind == "not allowed" and os.geteuid() == 0 and not os.path.isdir("/proc/self"):
        pytest.skip("root may write everywhere here")
    ended = Demo(home, photos=photo, record=path).run()
    assert (ended.returncode, ended.stdout) == (2, "")
    assert re.fullmatch(r"lab: .+\n", ended.stderr), ended.stderr
    assert words in ended.stderr
    assert not list((home / "tmp").iterdir())
    assert (
        not list(closed.iterdir())
        and not list(home.glob("*.cast"))
        and stat.S_ISCHR(os.stat("/dev/null").st_mode)
    )


def test_the_command_line_knows_it(home):
    command = [
        sys.executable,
        "-P",
        "-m",
        "labkit",
        "demo",
        "1",
        "--plain",
        "--record",
        str(home / "no" / "d.cast"),
    ]
    ended = subprocess.run(command, cwd=course.ROOT, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert re.fullmatch(r"lab: There is no folder .+\n", ended.stderr)


def test_a_file_is_replaced_only_when_a_demonstration_begins(home, photo):
    path, link = home / "demo.cast", home / "link.cast"
    path.write_text("the one of last week")
    link.symlink_to(path)
    ended = Demo(home, photos=photo, record=link, brokers="redis://127.0.0.1:1/0").run()
    assert ended.returncode == 3
    assert path.read_text() == "the one of last week"
    recorded(link)
    expect_whole(path)
    assert link.is_symlink()


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="no prlimit, which stands for the full disk")
def test_a_disk_that_fills_up_ends_it_in_one_line(home, photo):
    path = home / "demo.cast"
    demo = Demo(home, photos=photo, record=path, sizes=[])
    with demo.playing() as process:
        read_until(process.stdout, "are at work")
        family = family_of(process.pid)
        limit = path.stat().st_size + 100  # in the middle of a line
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (limit, limit))
        _, said = process.communicate()
    assert process.returncode == 3, said
    assert said == f"lab: the recording {path} cannot be written: File too large\n"
    assert demo.leaves_nothing(family)
    expect_whole(path)


def test_after_a_failure_every_writing_fails_and_closing_does_not(home):
    with Recording(home / "demo.cast", "title", "command") as recording:
        stage = RecordedStage(PlainStage(lambda: 0.0), recording, 1)
        shutil.rmtree(home)
        for use in (stage.open, lambda: stage.show(VIEW), lambda: stage.line(NOTE, "on")):
            with pytest.raises(InfrastructureError):
                use()
        stage.close()
        stage.close()


def text_of(svg):
    """What one reads in a picture, title and description left out, without the spaces."""
    root = xml.etree.ElementTree.fromstring(svg)
    texts = root.iter("{http://www.w3.org/2000/svg}text")
    return "".join("".join(text.itertext()) for text in texts).replace(" ", "")


def expect_harmless(svg):
    """Well-formed; no script, nothing from elsewhere; of a size that a page can bear."""
    root = xml.etree.ElementTree.fromstring(svg)
    names = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert names <= {"svg", "title", "desc", "style", "rect", "path", "circle", "g", "text"}
    assert all(
        not name.startswith("on") and "href" not in name for element in root.iter() for name in element.attrib
    )
    told = [value for element in root.iter() for value in element.attrib.values()]
    told += [element.text for element in root.iter("{http://www.w3.org/2000/svg}style")]
    assert not any(re.search(r"https?:|url\(|@import", words) for words in told)
    assert "<!" not in svg and "<?" not in svg
    assert len(svg.encode()) < 60_000


def test_the_picture_shows_the_end_of_the_step(cast, home):
    number = next(step.number for step in STEPS if "SIGKILL" in step.say[0])
    command = [
        sys.executable,
        "-m",
        "labkit.demo.cast_picture",
        cast.path,
        home / "a.svg",
        "--step",
        str(number),
    ]
    subprocess.run(command, cwd=course.ROOT, check=True, timeout=60)
    svg = (home / "a.svg").read_text(encoding="utf-8")
    expect_harmless(svg)
    assert f'<title id="title">Lab 3: Reliable queues: the end of step {number}</title>' in svg
    shown = text_of(svg)
    assert "./labdemo3" in shown and f"step{number}of{len(STEPS)}" in shown
    assert "SIGKILL" in shown and "KILLED" in shown and HOSTILE in shown
    assert (
        next(step.say[0] for step in STEPS[number:] if step.say).partition("{")[0].replace(" ", "")
        not in shown
    )
    terminal = at_end_of_step(cast, number)
    expected = "".join("".join(terminal.lines()).split())
    assert sorted(shown.removeprefix("./labdemo3")) == sorted(
        sign for sign in expected if sign not in cast_picture.DRAWN
    ), "every character, and none twice"


def test_hostile_text_is_escaped_and_wide_text_has_its_place(home):
    svg = cast_picture.picture(recorded(home / "a.cast"), 1)
    expect_harmless(svg)
    assert HOSTILE in text_of(svg) and "Größe日本e\u0301" in text_of(svg)
    root = xml.etree.ElementTree.fromstring(svg)
    placed = {"".join(text.itertext()): text.attrib for text in root.iter("{http://www.w3.org/2000/svg}text")}
    column = {sign: float(placed[sign]["x"]) / cast_picture.CELL for sign in ("日", "本", "e\u0301")}
    assert column["本"] - column["日"] == 2, "a wide character takes two columns"
    assert column["e\u0301"] - column["本"] == 2.5, "and an accent none"
    assert all(
        float(placed[words]["textLength"]) == cast_picture.CELL * len(words) for words in ("alice", "done")
    )


def test_the_last_of_several_plays_of_a_step_is_drawn(home):
    path = home / "a.cast"
    with Recording(path, "title", "command") as recording:
        stage = RecordedStage(PlainStage(lambda: 0.0), recording, 2)
        stage.open()
        for number, words in ((1, "first"), (2, "second"), (1, "again")):
            stage.step(number)
            stage.line(SAY, words)
            stage.show(VIEW)
        stage.close()
    assert "again" in text_of(cast_picture.picture(read(path), 1))
    assert [event.text for event in read(path).events if event.kind == "m"] == [
        "step 1: first", "step 2: second", "step 1: again",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('[1.0, "o", "\\u001b[5n"]\n', r"line \d+: '\\x1b\[5n' is in no recording of \./lab demo"),
        ('[1.0, "o", "a bell: \\u0007"]\n', r"line \d+: '\\x07' is in no recording"),
        ("[1.0, 2\n", "is no asciinema recording of version 2"),
        ('{"version": 1}\n', "is no asciinema recording of version 2"),
    ],
)
def test_a_recording_of_something_else_is_refused_in_a_line(home, line, words):
    recorded(home / "a.cast")
    with (home / "a.cast").open("a") as file:
        file.write(line)
    command = [
        sys.executable,
        "-m",
        "labkit.demo.cast_picture",
        home / "a.cast",
        home / "a.svg",
        "--step",
        "1",
    ]
    ended = subprocess.run(command, cwd=course.ROOT, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    assert re.fullmatch(rf"cast_picture: .*{words}.*\n", ended.stderr), ended.stderr
    assert not (home / "a.svg").exists()


def test_half_a_line_at_the_end_is_left_out_and_a_step_that_is_not_there_told(home):
    whole = recorded(home / "a.cast")
    with (home / "a.cast").open("a") as file:
        file.write('[1.0, "o", "hal')
    assert read(home / "a.cast").events == whole.events
    with pytest.raises(BadRecording, match="has no step 7"):
        at_end_of_step(whole, 7)


@pytest.mark.parametrize("lab", LABS)
def test_each_lab_has_a_picture_in_the_readme(lab):
    path = pictures.FOLDER / f"lab{lab:02}.svg"
    place = path.relative_to(course.ROOT).as_posix()
    played = script.read(course.lab(lab))
    chosen = [step.number for step in played.steps if step.picture]
    assert len(chosen) == 1, "one step of the script is the picture"
    svg = path.read_text(encoding="utf-8")
    expect_harmless(svg)
    assert f"step{chosen[0]}of{played.last}" in text_of(svg), f"python -m labkit.demo.pictures {lab}"
    assert f"./labdemo{lab}" in text_of(svg)
    readme = (course.ROOT / "README.md").read_text(encoding="utf-8")
    assert re.search(rf"!\[[^\]]{{20,}}\]\({re.escape(place)}\)", readme), (
        "with words for those who do not see it"
    )
