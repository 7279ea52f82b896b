"""What a submission can see, reach, use up and leave behind at each level of isolation.

As root, all of it is tried a second time as an ordinary user.
"""

import contextlib
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import textwrap
import time
from pathlib import Path

import pytest

from labkit import course
from labkit.brokers import InfrastructureError
from labkit.course import ROOT
from labkit.grade.play import play as grade
from labkit.grader import account, bubblewrap, readable, sandbox, submission, watchman
from labkit.grader.account import Account
from labkit.grader.failure import CheckFailed
from labkit.grader.run import Run
from labkit.grader.watchman import Allowance
from labkit.janitor import is_running, remove_tree, temporary_folder

WITHIN_SECONDS = 60  # a machine with much to do
LAB = course.lab(3)
ROOT_GRADES = os.getuid() == 0
SECRET = "the grader's own"
LEVELS = ["process", "bubblewrap"]
ORDINARY = "LAB_TEST_ORDINARY_USER"  # set where this file is run once more, as another user
linux = pytest.mark.skipif(sys.platform != "linux", reason="bubblewrap and /proc are Linux's")
as_root = pytest.mark.skipif(not ROOT_GRADES, reason="only root can become another user")


@pytest.fixture(scope="session")
def sandboxes():
    """Bubblewrap is there, or the package manager brings it; where it may not, the tests say so."""
    try:
        bubblewrap.install(may_install=True)
    except InfrastructureError as reason:
        pytest.skip(str(reason))
    if trouble := bubblewrap.trouble():
        pytest.skip(trouble)


@pytest.fixture(scope="module", params=LEVELS)
def run(request):
    """A run at each level."""
    if request.param == "bubblewrap":
        request.getfixturevalue("sandboxes")
    os.environ["SECRET"] = SECRET
    with a_run(request.param) as running:
        assert running.isolation == request.param and not running.notes
        yield running
    del os.environ["SECRET"]


@contextlib.contextmanager
def a_run(level):
    with Run(LAB, submission.read(LAB, LAB.solution), isolation=level) as running:
        yield running


def run_at(level):
    with a_run(level):
        pass


@pytest.fixture
def play(run, monkeypatch):
    """Start a program as a script of the submission; return its actor. The scenes end with the test."""
    scenes = []

    def start(program, *, allowance=None, name="probe", wait=False, scene=None, **settings):
        monkeypatch.setitem(run.submission.files, "probe.py", textwrap.dedent(program).encode())
        monkeypatch.setattr(run.watchman, "_allowance", allowance or watchman.ALLOWANCE)
        scene = scene or run.scene("probe", seed=1)
        scenes.append(scene)
        actor = scene.start("probe.py", name=name, **settings)
        if wait:
            assert actor.process.exited.wait(WITHIN_SECONDS)
            assert actor.process.status == 0, actor.process.errors()
        return actor

    yield start
    for scene in scenes:
        scene.close()


@pytest.fixture
def told(play):
    """What a program prints, read as JSON."""

    def ask(program, **more):
        return json.loads(play(LOOKS + textwrap.dedent(program), wait=True, **more).process.output())

    return ask


def wait_until(condition, within=WITHIN_SECONDS):
    deadline = time.monotonic() + within
    while not (value := condition()):
        if time.monotonic() > deadline:
            return None
        time.sleep(0.01)
    return value


def story_of(actor):
    """The story with which a check ends that waits for this actor to do something."""
    with pytest.raises(CheckFailed) as failed:
        actor.scene.wait_until(lambda: False, "it was to end", within=WITHIN_SECONDS)
    return str(failed.value)


def processes_of(uid):
    """All that runs as this user, zombies left out; the kernel's own word, which no process can change."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError):
            fields = dict(line.split(":\t", 1) for line in status.read_text().splitlines() if ":\t" in line)
            if fields["Uid"].split()[0] == str(uid) and fields["State"][0] != "Z":
                found.append(int(status.parent.name))
    return found


# ---- what can be seen --------------------------------------------------------------------------------------

LOOKS = """
import json, os, pathlib
def names(path):
    try:
        return sorted(os.listdir(path))
    except OSError as error:
        return type(error).__name__
