"""The timeline: pages of real gradings, the picture of a real scene, and histories that nobody would wish for."""

import base64
import hashlib
import itertools
import re
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from html.parser import HTMLParser
from types import SimpleNamespace

import grading
import pytest

from labkit import course
from labkit.grader import history, marks, picture, timeline
from labkit.grader.history import (
    BROKER_KILLED,
    BROKER_RESTARTED,
    COMMAND,
    EXITED,
    KILLED,
    PAUSED,
    REPLY,
    RESUMED,
    SENT,
    STARTED,
    STOPPED,
    WORK_FAILED,
    WORK_FINISHED,
    WORK_STARTED,
    History,
)
from labkit.grader.schedule import FAILED, NOT_RUN, PASSED, Check, Outcome
from labkit.grader.verdict import Verdict

LAB = course.lab(3)
LARGEST_PAGE = 600_000
NAMESPACE = "{http://www.w3.org/2000/svg}"
EVIL = "\"'><script>alert(1)</script><img src=http://x.invalid onerror=alert(1)>&\x00\x1b[31m\u202e\ud800]]>"


# ---- pages, real and built -------------------------------------------------------------------------------


class Tags(HTMLParser):
    """What a browser finds in a page: its elements with their attributes, and the text of each script and style."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.inside: dict[str, list[str]] = {"script": [], "style": [], "pre": [], "title": []}
        self._open = ""
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag in self.inside:
            self._open = tag
            self.inside[tag].append("")

    def handle_endtag(self, tag):
        self._open = "" if tag == self._open else self._open

    def handle_data(self, data):
        if self._open:
            self.inside[self._open][-1] += data

    def all(self, tag):
        return [attributes for name, attributes in self.found if name == tag]

    def checks(self):
        return {each["id"]: each for each in self.all("details") if "check" in each.get("class", "").split()}


@dataclass
class Played:
    """A scene as far as the timeline looks at it."""

    history: History = field(default_factory=History)
    title: str = ""
    schedule: dict = field(default_factory=dict)
    run: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(lab=LAB))

    def final_verdict(self):
        return Verdict()


def page_of(outcomes, **result):
    """The page of a run with these outcomes, by check id."""
    checks = [Check(name, f"Title of {name}", 2, (), print, hidden="hidden" in name) for name in outcomes]
    record = {"points": 2, "max_points": 4, "submission": "here", "broker": {"kind": "valkey", "version": "9"},
              "seconds": 1.25, "started": "2026-01-01T00:00:00+00:00", "notes": [],
              "checks": [{"points": 0, "max_points": 2, "hidden": check.hidden} for check in checks]}  # fmt: skip
    return timeline.page(SimpleNamespace(lab=LAB, checks=checks, outcomes=outcomes), record | result)


def asks(scene, who, number, verb, *args, named=(), given=(), empty=False, detail="", answered=True):
    """A command of a process, and its reply."""
    common = {"verb": verb, "args": args, "number": number}
    scene.add(who, COMMAND, tasks=named, **common)
    if answered:
        scene.add(who, REPLY, tasks=given, empty=empty, detail=detail, **common)


def takes(scene, who, number, task):
    asks(
        scene,
        who,
        number,
        "BLMOVE",
        "images",
        f"images:processing:{who}",
        "RIGHT",
        "LEFT",
        "2",
        given=(task,),
    )


def a_rescue():
    """Alice is killed at work on task 1, which bob does."""
    scene = History()
    scene.add("grader", SENT, tasks=(1,))
    scene.add("grader", SENT, tasks=(2,))
    scene.add("alice", STARTED, detail="/somewhere/worker.py")
    takes(scene, "alice", 1, 1)
    scene.add("alice", WORK_STARTED, tasks=(1,))
    scene.add("alice", KILLED, detail="during the work on task 1")
    scene.add("alice", EXITED)
    scene.add("bob", STARTED, detail="/somewhere/worker.py")
    takes(scene, "bob", 1, 1)
    scene.add("bob", WORK_STARTED, tasks=(1,))
    scene.add("bob", WORK_FINISHED, tasks=(1,))
    asks(scene, "bob", 2, "LREM", "images:processing:bob", "1", "‹task 1›", named=(1,))
    scene.add("bob", EXITED, detail="exited")
    return scene


def kinds(scene):
    return [mark.kind for mark in marks.read(scene, "images").marks]


def pictures(page):
    """Every SVG element of a page, parsed."""
    return [ET.fromstring(text) for text in re.findall(r"<svg.*?</svg>", page, re.DOTALL)]


def marked(svg, kind):
    return [each for each in svg.iter() if each.get("href") == f"#mark-{kind}"]


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """A real grading of workers that take with BRPOP: its record and its page."""
    folder = tmp_path_factory.mktemp("brpop")
    (folder / "submission").mkdir()
    wrong = next(one for one in grading.wrong_ones(LAB) if one.name == "brpop")
    grading.edited(LAB.solution, wrong.edits)(folder / "submission")
    result = grading.grade(LAB, folder / "submission", folder / "result")
    return result, (folder / "result" / "timeline.html").read_text()


@pytest.fixture(scope="module")
def readme_picture(tmp_path_factory):
    """The README's picture, drawn as its command draws it: from a real run."""
    file = tmp_path_factory.mktemp("picture") / "in" / "a-new-folder.svg"
    command = [sys.executable, "-m", "labkit.grader.timeline", str(file)]
    subprocess.run(command, cwd=course.ROOT, check=True, timeout=60)
    return file.read_text()


