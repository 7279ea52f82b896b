"""What labs 3 and 6 have in common on stage: their work is done on photographs."""

import contextlib
from dataclasses import dataclass
from pathlib import Path

from labkit.course import Lab
from labkit.demo.act import Act
from labkit.demo.acts.after_the_work import AfterTheWork
from labkit.demo.acts.photographs import Drawing, megapixels, usable
from labkit.demo.props import Props
from labkit.demo.script import Script
from labkit.demo.sight import PATIENCE, Sight
from labkit.demo.stage import NOTE
from labkit.grader.history import WORK_FINISHED

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


@dataclass(frozen=True)
class Picture:
    """A file that the work has made. made: tells one making of it from the next."""

    content: bytes
    made: tuple[int, int]


class ImageWork(Act):
    """See the module."""

    PROPS = Photographs
    props: Photographs
    first_picture: Picture | None = None  # of the worker that is held after its work
    _after: AfterTheWork | None = None

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

    # ---- a kill between the work and the word that it is done ---------------------------------------------

    def hold_after_the_work(self, name: str, **settings: object) -> None:
        """Start a worker that is held when it has done a task and is about to tell the broker so."""
        self._after = self.scene.lie_in_wait(name, AfterTheWork(self.scene))
        self.workers[name] = self.scene.start("worker.py", name, **settings)

    def do_release(self) -> None:
        super().do_release()
        if self._after:
            self._after.release()

    def held_after(self, name: str) -> int:
        """The task that this worker has done and is held behind; 0: it is not held there."""
        after = self._after
        return after.task if after and after.actor is self.workers[name] and after.reached.is_set() else 0

    def see_made(self, name: str) -> Sight:
        """The worker has done a task, and what would tell the broker so is held."""

        def there() -> str:
            picture = self.picture(self._after.task) if self._after.reached.is_set() else None
            if picture is None:
                return ""
            self.task, self.who, self.first_picture = self._after.task, name, picture
            made = f"{name} has made the picture of task {self.task}"
            return f"{made}; not yet at the broker: {self._after.verb}"

        return Sight(f"{name} makes a picture, and is about to tell the broker so", there, PATIENCE)

    def see_made_again(self, name: str) -> Sight:
        """Another worker has done the same task, and has left the same file."""

        def there() -> str:
            done = [e.who for e in self.scene.history.events(WORK_FINISHED) if self.task in e.tasks]
            picture = self.picture(self.task)
            if name not in done or picture is None or picture.made == self.first_picture.made:
                return ""
            if picture.content != self.first_picture.content:
                self.scene.fail(f"The second picture of task {self.task} is not the first.", task=self.task)
            return f"{name} has made it once more: the same file, byte for byte"

        return Sight(f"{name} makes the same picture once more", there, PATIENCE)

    def picture(self, number: int) -> Picture | None:
        """What the work on a task has left by now."""
        with contextlib.suppress(FileNotFoundError):
            for path in self.scene.outputs.glob(f"{self.scene.tasks[number].id}.*"):
                content, facts = path.read_bytes(), path.stat()
                return Picture(content, (facts.st_ino, facts.st_mtime_ns))
        return None