def text(path):
    try:
        return pathlib.Path(path).read_bytes().decode("latin-1")
    except OSError as error:
        return type(error).__name__
"""


def test_the_environment_is_clean(told):
    seen = told("import json, os; print(json.dumps(dict(os.environ)))")
    assert SECRET not in seen.values()
    assert set(seen) == {
        "PATH", "HOME", "TMPDIR", "LANG", "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED", "VALKEY_URL", "QUEUE",
        "INPUT_DIR", "OUTPUT_DIR", "LAB_LEDGER", "LAB_TOKEN", "LC_CTYPE",
    } - ({"LC_CTYPE"} - set(seen))  # fmt: skip


@linux
def test_no_environment_of_the_graders_is_in_proc(run, told):
    if run.isolation == "process" and not ROOT_GRADES:
        pytest.skip(
            "at this level the scripts of an ordinary user are that user's, and see what is the user's"
        )
    seen = told(
        LOOKS + "print(json.dumps([text(f'/proc/{p}/environ') for p in names('/proc') if p.isdecimal()]))"
    )
    assert seen and not [environment for environment in seen if SECRET in environment]


@linux
def test_a_sandbox_shows_nothing_of_home_nor_of_the_course_nor_of_other_submissions(run, told, tmp_path):
    (tmp_path / "anna.py").write_text("another submission")
    places = [Path.home(), ROOT, ROOT / "labkit", ROOT / "labkit" / "grader", tmp_path, "/tmp", "/etc", "/"]
    program = f"print(json.dumps({{p: names(p) for p in {[*map(str, places)]!r}}}))"
    seen = {Path(path): names for path, names in told(program).items()}
    if run.isolation == "process":
        assert "solutions" in seen[ROOT], "the test looks in vain where there is something to see"
        return
    python = {
        Path(sys.prefix),
        Path(sys.base_prefix),
        *Path(sys.prefix).parents,
        *Path(sys.base_prefix).parents,
    }
    needed = {path.name for path in (*python, run.folder, *run.folder.parents)}
    assert set(seen[Path.home()]) <= needed or seen[Path.home()] == "FileNotFoundError"
    assert set(seen[ROOT]) <= {"labkit"} | needed
    assert seen[ROOT / "labkit"] == ["grader"] and seen[ROOT / "labkit" / "grader"] == ["starter.py"]
    assert seen[tmp_path] == "FileNotFoundError"
    assert set(seen[Path("/tmp")]) <= needed
    assert "shadow" not in seen[Path("/etc")]
    assert not {"run", "sys", "var", "boot", "mnt"} & set(seen[Path("/")])


@linux
def test_a_sandbox_can_be_written_in_few_places(run, told):
    if run.isolation == "process":
        pytest.skip("the rights of files are all that there is at this level")
    program = """
    import tempfile
    writable = []
    for path in ["/", "/usr", "/etc", "/dev", "/tmp", "/dev/shm", "/home", "/var/tmp", os.environ["HOME"], os.getcwd(),
                 os.environ["OUTPUT_DIR"], os.environ["INPUT_DIR"], os.path.dirname(os.environ["LAB_LEDGER"]),
                 os.path.dirname(os.environ["HOME"]), os.path.dirname(os.__file__)]:
        try:
            with tempfile.TemporaryFile(dir=path):
                writable.append(path)
        except OSError:
            pass
    home = os.environ["HOME"]
    print(json.dumps([path.replace(home, "HOME") for path in writable]))
    """
    writable = told(program)
    own = {"/tmp", "/dev/shm", "HOME", "HOME/out", "HOME/in/photos"}
    if not ROOT_GRADES:
        own.add(str(run.scenes))  # the same user's
    assert set(writable) == own


@linux
def test_a_sandbox_has_its_own_process_table(run, told):
    seen = told("print(json.dumps([int(p) for p in names('/proc') if p.isdecimal()]))")
    assert (max(seen) < 1000 and len(seen) < 10) == (run.isolation == "bubblewrap")


@as_root
def test_a_script_runs_as_a_user_without_rights(run, told):
    program = """
    import ctypes, signal
    def can(do, *args):
        try:
            do(*args)
            return True
        except OSError:
            return False
    home, code = os.environ["HOME"], os.getcwd()
    status = dict(line.split(":", 1) for line in text("/proc/self/status").splitlines())
    print(json.dumps({
        "uid": os.getuid(), "gid": os.getgid(), "groups": os.getgroups(),
        "capabilities": [int(status[name], 16) for name in ("CapPrm", "CapEff", "CapAmb")],
        "can": [name for name, able in {
            "become root": can(os.setuid, 0),
            "stop the starter": can(os.kill, os.getppid(), signal.SIGSTOP),
            "kill the starter": can(os.kill, os.getppid(), signal.SIGKILL),
            "add to the code": can(open, code + "/redis.py", "w"),
            "write code": can(open, code + "/images.py", "a"),
            "replace code": can(os.rename, code + "/images.py", code + "/other.py"),
            "move the code": can(os.rename, code, home + "/elsewhere"),
            "move the ledger": can(os.rename, os.environ["LAB_LEDGER"], home + "/ledger"),
            "make a scene": can(os.mkdir, os.path.dirname(home) + "/s99"),
            "see the logs": can(os.listdir, os.path.dirname(os.path.dirname(home)) + "/log"),
            "see the scenes": can(os.listdir, os.path.dirname(home)),
        }.items() if able],
        "itself": len(os.listdir("/proc/self/fd")) > 0,
        "no new rights": int(status["NoNewPrivs"]),
    }))
    """
    seen = told(program)
    uid = run.sandbox.account.uid
    assert account.FIRST <= uid < account.FIRST + account.SLOTS
    with pytest.raises(KeyError):
        pwd.getpwuid(uid)
    assert seen == {
        "uid": uid, "gid": uid, "groups": [], "capabilities": [0, 0, 0], "can": [], "itself": True,
        "no new rights": 1,
    }  # fmt: skip


@pytest.mark.parametrize("cold", [False, True])
def test_python_is_whole(run, play, cold, monkeypatch):
    """Modules that nothing has imported yet are found by a script, and its own clients."""
    monkeypatch.setattr(run.submission, "cold", cold)
    program = (
        "import sqlite3, xml.dom.minidom, redis, PIL.Image, zoneinfo, multiprocessing as m; print(m.Lock())"
    )
    actor = play(program, wait=True)
    assert actor.process.output().startswith("<Lock(")


def test_a_script_can_write_wherever_it_is_told_to(play):
    program = """
    import os, pathlib, shutil, tempfile
    for folder in (os.environ["HOME"], os.environ["OUTPUT_DIR"], os.environ["INPUT_DIR"]):
        pathlib.Path(folder, "made").write_text("x")
        pathlib.Path(folder, "made").rename(pathlib.Path(folder, "renamed"))
    for path in pathlib.Path(os.environ["INPUT_DIR"]).iterdir():
        path.unlink()
    shutil.rmtree(os.environ["OUTPUT_DIR"])
    os.mkdir(os.environ["OUTPUT_DIR"])
    tempfile.NamedTemporaryFile().write(b"x")
    """
    play(program, wait=True)


# ---- what can be reached -----------------------------------------------------------------------------------


@linux
def test_a_sandbox_reaches_its_lane_and_nothing_else_of_the_machines_loopback(run, told):
    program = """
    import json, os, socket, urllib.parse
    import redis
    def reached(*address):
        try:
            socket.create_connection(address, 2).close()
            return True
        except OSError:
            return False
    print(json.dumps([redis.Redis.from_url(os.environ["VALKEY_URL"]).ping(), *(
        reached("127.0.0.1", int(os.environ[name])) for name in ("LISTENER", "BROKER"))]))
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        seen = told(program, LISTENER=port, BROKER=run.broker.port)
    outside = run.isolation == "process"
    assert seen == [True, outside, outside]


