"""The timeline: a page that shows what happened in each scene of a graded submission.

It needs no network and no script to be read. What a submission says is escaped, and the page's own policy forbids
everything that is not in it. This draws the README's picture, from a run of the solution of lab 3:

    python -m labkit.grader.timeline docs/timeline.svg
"""

import argparse
import re
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from labkit import course
from labkit.grader import marks, picture
from labkit.grader.history import BROKER_KILLED, KILLED, REQUESTED, History
from labkit.grader.verdict import Verdict
from labkit.grader.words import clean
from labkit.safe_page import safe_page

if TYPE_CHECKING:
    from labkit.grader.plugin import Grading
    from labkit.grader.schedule import Check, Outcome
    from labkit.grader.stage import Stage

CSS = Path(__file__).with_name("timeline.css")
SCRIPT = Path(__file__).with_name("timeline.js")
WIDTH = 1200  # of a picture, in pixels; the page scales it
SHOWN_AT_ONCE = 3  # scenes of one check; the others are folded away
MOST_CHARACTERS = 480_000  # of all pictures: no more are drawn after that, except those that a story tells of
LONGEST_STORY = 20_000
# What can become of a task, with its style; whatever else (done twice, …) has the style of a redelivery.
FATES = {"done": "done", "set aside": "aside", "lost": "gone", "waiting": "gone", "not done": ""}
README_TITLE = "A worker is killed at its task, and another one does it"
SIGNS = {"passed": "✓", "failed": "✗", "timed out": "⧗", "not run": "–", "infrastructure": "!"}
LEGEND = {
    picture.SEND: "tasks go in (their numbers)",
    **{kind: picture.WORDS[kind] for kind in (picture.TAKE, picture.AGAIN)},
    **picture.BAR_WORDS,
    **{kind: picture.WORDS[kind] for kind in (picture.ACK, picture.ASIDE, picture.BACK, picture.PUSH)},
    **{kind: picture.WORDS[kind] for kind in (picture.KILL, picture.TERM, picture.CRASH)},
    **{kind: picture.WORDS[kind] for kind in (picture.UP, picture.ERROR)},
}
OF_WEBHOOKS = {kind: picture.WORDS[kind] for kind in (picture.LATER, picture.REQUEST)}


class Played(Protocol):
    """What a picture needs of a scene."""

    history: History
    title: str

    def final_verdict(self) -> Verdict: ...


def svg(scene: Played, *, title: str = "", queue: str = "", width: int = 900) -> str:
    """One scene as an SVG file of its own; queue: as its commands name it (default: the queue of the scene's lab)."""
    return picture.alone(marks.read(scene.history, queue or scene.run.lab.queue), title or scene.title, width)


def page(grading: "Grading", result: dict) -> str:
    """The whole page. `result` is the native record of the run."""
    css, script = picture.style() + CSS.read_text(), SCRIPT.read_text()
    room = _Room(MOST_CHARACTERS)
    body = [_header(grading, result), _legend(LEGEND | (OF_WEBHOOKS if _has_requests(grading) else {}))]
    body += [_check(grading, check, room) for check in grading.checks if check.id in grading.outcomes]
    title = f"Timeline of lab {grading.lab.number}: {clean(grading.lab.title)}"
    defs = f'<svg class="defs" width="0" height="0" aria-hidden="true">{picture.defs()}</svg>'
    return safe_page(title, [defs, *body], css=css, script=script)


class _Room:
    """How much the page may still grow."""

    def __init__(self, characters: int) -> None:
        self.left = characters

    def take(self, text: str) -> str:
        self.left -= len(text)
        return text


def _header(grading: "Grading", result: dict) -> str:
    broker = result["broker"]
    shown = [check for check in result["checks"] if not check["hidden"]]
    won, most = (sum(check[key] for check in shown) for key in ("points", "max_points"))
    facts = {
        "points": f"{won} of {most}"
        + ("" if len(shown) == len(result["checks"]) else ", besides hidden ones"),
        "submission": result["submission"],
        "broker": f"{broker['kind']} {broker['version']}".strip(),
        "took": f"{result['seconds']:.1f} s",
        "started": result["started"].replace("T", " ").replace("+00:00", " UTC"),
    }
    told = {name: _text(str(value)) for name, value in facts.items() if value}
    rows = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in told.items())
    notes = "".join(f"<li>{_text(note)}</li>" for note in result["notes"])
    listed = f'<ul class="notes">{notes}</ul>' if notes else ""
    return (
        f'<header><p class="kicker">Lab {grading.lab.number} · timeline</p><h1>{_text(grading.lab.title)}</h1>'
        f"<dl>{rows}</dl>{listed}</header>"
    )


