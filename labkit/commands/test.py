"""`./lab test`: the project's own tests. First what they need, then the style of the code, then pytest."""

import os
import subprocess
import sys

from labkit.brokers.rabbitmq_install import install_rabbitmq
from labkit.course import ROOT


def run(arguments: list[str], brokers: str = "embedded") -> int:
    """Return 0 if all passed, 1 if not, 2 where there are no tests, 3 if they could not be run.

    brokers: what the gradings among the tests run on, as in `./lab check --brokers`.
    InfrastructureError, with what to type, if all are to run, and there is no RabbitMQ and none may be installed.
    """
    if not (ROOT / "tests" / "project").is_dir():
        print(
            "lab: the project's own tests are not in this package; ./lab check N grades your work.",
            file=sys.stderr,
        )
        return 2
    if not arguments:
        # its tests start and kill nodes of our own, whatever the gradings run on
        install_rabbitmq(may_install=True)
    style = [
        [sys.executable, "-m", "ruff", "check", "--no-cache", "--quiet", "."],
        [sys.executable, "-m", "ruff", "format", "--no-cache", "--check", "--quiet", "."],
    ]
    untidy = [command for command in style if not arguments and subprocess.call(command, cwd=ROOT)]
    if untidy:
        print(
            "ruff has found something above: `.venv/bin/ruff check --fix .`, `.venv/bin/ruff format .`",
            flush=True,
        )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment.pop(
        "AMQP_URL", None
    )  # of somebody's broker, which must not be killed: --brokers may name one
    environment |= {"PYTHONPATH": str(ROOT)}
    status = subprocess.call(
        [sys.executable, "-m", "pytest", f"--brokers={brokers}", *arguments], cwd=ROOT, env=environment
    )
    if status in (0, 1):
        return 1 if untidy else status
    return 3 if status > 1 else status