def test_a_web_application_is_reached_and_a_closed_port_is_not(run, play):
    program = """
    import http.server, os
    class Answer(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(201)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
    http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Answer).serve_forever()
    """
    import httpx

    with run.doors.bind() as held:
        port = held.getsockname()[1]
        with pytest.raises(ConnectionRefusedError):
            run.doors.connect(port, 5)
        actor = play(program, PORT=port)

        def listens():
            with contextlib.suppress(OSError):
                run.doors.connect(port, 5).close()
                return True

        assert wait_until(listens), actor.process.errors()
        url = f"http://127.0.0.1:{run.doors.outside(port)}/"
        for size in (0, 1, 3_000_000):
            answer = httpx.post(url, content=b"x" * size, timeout=WITHIN_SECONDS, trust_env=False)
            assert (answer.status_code, len(answer.content)) == (201, size)
        actor.kill()
        with pytest.raises(httpx.HTTPError):
            httpx.post(url, content=b"x", timeout=WITHIN_SECONDS, trust_env=False)


@linux
def test_the_grader_sees_how_busy_a_script_is(play):
    actor = play("while True: pass")
    assert actor.process.started.wait(WITHIN_SECONDS)
    assert wait_until(lambda: actor.process.busy_seconds() > 0.2)
    actor.kill()
    assert actor.process.busy_seconds() == 0


