"""`./lab demo --check`: everything that a class needs is tried, and what is missing is named."""

import contextlib
import os
import pty
import subprocess
import sys

import pytest

from labkit.course import ROOT

WITHIN_SECONDS = 120  # RabbitMQ starts, and the photographs are drawn
CHECK = [sys.executable, "-m", "labkit", "demo", "--check"]


@pytest.fixture
def environment(tmp_path):
    (tmp_path / "tmp").mkdir()
    yield os.environ | {"TMPDIR": str(tmp_path / "tmp"), "PYTHONUTF8": "1"}
    assert not list((tmp_path / "tmp").iterdir())


def lines_of(said):
    """Each thing that was looked at, with ok or NO."""
    return {line[4:16].strip(): line[:2] for line in said.splitlines() if line[:3] in ("ok ", "NO ")}


def test_all_that_is_needed_is_tried(environment):
    ended = subprocess.run(
        CHECK, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=WITHIN_SECONDS
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr
    looked_at = ["terminal", "tmux", "processors", "disk", "ports", "Valkey", "RabbitMQ", "photographs"]
    assert lines_of(ended.stdout) == dict.fromkeys(looked_at, "ok")
    assert ended.stdout.endswith("Ready: ./lab demo 1\n")


def test_what_is_missing_is_named_with_what_to_do(environment, tmp_path):
    old = tmp_path / "bin" / "tmux"
    old.parent.mkdir()
    old.write_text("#!/bin/sh\necho tmux 3.0\n")
    old.chmod(0o755)
    environment = environment | {"PATH": f"{old.parent}:{os.environ['PATH']}", "TERM": "xterm"}
    child, master = pty.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            os.chdir(ROOT)
            os.system("stty rows 20 columns 60")
            os.execve(sys.executable, [*CHECK, "--brokers", "redis://127.0.0.1:1/0"], environment)
        os._exit(127)
    said = b""
    with contextlib.suppress(OSError):  # how Linux tells that nobody holds the other end
        while some := os.read(master, 65536):
            said += some
    _, status = os.waitpid(child, 0)
    found = lines_of(said.decode())
    assert os.waitstatus_to_exitcode(status) == 3, said
    missing = {"terminal", "tmux", "Valkey"}
    assert {name for name, good in found.items() if good == "NO"} == missing, (
        "what was given by URL is Valkey alone"
    )
    text = " ".join(said.decode().split())
    assert "60 x 20 characters it needs 80 x 24: make the window larger, or the type smaller" in text
    assert "tmux 3.0 is too old" in text
    assert "127.0.0.1:1" in text
    assert text.endswith("Not ready yet: see the lines with NO.")
