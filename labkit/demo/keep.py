"""What stays of a demonstration: the images, the timeline, and the verdict as a table."""

import contextlib
import os
import shutil
from pathlib import Path

from labkit.demo.view import called
from labkit.grader import timeline
from labkit.grader.record import replace
from labkit.grader.scene import Scene
from labkit.grader.verdict import Verdict

Row = tuple[str, list[int], str]  # of the verdict: word, tasks, what the word means


def keep(scene: Scene, folder: Path, pattern: str) -> list[tuple[str, Path]]:
    """Put the scene's images into folder/out, named by task, in place of the last ones; and the timeline.

    Returns what was kept, each with what it is called. The scene must still be open.
    """
    folder.mkdir(parents=True, exist_ok=True)
    draft, out = folder / f".out-{os.getpid()}", folder / "out"
    draft.mkdir()
    for task in scene.tasks:
        for path in scene.outputs.glob(f"{task.id or '-'}.*"):
            words = f"{task.number:02} {called(scene, task.number, pattern)}"
            name = Path(words.replace("/", "_").replace(" ", "-")).stem
            shutil.move(path, draft / f"{name[:100]}{path.suffix}")
    shutil.rmtree(out, ignore_errors=True)
    with contextlib.suppress(OSError):  # another demonstration put its own there in this very moment
        draft.rename(out)
    shutil.rmtree(draft, ignore_errors=True)
    replace(folder / "timeline.svg", timeline.svg(scene))
    return [("the images", out), ("the timeline", folder / "timeline.svg")]


def table(verdict: Verdict) -> list[Row]:
    """The verdict. What nobody expects has a row only when there is some."""
    rows = [
        ("done once", verdict.done_once, ""),
        ("duplicated", verdict.duplicated, "done more than once"),
        ("lost", verdict.lost, "accepted, never done, in no list any more"),
        ("recovered", verdict.recovered, "in hand at the kill, and done all the same"),
        ("waiting", verdict.waiting, "never done, still in a list"),
        ("set aside", verdict.dead, "can never succeed; the rejected list says why"),
    ]
    return [row for row in rows if row[1] or row[0] not in ("waiting", "set aside")]
