"""One scene: a queue of its own at the broker, the submission's processes, and everything that happens to them.

A check plays one scene or several. All waiting is for events, with a deadline; a deadline that passes is a failure
with a story. Scenes of one run share the broker, the warm starter and the ledger, and may be played at once.
"""

import contextlib
import itertools
import json
import random
import shutil
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from labkit.brokers import Broker
from labkit.grader import commands, story
from labkit.grader.failure import CheckFailed, CheckTimedOut, InfrastructureError
from labkit.grader.history import (
    BROKER_KILLED,
    BROKER_RESTARTED,
    COMMAND,
    EXITED,
    KILLED,
    REPLY,
    SENT,
    WORK_FAILED,
    WORK_FINISHED,
    WORK_STARTED,
    History,
)
from labkit.grader.ledger import WorkControl
from labkit.grader.processes import Process
from labkit.grader.proxy import Lane
from labkit.grader.tasks import Task, Tasks
from labkit.grader.verdict import Verdict, judge
from labkit.resp import ReplyError

if TYPE_CHECKING:
    from labkit.grader.crash import Fault
    from labkit.grader.run import Run

PATIENCE_SECONDS = (
    10.0  # how long anything may take that needs no waiting; generous, for a machine that is busy
)
DEAD_LETTERS = (":rejected", ":dead")
CENSUS = """
local read = {
    list = function(key) return redis.call('LRANGE', key, 0, -1) end,
    string = function(key) return {redis.call('GET', key)} end,
    set = function(key) return redis.call('SMEMBERS', key) end,
    zset = function(key) return redis.call('ZRANGE', key, 0, -1) end,
    hash = function(key) return redis.call('HGETALL', key) end,
    stream = function(key) return redis.call('XRANGE', key, '-', '+') end,
}
local found, cursor = {}, '0'
repeat
    local page = redis.call('SCAN', cursor, 'MATCH', ARGV[1], 'COUNT', 1000)
    cursor = page[1]
    for _, key in ipairs(page[2]) do
        local holds = read[redis.call('TYPE', key).ok]
        found[#found + 1] = {key, holds and holds(key) or {}}
    end
until cursor == '0'
return found
"""
_serial = itertools.count(1)


class Actor:
    """A process on the scene with its lane: what a check starts, watches and kills."""

    process: Process

    def __init__(self, scene: "Scene", name: str, lane: Lane, token: str) -> None:
        self.scene, self.name, self.lane, self.token = scene, name, lane, token

    def kill(self, detail: str = "") -> None:
        """SIGKILL, and wait until it is dead. From this moment nothing that it says is passed on or believed."""
        self.scene.loop.loop.call_soon_threadsafe(self.lane.cut)
        self.scene.run.ledger.dismiss(self.token)
        self.process.kill(detail)
        self.process.exited.wait(PATIENCE_SECONDS)

    def terminate(self) -> None:
        self.process.terminate()

    def interrupt(self) -> None:
        """SIGINT, as Ctrl-C sends it."""
        self.process.interrupt()

    def pause(self) -> None:
        self.process.pause()

    def resume(self) -> None:
        self.process.resume()

    @property
    def running(self) -> bool:
        return self.process.running

    def wait_exit(self, within: float = PATIENCE_SECONDS, *, question: str = "") -> int:
        """Wait until the process has ended; return its exit status."""
        ended = f"{self.name} was to end"
        self.scene.wait_until(lambda: not self.process.running, ended, within=within, question=question)
        return self.process.status

    def waits_for_a_task(self) -> bool:
        """Whether the process stands in a blocking command just now."""
        return any(command.blocking for command in list(self.lane.in_flight.values()))

    def has_looked(self) -> bool:
        """Whether it has sent a take."""
        return any(event.verb in commands.TAKING for event in self.scene.history.events(COMMAND, self.name))

    def looked_within(self, seconds: float) -> bool:
        """Whether it has sent a take in the last seconds."""
        takes = [e.at for e in self.scene.history.events(COMMAND, self.name) if e.verb in commands.TAKING]
        return self.scene.history.now() - max(takes, default=-seconds) < seconds

    def replies(self) -> int:
        """How many of its commands have been answered."""
        return len(self.scene.history.events(REPLY, self.name))

    def commands_sent(self) -> int:
        return len(self.scene.history.events(COMMAND, self.name))

    def empty_takes(self, since: float = 0) -> int:
        """How many takes in a row, up to now and since this time, have brought this process nothing."""
        count = 0
        for event in reversed(self.scene.history.events(who=self.name)):
            if event.what in (WORK_STARTED, WORK_FINISHED) or event.at < since:
                break
            if (
                event.what == REPLY and event.verb in commands.TAKING and not event.detail
            ):  # an error is no look
                if not event.empty:
                    break
                count += 1
        return count


