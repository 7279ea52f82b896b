"""Files that a submission has written: nothing about them can be taken for granted."""

import stat
from pathlib import Path


def is_filled(path: Path) -> bool:
    """Whether it is an ordinary file with something in it: no link, no pipe, nothing that is read without end."""
    try:
        facts = path.lstat()
    except OSError:
        return False
    return stat.S_ISREG(facts.st_mode) and facts.st_size > 0
