"""`./lab reset N`: the original stub back; the student's version is kept."""

import shutil
from datetime import datetime
from pathlib import Path

from labkit.course import ROOT, Lab
from labkit.stubs import originals, write


def reset(lab: Lab) -> None:
    """Keep every changed file under .lab/, then write the originals."""
    changed = [
        name
        for name, content in originals(lab).items()
        if (lab.folder / name).exists() and (lab.folder / name).read_bytes() != content
    ]
    if changed:
        kept = keep(lab, changed)
        print(f"Your version of {', '.join(changed)} is kept in {kept.relative_to(ROOT)}.")
    write(lab, lab.folder)
    print(f"labs/{lab.slug} is as it was at first.")


def keep(lab: Lab, names: list[str]) -> Path:
    """Copy files of the lab's folder to a new folder of their own, and return that."""
    folder = lab.state / "kept" / datetime.now().strftime("%Y-%m-%d-%H%M%S-%f")
    folder.mkdir(parents=True)
    for name in names:
        shutil.copy2(lab.folder / name, folder / name)
    return folder
