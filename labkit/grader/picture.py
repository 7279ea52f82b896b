"""Draws one scene as SVG: a lane a process, a bar a task's work, and a mark for everything that moved a task.

Time runs from left to right, but not evenly: each step gets the room that it needs to be seen, and a long wait is
shortened, with a torn strip where time was taken out. The axis below tells the seconds.
"""

import bisect
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path

from labkit.grader import marks
from labkit.grader.marks import (
    ACK,
    AGAIN,
    ASIDE,
    BACK,
    CRASH,
    CUT,
    DONE,
    DOWN,
    ERROR,
    EXIT,
    FAILED,
    KILL,
    LATER,
    OPEN,
    PAUSE,
    PUSH,
    REQUEST,
    RESUME,
    SEND,
    START,
    TAKE,
    TERM,
    UP,
    Bar,
    Mark,
    Picture,
)
from labkit.grader.words import clean

CSS = Path(__file__).with_name("picture.css")
# Room in pixels: for the names at the left, at the right edge, above, and for the seconds below.
NAMES, RIGHT, TOP, AXIS = 146, 30, 14, 34
LANE, ROW, BAR = 64, 34, 28  # heights of a lane, of a further row of bars in it, of a bar
LONGEST_WAIT = 0.15  # of the width: what a stretch without events may take
TORN = 0.15  # of the scene: a shorter wait is shortened without a tear
LABELS_APART = 62
QUIET_APART = 5
LETTER, SMALL = 8.4, 7.4  # widths of a letter, about
# Shapes, about 20 pixels wide around 0,0. The first path has the kind's color; the second is drawn over it in white.
SHAPES = {
    TAKE: ("M-9-8H9L0 9Z", ""),
    AGAIN: ("M-11 0a11 11 0 1 0 22 0a11 11 0 1 0-22 0Z", "M4.2-4.2A6 6 0 1 0 6 1M5.6-8.2 4.8-3.6.4-4.4"),
    ACK: ("M-10 0a10 10 0 1 0 20 0a10 10 0 1 0-20 0Z", "M-5 .5-1.5 4 5-3.5"),
    ASIDE: ("M-10-10H10V10H-10Z", "M0-6V1.5M0 5V6.4"),
    LATER: ("M-10 0a10 10 0 1 0 20 0a10 10 0 1 0-20 0Z", "M0-6V0L4.4 2.6"),
    BACK: ("M9-9V9L-9 0Z", ""),
    PUSH: ("M0-10 10 0 0 10-10 0Z", "M-4 0H4M0-4V4"),
    KILL: ("M-9-12-12-9-3 0-12 9-9 12 0 3 9 12 12 9 3 0 12-9 9-12 0-3Z", ""),
    TERM: ("M-4.4-10.6H4.4L10.6-4.4V4.4L4.4 10.6H-4.4L-10.6 4.4V-4.4Z", "M-4.5-4.5H4.5V4.5H-4.5Z"),
    PAUSE: ("M-7-9H-2V9H-7ZM2-9H7V9H2Z", ""),
    RESUME: ("M-7-9 9 0-7 9Z", ""),
    START: ("M-5 0a5 5 0 1 0 10 0a5 5 0 1 0-10 0Z", ""),
    EXIT: ("M-2-9H2V9H-2Z", ""),
    CRASH: ("M0-11 12 10H-12Z", "M0-4V3M0 6V7"),
    UP: ("M0-12 11 0H5V10H-5V0H-11Z", ""),
    ERROR: ("M0-10 10 8H-10Z", "M0-3V2M0 4.6V5.4"),
}
SHAPES[DOWN] = SHAPES[KILL]
OVER = '<path class="on" d="{}"/>'
HALF = {START: 6, EXIT: 5, TAKE: 11, PAUSE: 9, RESUME: 10}  # half of a mark's width; otherwise 12
PILLS = {SEND: "7", REQUEST: "200"}  # words in a frame, each with its sample for a legend
BESIDE = {KILL, DOWN, UP, CRASH, TERM, PAUSE}  # their label stands to the right of them
WORDS = {
    TAKE: "takes a task", AGAIN: "takes a task that was handed out before", ACK: "acknowledges",
    LATER: "delays it, to be tried again", REQUEST: "an HTTP request, and its answer", ASIDE: "sets aside",
    BACK: "puts back into the queue", PUSH: "sends a task", KILL: "killed (SIGKILL)",
    TERM: "asked to stop (SIGTERM)", PAUSE: "paused", RESUME: "goes on", START: "starts", EXIT: "ends",
    CRASH: "ends with an error", DOWN: "broker killed", UP: "broker restarted", ERROR: "the broker refuses",
}  # fmt: skip
BAR_WORDS = {DONE: "work, finished", FAILED: "work that failed", CUT: "work cut off", OPEN: "still at work"}
STEPS = ("10", "5", "2", "1", "0.5", "0.2", "0.1", "0.05", "0.02", "0.01")  # seconds, on the axis


