"""Where attacks are graded: submissions made from tests/attacks, graded by processes; and what they leave is found."""

import contextlib
import itertools
import json
import os
import py_compile
import re
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from grading import Edit, edits_in, the_solution, the_stub, with_those_before

from labkit import course
from labkit.brokers.server import port_is_free
from labkit.course import ROOT, Lab
from labkit.grade.play import PYTEST
from labkit.janitor import janitor, temporary_folder

FOLDER = ROOT / "tests" / "attacks"
LAB = course.lab(3)  # what most attacks, and the honest submission, are about
HONEST_CHECK, HONEST_POINTS = "tasks_are_done", 4
LONGEST_SECONDS = 120  # a grading that lasts longer than this hangs
GONE_WITHIN_SECONDS = 10
SECRET = secrets.token_hex(16)  # in the environment of every grader
OPEN_TO_ALL = [Path(place) for place in ("/tmp", "/var/tmp", "/dev/shm")]


# ---- attacks -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Attack:
    """A hostile submission. tests/attacks/README.md says what each field means."""

    name: str
    why: str
    check: str
    outcome: tuple[str, ...]
    lab: Lab = LAB
    on: str = "solution"
    script: str = "worker.py"
    first: str = ""
    make: str = ""
    holds: str = "none"
    says: tuple[str | list[str], ...] = ()  # a list: one of these
    notes: tuple[str, ...] = ()
    never: tuple[str, ...] = ()
    files: dict[str, str] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    edits: tuple[Edit, ...] = ()

    def lay_out(self, folder: Path, words: dict[str, str]) -> None:
        """Write the submission into this folder. words: what those between @ stand for."""
        (the_stub if self.on == "stub" else the_solution)(self.lab)(folder)
        for edit in self.edits:
            edit.apply(folder)
        if self.first:
            script = folder / self.script
            script.write_text(f"{_said(self.first, words)}\n{script.read_text()}")
        for name, text in self.files.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(_said(text, words))
        for name, target in self.links.items():
            (folder / name).unlink(missing_ok=True)
            (folder / name).symlink_to(_said(target, words))
        if self.make:
            MAKERS[self.make](folder, self.lab)


def attacks() -> list[Attack]:
    """Those of all files of tests/attacks, in their order."""
    texts = [path.read_text() for path in sorted(FOLDER.glob("*.toml"))]
    return [_attack(entry) for text in texts for entry in tomllib.loads(text)["attack"]]


def _attack(entry: dict) -> Attack:
    facts = {name: tuple(value) if isinstance(value, list) else value for name, value in entry.items()}
    if isinstance(facts["outcome"], str):
        facts["outcome"] = (facts["outcome"],)
    facts["lab"] = course.lab(facts.get("lab", LAB.number))
    facts["edits"] = edits_in({"edit": facts.pop("edit", ())})
    return Attack(**facts)


def _said(text: str, words: dict[str, str]) -> str:
    """The text with each word between @ replaced."""
    return re.sub(r"@([A-Z]+)@", lambda word: words[word[1]], text)


# ---- what TOML cannot hold -----------------------------------------------------------------------------------


def compiled_solution(folder: Path, lab: Lab) -> None:
    """The solution's modules, compiled so that Python does not look at the source, beside the stubs."""
    unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH
    for script in lab.solution.glob("*.py"):
        for name in (f"__pycache__/{script.stem}.{sys.implementation.cache_tag}.pyc", f"{script.stem}.pyc"):
            py_compile.compile(str(script), str(folder / name), invalidation_mode=unchecked)


def strange_names(folder: Path, _: Lab) -> None:
    """Files that the grader speaks of in its notes, by names that steer whoever shows them."""
    for name in ("a\nb\n::error::c", "\x1b[2J\x1b]0;x\x07", "<script>alert(1)<script>", "\u202eyp.rekrow\u2066",
                 "::set-output name=points::58", "$(reboot)`reboot`;", "-rf", "x" * 200, "\udcff\udcfe"):  # fmt: skip
        (folder / f"{name}.pth").touch()
    (folder / "this.py").touch()  # a module of Python's


def a_hundred_thousand_files(folder: Path, _: Lab) -> None:
    """Half of them are modules, of the others the grader has something to say. Links to a hundred: quickly made."""
    for number in range(100):
        made, kind = f"{folder}/m{number}", "pth" if number % 2 else "py"
        os.mkdir(made)
        os.mknod(f"{made}/0.{kind}")
        for name in range(1, 1000):
            os.link(f"{made}/0.{kind}", f"{made}/{name}.{kind}")


