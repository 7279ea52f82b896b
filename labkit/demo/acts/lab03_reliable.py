"""Lab 3 on stage: photographs, processing lists, heartbeats, and a task that comes back."""

from pathlib import Path

from labkit.course import Lab
from labkit.demo import panels
from labkit.demo.act import Act
from labkit.demo.acts.photographs import Drawing, megapixels, usable
from labkit.demo.moment import DEAD, Moment
from labkit.demo.props import Props
from labkit.demo.script import Script
from labkit.demo.sight import PATIENCE, SOON, Sight, judged
from labkit.demo.stage import NOTE
from labkit.demo.view import DONE, FAINT, GONE, IN_HAND, PLAIN, STRONG, WAITING, Cell, Panel, Words
from labkit.grader.history import WORK_FINISHED, WORK_STARTED

PILLOW_SECONDS = 0.05  # that the work itself needs for a million pixels, about


class Photographs(Props):
    """The lab's own photographs, drawn once, or those in anyone's folder, which is only read."""

    def __init__(self, lab: Lab, script: Script, photos: Path | None) -> None:
        super().__init__(lab, script, None)
        self.lab = lab
        self.given = photos
        self.names = usable(photos, script.tasks) if photos else []  # to work on; none: all of our own
        self.drawing: Drawing | None = None

    def open(self) -> None:
        self.drawing = None if self.given else Drawing(self.lab)

    def settings(self) -> dict[str, object]:
        return {"INPUT_DIR": self.folder}

    @property
    def folder(self) -> Path:
        """Where they are, or will be when they are drawn."""
        return self.given or self.drawing.folder

    def close(self) -> None:
        if self.drawing:
            self.drawing.close()


