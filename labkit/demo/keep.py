"""What stays of a demonstration: what the work made, and the timeline."""

import contextlib
import os
import shutil
from collections import defaultdict
from pathlib import Path

from labkit.demo.moment import called
from labkit.demo.script import Script
from labkit.grader import timeline
from labkit.grader.scene import Scene
from labkit.replacing import replace

PICTURES = (".jpg", ".jpeg", ".png")  # endings of what a task may name, not to be said twice


def keep(scene: Scene, folder: Path, script: Script) -> list[tuple[str, Path]]:
    """Put the scene's outputs into folder/out, named by task, in place of the last ones; and the timeline.

    Returns what was kept, each with what it is called. The scene must still be open.
    """
    folder.mkdir(parents=True, exist_ok=True)
    draft, out = folder / f".out-{os.getpid()}", folder / "out"
    draft.mkdir()
    made: dict[str, list[Path]] = defaultdict(list)
    for path in scene.outputs.iterdir():
        made[path.name.partition(".")[0]].append(path)
    for task in scene.tasks:
        for path in made[task.id] if task.id else ():
            words = f"{task.number:02} {called(scene, task.number, script.task)}"
            name = Path(words.replace("/", "_").replace(" ", "-"))
            stem = name.stem if name.suffix.lower() in PICTURES else name.name
            shutil.move(path, draft / f"{stem[:100]}{path.suffix}")
    shutil.rmtree(out, ignore_errors=True)
    with contextlib.suppress(OSError):  # another demonstration put its own there in this very moment
        draft.rename(out)
    shutil.rmtree(draft, ignore_errors=True)
    replace(folder / "timeline.svg", timeline.svg(scene))
    return [(script.makes, out), ("timeline", folder / "timeline.svg")]