def deep_folders(folder: Path, _: Lab) -> None:
    """More folders within one another than Python lets functions call each other."""
    here = os.open(folder, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=here)
        inner = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)


def heavy_modules(folder: Path, _: Lab) -> None:
    for number in range(150):
        (folder / f"heavy{number}.py").write_text("#" * (2**20 - 1) + "\n")


MAKERS: dict[str, Callable[[Path, Lab], None]] = {
    make.__name__: make
    for make in (compiled_solution, strange_names, a_hundred_thousand_files, deep_folders, heavy_modules)
}


# ---- grading -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Graded:
    """How a grading ended: its result record (None if it left none), what the grader printed, its folder and times."""

    result: dict | None
    output: str
    folder: Path
    began: float
    ended: float
    listened: bool  # somebody took a call on the port that the submission was told
    calls: list[bytes]  # what was said meanwhile to the listener that nobody should call

    @property
    def all_words(self) -> str:
        """Everything that the grader printed and wrote."""
        written = sorted(path for path in (self.folder / "result").rglob("*") if path.is_file())
        return self.output + "".join(path.read_text(errors="replace") for path in written)

    @property
    def shown_words(self) -> str:
        """What comes before somebody's eyes: the output, each message, and each note as a line."""
        messages = [check["message"] for check in self.result["checks"]]
        return "\n".join([self.output, *messages, *self.result["notes"]])

    def __str__(self) -> str:
        if self.result is None:
            return self.output[-3000:]
        checks = [f"{check['outcome']}: {check['id']}\n{check['message']}" for check in self.result["checks"]]
        return "\n".join([*checks, *self.result["notes"]])[:4000]


