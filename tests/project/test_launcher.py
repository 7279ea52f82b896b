"""`./lab` itself: real processes in throw-away copies of the course, without a network.

Most tests put a stand-in for uv on the PATH: it makes a real environment, writes down each call, and
can be told to wait, or to fail with the words of a real installer. Real pip and real uv come first.
"""

import ast
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

LAB = Path(__file__).resolve().parents[2] / "lab"
DEADLINE = 60  # seconds for anything that is waited for

LABKIT = """
import json, os, sys
try:
    import parcel
except ImportError:
    parcel = None
seen = {name: os.environ.get(name) for name in ("VIRTUAL_ENV", "PATH", "PYTHONHOME", "PYTHONPATH")}
print(json.dumps({"args": sys.argv[1:], "cwd": os.getcwd(), "file": __file__, "env": seen,
                  "prefix": sys.prefix, "parcel": parcel and parcel.VERSION}))
sys.exit(int(os.environ.get("LABKIT_EXITS", "0")))
"""

STAND_IN_UV = """#!{python}
import json, os, subprocess, sys, time

def note_call():
    with open({record!r}, "a") as record:
        record.write(json.dumps([os.getpid(), *sys.argv[1:]]) + "\\n")

def make_environment():
    base = sys.argv[sys.argv.index("--python") + 1]
    return subprocess.call([base, "-P", "-m", "venv", "--without-pip", sys.argv[-1]])

def install():
    print("Resolved 1 package in 2ms", flush=True)
    gate = os.environ.get("UV_STAND_IN_GATE")
    give_up = time.monotonic() + {deadline}
    while gate and not os.path.exists(gate) and time.monotonic() < give_up:
        time.sleep(0.01)
    print(os.environ.get("UV_STAND_IN_SAYS", "Installed 1 package in 1ms"))
    return "UV_STAND_IN_SAYS" in os.environ

if sys.argv[1] == "--version":
    sys.exit()
try:
    note_call()
    sys.exit(make_environment() if sys.argv[1] == "venv" else install())
except KeyboardInterrupt:
    open({record!r} + ".tidy", "w").close()
    raise SystemExit(2)
"""