class Reliable(Act):
    """See the module."""

    PROPS = Photographs
    props: Photographs

    def panels(self, moment: Moment) -> tuple[Panel, ...]:
        in_hand = {name: moment.in_list(f"{self._queue}:processing:{name}") for name in self.workers}
        return (
            self._workers_panel(moment, in_hand),
            self._tasks_panel(moment, in_hand),
            panels.wire_panel(moment, ["producer", *self.workers]),
        )

    def _workers_panel(self, moment: Moment, in_hand: dict[str, list[int]]) -> Panel:
        rows = []
        for name in self.workers:
            worker = moment.worker(name)
            had = in_hand[name] + moment.elsewhere  # what a dead worker had may be another's by now
            holds = worker.state != DEAD or worker.task in had
            beats = self._heartbeat_cell(moment, name, bold=worker.state == DEAD)
            rows.append((*panels.worker_cells(worker, self.called, holds=holds), beats))
        if not rows:
            rows = [(Words("nobody", FAINT),)]
        heads = ("", "", "in hand", "progress", "heartbeat")
        return Panel("workers", (8, 8, 0, 14, 9), tuple(rows), heads, lines=2)

    def _heartbeat_cell(self, moment: Moment, name: str, *, bold: bool) -> Cell:
        """Seconds until the key expires; a key that never was is told from one that has expired."""
        left = self.scene.ask("PTTL", self._key("heartbeat", name)) / 1000
        if left >= 0:
            return Words(f"♥ {left:.1f} s", STRONG if bold else PLAIN)
        had_one = any(event.who == name and event.verb == "SET" for event in moment.events)
        return Words(" EXPIRED ", GONE) if had_one else Words("-", FAINT)

    def _tasks_panel(self, moment: Moment, in_hand: dict[str, list[int]]) -> Panel:
        rows = [panels.task_row("waiting", moment.waiting(self._queue), WAITING)]
        for name, tasks in in_hand.items():
            dead = moment.worker(name).state == DEAD
            rows.append(panels.task_row(f"processing:{name}", tasks, *((GONE, "✗") if dead else (IN_HAND,))))
        rows += [("", "", "")] * (2 - len(in_hand))
        rows.append(panels.task_row("done", moment.done, DONE, newest=True))
        if moment.elsewhere and not moment.rejected:
            rows.append(panels.task_row("in no list!", moment.elsewhere, GONE, "?"))
        else:
            rows.append(panels.task_row("rejected", moment.rejected, GONE, "!"))
        return panels.task_panel(f"tasks: {moment.total}", rows)

    # ---- what is done -------------------------------------------------------------------------------------

    def do_photographs(self) -> None:
        """Have the photographs there, and the work paced by their size."""
        if drawing := self.props.drawing:
            if drawing.under_way:
                self.watch.line(NOTE, "(the photographs are being drawn, this once)")
            drawing.wait(lambda there: self.watch.until(there, 5 * PATIENCE))
        self.do_pace(str(self.script.seconds_each))

    def unslowed_seconds(self) -> float:
        folder = self.props.folder
        if self.props.drawing and self.props.drawing.under_way:
            return 0.0
        names = self.props.names or usable(folder, self.script.tasks)
        return PILLOW_SECONDS * sum(megapixels(folder / name) for name in names) / len(names)

    def do_producer(self, count: str = "", *args: str) -> None:
        super().do_producer(count, *(["--", *self.props.names] if self.props.names else []), *args)

    def do_heartbeat(self, name: str) -> None:
        """Wait for a heartbeat: after a kill right behind it, the room sees the whole of it run out."""
        full = 950 * self._heartbeat  # of 1000 ms a second
        fresh = lambda: self.scene.ask("PTTL", self._key("heartbeat", name)) > full  # noqa: E731
        self.watch.until(fresh, self._heartbeat)

    # ---- what must be seen --------------------------------------------------------------------------------

    def see_in_list(self, name: str) -> Sight:
        key = f"{self._queue}:processing:{name}"
        words = f"task {self.task} lies in {key}"
        return Sight(words, lambda: self.keys() == [key], instead=self.place)

    def see_monitor(self, name: str) -> Sight:
        def there() -> str:
            said = self.monitor_said()
            try:
                hands, alive, count = said["processing"], said["alive"], said["waiting"]
                held = ", ".join(f"{who} {number}" for who, number in hands.items())
                words = f"monitor.py: {count} wait; in hand: {held}; alive: {', '.join(alive)}"
                return words if hands[name] == 1 else ""
            except (AttributeError, LookupError, TypeError):
                return ""

        return Sight(f"the monitor shows 1 task in the list of {name}", there)

    def see_silent(self, name: str) -> Sight:
        return Sight(
            f"{self._queue}:heartbeat:{name} has expired: {name} counts as dead",
            lambda: self.scene.ask("EXISTS", self._key("heartbeat", name)) == 0,
            2 * self._heartbeat + SOON,
        )

    def see_back(self, name: str) -> Sight:
        """The task has left the dead worker's list for the queue, or is in somebody's hands by now."""

        def there() -> str:
            keys = self.keys()
            if keys == [self._queue]:
                return f"task {self.task} is back in the queue"
            gone_on = self.task in self.done() or (keys and f"{self._queue}:processing:{name}" not in keys)
            return f"task {self.task} went back to the queue" if gone_on else ""

        return Sight(f"task {self.task} is back in the queue", there, 4 * self._heartbeat + SOON, self.place)

    def see_taken_over(self, name: str) -> Sight:
        def there() -> str:
            begun = [e for e in self.scene.history.events(WORK_STARTED) if self.task in e.tasks]
            later = self.scene.depth()
            still = f"; {later} younger {'task waits' if later == 1 else 'tasks wait'}" if later else ""
            others = [event.who for event in begun if event.who != name]
            return f"{others[0]} takes task {self.task}{still}" if others else ""

        return Sight(f"another worker takes task {self.task}", there, PATIENCE)

    def see_recovered(self) -> Sight:
        done = [e.who for e in self.scene.history.events(WORK_FINISHED) if self.task in e.tasks]
        words = f"task {self.task}, in hand at the kill, was {f'done by {done[-1]}' if done else 'set aside'}"
        right = self.task in [
            *self.verdict.recovered,
            *self.verdict.dead,
        ]  # dead: a photograph that can not be read
        return judged(right, words, "the task in hand at the kill was recovered", "It was not.")

    # ---- looking things up --------------------------------------------------------------------------------

    @property
    def _heartbeat(self) -> float:
        return self.setting("HEARTBEAT_SECONDS")

    @property
    def _queue(self) -> str:
        """The queue as the lab calls it; `_key` and the scene use its name at the broker."""
        return self.scene.run.lab.queue

    def _key(self, kind: str, name: str) -> str:
        return f"{self.scene.queue}:{kind}:{name}"


ACT = Reliable