class Arena:
    """A folder that anybody may enter, as a machine's own temporary folder is, and a listener."""

    def __init__(self) -> None:
        self.folder = temporary_folder("attacks-")
        self.folder.chmod(0o755)
        self._port = next(
            filter(port_is_free, itertools.count(10_000))
        )  # lower than any that a grader asks for
        self._calls: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._listen, daemon=True).start()

    def words(self, name: str, lab: Lab = LAB) -> dict[str, str]:
        """What the words between @ are for the submission of this name."""
        place = self.folder / name
        return {
            "ARENA": self.folder.name,
            "MARK": f"{self.folder.name}-{name}",
            "OUTSIDE": str(place / "outside"),
            "RESULTS": str(place / "result"),
            "SOLUTION": str(lab.solution),
            "TESTS": str(ROOT / "tests"),
            "PORT": str(self._port),
            "LISTENER": str(self._listener.getsockname()[1]),
        }

    def grade(
        self, name: str, lab: Lab, make: Callable[[Path, dict[str, str]], None], check: str, level: str
    ) -> Graded:
        """Lay a submission out and have it graded by a process of its own, in a folder of this name."""
        place = self.folder / name
        for part in ("submission", "result", "tmp", "outside"):
            (place / part).mkdir(parents=True)
        for part in ("tmp", "outside"):
            (place / part).chmod(0o1777)
        make(place / "submission", self.words(name, lab))
        tests = [f"{lab.grader}::test_{each}" for each in with_those_before(lab, check)]
        options = [f"--submission={place / 'submission'}", f"--result-folder={place / 'result'}"]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
        environment |= {"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        environment |= {"TMPDIR": str(place / "tmp"), "ATTACK_SECRET": SECRET}
        began, already = time.monotonic(), len(self._calls)
        with knocking_at(self._port) as answers:
            output = _run([*PYTEST, *tests, *options, f"--isolation={level}"], environment)
        try:
            result = json.loads((place / "result" / "result.json").read_text())
        except (OSError, ValueError):
            result = None
        return Graded(
            result, output, place, began, time.monotonic(), bool(answers), self.calls_since(already)
        )

    def calls_since(self, number: int) -> list[bytes]:
        """What was said to the listener, but for the first calls."""
        return self._calls[number:]

    def _listen(self) -> None:
        """Take down what is said in this arena's name; another program may knock at all doors of the machine."""
        with contextlib.suppress(OSError):
            while True:
                caller, _ = self._listener.accept()
                caller.settimeout(1)
                with caller, contextlib.suppress(OSError):
                    if self.folder.name.encode() in (words := caller.recv(1000)):
                        self._calls.append(words)

    def close(self) -> None:
        self._listener.close()
        remove(self.folder)
        janitor().forget_folder(self.folder)


def _run(command: list[str], environment: dict[str, str]) -> str:
    """Run a grading to its end; return what it printed."""
    grader = janitor().start_process(
        command, cwd=ROOT, env=environment, text=True, errors="replace",
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        return grader.communicate(timeout=LONGEST_SECONDS)[0]
    except subprocess.TimeoutExpired:
        return "The grader hangs."
    finally:
        if grader.poll() is None:
            grader.kill()  # its own janitor ends what it has started
            grader.communicate()
        janitor().forget_process(grader.pid)


@contextlib.contextmanager
def knocking_at(port: int):
    """Knock at this port of the machine, again and again; give a list that is not empty when somebody has answered."""
    answers, over = [], threading.Event()

    def knock():
        while not over.wait(0.2):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                answers.append(port)

    knocker = threading.Thread(target=knock)
    knocker.start()
    try:
        yield answers
    finally:
        over.set()
        knocker.join()


# ---- what is left --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Aftermath:
    """An attack's grading, and what was found when it was over."""

    graded: Graded
    processes: dict[int, str]
    files: list[str]  # in the grader's scratch, and where anybody may leave some
    outside: list[str]  # what the attack managed to do, as it has marked in the folder @OUTSIDE@


def processes_of(*marks: str) -> dict[int, str]:
    """Each process that has one of these in its command line, environment or working folder; its number and that."""
    found = {}
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        about = b""
        for part in ("cmdline", "environ"):
            with contextlib.suppress(OSError):
                about += Path(f"/proc/{pid}/{part}").read_bytes()
        with contextlib.suppress(OSError):
            about += os.fsencode(os.readlink(f"/proc/{pid}/cwd"))
        if pid != os.getpid() and any(mark.encode() in about for mark in marks):
            found[pid] = about[:200].decode(errors="replace").replace("\0", " ")
    return found


def files_of(mark: str) -> list[str]:
    """The files with this in their name where anybody may leave some."""
    return sorted(str(path) for place in OPEN_TO_ALL for path in place.glob(f"*{mark}-*"))


def remove(*paths: Path | str) -> None:
    """Remove them with all that is in them, however deep."""
    subprocess.run(["rm", "-rf", "--", *map(str, paths)], check=True)


class Gradings:
    """Attacks, graded one after the other; beside them an honest submission, again and again."""

    def __init__(self, arena: Arena, cases: list[tuple[Attack, str]], honest_level: str) -> None:
        """cases: attacks, each with the level of isolation at which it is graded."""
        self._arena, self._honest_level = arena, honest_level
        self._honest: list[Graded] = []
        self._changed = threading.Condition()
        self._stopped = False
        self._attackers, self._beside = ThreadPoolExecutor(1), ThreadPoolExecutor(1)
        self._attacks = {case: self._attackers.submit(self._attack, *case) for case in cases}
        self._being_honest = self._beside.submit(self._be_honest)

    def attack(self, attack: Attack, level: str) -> Aftermath:
        """Wait for this one."""
        return self._attacks[attack, level].result()

    def beside(self, graded: Graded) -> list[Graded]:
        """The honest gradings that went on at the same time, and then the first that began afterward."""
        began_later = lambda: next((one for one in self._honest if one.began > graded.ended), None)  # noqa: E731
        with self._changed:
            later = self._changed.wait_for(began_later, 2 * LONGEST_SECONDS)
            meanwhile = [one for one in self._honest if one.began < graded.ended and one.ended > graded.began]
        return [*meanwhile, *filter(None, [later])]

    def _attack(self, attack: Attack, level: str) -> Aftermath:
        name = f"{attack.name}-{level}"
        mark, place = self._arena.words(name)["MARK"], self._arena.folder / name
        graded = self._arena.grade(name, attack.lab, attack.lay_out, attack.check, level)
        deadline = time.monotonic() + GONE_WITHIN_SECONDS
        while (processes := processes_of(mark, f"{place}/")) and time.monotonic() < deadline:
            time.sleep(0.05)
        for pid in processes:  # the next attack is not to suffer from it
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        files = [*files_of(mark), *map(str, (place / "tmp").iterdir())]
        remove(place / "submission", *files)
        return Aftermath(graded, processes, files, sorted(os.listdir(place / "outside")))

    def _be_honest(self) -> None:
        make = lambda folder, words: the_solution(LAB)(folder)  # noqa: E731
        for number in itertools.count(1):
            if self._stopped:
                return
            graded = self._arena.grade(f"honest-{number}", LAB, make, HONEST_CHECK, self._honest_level)
            with self._changed:
                self._honest.append(graded)
                self._changed.notify_all()

    def close(self) -> None:
        self._stopped = True
        for pool in (self._attackers, self._beside):
            pool.shutdown(cancel_futures=True)