# ---- what can be used up -----------------------------------------------------------------------------------

MEGABYTE = 1024**2
GREEDY = {
    "used more than 64 MB of memory": (
        "x = [bytearray(b'x' * 1_000_000) for _ in range(500)]; import time; time.sleep(60)",
        Allowance(memory=64 * MEGABYTE),
    ),
    "used more than 96 MB of memory": (
        """
        import os, time
        for _ in range(5):
            if not os.fork():
                break
        x = [bytearray(b'x' * 1_000_000) for _ in range(40)]
        time.sleep(60)
        """,
        Allowance(memory=96 * MEGABYTE),
    ),
    "wrote more than 20 MB": (
        "import os, time\n"
        "for n in range(40): open(os.path.join(os.environ['HOME'], f'{n}'), 'wb').write(bytes(1_000_000))\n"
        "time.sleep(60)",
        Allowance(disk=20 * MEGABYTE),
    ),
    "wrote more than 20 MB into files without a name": (
        """
        import tempfile, time
        kept = [tempfile.TemporaryFile() for _ in range(40)]
        for file in kept:
            file.write(bytes(1_000_000))
            file.flush()
        time.sleep(60)
        """,
        Allowance(disk=20 * MEGABYTE),
    ),
    "made more than 300 files": (
        "import os, time; os.chdir(os.environ['HOME'])\nfor n in range(500): open(f'{n}', 'wb')\ntime.sleep(60)",
        Allowance(files=300),
    ),
    "made folders in folders, more than 40 deep": (
        "import os, time; os.chdir(os.environ['HOME'])\n"
        "for n in range(1500): os.mkdir('x'); os.chdir('x')\ntime.sleep(60)",
        Allowance(),
    ),
    "printed more than 1 MB": (
        "import time; print('x' * 2_000_000); time.sleep(60)",
        Allowance(output=MEGABYTE),
    ),
    "started more than 20 processes": (
        """
        import os, time
        for _ in range(40):
            if not os.fork():
                os.setsid()
                break
        time.sleep(60)
        """,
        Allowance(processes=20),
    ),
}  # fmt: skip