@dataclass(frozen=True)
class Scale:
    """Where a moment lies: known points in between which time runs evenly, and the strips that are torn out."""

    moments: list[float]
    places: list[float]
    torn: list[tuple[float, float]]  # where, and how many seconds the wait lasted
    width: float

    def __call__(self, at: float) -> float:
        after = bisect.bisect_right(self.moments, at)
        if after == len(self.moments):
            return self.places[-1]
        if after == 0:
            return self.places[0]
        t0, t1 = self.moments[after - 1 : after + 1]
        x0, x1 = self.places[after - 1 : after + 1]
        return x0 + (x1 - x0) * (at - t0) / (t1 - t0)


@dataclass(frozen=True)
class _Knot:
    """A moment that needs room on its lane: so much to the left and to the right. `since` is a bar's first knot."""

    at: float
    lane: str
    thing: int  # id of the mark or bar
    left: float
    right: float
    since: int = -1
    room: float = 0.0  # at least so far from `since`
    rank: int = 0  # of things at one moment: what is cut off, then what cut it off


class Drawing:
    """One scene, laid out within `width` pixels; more if there is too much in it for that."""

    def __init__(self, picture: Picture, width: float) -> None:
        self.picture = picture
        rank = {marks.GRADER: 0, marks.BROKER: 1}
        self.names = sorted(picture.lanes, key=lambda name: rank.get(name, 2))
        knots = sorted(_knots(picture), key=lambda knot: (knot.at, knot.rank))
        places, stretch, longest = _spread(knots, width - NAMES - RIGHT)
        self.x: dict[tuple[int, bool], float] = {}  # of a mark; of a bar's beginning (False) and end (True)
        for knot, place in zip(knots, places, strict=True):
            self.x[knot.thing, knot.since >= 0] = NAMES + place
        self.scale = _scale(knots, [NAMES + place for place in places], stretch, longest)
        self.width = max(width, self.scale.width + RIGHT)
        self.middle: dict[str, float] = {}
        self.top: dict[str, tuple[float, float]] = {}
        y = float(TOP)
        for name in self.names:
            rows = max((bar.row for bar in picture.bars if bar.lane == name), default=0)
            self.top[name] = (y, LANE + rows * ROW)
            self.middle[name] = y + LANE / 2 + 3
            y += LANE + rows * ROW
        self.from_below = {
            each.goal for each in picture.handovers if self.middle[each.origin[0]] > self.middle[each.goal[0]]
        }
        self.bottom = y + 4
        self.height = self.bottom + AXIS

    def parts(self) -> Iterator[str]:
        """The SVG elements, from the back to the front."""
        yield from self._lanes()
        yield from self._axis()
        yield from self._spans()
        yield from self._quiet()
        for bar in self.picture.bars:
            yield self._bar(bar)
        yield from self._tears()
        yield from self._handovers()
        for mark in self.picture.marks:
            yield self._mark(mark)

    def _lanes(self) -> Iterator[str]:
        for position, name in enumerate(self.names):
            top, height = self.top[name]
            if position % 2 == 0:
                yield f'<rect class="lane" x="0" y="{top:g}" width="{self.width:.0f}" height="{height:g}"/>'
            runs, y = self.picture.lanes[name], self.middle[name]
            shown = _text(_short(name, 15)) + _title(name)
            yield f'<text class="name" x="12" y="{y + (-2 if runs else 5):g}">{shown}</text>'
            if runs:
                yield f'<text class="runs" x="12" y="{y + 15:g}">{_text(_short(runs, 20))}</text>'

    def _axis(self) -> Iterator[str]:
        yield f'<path class="axis" d="M{NAMES} {self.bottom:g}H{self.width - 8:.0f}"/>'
        yield f'<text class="unit" x="12" y="{self.bottom + 21:g}">seconds</text>'
        for x, label in _ticks(self.scale, self.picture.end):
            yield f'<path class="grid" d="M{x:.1f} {TOP}V{self.bottom + 6:g}"/>'
            yield f'<text class="second" x="{x:.1f}" y="{self.bottom + 21:g}">{label}</text>'

    def _spans(self) -> Iterator[str]:
        for outage in self.picture.outages:
            x0, x1 = self.scale(outage.began), self.scale(outage.ended)
            yield (
                f'<rect class="outage" x="{x0:.1f}" y="{TOP}" width="{max(2, x1 - x0):.1f}" '
                f'height="{self.bottom - TOP:g}"><title>no broker from {outage.began:.3f} s to {outage.ended:.3f} s'
                "</title></rect>"
            )
        for life in self.picture.lives:
            y = self.middle[life.lane]
            yield f'<path class="life" d="M{self.scale(life.began):.1f} {y:g}H{self.scale(life.ended):.1f}"/>'
        if marks.BROKER in self.middle:
            y, x = self.middle[marks.BROKER], float(NAMES)
            for outage in self.picture.outages:
                yield f'<path class="life" d="M{x:.1f} {y:g}H{self.scale(outage.began):.1f}"/>'
                x = self.scale(outage.ended)
            yield f'<path class="life" d="M{x:.1f} {y:g}H{self.scale(self.picture.end):.1f}"/>'
        for hand in self.picture.hands:
            x0, x1, y = self.scale(hand.began), self.scale(hand.ended), self.middle[hand.lane]
            yield (
                f'<rect class="hand" x="{x0:.1f}" y="{y - 6:g}" width="{max(1, x1 - x0):.1f}" height="12">'
                f"<title>task {hand.task} in the hands of {_text(hand.lane)}</title></rect>"
            )
        for pause in self.picture.pauses:
            x0, x1, y = self.scale(pause.began), self.scale(pause.ended), self.middle[pause.lane]
            yield f'<rect class="pause" x="{x0:.1f}" y="{y - 22:g}" width="{max(1, x1 - x0):.1f}" height="44"/>'

    def _quiet(self) -> Iterator[str]:
        """Ticks for the commands that moved nothing; those that would touch become one."""
        lanes: dict[str, list[tuple[float, list[str]]]] = {}
        for lane, at, words in sorted(self.picture.quiet, key=lambda each: each[1]):
            x, ticks = self.scale(at), lanes.setdefault(lane, [])
            if ticks and x - ticks[-1][0] < QUIET_APART:
                ticks[-1][1].append(words)
            else:
                ticks.append((x, [words]))
        for lane, ticks in lanes.items():
            y = self.middle[lane]
            for x, quiet in ticks:
                often = Counter(quiet).most_common(4)
                words = "\n".join([lane, *(f"{n} × {each}" if n > 1 else each for each, n in often)])
                yield f'<path class="tick" d="M{x:.1f} {y - 5:g}v10">{_title(words)}</path>'

    def _bar(self, bar: Bar) -> str:
        x0, x1 = self.x[id(bar), False], self.x[id(bar), True]
        y = self.middle[bar.lane] - BAR / 2 + bar.row * ROW
        width, number = x1 - x0, str(bar.task or "?")
        for words in (f"task {number}, again", f"task {number}"):
            if len(words) * LETTER + 8 < width and (bar.again or "again" not in words):
                break
        else:
            words = number
        shape = f"M{x0:.1f} {y:g}h{width:.1f}v{BAR}h-{width:.1f}Z"
        if bar.ending == CUT:  # a torn right end
            shape = f"M{x0:.1f} {y:g}h{width:.1f}l-5 7 5 7-5 7 5 7h-{width:.1f}Z"
        until = "was not finished" if bar.ending == OPEN else f"until {bar.ended:.3f} s"
        said = f"{bar.lane}: {BAR_WORDS[bar.ending]} on task {number}\nfrom {bar.began:.3f} s, {until}"
        if bar.detail:
            said += f"\n{bar.detail[:160]}"
        middle = (x0 + x1) / 2
        if words != number:  # in a long bar the words stand at the left, where nothing covers them
            middle = min(middle, x0 + 12 + len(words) * LETTER / 2)
        return (
            f'<g class="bar {bar.ending}">{_title(said)}<path d="{shape}"/>'
            f'<text x="{middle:.1f}" y="{y + BAR / 2 + 5.5:g}">{words}</text></g>'
        )

    def _tears(self) -> Iterator[str]:
        for x, seconds in self.scale.torn:
            teeth = int((self.bottom - TOP) // 12)
            down = "".join("l4 6-4 6" for _ in range(teeth))
            up = "".join("l4-6-4-6" for _ in range(teeth))
            words = f"a wait of {seconds:.2f} s, shortened"
            yield f'<path class="tear" d="M{x - 6:.1f} {TOP}{down}h9{up}Z">{_title(words)}</path>'

    def _handovers(self) -> Iterator[str]:
        for each in self.picture.handovers:
            (lane0, at0), (lane1, at1) = each.origin, each.goal
            x0, x1 = self._near(lane0, at0), self._near(lane1, at1)
            y0, y1 = self.middle[lane0], self.middle[lane1]
            if lane0 == lane1:
                curve = f"C{x0 + 8:.1f} {y0 - 40:g} {x1 - 8:.1f} {y1 - 40:g} {x1:.1f} {y1 - 13:g}"
                start = f"M{x0:.1f} {y0 - 13:g}"
            else:
                down = 1 if y1 > y0 else -1
                bend = max(20.0, min(70.0, (x1 - x0) / 2))
                start = f"M{x0:.1f} {y0 + 13 * down:g}"
                curve = (
                    f"C{x0 + bend:.1f} {y0 + 45 * down:g} {x1 - bend:.1f} {y1 - 45 * down:g} "
                    f"{x1:.1f} {y1 - 13 * down:g}"
                )
            words = f"task {each.task} goes from {lane0} to {lane1}"
            yield f'<path class="handover" d="{start}{curve}">{_title(words)}</path>'

    def _near(self, lane: str, at: float) -> float:
        """The place of the mark at this moment on this lane; marks may have been moved apart."""
        for mark in self.picture.marks:
            if mark.at == at and mark.lane == lane and mark.kind in (TAKE, AGAIN, ACK, KILL, BACK, LATER):
                return self.x[id(mark), False]
        return self.scale(at)

    def _mark(self, mark: Mark) -> str:
        x, y = self.x[id(mark), False], self.middle[mark.lane]
        if mark.kind in PILLS:
            width = _pill(mark.label)
            return (
                f'<g class="mark {mark.kind}">{_title(mark.words)}'
                f'<rect x="{x - width / 2:.1f}" y="{y - 13:g}" width="{width:.1f}" height="26" rx="13"/>'
                f'<text x="{x:.1f}" y="{y + 5:g}">{_text(mark.label)}</text></g>'
            )
        label = ""
        if mark.label and mark.kind in BESIDE:
            label = f'<text class="beside" x="15" y="5">{_text(mark.label)}</text>'
        elif mark.label:
            low = mark.kind == AGAIN and (mark.lane, mark.at) not in self.from_below
            y_label = 27 if low else -16  # away from the line that comes in
            label = f'<text class="above" x="0" y="{y_label}">{_text(_short(mark.label, 9))}</text>'
        hollow = "" if mark.answered else " unanswered"
        return (
            f'<g class="mark {mark.kind}{hollow}" transform="translate({x:.1f} {y:g})">'
            f'{_title(mark.words)}<use href="#mark-{mark.kind}"/>{label}</g>'
        )

    def kinds(self) -> list[str]:
        """The kinds of bars and marks in it, for a legend."""
        there = {mark.kind for mark in self.picture.marks} | {bar.ending for bar in self.picture.bars}
        return [kind for kind in (*BAR_WORDS, *WORDS) if kind in there]


# ---- where things go --------------------------------------------------------------------------------------------


def _knots(picture: Picture) -> Iterator[_Knot]:
    for mark in picture.marks:
        half = HALF.get(mark.kind, 12.0)
        right = half
        if mark.kind in PILLS:
            half = right = _pill(mark.label) / 2 + 2
        elif mark.kind in BESIDE:
            right = 18 + len(mark.label) * SMALL
        rank = 2 if mark.kind in (KILL, EXIT, CRASH) else 0
        yield _Knot(mark.at, mark.lane, id(mark), half, right, rank=rank)
    for bar in picture.bars:
        room = 18 + len(str(bar.task)) * LETTER
        if bar.ending in (CUT, OPEN) or bar.again:
            room = max(room, 20 + len(f"task {bar.task}") * LETTER)
        yield _Knot(bar.began, bar.lane, id(bar), 1, 1)
        yield _Knot(bar.ended, bar.lane, id(bar), 1, 1, since=id(bar), room=room, rank=1)


def _spread(knots: list[_Knot], width: float) -> tuple[list[float], float, float]:
    """Places for the knots, from 0 on: as far apart as time says, but never on top of one another.

    Returns also the pixels a second, chosen to fill the width, and the most that one wait may take.
    """
    longest = max(LONGEST_WAIT * width, 1.4 * width / max(1, len({knot.at for knot in knots})))
    low, high = 0.0, 1e6
    for _ in range(50):
        middle = (low + high) / 2
        places = _places(knots, middle, longest)
        if places and places[-1] > width:
            high = middle
        else:
            low = middle
    stretch = max(low, 20.0)
    return _places(knots, stretch, longest), stretch, longest


def _places(knots: list[_Knot], stretch: float, longest: float) -> list[float]:
    places: list[float] = []
    edge: dict[str, float] = {}  # of each lane: up to where it is taken
    began: dict[int, float] = {}
    x, before = 0.0, 0.0
    for knot in knots:
        x += min(longest, stretch * (knot.at - before))
        x = max(x, edge.get(knot.lane, 0.0) + knot.left, began.get(knot.since, 0.0) + knot.room)
        before = knot.at
        began[knot.thing] = x
        edge[knot.lane] = x + knot.right
        places.append(x)
    return places


def _scale(knots: list[_Knot], places: list[float], stretch: float, longest: float) -> Scale:
    moments, xs, torn = [0.0], [float(NAMES)], []
    for knot, place in zip(knots, places, strict=True):
        wait = knot.at - moments[-1]
        if wait * stretch > 1.25 * longest and wait > TORN * knots[-1].at and place - xs[-1] > 50:
            torn.append((xs[-1] + 0.66 * (place - xs[-1]), wait))
        if wait > 0:
            moments.append(knot.at)
            xs.append(place)
        else:
            xs[-1] = place
    return Scale(moments, xs, torn, max(places, default=float(NAMES)))


def _ticks(scale: Scale, end: float) -> Iterator[tuple[float, str]]:
    """Places on the time axis and what to write there: round seconds first, finer ones where there is room."""
    taken = sorted((x, 26.0) for x, _ in scale.torn)  # places, and what each keeps free around it
    for step in STEPS:
        digits = len(step.partition(".")[2])
        if end / float(step) > 2000:
            continue
        for number in range(int(end / float(step) + 1e-9) + 1):
            x = scale(number * float(step))
            here = bisect.bisect(taken, (x,))
            if all(abs(x - other) > free for other, free in taken[max(0, here - 2) : here + 2]):
                taken.insert(here, (x, LABELS_APART))
                yield x, f"{number * float(step):.{digits}f}"


# ---- text -------------------------------------------------------------------------------------------------------


def _text(words: str) -> str:
    """Words of a submission, safe within an element or a quoted attribute."""
    return escape(clean(words))


def _title(words: str) -> str:
    return f"<title>{_text(words)}</title>"


def _short(words: str, length: int) -> str:
    return words if len(words) <= length else words[: length - 1] + "…"


def _pill(label: str) -> float:
    return 18 + len(label) * SMALL


# ---- whole pictures -----------------------------------------------------------------------------------------------


def defs() -> str:
    """The shapes and hatchings, which a page has once."""
    shapes = "".join(
        f'<g id="mark-{kind}"><path d="{shape}"/>{over and OVER.format(over)}</g>'
        for kind, (shape, over) in SHAPES.items()
    )
    return (
        f"<defs>{shapes}"
        '<pattern id="hatch-cut" width="8" height="8" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
        '<rect class="cut-paper" width="8" height="8"/><rect class="cut-ink" width="3" height="8"/></pattern>'
        '<pattern id="hatch-failed" width="7" height="7" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
        '<rect class="failed-paper" width="7" height="7"/><path class="failed-ink" d="M0 1H7M1 0V7"/></pattern>'
        '<pattern id="hatch-outage" width="10" height="10" patternUnits="userSpaceOnUse" '
        'patternTransform="rotate(-45)"><rect class="outage-ink" width="4" height="10"/></pattern></defs>'
    )


def sample(kind: str) -> str:
    """A mark or bar by itself, for a legend; about 24 by 24 pixels around 0,0."""
    if kind in BAR_WORDS:
        right = "l-5 6 5 6-5 6 5 6" if kind == CUT else "v24"
        return f'<g class="bar {kind}"><path d="M-19-12h38{right}h-38Z"/><text x="0" y="5.5">7</text></g>'
    if kind in PILLS:
        width = _pill(PILLS[kind])
        pill = f'<rect x="{-width / 2:g}" y="-13" width="{width:g}" height="26" rx="13"/>'
        return f'<g class="mark {kind}">{pill}<text x="0" y="5">{PILLS[kind]}</text></g>'
    return f'<g class="mark {kind}"><use href="#mark-{kind}"/></g>'


def inline(picture: Picture, words: str, width: float = 1200) -> str:
    """The scene as an SVG element for a page that has `defs` and the style. `words` say what is to be seen."""
    drawing = Drawing(picture, width)
    size = f"{drawing.width:.0f} {drawing.height:.0f}"
    wide = "" if drawing.width <= width + 1 else f' width="{drawing.width:.0f}" height="{drawing.height:.0f}"'
    kind = "scene wide" if wide else "scene"
    return (
        f'<svg class="{kind}" viewBox="0 0 {size}"{wide} role="img" aria-label="{_text(words)}">\n'
        + "\n".join(drawing.parts())
        + "\n</svg>"
    )


def alone(picture: Picture, title: str, width: float = 900) -> str:
    """The scene as a file of its own: with its style, a title, a legend and a background."""
    drawing = Drawing(picture, width - 24)
    head, rows, x, y = 46, [], 20.0, 0.0
    for kind in drawing.kinds():
        words = WORDS.get(kind) or BAR_WORDS.get(kind, "")
        if not words:
            continue
        room = (50 if kind in BAR_WORDS else 32) + len(words) * 7.2 + 20
        if x + room > width - 10:
            x, y = 20.0, y + 34
        middle = 22 if kind in BAR_WORDS else 12
        rows.append(
            f'<g transform="translate({x + middle:g} {y:g})">{sample(kind)}'
            f'<text class="legend" x="{middle + 7}" y="5">{words}</text></g>'
        )
        x += room
    total, bottom = drawing.width + 24, head + drawing.height + 26
    height = bottom + y + 30
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {total:.0f} {height:.0f}" '
            f'width="{total:.0f}" height="{height:.0f}" role="img">',
            _title(title),
            f"<style>{style(alone=True)}</style>",
            defs(),
            f'<rect class="card" x="1" y="1" width="{total - 2:.0f}" height="{height - 2:.0f}" rx="12"/>',
            f'<text class="heading" x="24" y="33">{_text(title)}</text>',
            f'<g transform="translate(12 {head})">',
            *drawing.parts(),
            f'</g><g transform="translate(4 {bottom:g})">',
            *rows,
            "</g>",
            "</svg>\n",
        ]
    )