# ---- a real page -----------------------------------------------------------------------------------------


def test_each_check_has_its_place_and_the_failed_ones_are_open(graded):
    result, page = graded
    tags = Tags(page)
    assert list(tags.checks()) == [check["id"] for check in result["checks"]]
    failed = {check["id"] for check in result["checks"] if check["outcome"] in ("failed", "timed out")}
    assert "a_killed_worker_loses_nothing" in failed
    assert {name for name, each in tags.checks().items() if "open" in each} == failed
    ids = [attributes["id"] for _, attributes in tags.found if "id" in attributes]
    assert len(ids) == len(set(ids)), "an id stands in the page twice"
    links = {each["href"].removeprefix("#") for each in tags.all("a")}
    assert links and links <= set(ids), "a check that was not run points to the one that it waits for"


def test_the_page_tells_the_story_and_how_many_points_were_tried(graded):
    result, page = graded
    stories = Tags(page).inside["pre"]
    for check in result["checks"]:
        if check["outcome"] == "failed":
            assert check["message"] in stories
    tried = next(
        c["facts"]["crash points"] for c in result["checks"] if c["id"] == "a_killed_worker_loses_nothing"
    )
    assert f"crash points: {tried}" in page
    assert f"{result['points']} of {result['max_points']}" in page
    assert "the scene that the story tells" in page
    assert re.search(r"task 1 <b>lost</b>", page)


def test_the_page_needs_nothing_from_anywhere(graded):
    _, page = graded
    tags = Tags(page)
    for tag, attributes in tags.found:
        assert not tag.startswith(("link", "iframe", "object", "embed", "img", "base"))
        for name, value in attributes.items():
            assert not name.startswith(("on", "style")), (tag, name)
            if name in ("src", "href", "xlink:href", "action", "data"):
                assert name == "href" and value.startswith("#"), (tag, name, value)
    assert set(re.findall(r"url\(([^)]*)\)", page)) == {"#hatch-cut", "#hatch-failed", "#hatch-outage"}
    assert "@import" not in page
    [policy] = [each["content"] for each in tags.all("meta") if "http-equiv" in each]
    assert policy.startswith("default-src 'none';") and "unsafe" not in policy
    for kind in ("script", "style"):
        [text] = tags.inside[kind]
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy, "the page's own policy would refuse it"


def test_every_picture_of_the_page_is_well_formed(graded):
    _, page = graded
    assert len(pictures(page)) > 20
    shapes = {each.get("id") for svg in pictures(page) for each in svg.iter() if each.get("id")}
    used = {each.get("href") for svg in pictures(page) for each in svg.iter("use")}
    assert used <= {f"#{shape}" for shape in shapes}


def test_the_page_stays_small(graded):
    _, page = graded
    assert len(page.encode()) < LARGEST_PAGE