@linux
@pytest.mark.parametrize("words", GREEDY)
def test_who_uses_too_much_is_ended_and_it_is_said_why(run, play, words):
    program, allowance = GREEDY[words]
    beside = play("import time; print('here', flush=True); time.sleep(600)", name="beside")
    greedy = play(program, allowance=allowance, name="greedy")
    assert f"probe.py (greedy) was ended: it {words}." in story_of(greedy)
    assert beside.running, "another scene's script has used nothing"
    assert greedy.process.ending() == f"ended: it {words}"


BOMB = """
import os, signal
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
while True:
    try:
        if os.fork() == 0 and os.getpid() % 7 == 0:
            os.setsid()
    except OSError:
        pass
"""


PINGS = "import redis, os\nprint(redis.Redis.from_url(os.environ['VALKEY_URL']).ping())"


@linux
@pytest.mark.parametrize("level", LEVELS)
def test_a_fork_bomb_is_ended_and_the_run_beside_it_goes_on(level, request):
    if level == "bubblewrap":
        request.getfixturevalue("sandboxes")
    with a_run(level) as calm, a_run(level) as bombed:
        bombed.submission.files["probe.py"] = BOMB.encode()
        calm.submission.files["probe.py"] = PINGS.encode()
        bomb = bombed.scene("bomb", seed=1).start("probe.py", name="bomb")
        beside = calm.scene("calm", seed=1).start("probe.py", name="calm")
        assert beside.process.exited.wait(WITHIN_SECONDS)
        assert beside.process.output() == "True\n", beside.process.errors()
        assert "probe.py (bomb) was ended: it started more than 100 processes." in story_of(bomb)
        starter, user = bombed.starter._process.pid, bombed.sandbox.account
        family = descendants(starter)
    assert not is_running(starter)
    assert not [pid for pid in family if is_running(pid)]
    if ROOT_GRADES:
        assert user.uid != calm.sandbox.account.uid
        assert not processes_of(user.uid)


def descendants(pid):
    """All processes below this one."""
    children = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            children.setdefault(int(stat.read_text().rpartition(")")[2].split()[1]), []).append(
                int(stat.parent.name)
            )
    found, waiting = [], [pid]
    while waiting:
        waiting += (below := children.get(waiting.pop(), []))
        found += below
    return found


@as_root
@linux
def test_what_a_script_leaves_in_the_shared_folders_is_counted_and_removed():
    with a_run("process") as running:
        program = """
        import os, pathlib, time
        folder = pathlib.Path("/tmp", os.environ["LITTER"])
        folder.mkdir()
        (folder / "deep").mkdir()
        (folder / "deep" / "file").write_bytes(bytes(5_000_000))
        time.sleep(600)
        """
        running.watchman._allowance = Allowance(disk=4_000_000)
        running.submission.files["probe.py"] = textwrap.dedent(program).encode()
        name = f"litter-{os.getpid()}"
        actor = running.scene("litter", seed=1).start("probe.py", LITTER=name)
        assert "filled the folders for temporary files that all users share" in story_of(actor)
        assert Path("/tmp", name).exists()
    assert not Path("/tmp", name).exists()


# ---- what can be left behind -------------------------------------------------------------------------------

DAEMON = """
import os, pathlib, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        print("daemon", flush=True)
        time.sleep(600)
    os._exit(0)
os.wait()
while not pathlib.Path("go").exists():
    time.sleep(0.01)
"""


@linux
@pytest.mark.parametrize("ending", ["exits", "is killed"])
def test_a_daemon_ends_with_its_script(run, play, ending):
    actor = play(DAEMON)
    assert wait_until(lambda: "daemon" in actor.process.output())
    # Not at once: while the one between them ends, a look at /proc may find the daemon below nobody.
    assert wait_until(lambda: len(descendants(run.starter._process.pid)) >= 2)
    if ending == "exits":
        (actor.scene.code / "go").touch()
    else:
        actor.kill()
    assert actor.process.exited.wait(WITHIN_SECONDS)
    left = 1 if run.isolation == "bubblewrap" else 0  # the starter itself, below bwrap
    assert wait_until(lambda: len(descendants(run.starter._process.pid)) == left)


