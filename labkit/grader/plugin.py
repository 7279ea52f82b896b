"""The grader as a pytest plugin: `pytest tests/test_lab03_reliable.py --submission DIR`.

Checks are ordinary test functions with a `check` marker:

    @pytest.mark.check(points=4, after="tasks_are_done")
    def test_a_killed_worker_loses_nothing(stage): ...

The docstring's first line is the check's title. The plugin plays the checks of a file at once (schedule.py); each test
then only waits for its own outcome, so that the report comes in the file's order.
"""

import gc
from pathlib import Path

import pytest

from labkit import course
from labkit.grader import record, submission
from labkit.grader.failure import InfrastructureError
from labkit.grader.run import BadBroker, Run
from labkit.grader.schedule import (
    FAILED,
    INFRASTRUCTURE,
    NOT_RUN,
    PASSED,
    TIMED_OUT,
    Check,
    Outcome,
    Schedule,
)

EXIT_INFRASTRUCTURE = 3
# Between two collections of garbage. All that a run records stays, and going through it again and again took a third
# of its time.
SELDOM = (1_000_000, 50, 100)
_grading = pytest.StashKey["Grading"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("task queue labs")
    group.addoption(
        "--submission", metavar="DIR", help="the folder to grade (default: the lab's folder in labs/)"
    )
    group.addoption(
        "--brokers",
        default="embedded",
        help="embedded, docker, docker-redis, path, or a URL (default: embedded)",
    )
    group.addoption(
        "--isolation",
        default="none",
        choices=["none", "process", "bubblewrap", "require-bubblewrap"],
        help="what a submission is kept from (default: none but limits)",
    )
    group.addoption(
        "--timeout",
        type=float,
        metavar="S",
        help="seconds for all checks of a lab together (default: no limit)",
    )
    group.addoption("--seed", type=int, default=0, help="decides all that is random in a run")
    group.addoption("--replay", metavar="FILE", help="play only the failure that this file describes")
    group.addoption("--result-folder", metavar="DIR", help="where result.json and timeline.html go")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "check(points, after='', todo=0, hidden=False, alone=False): a check of a lab's grader"
    )


class Grading:
    """One lab's checks within a pytest session: the run, its schedule, and what came of it."""

    def __init__(self, config: pytest.Config, lab: course.Lab, items: list[pytest.Item]) -> None:
        self.config, self.lab = config, lab
        self.checks = [check_of(item) for item in items]
        self.outcomes: dict[str, Outcome] = {}
        self.trouble = ""
        self._run: Run | None = None
        self._schedule: Schedule | None = None

    def start(self) -> None:
        source = self.config.getoption("--submission")
        folder = Path(source) if source else self.lab.folder
        replay = record.read_replay(Path(name)) if (name := self.config.getoption("--replay")) else None
        self.began = record.now()
        self.submission = submission.read(self.lab, folder.resolve())
        self.seed = replay["seed"] if replay else self.config.getoption("--seed")
        run = Run(
            self.lab,
            self.submission,
            brokers=self.config.getoption("--brokers"),
            seed=self.seed,
            isolation=self.config.getoption("--isolation"),
        )
        gc.set_threshold(*SELDOM)
        self._run = run.__enter__()
        self._schedule = Schedule(self._run, self.checks, replay, self.config.getoption("--timeout"))
        self.config.hook.pytest_lab_started(checks=self.checks)

    def outcome(self, check_id: str) -> Outcome:
        """Wait for one check; the first call starts the run."""
        if self._schedule is None and not self.trouble:
            try:
                self.start()
            except (InfrastructureError, OSError) as error:
                self.trouble = str(error)
        if self.trouble:
            self.outcomes[check_id] = Outcome(INFRASTRUCTURE, self.trouble)
        else:
            self.outcomes[check_id] = self._schedule.outcome(check_id)
        return self.outcomes[check_id]

    @property
    def isolation(self) -> str:
        """The level that was really used; "" if nothing was played."""
        return self._run.isolation if self._run is not None else ""

    @property
    def notes(self) -> list[str]:
        """What the submission's owner should know: of the files, and of how they were run."""
        own = self.submission.notes if hasattr(self, "submission") else []
        return [*own, *(self._run.notes if self._run is not None else ())]

    @property
    def out_of_time(self) -> bool:
        """Whether the time of the grading was over before all checks had ended."""
        return self._schedule is not None and self._schedule.out_of_time

    def close(self) -> None:
        if self._schedule is not None:
            self._schedule.stop()
        if self._run is not None:
            if self._run.broker.version:  # else it was never up: nothing had needed it
                self.broker = str(self._run.broker.kind), str(self._run.broker.version)
            self._run.__exit__()


