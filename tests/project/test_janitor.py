"""What a command started or made goes with it, in whatever way the command ends."""

import contextlib
import errno
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from labkit.brokers.embedded import embedded_binary
from labkit.janitor import Janitor, _removable, is_running, kill_processes, process_mark, temporary_folder

ROOT = pathlib.Path(__file__).resolve().parents[2]
GONE_WITHIN_SECONDS = 5

HOLDS_MUCH = """
import subprocess, sys, time
from labkit.brokers import EmbeddedValkey
from labkit.janitor import janitor, temporary_folder
broker = EmbeddedValkey()
broker.start()
folder = temporary_folder()
(folder / "deep").mkdir()
(folder / "deep" / "photo.jpg").write_bytes(b"x" * 100_000)
sleeper = subprocess.Popen(["sleep", "600"], start_new_session=True)
janitor().watch_process(sleeper.pid)
print(broker.pid, sleeper.pid, broker.data, folder, flush=True)
time.sleep(600)
"""


def wait_until(event, within=GONE_WITHIN_SECONDS):
    """Wait for the event; tell whether it came in time."""
    deadline = time.monotonic() + within
    while not event():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def command(program, **options):
    """Run a Python program as a terminal would run a command: in a process group of its own."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]),
        **options.pop("env", {}),
    }
    return subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
        start_new_session=True,
        **options,
    )


@pytest.fixture
def sleeper():
    """A process that would sleep for ten minutes, in a group of its own."""
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as process:
        yield process
        process.kill()


@pytest.mark.parametrize("name", ["SIGKILL", "SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"])
def test_nothing_is_left_when_a_command_is_ended_by(name):
    with command(HOLDS_MUCH) as parent:
        server, sleeper, data, folder = parent.stdout.readline().split()
        assert is_running(int(server)) and is_running(int(sleeper))
        assert os.path.isdir(data) and os.path.isdir(folder)

        os.killpg(parent.pid, getattr(signal, name))  # as the terminal does it: to the whole group

        assert wait_until(lambda: not is_running(int(server))), f"the server outlived {name}"
        assert wait_until(lambda: not is_running(int(sleeper))), f"the watched process outlived {name}"
        assert wait_until(lambda: not os.path.exists(data)), f"the server's data outlived {name}"
        assert wait_until(lambda: not os.path.exists(folder)), f"the folder outlived {name}"


def test_nothing_is_left_when_a_command_ends_by_itself():
    with command(HOLDS_MUCH.replace("time.sleep(600)", "")) as parent:
        server, sleeper, data, folder = parent.stdout.readline().split()
        parent.wait(GONE_WITHIN_SECONDS)
    left = [pid for pid in (server, sleeper) if is_running(int(pid))]
    left += [path for path in (data, folder) if os.path.exists(path)]
    assert not left, "the command had ended already; who should remove these now?"


def test_there_is_no_moment_at_which_a_killed_command_leaves_its_server():
    """Kill the command at many moments around the start of its server; look for the server by its name."""
    place = temporary_folder()
    binary = place / "valkey-of-this-test"
    binary.symlink_to(embedded_binary())
    program = f"""
import os, time
from labkit.brokers.server import OwnServer
os.environ["TMPDIR"] = {str(place)!r}
print(flush=True)
OwnServer({str(binary)!r}).start()
time.sleep(600)
"""
    for moment in range(24):
        with command(program) as parent:
            parent.stdout.readline()
            time.sleep(moment * 0.003)  # 0 to 70 ms: before, during and after; this is what varies
            parent.kill()
    assert wait_until(lambda: not _running_programs(str(binary))), _running_programs(str(binary))
    assert wait_until(lambda: os.listdir(place) == [binary.name]), os.listdir(place)


def _running_programs(name):
    lines = subprocess.run(["ps", "-axo", "stat=,args="], capture_output=True, text=True, check=True).stdout
    return [line for line in lines.splitlines() if name in line and not line.startswith("Z")]


def test_a_program_started_by_the_janitor_has_no_moment_alone():
    program = """