class Scene:
    """See the module. `seed` decides everything that is random in it."""

    def __init__(self, run: "Run", title: str, broker: Broker, seed: int) -> None:
        self.run, self.title, self.broker, self.seed = run, title, broker, seed
        self.loop = run.loop
        self.random = random.Random(seed)
        self.number = next(_serial)
        self.queue = f"{run.prefix}{self.number:04}-{run.lab.queue}"
        self.folder = run.folder / f"s{self.number}"
        self.code = run.submission.lay_out(self.folder / "code")
        self.inputs = self.folder / "in" / run.inputs.name
        shutil.copytree(
            run.inputs.parent, self.inputs.parent
        )  # its own: what it spoils there is spoiled for it alone
        self.history = History()
        self.tasks = Tasks(self.queue, run.lab.queue)
        self.work = WorkControl(run.loop, self.history, self.tasks)
        self.actors: list[Actor] = []
        self.settings: dict[str, str] = {}  # environment of every process that is started from now on
        self.schedule: dict = {}  # the faults of this scene, as --replay needs them
        self.kept = True  # whether its timeline is worth keeping
        self._faults: dict[str, Fault] = {}
        self._final: dict[str, int] | None = None
        self._closed = False
        self.broker_down = False
        self.login = broker.add_user(f"s{self.number}", self.queue)
        self._admin = broker.connect()

    # ---- on stage -------------------------------------------------------------------------------------------

    def start(
        self, script: str, *args: str, name: str = "", may_fail: bool = False, **settings: object
    ) -> Actor:
        """Start one of the submission's scripts; it is called `name` (default: its first argument, or the script).

        settings are environment variables. may_fail: that it ends with a status other than 0 does not end a wait.
        """
        if script not in self.run.submission.files:
            self.fail(f"{script} is missing from the submission.", task=None)
        name = name or (args[0] if args and not args[0].startswith("-") else script.removesuffix(".py"))
        lane = self.loop.call(self._lane(name).open())
        token = self.run.ledger.admit(name, self.work)
        actor = Actor(self, name, lane, token)
        if name in self._faults:
            self._faults.pop(name).arm(actor)
        env = {
            "PATH": self.run.path,
            "HOME": str(self.folder),
            "TMPDIR": str(self.folder),
            "LANG": "C.UTF-8",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUNBUFFERED": "1",
            "VALKEY_URL": f"redis://127.0.0.1:{lane.port}/{self.run.database}",
            "QUEUE": self.queue,
            "INPUT_DIR": str(self.inputs),
            "OUTPUT_DIR": str(self.outputs),
            "LAB_LEDGER": str(self.run.ledger.path),
            "LAB_TOKEN": token,
        }
        env |= {key: str(value) for key, value in (self.settings | settings).items()}
        actor.process = self.run.starter.start(
            self.code / script, list(args), name, env, self.code, self.history, cold=self.run.submission.cold
        )
        actor.process.excused = may_fail
        actor.process.when_done(lambda: self.run.ledger.dismiss(token))
        self.actors.append(actor)
        return actor

    def lie_in_wait(self, name: str, fault: "Fault") -> "Fault":
        """Have the fault strike the actor of this name, which is not started yet."""
        self._faults[name] = fault
        return fault

    def _lane(self, name: str) -> Lane:
        login = (self.login.user, self.login.password) if self.login else self.run.own_login
        refused = frozenset() if self.login else frozenset(commands.ADMINISTRATION)
        address = lambda: (self.broker.host, self.broker.port)  # noqa: E731  (asked anew after a restart)
        return Lane(name, self.history, self.tasks, address, login, refused)

    def push(self, *bodies: bytes | dict | int) -> list[Task]:
        """Put tasks into the queue as a producer would: LPUSH, one after the other.

        An int stands for that many ordinary tasks of the lab, a dict for a task's fields, bytes for a raw body.
        """
        pushed = []
        for body in self._bodies(bodies):
            task = self.tasks.add(body)
            self.ask("LPUSH", self.queue, body)
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
        self.history.add("broker", BROKER_KILLED, detail=detail)
        self.broker_down = True
        self.broker.kill()

    def restart_broker(self) -> None:
        """Start the broker again on the data that its death left; nothing happens when it is alive."""
        if not self.broker_down:
            return
        self.broker.restart()
        self._admin.close()
        self._admin = self.broker.connect()
        self.broker_down = False
        self.history.add("broker", BROKER_RESTARTED)

    # ---- what the broker holds --------------------------------------------------------------------------------

    def ask(self, *command: str | bytes | int) -> object:
        """Ask the broker with the grader's own connection; keys are given whole (scene.queue + ":processing")."""
        try:
            return self._admin.ask(*command)
        except ConnectionError as error:
            if self.broker_down:
                raise
            raise InfrastructureError(f"the broker has died ({error})") from None

    def keys(self) -> list[str]:
        """The keys of this scene."""
        return sorted(self._census(f"{self.queue}*"))

    def contents(self, key: str) -> list[bytes]:
        """Everything that a key holds, whatever its type; a list from its left end on."""
        return self._census(key).get(key, [])

    def _census(self, pattern: str) -> dict[str, list]:
        """All keys that match, with what they hold, at one moment: between two commands a task could move."""
        answer = self.ask("EVAL", CENSUS, 0, pattern)
        return {key.decode("utf-8", "replace"): values for key, values in answer}

    def depth(self) -> int:
        """How many tasks wait in the queue."""
        return self.ask("LLEN", self.queue)

    @property
    def outputs(self) -> Path:
        """The folder for what the work makes; there even if the submission removed it."""
        folder = self.folder / "out"
        folder.mkdir(exist_ok=True)
        return folder

    def images(self) -> set[str]:
        """The names of the files in the input folder."""
        return {path.name for path in self.run.inputs.iterdir()}

    def called(self, keys: Iterable[str]) -> str:
        """Keys as a student knows them."""
        return ", ".join(key.replace(self.queue, self.run.lab.queue) for key in keys)

    @staticmethod
    def json(text: str | bytes) -> object:
        """What a JSON text says, or None."""
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return None

    def where(self) -> dict[int, list[str]]:
        """For each task the keys that hold it, dead-letter lists left out."""
        return self._holders(lambda key: not key.endswith(DEAD_LETTERS))

    def dead(self) -> set[int]:
        """The tasks in the dead-letter lists."""
        return set(self._holders(lambda key: key.endswith(DEAD_LETTERS)))

    def _holders(self, wanted: Callable[[str], bool]) -> dict[int, list[str]]:
        held: dict[int, list[str]] = {}
        for key, values in sorted(self._census(f"{self.queue}*").items()):
            for value in values if wanted(key) else ():
                for number in self.tasks.numbers_in(unwrapped(value)):
                    held.setdefault(number, []).append(key.replace(self.queue, self.run.lab.queue))
        return held

    # ---- waiting and judging ---------------------------------------------------------------------------------

    def verdict(self) -> Verdict:
        numbers = sorted({n for e in self.history.events(SENT) for n in e.tasks})
        return judge(self.history, numbers, self.where(), self.dead())

    def wait(self, condition: Callable[[], object], within: float = PATIENCE_SECONDS) -> object:
        """Wait until the condition is true and return its value; None in the end. Judges nothing."""
        return self.history.wait_until(condition, within)

    def wait_until(self, condition: Callable[[], object], expected: str, *, within: float = PATIENCE_SECONDS,
                   question: str = "", task: int | None = 0) -> object:  # fmt: skip
        """Wait until the condition is true and return its value; fail with a story when it is not, in time.

        A script that dies, or whose TODO is not written, ends the wait at once.
        """
        value = self.history.wait_until(lambda: condition() or self._casualty(), within)
        if casualty := self._casualty():
            self._end(story.casualty(self, casualty))
        if not value:
            self.time_out(expected, question=question, task=task)
        return value

    def wait_started(self, *tasks: Task, within: float = PATIENCE_SECONDS, question: str = "") -> None:
        """Wait until work has begun on each of these tasks."""
        numbers = {task.number for task in tasks}

        def begun() -> bool:
            return numbers <= {n for e in self.history.events(WORK_STARTED) for n in e.tasks}

        self.wait_until(
            begun, f"work was to begin on {story.names(numbers)}", within=within, question=question
        )

    def wait_done(self, *, question: str = "", quiet: float = 1.5, within: float = 20.0) -> Verdict:
        """Wait until every task sent is done or set aside and no queue holds any; fail with a story otherwise.

        The wait ends early when nothing moves any more: no work, and every worker has looked in vain for `quiet`
        seconds. Then a task that is nowhere is lost, and one that still lies somewhere has been forgotten.
        """
        deadline = time.monotonic() + within
        while True:
            left_to_wait = deadline - time.monotonic()
            self.history.wait_until(
                lambda: self._all_done() or self._casualty() or self._at_rest(quiet), left_to_wait
            )
            if casualty := self._casualty():
                self._end(story.casualty(self, casualty))
            verdict, left = self.verdict(), self.where()
            if not left or self._at_rest(quiet) or time.monotonic() > deadline:
                break  # else a task that somebody had in mid-air has just come down again
        bad = verdict.lost or verdict.repeated_without_cause or verdict.unexpected or verdict.waiting or left
        if bad:
            looping = "" if self._at_rest(quiet) else story.without_end(self)
            self._end(story.of_verdict(self, verdict, left, looping, question), timed_out=bool(looping))
        return verdict

    def _all_done(self) -> bool:
        finished = {n for e in self.history.events(WORK_FINISHED) for n in e.tasks}
        sent = {n for e in self.history.events(SENT) for n in e.tasks}
        return (sent <= finished or sent <= finished | self.dead()) and not self.where()

    def _at_rest(self, quiet: float) -> bool:
        """Whether nothing has moved for `quiet` seconds, nobody is at work, and a worker has looked in vain since.

        Since: a worker that lost its connection may have looked in vain before, and is only on its way back.
        """
        moving = [e.at for e in self.history.events() if e.tasks or e.what not in (COMMAND, REPLY)]
        moved = max(moving, default=0)
        if self.at_work() or self.history.now() - moved < quiet:
            return False
        return any(actor.running and actor.empty_takes(moved) >= 2 for actor in self.actors)

    def _casualty(self) -> Actor | None:
        """A process that died of itself, or met a TODO that is not written."""
        for actor in self.actors:
            if actor.process.killed:
                continue
            if actor.process.exited.is_set() and actor.process.status != 0 and not actor.process.excused:
                return actor
            if "NotImplementedError: TODO" in actor.process.errors():
                return actor
        return None

    def fail(self, summary: str, *, question: str = "", task: int | None = 0) -> None:
        """End the check: the submission did something else than was asked."""
        self._end(story.told(self, summary, question=question, task=task))

    def _end(self, text: str, *, timed_out: bool = False) -> NoReturn:
        """End the check with this story, unless something of ours has died: that is no failure of the submission."""
        if not self.run.starter.alive:
            raise InfrastructureError("the process that starts the scripts has died")
        if not self.broker_down:
            try:
                with self.broker.connect() as connection:
                    connection.ask("PING")
            except OSError as error:
                raise InfrastructureError(f"the broker has died ({error})") from None
        raise (CheckTimedOut if timed_out else CheckFailed)(text, schedule=self.schedule)

    def time_out(self, expected: str, *, question: str = "", task: int | None = 0) -> None:
        """End the check: what was expected did not come. An endless loop is named as one."""
        looping = story.without_end(self)
        summary = f"{expected[:1].upper()}{expected[1:]}; it did not happen in time."
        text = story.told(self, f"{summary}{looping}", question=question, task=task)
        self._end(text, timed_out=bool(looping))

    def expect(self, condition: object, summary: str, *, question: str = "", task: int | None = 0) -> None:
        """Fail with this summary unless the condition is true."""
        if not condition:
            self.fail(summary, question=question, task=task)

    def at_work(self) -> set[str]:
        """Who is at work just now."""
        working = set()
        for event in self.history.events():
            if event.what == WORK_STARTED:
                working.add(event.who)
            elif event.what in (WORK_FINISHED, WORK_FAILED, EXITED, KILLED):
                working.discard(event.who)
        return working

    def held(self) -> set[str]:
        """Who is at a task that the grader holds: that one does nothing is then not its own doing."""
        return self.at_work() if self.work.holds() else set()

    def finished(self, task: Task) -> bool:
        return any(task.number in event.tasks for event in self.history.events(WORK_FINISHED))

    def done_order(self) -> list[int]:
        """The numbers of the tasks in the order in which work on them began."""
        return [n for e in self.history.events(WORK_STARTED) for n in e.tasks]

    def remove_folder(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def final_counts(self) -> dict[str, int]:
        """The verdict in numbers, as it was when the scene closed or as it is now."""
        if self._final is None:
            try:
                self._final = self.verdict().counts()
            except (OSError, ReplyError, InfrastructureError):
                self._final = {}  # the scene's own broker is dead
        return self._final

    def close(self) -> None:
        """End what is still running and take the scene's keys off the broker. Closing twice is allowed."""
        if self._closed:
            return
        self._closed = True
        self.final_counts()
        for actor in self.actors:
            if actor.running:
                actor.process.killed = True
                actor.process.signal(9, group=True)
            self.loop.call(actor.lane.close())
        self.work.release()
        deadline = time.monotonic() + PATIENCE_SECONDS
        for actor in self.actors:
            actor.process.exited.wait(max(0, deadline - time.monotonic()))
        with contextlib.suppress(OSError):  # a broker of the scene's own that a fault left dead
            self.broker.clear(self.queue)
        self._admin.close()
        self.remove_folder()


def unwrapped(value: object) -> object:
    """A stored value for looking tasks up in it: a dead letter carries its body as a JSON string."""
    if not isinstance(value, bytes):
        return value
    try:
        fields = json.loads(value)
    except (ValueError, RecursionError):
        return value
    body = fields.get("body") if isinstance(fields, dict) else None
    return [value, body.encode()] if isinstance(body, str) else value