def _points(grading: "Grading", result: dict) -> str:
    """Of what is shown: with the points of hidden checks in them, one could tell how those ended."""
    if not any(check.hidden for check in grading.checks):
        return f"{result['points']} of {result['max_points']}"
    shown = [check for check in result["checks"] if not check["hidden"]]
    won, most = (sum(check[key] for check in shown) for key in ("points", "max_points"))
    return f"{won} of {most}, and what the hidden checks give"


def _has_requests(grading: "Grading") -> bool:
    """Whether an endpoint stands in one of the pictures."""
    played = (scene for outcome in grading.outcomes.values() for scene in outcome.scenes)
    return any(scene.history.events(REQUESTED) for scene in played)


def _legend(kinds: dict[str, str]) -> str:
    items = "".join(
        f'<li><svg viewBox="-24 -16 48 32" width="48" height="32" aria-hidden="true">{picture.sample(kind)}</svg>'
        f"{words}</li>"
        for kind, words in kinds.items()
    )
    return (
        '<details class="legend" id="how-to-read" open><summary>How to read the pictures</summary>'
        "<p>A row is a process, and time runs to the right. A box is the work on the task with that number; "
        "a light band behind it lasts as long as the task is in this process's hands. Small ticks are commands "
        "that moved no task: heartbeats, looks into an empty queue. A dashed line follows a task that is "
        "handed out a second time. Busy moments are stretched, and a torn strip shortens a wait; the axis "
        "tells the seconds. Point at anything to read the command.</p>"
        f"<ul>{items}</ul></details>"
    )


def _check(grading: "Grading", check: "Check", room: _Room) -> str:
    outcome = grading.outcomes[check.id]
    kind = outcome.outcome.replace(" ", "-")
    points = check.points if outcome.outcome == "passed" else 0
    unit = "point" if check.points == 1 else "points"
    title, won = _text(check.title), f"{points} of {check.points} {unit}"
    inside = _inside(grading, check, outcome, room)
    anchor = _text(check.id)
    if check.hidden:  # its story and scenes, and its name, would say what it looks for
        anchor = f"hidden-{grading.checks.index(check) + 1}"
        kind, title, won = "hidden", "A hidden check", f"{check.points} {unit}"
        inside = "<p>What a hidden check does, and how it ended, is not shown here.</p>"
    opened = " open" if kind in ("failed", "timed-out", "infrastructure") else ""
    name = "hidden" if check.hidden else outcome.outcome
    return (
        f'<details class="check {kind}" id="{anchor}"{opened}>\n'
        f'<summary><span class="sign" aria-hidden="true">{SIGNS.get(name, "?")}</span> '
        f'<span class="title">{title}</span> <span class="outcome">{name}</span> '
        f'<span class="points">{won}</span></summary>\n'
        f"{inside}\n</details>"
    )


def _inside(grading: "Grading", check: "Check", outcome: "Outcome", room: _Room) -> str:
    parts = []
    if outcome.waits_for:
        other = next((each for each in grading.checks if each.id == outcome.waits_for), None)
        title = _text(other.title if other else outcome.waits_for)
        parts.append(f'<p>Not run until this passes: <a href="#{_text(outcome.waits_for)}">{title}</a></p>')
    facts = [f"{_text(what)}: {number}" for what, number in outcome.facts.items()]
    if facts:
        tried = ", ".join(facts)
        parts.append(f'<p class="facts">Tried and counted: {tried}. The scenes below are a few of them.</p>')
    if outcome.message:
        parts.append(f'<pre class="story">{_text(outcome.message[:LONGEST_STORY])}</pre>')
    told = _told(outcome)
    scenes = sorted(outcome.scenes, key=lambda scene: (scene is not told, *_place(scene)))
    drawn = list(_scenes(scenes, told, outcome, room))
    parts += drawn[:SHOWN_AT_ONCE]
    if more := drawn[SHOWN_AT_ONCE:]:
        word = "scene" if len(more) == 1 else "scenes"
        summary = f"<summary>{len(more)} more {word}</summary>"
        parts.append(f'<details class="more">{summary}\n{"".join(more)}</details>')
    if not scenes and not outcome.waits_for and not outcome.message:
        parts.append("<p>No scene of it was kept.</p>")
    return "\n".join(parts)


def _told(outcome: "Outcome") -> Played | None:
    """The scene that the story of a failure tells of."""
    faults = {key: value for key, value in outcome.schedule.items() if key != "seed"}
    if not outcome.message or not outcome.scenes:
        return None
    if len(outcome.scenes) == 1:
        return outcome.scenes[0]
    return next((scene for scene in outcome.scenes if faults and scene.schedule == faults), None)