@linux
def test_what_a_thread_of_a_child_has_started_ends_with_the_script(run, play):
    program = """
    import os, subprocess, threading, time
    if os.fork() == 0:
        os.setsid()
        start = lambda: subprocess.Popen(["/bin/sleep", "600"], start_new_session=True)
        threading.Thread(target=lambda: (start(), print("begun"), time.sleep(600)), daemon=True).start()
    time.sleep(600)
    """
    actor = play(program)
    assert wait_until(lambda: "begun" in actor.process.output())
    actor.kill()
    left = 1 if run.isolation == "bubblewrap" else 0
    assert wait_until(lambda: len(descendants(run.starter._process.pid)) == left)


KILLS = """
import os, signal
for number in (signal.SIGTERM, signal.SIGSTOP, signal.SIGKILL):
    try:
        os.kill(os.getppid(), number)
    except OSError as error:
        print(error)
os.kill(-1, signal.SIGKILL)
"""


@linux
@pytest.mark.parametrize("level", LEVELS)
def test_who_kills_the_starter_harms_itself_alone(level, request):
    """Root's starter and the first process of a sandbox cannot be killed; else it is the submission's own failure."""
    if level == "bubblewrap":
        request.getfixturevalue("sandboxes")
    program = KILLS if ROOT_GRADES or level == "bubblewrap" else KILLS.replace("os.kill(-1", "os.kill(0")
    with a_run(level) as running:
        running.submission.files["probe.py"] = program.encode()
        scene = running.scene("murder", seed=1)
        killer = scene.start("probe.py", name="killer", may_fail=True)
        assert killer.process.exited.wait(WITHIN_SECONDS)
        if ROOT_GRADES or level == "bubblewrap":
            assert running.starter.alive
            running.submission.files["probe.py"] = b"print('as ever')"
            after = running.scene("after", seed=1).start("probe.py", name="after")
            assert after.process.exited.wait(WITHIN_SECONDS)
            assert after.process.output() == "as ever\n"
        else:
            assert wait_until(lambda: not running.starter.alive)
            assert "which nobody but a script of the submission sends" in story_of(killer)


@linux
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_nothing_outlives_the_grader(level, how, request, tmp_path):
    if level == "bubblewrap":
        request.getfixturevalue("sandboxes")
    (tmp_path / "probe.py").write_text(DAEMON)
    program = f"""
import sys, time
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_isolation import a_run
from pathlib import Path
with a_run({level!r}) as running:
    running.submission.files["probe.py"] = Path({str(tmp_path / "probe.py")!r}).read_bytes()
    actor = running.scene("probe", seed=1).start("probe.py")
    while "daemon" not in actor.process.output():
        time.sleep(0.01)
    account = running.sandbox.account
    print(running.starter._process.pid, account.uid if account else -1, running.folder, flush=True)
    time.sleep(600)
"""
    grader = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT,
        start_new_session=True,
    )  # fmt: skip
    with grader:
        starter, uid, folder = grader.stdout.readline().split()
        family = [int(starter), *descendants(int(starter))]
        assert len(family) >= 3
        os.killpg(grader.pid, how)
    assert wait_until(lambda: not [pid for pid in family if is_running(pid)])
    assert wait_until(lambda: not Path(folder).exists())
    if ROOT_GRADES:
        assert not processes_of(int(uid))


# ---- the user of a submission ------------------------------------------------------------------------------