# ---- the README's picture --------------------------------------------------------------------------------


def test_the_readmes_picture_shows_the_kill_and_the_redelivery(readme_picture):
    root = ET.fromstring(readme_picture)
    alone = [each for each in root.iter(f"{NAMESPACE}g") if each.get("transform")]
    assert float(root.get("width")) == 900
    text = " ".join(root.itertext())
    assert all(
        words in text for words in ("alice", "bob", "worker.py", "SIGKILL", "handed out again: task 1")
    )
    assert any(each.get("class") == "mark kill" for each in alone)
    assert any(each.get("class") == "mark again" for each in alone)
    assert 'class="handover"' in readme_picture and 'class="bar cut"' in readme_picture
    assert readme_picture.count('class="bar done"') == 3 + 1, "three tasks, and the legend"


def test_a_picture_alone_brings_its_style_with_it(readme_picture):
    assert "prefers-color-scheme: dark" in readme_picture
    assert "var(" not in readme_picture, "not every viewer of SVG knows variables"
    assert set(re.findall(r"https?://[^\"' <]*", readme_picture)) == {"http://www.w3.org/2000/svg"}
    assert set(re.findall(r"url\(([^)]*)\)", readme_picture)) <= {
        "#hatch-cut",
        "#hatch-failed",
        "#hatch-outage",
    }
    assert "<script" not in readme_picture


def test_the_readme_has_such_a_picture():
    root = ET.parse(course.ROOT / "docs" / "timeline.svg").getroot()
    assert marked(root, "kill") and marked(root, "again") and marked(root, "ack")


# ---- what a history is read as ---------------------------------------------------------------------------


def test_a_kill_a_redelivery_and_an_acknowledgement_have_their_marks():
    scene = a_rescue()
    assert kinds(scene) == ["send", "start", "take", "kill", "start", "again", "ack", "exit"]
    drawn = marks.read(scene, "images")
    assert [(bar.lane, bar.ending, bar.again) for bar in drawn.bars] == [
        ("alice", "cut", False),
        ("bob", "done", True),
    ]
    assert [(each.origin[0], each.goal[0], each.task) for each in drawn.handovers] == [("alice", "bob", 1)]
    assert [hand.lane for hand in drawn.hands] == ["alice", "bob"]
    assert drawn.lanes == {"grader": "sends tasks", "alice": "worker.py", "bob": "worker.py"}
    assert drawn.fates() == {1: "done", 2: ""}
    drawing = picture.Drawing(drawn, 1200)
    [kill] = [mark for mark in drawn.marks if mark.kind == "kill"]
    assert drawing.x[id(drawn.bars[0]), True] < drawing.x[id(kill), False], (
        "the cross covers the work it cut off"
    )
    assert "killed (SIGKILL) during the work on task 1" in timeline.svg(Played(scene))


def test_a_command_that_was_never_answered_is_drawn_as_such():
    scene = History()
    takes(scene, "alice", 1, 1)
    asks(scene, "alice", 2, "LREM", "images:processing:alice", "1", "‹task 1›", named=(1,), answered=False)
    scene.add("alice", KILLED)
    [unanswered] = [mark for mark in marks.read(scene, "images").marks if not mark.answered]
    assert unanswered.kind == "ack" and unanswered.words.endswith("never answered")
    assert 'class="mark ack unanswered"' in timeline.svg(Played(scene))


def test_what_is_done_in_a_transaction_is_one_mark():
    scene = History()
    takes(scene, "alice", 1, 2)
    asks(scene, "alice", 2, "MULTI")
    asks(scene, "alice", 3, "LPUSH", "images:rejected", '{"reason": "rubbish"}', detail="QUEUED")
    asks(scene, "alice", 4, "LREM", "images:processing:alice", "1", "‹task 2›", named=(2,), detail="QUEUED")
    asks(scene, "alice", 5, "EXEC")
    scene.add("grader", SENT, tasks=(2,))
    drawn = marks.read(scene, "images")
    assert [(mark.kind, mark.tasks) for mark in drawn.marks] == [
        ("take", (2,)),
        ("aside", (2,)),
        ("send", (2,)),
    ]
    assert drawn.fates() == {2: "set aside"}


