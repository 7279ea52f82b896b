"""Makes the README's pictures of the demonstrations: python -m labkit.demo.pictures [N ...] [--speed X]

Each lab's demonstration is played, recorded and drawn at the end of the step that its script calls the picture.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from labkit import course
from labkit.demo import Request, play, script, stages
from labkit.demo.cast import BadRecording
from labkit.demo.cast_picture import picture
from labkit.demo.replay import read
from labkit.replacing import replace

FOLDER = course.ROOT / "docs" / "demos"
SPEED = 3.0  # at which the lengths of waits in the pictures are round numbers


def make(lab: course.Lab, speed: float = SPEED, folder: Path = FOLDER) -> int:
    """Make the picture of a lab; return the exit status of its demonstration. One that fails replaces nothing.

    Raises:
        BadRecording: nothing in the script is the picture, or more than one step.
    """
    chosen = [step.number for step in script.read(lab).steps if step.picture]
    if len(chosen) != 1:
        raise BadRecording(f"One step of {lab.folder / 'demo.toml'} must have `picture`; {len(chosen)} have.")
    with tempfile.TemporaryDirectory(prefix="lab-picture-") as scratch:
        cast, results = Path(scratch, "demo.cast"), Path(scratch, "results")
        asked = Request(lab, stage=stages.PLAIN, auto=True, speed=speed, results=results, record=cast)
        status = play(asked)
        if status == 0:
            folder.mkdir(parents=True, exist_ok=True)
            replace(folder / f"lab{lab.number:02}.svg", picture(read(cast), chosen[0]))
    return status


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m labkit.demo.pictures", description=__doc__.split(":")[0])
    parser.add_argument("labs", type=int, nargs="*", metavar="N", help="of these labs (default: all)")
    parser.add_argument("--speed", type=float, default=SPEED, metavar="X", help=f"default: {SPEED:g}")
    asked = parser.parse_args(arguments)
    status = 0
    try:
        for lab in [course.lab(number) for number in asked.labs] or course.labs():
            status = make(lab, asked.speed) or status
            if status > 128:  # stopped
                break
    except (BadRecording, course.NoSuchLab, script.NoScript, OSError) as trouble:
        print(f"pictures: {trouble}", file=sys.stderr)
        return 2
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
