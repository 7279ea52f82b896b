"""One scene: a queue of its own at the broker, the submission's processes, and everything that happens to them.

A check plays one scene or several. Scenes of one run share the broker, the warm starter and the ledger, and may be
played at once.
"""

import contextlib
import itertools
import json
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from labkit.brokers import Broker, InfrastructureError
from labkit.grader.actor import PATIENCE_SECONDS, Actor
from labkit.grader.blame import bound
from labkit.grader.endpoint import Endpoint
from labkit.grader.failure import CheckFailed
from labkit.grader.history import BROKER_KILLED, BROKER_RESTARTED, SENT, History
from labkit.grader.hold_ups import HoldUps
from labkit.grader.holdings import Holdings
from labkit.grader.lane import Lane
from labkit.grader.ledger import WorkControl
from labkit.grader.mail import Mail
from labkit.grader.tasks import Task, Tasks
from labkit.grader.verdict import Verdict
from labkit.grader.waiting import BOOT_SECONDS, Waiting
from labkit.grader.web import WebApp
from labkit.janitor import remove_tree
from labkit.resp import ReplyError

if TYPE_CHECKING:
    from labkit.grader.crash import Fault
    from labkit.grader.run import Run

_serial = itertools.count(1)


class Scene(Waiting):
    """See the module. `seed` decides everything that is random in it."""

    def __init__(
        self, run: "Run", title: str, broker: Broker, seed: int, holdings: Callable[["Scene"], Holdings]
    ) -> None:
        self.run, self.title, self.broker, self.seed = run, title, broker, seed
        self.loop = run.loop
        self.random = random.Random(seed)
        self.number = next(_serial)
        self.queue = f"{run.prefix}{self.number:04}-{run.lab.queue}"
        self.folder = run.scenes / f"s{self.number}"
        self.folder.mkdir(mode=0o700)  # closed until all that is in it has the right owner
        self.code = run.submission.lay_out(run.codes / self.folder.name)
        run.compiled.lay_beside(self.code)
        self.inputs = self.folder / "in" / run.inputs.name
        shutil.copytree(run.inputs.parent, self.inputs.parent)  # what it spoils is spoiled for it alone
        if run.sandbox:
            run.sandbox.give(self.inputs.parent)
            run.sandbox.give(self.outputs)
            run.sandbox.show(self.code)
            run.sandbox.share(self.folder)
        self.history = History()
        self.hold_ups = HoldUps(run.loop)
        self.tasks = Tasks(self.queue, run.lab.queue)
        self.work = WorkControl(run.loop, self.history, self.tasks, self._left_by)
        self.actors: list[Actor] = []
        self.settings: dict[str, object] = {}  # environment of every process that is started from now on
        self.schedule: dict = {}  # the faults of this scene, as --replay needs them
        self.kept = True  # whether its timeline is worth keeping
        self._faults: dict[str, list[Fault]] = {}
        self._minded = {}
        self._starved = {}
        self._final: Verdict | None = None
        self._closed = False
        self._leftovers = contextlib.ExitStack()
        self.holdings = holdings(self)

    def start(
        self,
        script: str,
        *args: str,
        name: str = "",
        may_fail: bool = False,
        limits: dict[str, int] | None = None,
        clock: float = 0,
        **settings: object,
    ) -> Actor:
        """Start one of the submission's scripts; it is called `name` (default: its first argument, or the script).

        settings are environment variables. may_fail: that it ends with a status other than 0 does not end a wait.
        limits: resource limits by name, such as RLIMIT_FSIZE, in place of the usual ones. clock: how many seconds
        its clock is before the right time.
        """
        if script not in self.run.submission.files:
            self.fail(f"{script} is missing from the submission.", task=None)
        name = name or (args[0] if args and not args[0].startswith("-") else script.removesuffix(".py"))
        lane = self.loop.call(self.holdings.lane(name).open(self.run.doors.bind()))
        token = self.run.ledger.admit(name, self.work)
        actor = Actor(self, name, lane, token)
        actor.services = [
            self.loop.call(service(self, name).open(self.run.doors.bind())) for service in self.run.services
        ]
        for fault in self._faults.pop(name, ()):
            fault.arm(actor)
        env = self._environment(lane, token)
        for service in actor.services:
            env |= service.environment()
        env |= self.settings | settings
        env = {key: str(value) for key, value in env.items()}
        actor.process = self.run.starter.start(
            self.code / script,
            list(args),
            name,
            env,
            self.code,
            self.history,
            cold=self.run.submission.cold,
            limits=limits,
            clock=clock,
        )
        actor.process.excused = may_fail
        actor.process.when_done(lambda: self.run.ledger.dismiss(token))
        self.actors.append(actor)
        return actor

    def _left_by(self, task_id: str) -> bool:
        """Whether the work on a task has left what it was to make, as far as this lab's work makes something."""
        look = getattr(self.run.material, "left_by", None)
        return look is None or look(self.folder / "out", task_id)

    def _environment(self, lane: Lane, token: str) -> dict[str, object]:
        """All that a script sees of the world; nothing of the grader's own environment is among it."""
        return {
            "PATH": self.run.path,
            "HOME": self.folder,
            "TMPDIR": self.folder,
            "LANG": "C.UTF-8",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUNBUFFERED": "1",
            **self.holdings.environment(lane),
            "QUEUE": self.queue,
            "INPUT_DIR": self.inputs,
            "OUTPUT_DIR": self.outputs,
            "LAB_LEDGER": self.run.ledger.path,
            "LAB_TOKEN": token,
        }

    @cached_property
    def endpoint(self) -> Endpoint:
        """The HTTP endpoint to which the webhooks of this scene go; it listens from the first time it is asked for."""
        opened = self.loop.call(Endpoint(self).open())
        self.at_the_end(lambda: self.loop.call(opened.close()))
        return opened

    def serve(self, script: str, name: str = "web") -> WebApp:
        """Start a script that serves HTTP on the port in PORT, and wait until it listens."""
        app = WebApp(self, script, name)
        app.wait_until_it_listens()
        return app

    def at_the_end(self, do: Callable[[], object]) -> None:
        """Have something done when the scene closes."""
        self._leftovers.callback(do)

    def lie_in_wait(self, name: str, fault: "Fault") -> "Fault":
        """Have the fault strike the actor of this name, which is not started yet; there may be several."""
        self._faults.setdefault(name, []).append(fault)
        return fault

    def push(self, *bodies: bytes | dict | int) -> list[Task]:
        """Put tasks into the queue as a producer would, one after the other.

        An int stands for that many ordinary tasks of the lab, a dict for a task's fields, bytes for a raw body.
        """
        self.wait_until(self.holdings.is_ready, "the broker was to start", within=BOOT_SECONDS)
        pushed = []
        for body in self._bodies(bodies):
            task = self.tasks.add(body)
            self.holdings.push(body)
            self.history.add("grader", SENT, tasks=(task.number,))
            pushed.append(task)
        return pushed

    def _bodies(self, bodies: Iterable[bytes | dict | int]) -> Iterable[bytes]:
        for body in bodies:
            if isinstance(body, int):
                for _ in range(body):
                    yield json.dumps(self.run.new_task(self)).encode()
            else:
                yield body if isinstance(body, bytes) else json.dumps(body).encode()

    def adopt(self, body: bytes) -> Task:
        """Take note of a task that the submission itself has put into the queue."""
        task = self.tasks.add(body)
        self.history.add("producer", SENT, tasks=(task.number,))
        return task

    def kill_broker(self, detail: str = "") -> None:
        """SIGKILL the broker. The scene must have a broker of its own."""
        self.note_broker_killed(detail)
        self.broker.kill()

    def note_broker_killed(self, detail: str = "") -> None:
        """The broker is about to be killed, by whomever."""
        self.history.add("broker", BROKER_KILLED, detail=detail)
        self.holdings.broker_down = True

    def restart_broker(self) -> None:
        """Start the broker again on the data that its death left; nothing happens when it is alive."""
        if self.holdings.broker_down:
            self.broker.restart()
            bound(self.broker)
            self.note_broker_restarted()

    def note_broker_restarted(self) -> None:
        self.holdings.connect_again()
        self.holdings.broker_down = False
        self.history.add("broker", BROKER_RESTARTED)

    # ---- what there is to see, for a check ------------------------------------------------------------------

    def ask(self, *command: str | bytes | int) -> object:
        """Ask Valkey with the grader's own connection; keys are given whole (scene.queue + ":processing")."""
        return self.holdings.ask(*command)

    def keys(self) -> list[str]:
        """The keys, or the queues, of this scene."""
        return self.holdings.keys()

    def contents(self, key: str) -> list[bytes]:
        """Everything that a key, or a queue, holds; a list from its left end on."""
        return self.holdings.contents(key)

    def where(self) -> dict[int, list[str]]:
        """For each task the keys that hold it, dead-letter lists left out."""
        return self.holdings.where()

    def dead(self) -> set[int]:
        """The tasks in the dead-letter lists."""
        return self.holdings.dead()

    def depth(self) -> int:
        """How many tasks wait in the queue."""
        return self.holdings.depth()

    @property
    def outputs(self) -> Path:
        """The folder for what the work makes; there even if the submission removed it."""
        folder = self.folder / "out"
        with contextlib.suppress(FileExistsError):
            folder.mkdir(
                parents=True
            )  # the first was given to the submission before any script ran; a second is not
        return folder

    def mails(self) -> list[Mail]:
        """The mails that have arrived, in order for each sender; for a lab with a mail server."""
        return [mail for actor in self.actors for lane in actor.services for mail in lane.taken]

    def images(self) -> set[str]:
        """The names of the files in the input folder."""
        return {path.name for path in self.run.inputs.iterdir()}

    def called(self, keys: Iterable[str]) -> str:
        """Keys as a student knows them."""
        return ", ".join(map(self.tasks.called_by_students, keys))

    @staticmethod
    def json(text: str | bytes) -> object:
        """What a JSON text says, or None."""
        try:
            return json.loads(text)
        except (ValueError, TypeError, RecursionError):
            return None

    # ---- the end ----------------------------------------------------------------------------------------------

    def final_verdict(self) -> Verdict:
        """The verdict as it was when the scene closed, or as it is now; without any task if the broker is dead."""
        if self._final is None:
            try:
                self._final = self.verdict()
            except (OSError, ReplyError, InfrastructureError):
                self._final = Verdict()  # the scene's own broker is dead
        return self._final

    def close(self) -> None:
        """End what is still running and take the scene's keys off the broker. Closing twice is allowed."""
        if self._closed:
            return
        self._closed = True
        self.final_verdict()
        for actor in self.actors:
            if actor.running:
                actor.process.killed = True
                with contextlib.suppress(CheckFailed):  # the starter has been killed, and all scripts with it
                    actor.process.signal(signal.SIGKILL, group=True)
            for lane in (actor.lane, *actor.services):
                self.loop.call(lane.close())
        self.work.release()
        deadline = time.monotonic() + PATIENCE_SECONDS
        for actor in self.actors:
            actor.process.exited.wait(max(0, deadline - time.monotonic()))
        with contextlib.suppress(
            OSError, ReplyError
        ):  # a fault left it dead, or a script of theirs holds it up
            self.holdings.clear()
        self.holdings.close()
        self._leftovers.close()
        remove_tree(self.folder)
        remove_tree(self.code)