def test_a_broker_that_dies_has_a_lane_and_its_absence_is_seen():
    scene = a_rescue()
    scene.add("broker", BROKER_KILLED, detail="after LREM number 1")
    scene.add("broker", BROKER_RESTARTED)
    drawn = marks.read(scene, "images")
    assert kinds(scene)[-2:] == ["down", "up"] and len(drawn.outages) == 1
    svg = timeline.svg(Played(scene))
    assert 'class="outage"' in svg and "after LREM number 1" in svg
    assert "broker" not in marks.read(a_rescue(), "images").lanes, "a broker that lives needs no lane"


def test_signals_failures_and_refusals_have_marks():
    scene = History()
    scene.add("alice", STARTED, detail="worker.py")
    scene.add("alice", PAUSED, detail="SIGSTOP")
    scene.add("alice", RESUMED, detail="SIGCONT")
    scene.add("alice", STOPPED, detail="SIGTERM")
    takes(scene, "alice", 1, 1)
    scene.add("alice", WORK_STARTED, tasks=(1,))
    scene.add("alice", WORK_FAILED, tasks=(1,), detail="OSError: disk full")
    asks(scene, "alice", 2, "LMOVE", "images:processing:alice", "images", "LEFT", "RIGHT", given=(1,))
    asks(scene, "alice", 3, "FLUSHALL", detail="NOPERM", empty=True)
    asks(scene, "alice", 4, "SET", "images:heartbeat:alice", "alive")
    asks(scene, "alice", 5, "LPUSH", "images", '{"id": 1}')
    scene.add("alice", EXITED, detail="exited with status 1")
    scene.add("alice", "something new", detail="of which this page knows nothing")
    expected = ["start", "pause", "resume", "term", "take", "back", "error", "push", "crash"]
    assert kinds(scene) == expected
    drawn = marks.read(scene, "images")
    assert [bar.ending for bar in drawn.bars] == ["failed"] and len(drawn.pauses) == 1
    assert [words for _, _, words in drawn.quiet] == ["SET images:heartbeat:alice alive"]
    root = ET.fromstring(timeline.svg(Played(scene)))
    assert all(marked(root, kind) for kind in expected)


def test_work_at_the_same_time_in_one_process_has_rows():
    scene = History()
    for task in (1, 2, 3):
        scene.add("alice", WORK_STARTED, tasks=(task,))
    for task in (1, 2, 3):
        scene.add("alice", WORK_FINISHED, tasks=(task,))
    scene.add("alice", WORK_STARTED, detail="an id that was never sent")
    bars = marks.read(scene, "images").bars
    assert [bar.row for bar in bars] == [0, 1, 2, 0]
    assert bars[-1].task == 0 and "an id that was never sent" in timeline.svg(Played(scene))


def test_nothing_covers_anything_else_on_its_lane():
    scene = History()
    scene.add("alice", STARTED, detail="worker.py")
    for task in range(1, 9):  # all within a millisecond or so
        takes(scene, "alice", 2 * task, task)
        scene.add("alice", WORK_STARTED, tasks=(task,))
        scene.add("alice", WORK_FINISHED, tasks=(task,))
        asks(scene, "alice", 2 * task + 1, "LREM", "images:processing:alice", "1", "‹›", named=(task,))
    drawn = marks.read(scene, "images")
    drawing = picture.Drawing(drawn, 1200)
    places = sorted(drawing.x[id(mark), False] for mark in drawn.marks)
    assert min(after - before for before, after in itertools.pairwise(places)) >= 16
    assert all(drawing.x[id(bar), True] - drawing.x[id(bar), False] >= 20 for bar in drawn.bars)


def test_a_long_wait_is_shortened_and_that_is_shown():
    scene = a_rescue()
    last = scene.events()[-1].at
    scene._events.append(history.Event(last + 60, "bob", STOPPED, detail="SIGTERM"))
    drawing = picture.Drawing(marks.read(scene, "images"), 1200)
    [(_, seconds)] = [torn for torn in drawing.scale.torn if torn[1] > 1]
    assert seconds == pytest.approx(60, abs=1)
    assert drawing.scale(last + 60) - drawing.scale(last) < 400
    places = [drawing.scale(at / 10) for at in range(600)]
    assert places == sorted(places)


