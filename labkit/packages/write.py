"""Write a package: a zip, or a folder."""

import os
import zipfile
from pathlib import Path

from labkit.packages.course import Files

LONG_AGO = (1980, 1, 1, 0, 0, 0)  # in place of the hour: the same course makes the same zip, byte for byte


class NotEmpty(Exception):
    """There is something already. Its text is one line for the user."""


def write(files: Files, target: Path) -> None:
    """Write a zip if the target is called so, or else a folder, which must be empty or not be there.

    Raises:
        NotEmpty: the folder holds something.
        OSError: it cannot be written.
    """
    if target.suffix == ".zip":
        write_zip(files, target)
    else:
        write_folder(files, target)


def write_zip(files: Files, target: Path) -> None:
    """Write the zip; an older one of this name is replaced, at once."""
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, file in sorted(files.items()):
                member = zipfile.ZipInfo(name, LONG_AGO)
                member.external_attr = (0o100755 if file.executable else 0o100644) << 16
                member.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(member, file.content)
        os.replace(unfinished, target)
    finally:
        unfinished.unlink(missing_ok=True)


def write_folder(files: Files, target: Path) -> None:
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise NotEmpty(f"{target} holds something already; name a folder that is new or empty, or a .zip")
    for name, file in files.items():
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.content)
        path.chmod(0o755 if file.executable else 0o644)