from labkit.janitor import janitor
process = janitor().start_process(["sh", "-c", "sleep 600 & echo $! $$; wait"])
process.wait()
"""
    with command(program) as parent:
        pids = [int(word) for word in parent.stdout.readline().split()]
        assert all(map(is_running, pids))
        parent.kill()
        assert wait_until(lambda: not any(map(is_running, pids))), (
            "its children are in its group and go as well"
        )


@pytest.mark.parametrize(("error", "tries"), [(errno.EFAULT, 2), (errno.EAGAIN, 2), (errno.EACCES, 1)])
def test_a_kernel_short_of_memory_is_asked_again(error, tries, monkeypatch):
    janitor, tried, started = Janitor(), [], subprocess.Popen

    def short_at_first(command, **options):
        if command[0] == "/bin/sh":
            tried.append(command)
            if len(tried) == 1:
                raise OSError(error, os.strerror(error), "/bin/sh")
        return started(command, **options)

    monkeypatch.setattr(subprocess, "Popen", short_at_first)
    with contextlib.suppress(PermissionError):
        assert janitor.start_process(["true"]).wait(10) == 0
    janitor.close()
    assert len(tried) == tries


def test_the_children_of_a_watched_process_go_even_when_it_has_ended_first():
    watcher = Janitor()
    leader = watcher.start_process(["sh", "-c", "sleep 600 & echo $!"], stdout=subprocess.PIPE, text=True)
    child = int(leader.stdout.readline())
    leader.wait()
    leader.stdout.close()
    assert is_running(child)
    watcher.close()
    assert wait_until(lambda: not is_running(child))


def test_what_is_forgotten_stays(sleeper, tmp_path):
    watcher = Janitor()
    watcher.watch_process(sleeper.pid)
    watcher.watch_folder(tmp_path)
    watcher.forget_process(sleeper.pid)
    watcher.forget_folder(tmp_path)
    watcher.close()
    assert sleeper.poll() is None
    assert tmp_path.is_dir()


@pytest.mark.skipif(
    not os.path.isdir("/proc/self"), reason="start times are read from /proc, which macOS has not"
)
def test_a_process_that_was_given_a_watched_number_later_is_left_alone(sleeper):
    kill_processes({sleeper.pid: ("1", True)})  # known as the process that started at tick 1
    assert sleeper.poll() is None
    kill_processes({sleeper.pid: (process_mark(sleeper.pid), True)})
    assert sleeper.wait(GONE_WITHIN_SECONDS) == -signal.SIGKILL


def test_a_folder_that_took_the_place_of_a_watched_one_stays(tmp_path):
    watched = tmp_path / "work"
    watched.mkdir()
    watcher = Janitor()
    watcher.watch_folder(watched)
    watched.rename(tmp_path / "moved")
    watched.mkdir()
    watcher.close()
    assert watched.is_dir()


def test_a_folder_closed_to_its_owner_is_removed_too(tmp_path):
    closed = tmp_path / "work" / "closed"
    closed.mkdir(parents=True)
    (closed / "file").touch()
    closed.chmod(0)
    watcher = Janitor()
    watcher.watch_folder(tmp_path / "work")
    watcher.close()
    assert not (tmp_path / "work").exists()


def test_folders_that_are_not_ours_are_refused(tmp_path):
    """Only the question is asked here: a folder that was watched by mistake would be gone after this run."""
    (tmp_path / "link").symlink_to(ROOT)
    kept = [
        ROOT,
        ROOT.parent,
        ROOT / "labs",
        ROOT / ".lab",
        ROOT / "labkit" / "grader",
        pathlib.Path.home(),
        ".",
    ]
    odd = [
        "/",
        "/tmp",
        "/tmp/",
        "/tmp/..",
        "/tmp/../etc",
        "/etc",
        tmp_path / "link",
        tmp_path / "a\nb",
        ".lab",
    ]
    for folder in kept + odd:
        with pytest.raises(ValueError, match="will not remove"):
            _removable(folder)
    with pytest.raises(ValueError, match="will not remove"):
        Janitor().watch_folder("/no-such-folder/at-all")


def test_temporary_folders_and_what_lies_in_lab_may_be_removed(tmp_path):
    for folder in (tmp_path, "/tmp/a", ROOT / ".lab" / "runs", ROOT / ".lab" / "a" / "b"):
        assert _removable(folder)


def test_a_link_inside_a_removed_folder_is_not_followed(tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis").touch()
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "link").symlink_to(tmp_path / "precious")
    watcher = Janitor()
    watcher.watch_folder(tmp_path / "work")
    watcher.close()
    assert not (tmp_path / "work").exists()
    assert (tmp_path / "precious" / "thesis").exists()


def test_a_forked_child_neither_cleans_up_nor_holds_up_the_cleaning():
    program = """
import os, sys, time
from labkit.janitor import temporary_folder
folder = temporary_folder()
if os.fork() == 0:
    sys.exit()  # runs what the parent registered for its own end
os.wait()
child = os.fork()
if child == 0:
    time.sleep(600)
print(child, folder, folder.is_dir(), flush=True)
time.sleep(600)
"""
    with command(program) as parent:
        child, folder, was_there = parent.stdout.readline().split()
        try:
            assert was_there == "True", "the end of a child removed what the parent still needs"
            parent.kill()
            assert wait_until(lambda: not os.path.exists(folder)), "the helper waits for a forked child"
            assert is_running(int(child))
        finally:
            os.kill(int(child), signal.SIGKILL)


def test_a_forked_child_has_a_janitor_of_its_own():
    program = """
import os
from labkit.janitor import temporary_folder
print(temporary_folder(), flush=True)
if os.fork() == 0:
    print(temporary_folder(), flush=True)
    os._exit(0)
os.wait()
"""
    with command(program) as parent:
        folders = parent.stdout.read().split()
        assert len(folders) == 2
        assert wait_until(lambda: not any(map(os.path.exists, folders)))


def test_a_helper_that_somebody_killed_is_replaced(sleeper, tmp_path):
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    watcher = Janitor()
    watcher.watch_process(sleeper.pid)
    watcher.watch_folder(tmp_path / "first")
    for then in (lambda: watcher.watch_folder(tmp_path / "second"), watcher.close):
        watcher._helper.kill()
        assert wait_until(lambda: not is_running(watcher._helper.pid))
        then()
    assert sleeper.wait(GONE_WITHIN_SECONDS) == -signal.SIGKILL
    assert os.listdir(tmp_path) == []


def test_a_temporary_folder_is_short_private_and_ones_own():
    first, second = temporary_folder(), temporary_folder()
    assert first != second
    assert first.stat().st_mode & 0o777 == 0o700
    assert len(os.fsencode(first / "a-name-of-20-letters")) <= 103, (
        "no Unix socket could be made there on macOS"
    )


def test_the_helper_does_not_hold_the_output_of_a_command():
    program = "from labkit.janitor import temporary_folder; temporary_folder(); import os; os._exit(0)"
    with command(program) as parent:
        assert parent.communicate(timeout=GONE_WITHIN_SECONDS) == ("", None)