@pytest.fixture
def few_users(monkeypatch, tmp_path):
    """Users that no other grading on this machine borrows meanwhile."""
    monkeypatch.setattr(account, "FIRST", account.FIRST + account.SLOTS - 2)
    monkeypatch.setattr(account, "SLOTS", 2)
    monkeypatch.setattr(account, "LOCKS", tmp_path / "locks")


@as_root
def test_no_two_runs_have_the_same_user_and_a_user_is_given_back(few_users):
    first, second = Account(), Account()
    assert first.uid != second.uid
    with pytest.raises(InfrastructureError, match=r"^all 2 users for submissions are in use$"):
        Account()
    first.close()
    again = Account()
    assert again.uid == first.uid
    again.close()
    second.close()
    assert not (account.LOCKS / str(first.uid)).exists()


@as_root
@linux
def test_what_an_earlier_run_left_running_is_ended_before_its_user_is_used_again(few_users):
    borrowed = Account()
    left = subprocess.Popen(
        ["/bin/sleep", "600"], user=borrowed.uid, group=borrowed.uid, extra_groups=[], cwd="/"
    )
    os.close(borrowed.lock)  # as when that grader was killed
    try:
        with a_run("process") as running:
            assert running.sandbox.account.uid == borrowed.uid
            assert left.wait(WITHIN_SECONDS) == -signal.SIGKILL
    finally:
        left.kill()
        left.wait()