class Course:
    """A copy of the launcher, a labkit that tells what it was started with, and a PATH of our own."""

    def __init__(self, folder, bin_folder):
        self.root, self.bin = folder, bin_folder
        self.record = bin_folder / "calls-of-uv.txt"
        self.requirements = folder / "requirements.txt"
        self.venv = folder / ".venv"
        self.log = folder / ".lab" / "install.log"
        (folder / "labkit").mkdir(parents=True)
        (folder / "labkit" / "__init__.py").touch()
        (folder / "labkit" / "__main__.py").write_text(LABKIT)
        self.requirements.write_text("parcel\n")
        shutil.copy(LAB, folder / "lab")
        bin_folder.mkdir()

    def start(self, *args, python=(sys.executable,), cwd=None, **environment):
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "UV_", "PYTHON", "VIRTUAL"))}
        kept.update(PATH=str(self.bin), PIP_NO_INDEX="1", UV_OFFLINE="1", UV_NO_CACHE="1", TERM="xterm")
        kept.update((name, str(value)) for name, value in environment.items())
        return subprocess.Popen(
            [*python, str(self.root / "lab"), *args],
            cwd=cwd or self.root,
            env=kept,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def call(self, *args, **how):
        """Run ./lab to its end: (exit status, what labkit saw or None, stderr's lines but for progress)."""
        return finish(self.start(*args, **how))

    def calls(self):
        """Each call of the stand-in for uv: its process id, then its arguments."""
        return (
            [json.loads(line) for line in self.record.read_text().splitlines()]
            if self.record.exists()
            else []
        )

    def installs(self):
        return [call for call in self.calls() if call[1] == "pip"]


def finish(process):
    out, err = process.communicate(timeout=DEADLINE)
    assert "Traceback" not in err, err
    lines = [line for line in err.splitlines() if not line.startswith("lab: installing")]
    return process.returncode, json.loads(out) if out else None, lines


def eventually(happened, what):
    deadline = time.monotonic() + DEADLINE
    while not (result := happened()):
        assert time.monotonic() < deadline, f"{DEADLINE} s went by without {what}"
        time.sleep(0.01)
    return result


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not (stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z")


@pytest.fixture
def bare_course(tmp_path):
    """A course and a PATH with nothing on it."""
    return Course(tmp_path / "course", tmp_path / "bin")


@pytest.fixture
def course(bare_course):
    """A course and a PATH with only the stand-in for uv on it."""
    uv = bare_course.bin / "uv"
    stand_in = STAND_IN_UV.format(python=sys.executable, record=str(bare_course.record), deadline=DEADLINE)
    uv.write_text(stand_in)
    uv.chmod(0o755)
    return bare_course


def make_wheel(folder, version):
    """The smallest wheel that installers accept: a module that knows its version."""
    wheel = folder / f"parcel-{version}-py3-none-any.whl"
    info = f"parcel-{version}.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("parcel.py", f"VERSION = {version!r}\n")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: parcel\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: hand\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in archive.namelist()))
    return wheel


# The usual life of an installation


@pytest.fixture(scope="module", params=["pip", "uv"])
def real_course(request, tmp_path_factory):
    """A course that was called once, so that real pip (or real uv) installed parcel 1.0."""
    folder = tmp_path_factory.mktemp(request.param)
    course = Course(folder / "course", folder / "bin")
    if request.param == "uv":
        if not shutil.which("uv"):
            pytest.skip("uv is not on the PATH; the other tests use a stand-in for it")
        (course.bin / "uv").symlink_to(shutil.which("uv"))
    for version in "1.0", "2.0.1":
        make_wheel(course.root, version)
    course.requirements.write_text("./parcel-1.0-py3-none-any.whl\n")
    course.first_call = course.call("check", "3")
    return course


def test_the_first_call_installs_and_hands_over(real_course):
    status, seen, lines = real_course.first_call
    assert (status, seen and seen["args"]) == (0, ["check", "3"]), lines
    assert seen["parcel"] == "1.0" and seen["prefix"] == str(real_course.venv)
    assert len(lines) == 1 and lines[0].startswith("lab: installed in")


def test_only_changed_requirements_are_installed_again(real_course):
    real_course.requirements.write_text("./parcel-2.0.1-py3-none-any.whl\n")
    status, seen, lines = real_course.call()
    assert (status, seen and seen["parcel"]) == (0, "2.0.1"), lines
    real_course.log.unlink()
    status, _, lines = real_course.call()
    assert (status, lines) == (0, []) and not real_course.log.exists(), "nothing changed, and it installed"


def test_requirements_that_cannot_be_met(real_course):
    real_course.requirements.write_text("parcel==99\n")
    status, seen, lines = real_course.call()
    assert (status, seen, len(lines)) == (3, None, 1), lines
    assert "requirements.txt cannot be met" in lines[0] and "parcel==99" in lines[0]
    assert str(real_course.log) in lines[0]
    assert "parcel==99" in real_course.log.read_text()


def test_an_environment_made_by_hand_is_installed_into_and_not_deleted(course):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", course.venv], check=True)
    mine = course.venv / "mine.txt"
    mine.touch()
    failing = {"UV_STAND_IN_SAYS": "error: something else went wrong"}
    assert course.call(**failing)[0] == 3
    assert course.call()[0] == 0
    assert mine.exists(), "the environment that somebody made by hand is gone"
    assert ["--reinstall" in call for call in course.installs()] == [False, True]
    assert all(call[1] != "venv" for call in course.calls())


def test_an_environment_made_by_hand_that_does_not_run_is_set_aside(course):
    (course.venv / "bin").mkdir(parents=True)
    (course.venv / "mine.txt").touch()
    status, seen, lines = course.call()
    assert (status, bool(seen)) == (0, True), lines
    assert not (course.venv / "mine.txt").exists()
    assert list(course.root.glob(".lab/venv-*/mine.txt")), "what somebody made by hand was deleted"


def test_an_environment_whose_python_is_gone_is_made_again(course):
    assert course.call()[0] == 0
    python = course.venv / "bin" / "python"
    python.unlink()
    python.symlink_to("/nowhere/bin/python3.11")
    status, seen, lines = course.call()
    assert (status, bool(seen)) == (0, True), lines
    assert len(course.installs()) == 2


def test_an_environment_whose_python_was_replaced_by_one_that_fails_is_made_again(course, tmp_path):
    assert course.call()[0] == 0
    python = course.venv / "bin" / "python"
    replaced = tmp_path / python.resolve().name
    replaced.write_text("not a program\n")
    replaced.chmod(0o755)
    python.unlink()
    python.symlink_to(replaced)
    status, seen, lines = course.call()
    assert (status, bool(seen)) == (0, True), lines


def test_a_moved_course_starts_its_own_labkit(course):
    assert course.call()[0] == 0
    old, new = course.root, course.root.with_name("moved")
    shutil.copytree(old, new, symlinks=True)
    course.root = new
    status, seen, lines = course.call()
    assert (status, seen and seen["file"]) == (0, str(new / "labkit" / "__main__.py")), lines
    assert seen["prefix"] == str(new / ".venv")
    assert [call[1] for call in course.calls()] == ["venv", "pip"] * 2, (
        "its scripts still start the old Python"
    )


# The hand-over


def test_labkit_gets_the_callers_folder_and_arguments_and_its_status_comes_back(course, tmp_path):
    elsewhere = tmp_path / "else where"
    elsewhere.mkdir()
    link = tmp_path / "link-to-lab"
    link.symlink_to(course.root / "lab")
    course.call()
    os.symlink(sys.executable, course.bin / "python3")
    done = subprocess.run(
        [link, "check", "3", "--submission", "../mine", "a b"],
        cwd=elsewhere,
        env={"PATH": str(course.bin), "LABKIT_EXITS": "7"},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    seen = json.loads(done.stdout)
    assert seen["args"] == ["check", "3", "--submission", "../mine", "a b"]
    assert (seen["cwd"], done.returncode) == (str(elsewhere), 7)


def test_other_environments_and_python_variables_do_not_leak(course, tmp_path):
    decoy = tmp_path / "decoy"
    (decoy / "labkit").mkdir(parents=True)
    (decoy / "labkit" / "__main__.py").write_text("raise SystemExit('the wrong labkit')")
    (decoy / "json.py").write_text("raise SystemExit('the wrong json')")
    (course.root / "selectors.py").write_text("raise SystemExit('a stray file of the reader')")
    leaky = {"VIRTUAL_ENV": decoy, "PYTHONPATH": decoy, "PYTHONHOME": sys.base_prefix}
    for _ in "first call", "later call":
        status, seen, lines = course.call("x", cwd=decoy, **leaky)
        assert (status, seen and seen["args"]) == (0, ["x"]), lines
        assert seen["env"]["VIRTUAL_ENV"] == str(course.venv)
        assert seen["env"]["PATH"].split(os.pathsep)[0] == str(course.venv / "bin")
        assert seen["env"]["PYTHONHOME"] is seen["env"]["PYTHONPATH"] is None


def test_an_installed_course_starts_without_the_installers_modules(course):
    course.call()
    status, _, lines = course.call(python=(sys.executable, "-X", "importtime"))
    imported = {line.rpartition("|")[2].strip() for line in lines}
    assert status == 0 and "site" in imported, lines
    assert not imported & {"subprocess", "shutil", "signal", "pathlib", "tempfile", "select"}


# Interruptions and company


def test_two_calls_at_once_install_once(course, tmp_path):
    gate = tmp_path / "gate"
    first = course.start("first", UV_STAND_IN_GATE=gate)
    eventually(course.installs, "the first call's installation")
    second = course.start("second")
    assert "waiting" in second.stderr.readline()
    gate.touch()
    for process, name in (first, "first"), (second, "second"):
        status, seen, lines = finish(process)
        assert (status, seen and seen["args"]) == (0, [name]), lines
    assert len(course.installs()) == 1


def test_a_killed_installation_starts_over_when_its_installer_is_gone(course, tmp_path):
    first = course.start(UV_STAND_IN_GATE=tmp_path / "never")
    ((installer, *_),) = eventually(course.installs, "the installation")
    (course.venv / "half-written.txt").touch()
    first.kill()
    first.communicate(timeout=DEADLINE)
    second = course.start("again")
    assert "waiting" in second.stderr.readline(), "the killed call's installer still writes into .venv"
    os.kill(installer, signal.SIGKILL)
    status, seen, lines = finish(second)
    assert (status, seen and seen["args"]) == (0, ["again"]), lines
    assert not (course.venv / "half-written.txt").exists(), "the rest of a killed installation was kept"


@pytest.mark.parametrize("signum, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_installation_ends_its_processes(course, tmp_path, signum, status):
    process = course.start(UV_STAND_IN_GATE=tmp_path / "never")
    ((installer, *_),) = eventually(course.installs, "the installation")
    process.send_signal(signum)
    returned, _, lines = finish(process)
    assert returned == status, lines
    assert not is_alive(installer), "the installer outlived ./lab"
    assert Path(f"{course.record}.tidy").exists(), "the installer was not given the time to tidy up"
    if signum == signal.SIGINT:
        assert len(lines) == 1 and "interrupted" in lines[0], lines
    assert course.call()[0] == 0


def test_a_terminal_shows_one_line_that_is_rewritten(course, tmp_path):
    gate = tmp_path / "gate"
    ours, theirs = pty.openpty()
    environment = {"PATH": str(course.bin), "TERM": "xterm", "UV_STAND_IN_GATE": str(gate)}
    command = [sys.executable, course.root / "lab"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=theirs)
    os.close(theirs)
    shown = bytearray()

    def shows_the_step():
        shown.extend(os.read(ours, 4096))
        return b"Resolved 1 package" in shown

    eventually(shows_the_step, "the installer's step on the terminal")
    gate.touch()
    process.communicate(timeout=DEADLINE)
    os.close(ours)
    assert process.returncode == 0
    assert b"\n" not in shown and shown.count(b"\r\x1b[Klab: installing, ") > 1, shown


def test_without_a_terminal_there_is_a_line_now_and_then(course):
    lab = course.root / "lab"
    lab.write_text(lab.read_text().replace("PLAIN_SECONDS = 10", "PLAIN_SECONDS = 0"))
    process = course.start()
    _, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0 and err.startswith("lab: installing the course's packages"), err
    assert re.search(r"^lab: installing, \d+ s: Resolved 1 package", err, re.MULTILINE), err
    assert "\r" not in err and "\033" not in err


# What can be in the way: one line that says what to do, and status 3


@pytest.mark.parametrize(
    "says, advice",
    [
        ("error: Failed to install\n  cause: No space left on device (os error 28)", "disk is full"),
        (
            "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device",
            "disk is full",
        ),
        (
            "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError'\n"
            "ERROR: Could not find a version that satisfies the requirement parcel\n"
            "ERROR: No matching distribution found for parcel",
            "check the network",
        ),
        ("error: Failed to fetch: https://index.example/parcel/\n  cause: dns error", "check the network"),
        ("error: failed to create file\n  cause: Permission denied (os error 13)", "folder of your own"),
        (
            "× No solution found:\n  ╰─▶ Because parcel was not found, it cannot be used.",
            "Because parcel was not",
        ),
        ("error: Something quite new", "Something quite new"),
    ],
)
def test_an_installers_complaint_becomes_one_line(course, says, advice):
    status, seen, lines = course.call(UV_STAND_IN_SAYS=says)
    assert (status, seen, len(lines)) == (3, None, 1), lines
    assert advice in lines[0] and str(course.log) in lines[0], lines
    assert says in course.log.read_text()


def make_dead_shim(path):
    """What pyenv leaves on the PATH for a program that another of its Pythons has."""
    path.write_text(f"#!/bin/sh\necho 'pyenv: {path.name}: command not found' >&2\nexit 127\n")
    path.chmod(0o755)


def test_a_missing_ensurepip_names_the_package_to_install(bare_course):
    make_dead_shim(bare_course.bin / "uv")  # so pip it is
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", bare_course.venv], check=True)
    packages = next(bare_course.venv.glob("lib/python3.*/site-packages"))
    (packages / "sitecustomize.py").write_text(
        "import sys\n"
        "class Hidden:\n"
        "    def __init__(self, finder): self.finder = finder\n"
        "    def find_spec(self, name, *rest):\n"
        "        return None if name == 'ensurepip' else self.finder.find_spec(name, *rest)\n"
        "sys.meta_path[:] = map(Hidden, sys.meta_path)\n"
    )
    status, seen, lines = bare_course.call()
    assert (status, seen, len(lines)) == (3, None, 1), lines
    assert f"sudo apt install python3.{sys.version_info[1]}-venv" in lines[0]


def test_too_little_room_is_said_before_anything_is_installed(course):
    lab = course.root / "lab"
    lab.write_text(lab.read_text().replace("NEEDED_MB = 700", "NEEDED_MB = 10**12"))
    status, seen, lines = course.call()
    assert (status, seen, len(lines), course.calls()) == (3, None, 1, []), lines
    assert "MB are free" in lines[0]


def test_a_folder_that_cannot_be_written_to(course):
    nobody_writes = "/sys" if os.path.isdir("/sys") else "/System"  # not even root
    os.symlink(nobody_writes, course.root / ".lab")
    status, seen, lines = course.call()
    assert (status, seen, len(lines)) == (3, None, 1), lines
    assert "folder of your own" in lines[0]


def test_requirements_that_are_missing(course):
    course.requirements.unlink()
    status, seen, lines = course.call()
    assert (status, seen, len(lines)) == (3, None, 1), lines
    assert "requirements.txt" in lines[0]


# Pythons and systems that are not ours


def pretending(statement):
    """A Python command line that changes what sys or os says, then runs the program that follows."""
    start = "import os, runpy, sys; sys.argv = sys.argv[1:]"
    return sys.executable, "-c", f"{start}; {statement}; runpy.run_path(sys.argv[0], run_name='__main__')"


def test_an_old_python_can_parse_the_launcher():
    ast.parse(LAB.read_text(), feature_version=(3, 6))


def test_an_old_python_says_which_one_to_install(course):
    status, seen, lines = course.call(python=pretending("sys.version_info = (3, 9, 2)"))
    assert (status, seen, len(lines)) == (3, None, 1), lines
    assert "Python 3.9" in lines[0] and "3.11" in lines[0]


def test_an_old_python_carries_on_with_a_newer_one_that_works(course):
    make_dead_shim(course.bin / "python3.14")
    (course.bin / "python3.12").symlink_to(sys.executable)
    status, seen, lines = course.call("a", "b", python=pretending("sys.version_info = (3, 9, 2)"))
    assert (status, seen and seen["args"]) == (0, ["a", "b"]), lines


def test_native_windows_is_sent_to_wsl2(course):
    status, seen, lines = course.call(python=pretending("os.name = 'nt'"))
    assert (status, seen, len(lines)) == (3, None, 1), lines
    assert "WSL2" in lines[0]
