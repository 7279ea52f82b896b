"""The live view: what fits, what is cut, and what is written anew. No process is started here."""

import inspect
import io
import re

import pytest
from demonstration import LABS, SIZES
from rich.cells import cell_len
from rich.console import Console

from labkit import course
from labkit.demo import script
from labkit.demo.acts import act_of
from labkit.demo.draw import table_row
from labkit.demo.live import HEIGHT, WIDTH, LiveStage
from labkit.demo.stage import NOTE, SAY, SEEN
from labkit.demo.view import DONE, GONE, STRONG, WAITING, Bar, Cell, Panel, Points, Strip, Tiles, View, Words

LONGEST_LINE = 72  # of narration; a panel of 80 columns holds 76, and a mark


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


@pytest.mark.parametrize(
    ("cell", "drawn"),
    [
        (Bar(0.5, WAITING, told=False), "██████████"),
        (Bar(0.001, WAITING, told=False), "█"),
        (Bar(0.0, WAITING, told=False), ""),
        (Strip((("H", GONE), ("L", WAITING))), " H   L"),
        (Points(((0.5, "7"), (0.1, "8")), 0.75), "··8·······7····"),
        (Points(((0.1, "7"), (0.1, "8"), (1.0, "12")), 1.0), "··7·8·············12"),
        (Tiles((9998, 9999, 10000, 10001), DONE, newest=True), "… 9999 10000 10001"),
    ],
)
def test_a_cell_is_drawn_in_its_width(cell: Cell, drawn: str):
    assert table_row((cell,), (20,), 20).plain == drawn.ljust(20)


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