# Okabe and Ito's colors (https://jfly.uni-koeln.de/color/), darker or lighter where the background asks for it.
LIGHT = {
    "paper": "#ffffff", "stripe": "#f3f5f8", "ink": "#1b1f24", "soft": "#59636e", "line": "#d5dbe2", "quiet": "#8c96a1",
    "done": "#0072b2", "on-done": "#ffffff", "take": "#0072b2", "hand": "#b5d9ee", "ack": "#00795a",
    "again": "#a8327c", "kill": "#c23b00", "aside": "#8a5a00", "back": "#6a4fb5", "fail": "#8a5a00", "on": "#ffffff",
    "outage": "#f0d2c4", "cut": "#f6b999",
}  # fmt: skip
DARK = {
    "paper": "#14181d", "stripe": "#1b2027", "ink": "#eceff2", "soft": "#a9b4bf", "line": "#353d47", "quiet": "#77828d",
    "done": "#56b4e9", "on-done": "#06202f", "take": "#56b4e9", "hand": "#1d4a66", "ack": "#2fc79a",
    "again": "#ee8fc4", "kill": "#ff8652", "aside": "#f0b840", "back": "#b8a3ff", "fail": "#f0b840", "on": "#14181d",
    "outage": "#46291c", "cut": "#7d3a1c",
}  # fmt: skip


def style(*, alone: bool = False) -> str:
    """The style of pictures, with colors for light and dark. A file of its own has no variables: not every viewer
    of SVG knows them."""
    rules = CSS.read_text()
    if alone:
        return f"{_colored(rules, LIGHT)}@media (prefers-color-scheme: dark) {{\n{_colored(rules, DARK)}}}\n"
    light, dark = ("".join(f"--{name}:{color};" for name, color in each.items()) for each in (LIGHT, DARK))
    return f":root{{{light}}}\n@media (prefers-color-scheme: dark){{:root{{{dark}}}}}\n{rules}"


def _colored(rules: str, palette: dict[str, str]) -> str:
    for name, color in palette.items():
        rules = rules.replace(f"var(--{name})", color)
    return rules