def _place(scene: Played) -> tuple:
    """Where a scene stands among those of its check: an unharmed one first, then by how much came before the fault."""
    events = scene.history.events()
    before = next((n for n, event in enumerate(events) if event.what in (KILLED, BROKER_KILLED)), 0)
    natural = [part.zfill(6) if part.isdigit() else part for part in re.split(r"(\d+)", scene.title)]
    return bool(scene.schedule), before if "point" in scene.schedule else 0, natural


def _scenes(scenes: list[Played], told: Played | None, outcome: "Outcome", room: _Room) -> Iterator[str]:
    for position, scene in enumerate(scenes):
        if room.left < 0 and scene is not told:
            yield f"<p>{len(scenes) - position} more scenes are left out: the page would be too large.</p>"
            return
        yield room.take(_scene(scene, told is scene, outcome))


def _scene(scene: Played, told: bool, outcome: "Outcome") -> str:
    drawn = marks.read(scene.history, scene.run.lab.queue)
    title = scene.title[:1].upper() + scene.title[1:]
    said = "the scene that the story tells" if told and len(outcome.scenes) > 1 else ""
    caption = f"<figcaption><b>{_text(title)}</b>" if title else "<figcaption>"
    caption += f' <span class="told">{said}</span>' if said else ""
    caption += f' <span class="seconds">{drawn.end:.1f} s</span>'
    caption += _chips(scene, drawn, outcome) + "</figcaption>"
    note = f"<p>{drawn.left_out} steps in the middle are left out.</p>" if drawn.left_out else ""
    if not drawn.lanes:
        return f"<figure>{caption}<p>Nothing happened in this scene.</p></figure>\n"
    words = f"{title or 'The scene'}: {', '.join(drawn.lanes)}"
    steps = "\n".join(mark.words.replace("\n", "\n      ") for mark in drawn.marks if mark.kind != marks.SEND)
    return (
        f'<figure>{caption}{note}<div class="scroll">{picture.inline(drawn, words, WIDTH)}</div>'
        f'<details class="steps"><summary>the same in words</summary><pre>{_text(steps)}</pre></details></figure>\n'
    )


def _chips(scene: Played, drawn: marks.Picture, outcome: "Outcome") -> str:
    """What became of each task: as the history shows it, and for those not done as it was in the end."""
    fates = drawn.fates()
    if not fates or outcome.outcome == "infrastructure":
        return ""
    verdict, passed = scene.final_verdict(), outcome.outcome == "passed"
    lost = (
        verdict.lost_in_hand if passed else verdict.lost
    )  # the end of the scene may find a task still in hand
    for task in [task for task, fate in fates.items() if not fate]:
        waits = task in verdict.waiting and not passed
        fates[task] = "lost" if task in lost else "waiting" if waits else "not done"
    if passed:  # what the check has set up so needs no name that alarms
        calm = lambda fate: fate in FATES and FATES[fate] != "gone"  # noqa: E731
        fates = {task: fate if calm(fate) else f"{fate} (allowed)" for task, fate in fates.items()}
    groups: dict[str, list[int]] = {}
    for task, fate in fates.items():
        groups.setdefault(fate, []).append(task)
    chips = ""
    for fate, tasks in groups.items():
        noun = "task" if len(tasks) == 1 else "tasks"
        chips += f'<li class="fate {FATES.get(fate, "again")}">{noun} {marks.ranges(tuple(tasks))} <b>{fate}</b></li>'
    return f'<ul class="fates">{chips}</ul>'


def _text(words: str) -> str:
    return escape(clean(words))


# ---- the README's picture ---------------------------------------------------------------------------------------


def rescue(stage: "Stage") -> Played:
    """Alice is killed at work; bob finds out and does her task. Returns the scene, closed."""
    scene = stage.scene("alice is killed at work on task 1; bob finds out, and does it")
    scene.settings = {"HEARTBEAT_SECONDS": 0.6, "BLOCK_SECONDS": 0.3}
    scene.work.hold(1)
    scene.work.slow(scene.work.ALL, 0.15)
    first, *_ = scene.push(3)
    alice = scene.start("worker.py", "alice")
    scene.wait_started(first)
    scene.wait(lambda: False, within=0.15)  # so that the work has a length in the picture
    alice.kill()
    scene.work.release()
    scene.start("worker.py", "bob")
    scene.wait_done()
    scene.close()
    return scene


def main() -> None:
    from labkit.grader.run import Run
    from labkit.grader.stage import Stage
    from labkit.grader.submission import read

    parser = argparse.ArgumentParser(description="Draw one scene of lab 3's solution, for the README.")
    parser.add_argument("file", type=Path, help="where the SVG goes")
    target = parser.parse_args().file
    lab = course.lab(3)
    with Run(lab, read(lab, lab.solution)) as run:
        drawn = svg(rescue(Stage(run, "picture")), title=README_TITLE)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(drawn, encoding="utf-8")


if __name__ == "__main__":
    main()