def check_of(item: pytest.Item) -> Check:
    """The check that a marked test stands for."""
    marker = item.get_closest_marker("check")
    title = (item.function.__doc__ or item.name).strip().splitlines()[0].rstrip(".")
    after = marker.kwargs.get("after", ())
    return Check(
        id=item.name.removeprefix("test_"),
        title=title,
        points=marker.kwargs["points"],
        after=(after,) if isinstance(after, str) else tuple(after),
        play=item.function,
        todo=marker.kwargs.get("todo", 0),
        hidden=marker.kwargs.get("hidden", False),
        alone=marker.kwargs.get("alone", False),
    )


def pytest_collection_finish(session: pytest.Session) -> None:
    by_file: dict[Path, list[pytest.Item]] = {}
    for item in session.items:
        if item.get_closest_marker("check"):
            by_file.setdefault(item.path, []).append(item)
    for path, items in by_file.items():
        lab = course.lab(int(path.stem.removeprefix("test_lab")[:2]))
        grading = Grading(session.config, lab, items)
        for item in items:
            item.stash[_grading] = grading
        session.config.stash.setdefault(_gradings, []).append(grading)


_gradings = pytest.StashKey[list[Grading]]()


@pytest.fixture
def scene() -> None:
    """One scene for a check. The schedule gives the real one when it plays the check."""


@pytest.fixture
def stage() -> None:
    """The stage, for a check that sets several scenes. The schedule gives the real one when it plays the check."""


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    grading = pyfuncitem.stash.get(_grading, None)
    if grading is None:
        return None
    check = check_of(pyfuncitem)
    try:
        outcome = grading.outcome(check.id)
    except (submission.BadSubmission, record.BadReplay, BadBroker) as error:
        pytest.exit(str(error), returncode=2)
    pyfuncitem.config.hook.pytest_lab_outcome(check=check, outcome=outcome)
    if outcome.outcome == NOT_RUN:
        pytest.skip(outcome.message or f"not run until “{outcome.waits_for}” passes")
    if outcome.outcome == INFRASTRUCTURE:
        pytest.fail(f"The grader could not do its part: {outcome.message}", pytrace=False)
    if outcome.outcome in (FAILED, TIMED_OUT):
        pytest.fail(outcome.message, pytrace=False)
    assert outcome.outcome == PASSED
    return True


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    for grading in session.config.stash.get(_gradings, []):
        try:
            grading.close()
        finally:  # what was found out is kept, also when something cannot be tidied up
            if grading.outcomes and session.exitstatus != pytest.ExitCode.INTERRUPTED:
                try:
                    result = record.write(grading, session.config.getoption("--result-folder"))
                except OSError as error:
                    pytest.exit(f"the result could not be written: {error}", returncode=EXIT_INFRASTRUCTURE)
                session.config.hook.pytest_lab_result(result=result)
        if any(outcome.outcome == INFRASTRUCTURE for outcome in grading.outcomes.values()):
            session.exitstatus = EXIT_INFRASTRUCTURE


class Hooks:
    """What `./lab check` hears of a run, to show it."""

    @pytest.hookspec
    def pytest_lab_started(self, checks: list[Check]) -> None: ...

    @pytest.hookspec
    def pytest_lab_outcome(self, check: Check, outcome: Outcome) -> None: ...

    @pytest.hookspec
    def pytest_lab_result(self, result: dict) -> None: ...


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    pluginmanager.add_hookspecs(Hooks)
