"""What the tests see of the processes on this machine, and how they wait for something to happen."""

import time
from pathlib import Path

import pytest

needs_proc = pytest.mark.skipif(
    not Path("/proc/self/stat").exists(), reason="there is no /proc to find processes in"
)


def processes():
    """Every process: its parent and its command line."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            found[int(path.name)] = parent, (path / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except (OSError, ValueError, IndexError):
            continue
    return found


def descendants(pid):
    """All that descend from a process, each with its command line."""
    all_of_them, family = processes(), {pid}
    while more := {child for child, (parent, _) in all_of_them.items() if parent in family} - family:
        family |= more
    return {child: all_of_them[child][1] for child in family - {pid}}


def wait_until(condition, within):
    """Wait for a condition, and return its value; None if it does not come true in so many seconds."""
    deadline = time.monotonic() + within
    while not (value := condition()):
        if time.monotonic() > deadline:
            return None
        time.sleep(0.02)
    return value