@as_root
@linux
def test_of_a_closed_folder_only_what_is_needed_is_opened():
    closed = temporary_folder()
    for name in ("needed/python", "private"):
        (closed / name).mkdir(parents=True)
        (closed / name / "file").write_text(name)
    assert readable.closed_above(str(closed / "needed" / "python")) == str(closed)
    told = json.dumps({"closed": [str(closed)], "needed": [str(closed / "needed" / "python")]})
    look = f"cd {closed}; find . -type f; cat needed/python/file; touch x needed/x; id -u"
    done = subprocess.run(
        [sys.executable, "-I", "-S", readable.__file__, told, sys.executable, "-I", "-S", "-c",
         f"import os; os.setgid(64999); os.setuid(64999); os.execv('/bin/sh', ['sh', '-c', {look!r}])"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout == "./needed/python/file\nneeded/python64999\n", done.stderr
    assert done.stderr.count("Read-only") == 2
    assert (closed / "private" / "file").exists(), "elsewhere nothing has changed"
    remove_tree(closed)


@as_root
@linux
@pytest.mark.parametrize("level", LEVELS)
def test_the_course_may_lie_in_a_closed_folder(level, request, tmp_path):
    if level == "bubblewrap":
        request.getfixturevalue("sandboxes")
    copy = tmp_path / "closed" / "course"
    for name in ("labkit", "labs/lab03_reliable", "solutions/lab03_reliable"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", copy / ".venv"], check=True)
    packages = Path(sysconfig.get_path("purelib"))
    own = copy / ".venv" / packages.relative_to(sys.prefix)
    (own / "more.pth").write_text(f"{packages}\n")
    copy.parent.chmod(0o700)
    program = f"""
from labkit import course
from labkit.grader import submission
from labkit.grader.run import Run
lab = course.lab(3)
read = submission.read(lab, lab.solution)
read.files["probe.py"] = b"import os; print(os.getuid())"
with Run(lab, read, isolation={level!r}) as run:
    actor = run.scene("probe", seed=1).start("probe.py")
    actor.process.exited.wait()
    print(run.sandbox.__module__, actor.process.output(), actor.process.errors(), course.ROOT)
"""
    done = subprocess.run(
        [copy / ".venv" / "bin" / "python", "-c", program], env={**os.environ, "PYTHONPATH": str(copy)}, cwd=copy,
        text=True, capture_output=True,
    )  # fmt: skip
    said = done.stdout.split()
    assert said and said[-1] == str(copy) and account.FIRST <= int(said[1]) < account.FIRST + account.SLOTS, (
        done
    )


# ---- which level it is -------------------------------------------------------------------------------------


@pytest.fixture
def without_bubblewrap(monkeypatch, tmp_path):
    """A machine on which bwrap is not installed; or a program of this name, which says that it cannot."""
    bubblewrap.trouble.cache_clear()
    monkeypatch.setenv("PATH", str(tmp_path))
    yield tmp_path
    bubblewrap.trouble.cache_clear()


@linux
@pytest.mark.parametrize("kind", ["missing", "forbidden"])
def test_without_bubblewrap_the_level_is_lower_and_a_note_says_so(without_bubblewrap, kind):
    words = "bubblewrap is not installed"
    if kind == "forbidden":
        words = "bubblewrap does not work here: bwrap: No permissions to create new namespace"
        program = without_bubblewrap / "bwrap"
        program.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
        program.chmod(0o755)
    with a_run("bubblewrap") as running:
        assert running.isolation == "process"
        assert running.notes == [f"Isolated as a process, without a sandbox: {words}."]
    with pytest.raises(
        InfrastructureError, match=f"^{words}, and --isolation require-bubblewrap asks for it$"
    ):
        run_at("require-bubblewrap")


def test_without_isolation_there_is_no_sandbox():
    with a_run("none") as running:
        assert running.isolation == "none" and running.sandbox is None and not hasattr(running, "watchman")


def test_a_starter_that_does_not_start_is_said_at_once(monkeypatch):
    monkeypatch.setattr(
        sandbox.Sandbox, "around", lambda self, command: [sys.executable, "-c", "import absent"]
    )
    begun = time.monotonic()
    with pytest.raises(
        InfrastructureError, match=r"^the sandbox could not be set up: it has ended, see above$"
    ):
        run_at("process")
    assert time.monotonic() - begun < WITHIN_SECONDS / 2


def test_a_level_that_cannot_be_had_leaves_nothing_behind(monkeypatch):
    def refuse(*_):
        raise InfrastructureError("no")

    folder = temporary_folder()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(sandbox, "Sandbox", refuse)
    with pytest.raises(InfrastructureError, match=r"^no$"):
        run_at("process")
    assert not list(folder.iterdir())
    remove_tree(folder)


# ---- whole gradings ----------------------------------------------------------------------------------------


@linux
@pytest.mark.parametrize("lab", course.labs(), ids=lambda lab: lab.slug)
def test_a_solution_has_all_points_in_a_sandbox(lab, sandboxes, tmp_path):
    full(grade(lab, lab.solution, tmp_path / "result", isolation="require-bubblewrap"), "bubblewrap")


@pytest.mark.parametrize("number", [1, 3])
def test_a_solution_has_all_points_as_a_process(number, tmp_path):
    lab = course.lab(number)
    full(grade(lab, lab.solution, tmp_path / "result", isolation="process"), "process")


def full(result, level):
    troubles = [(check["id"], check["message"]) for check in result["checks"] if check["outcome"] != "passed"]
    assert not troubles
    assert (result["outcome"], result["isolation"]) == ("passed", level)


@as_root
@linux
def test_all_of_this_holds_for_an_ordinary_user(sandboxes):
    """This file once more, as a user who has nothing but a folder for temporary files."""
    user = 65123
    folder = temporary_folder("lab-user-")
    os.chown(folder, user, user)
    become = f"import os, sys; os.setgroups([]); os.setgid({user}); os.setuid({user}); os.execv(sys.argv[1], sys.argv[1:])"  # noqa: E501
    command = readable.around(
        [sys.executable, "-c", become, sys.executable, "-m", "pytest", "-q", "-x", __file__, f"--basetemp={folder}/t",
         "-k", "not solution", "-p", "no:cacheprovider"],
        [ROOT, folder],
    )  # fmt: skip
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(folder), "TMPDIR": str(folder), ORDINARY: "1", "LAB_NO_INSTALL": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    remove_tree(folder)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