# ---- what nobody would wish for --------------------------------------------------------------------------


def test_a_scene_in_which_nothing_happened_breaks_nothing():
    empty = Played()
    assert ET.fromstring(timeline.svg(empty, title="Nothing")).tag == f"{NAMESPACE}svg"
    sent = Played()
    sent.history.add("grader", SENT, tasks=(1,))
    page = page_of({"one": Outcome(PASSED, scenes=[empty, sent]), "none": Outcome(PASSED)})
    assert "Nothing happened in this scene." in page
    assert list(Tags(page).checks()) == ["one", "none"]


def test_what_a_submission_says_stays_text():
    scene = History()
    scene.add(EVIL, STARTED, detail=f"/x/{EVIL}.py")
    asks(scene, EVIL, 1, EVIL, EVIL, EVIL, given=(1,))
    asks(scene, EVIL, 2, "LREM", EVIL, named=(1,))
    asks(scene, EVIL, 3, "SET", EVIL, detail=EVIL)
    takes(scene, EVIL, 4, 1)
    scene.add(EVIL, WORK_STARTED, tasks=(1,))
    scene.add(EVIL, WORK_FAILED, tasks=(1,), detail=EVIL)
    scene.add(EVIL, WORK_STARTED, detail=EVIL)
    scene.add("broker", BROKER_KILLED, detail=EVIL)
    scene.add(EVIL, KILLED, detail=EVIL)
    scene.add("second", EXITED, detail=EVIL)
    played = Played(scene, EVIL)
    bad = Outcome(FAILED, EVIL, scenes=[played, Played(scene, "another")], facts={EVIL: 3})
    waiting = Outcome(NOT_RUN, waits_for=EVIL)
    page = page_of({"bad": bad, "waiting": waiting}, submission=EVIL, notes=[EVIL])
    tags = Tags(page)
    assert len(tags.all("script")) == 1 and not tags.all("img")
    assert not [name for _, attributes in tags.found for name in attributes if name.startswith("on")]
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f\u202e\ud800]", page)
    assert pictures(page)
    page.encode()
    alone = timeline.svg(played)
    alone.encode()
    assert not [each for each in ET.fromstring(alone).iter() if each.tag.endswith(("script", "img"))]
    assert "alert(1)" in " ".join(ET.fromstring(alone).itertext()), "it is shown, as text"


def test_an_endless_loop_does_not_make_an_endless_page():
    scene = History()
    scene.add("alice", STARTED, detail="worker.py")
    for number in range(1, 20_000, 2):
        takes(scene, "alice", number, 1)
        scene.add("alice", WORK_STARTED, tasks=(1,))
        scene.add("alice", WORK_FINISHED, tasks=(1,))
        asks(scene, "alice", number + 1, "GET", "x" * 100)
    began = time.monotonic()
    told = Played(scene, "the one of the story", {"point": {"nth": 3}})
    others = [Played(scene, f"number {n}") for n in range(30)]
    outcome = Outcome(FAILED, "A story.", scenes=[*others, told], schedule={"seed": 0, "point": {"nth": 3}})
    page = page_of({"looping": outcome})
    assert len(page.encode()) < LARGEST_PAGE
    assert time.monotonic() - began < 30
    assert "steps in the middle are left out" in page and "more scenes are left out" in page
    assert page.index("The one of the story") < page.index("Number 0"), "the scene of the story comes first"
    assert all(len(list(svg.iter())) < 5000 for svg in pictures(page))


def test_a_hidden_check_tells_nothing():
    page = page_of(
        {"a_hidden_one": Outcome(FAILED, "a secret story", scenes=[Played(a_rescue(), "a secret")])}
    )
    assert "hidden-1" in Tags(page).checks()
    assert "a_hidden_one" not in page, "its name says what it looks for"
    assert "2 of 4" not in page, "the sum of all would tell how it ended"
    assert "secret" not in page and "Title of" not in page and "alice" not in page
