"""Has the system's package manager install what is no Python package, where it is missing and may be installed."""

import fcntl
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from labkit.brokers.base import InfrastructureError
from labkit.course import STATE
from labkit.janitor import janitor, remove_folder, temporary_folder

FORBIDDEN = "LAB_NO_INSTALL"  # set by --no-install, for all that a command starts
LOCK = STATE / "install.lock"

# Run by root's shell in a session of its own: once begun it goes to its end, whatever becomes of this command. A
# package that is installed by half would keep the package manager from working.
#
# Debian starts a service as soon as it is installed, unless policy-rc.d forbids it: RabbitMQ's own node is not what
# we need, and it would listen on every address.
APT = """\
trap '' INT HUP TERM
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    trap 'rm -f $policy' EXIT
    printf '#!/bin/sh\\nexit 101\\n' > $policy
    chmod 755 $policy
fi
apt-cache show $1 > /dev/null 2>&1 || apt-get update
export DEBIAN_FRONTEND=noninteractive
apt-get install --yes --no-install-recommends -o DPkg::Lock::Timeout=300 $1
"""


@dataclass(frozen=True)
class Package:
    """A program that a package manager has.

    name: as a user knows it; apt, brew: the package's names ("" where there is none); find: returns the program's path,
    or None; elsewhere: where to look for it; or_else: what a user can do instead, in brackets behind every complaint.
    """

    name: str
    apt: str
    brew: str
    find: Callable[[], str | None]
    elsewhere: str
    or_else: str = ""

    def complain(self, text: str) -> InfrastructureError:
        return InfrastructureError(f"{text} ({self.or_else})" if self.or_else else text)


def install(package: Package, *, may_install: bool) -> str:
    """Install it where it is missing and return the path of its program. A line on stderr says what is done.

    InfrastructureError, with what the user may do, where that cannot be or may not be done.
    """
    if program := package.find():
        return program
    by_hand, command = _way(package)
    if command is None or not may_install or os.environ.get(FORBIDDEN):
        raise package.complain(f"{package.name} is not installed: {by_hand}")
    LOCK.parent.mkdir(exist_ok=True)
    with open(LOCK, "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # somebody else may be at it
        if program := package.find():
            return program
        print(
            f"Installing {package.name}, as `{by_hand}` would; once a machine.", file=sys.stderr, flush=True
        )
        begun = time.monotonic()
        status, said = _run(command, lock.fileno())
    program = package.find()
    if status or program is None:
        raise package.complain(
            f"{package.name} could not be installed, the package manager says: {said}; {by_hand}"
        )
    print(f"{package.name} was installed in {time.monotonic() - begun:.0f} s.", file=sys.stderr, flush=True)
    return program


def _run(command: list[str], lock: int) -> tuple[int, str]:
    """Run it to its end; return its status and the line that tells most. It holds the lock even without us."""
    folder = temporary_folder()
    try:
        with open(folder / "output", "w+", errors="replace") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,  # a pipe would break when we are killed, and the package manager with it
                stderr=output,
                start_new_session=True,  # Ctrl-C does not reach it
                pass_fds=[lock],
                cwd="/",
            )
            status = process.wait()
            output.seek(0)
            lines = [line.strip() for line in output if line.strip()]
    finally:
        remove_folder(os.fsencode(folder), "-")
        janitor().forget_folder(folder)
    errors = [line for line in lines if line.startswith(("E:", "Error"))]
    return status, (errors or lines[-1:] or ["nothing"])[0]


def _way(package: Package) -> tuple[str, list[str] | None]:
    """The command that a user would type, and the one that we run; None where we may not."""
    if platform.system() == "Darwin" and package.brew and shutil.which("brew"):
        allowed = os.getuid() != 0  # Homebrew refuses to work as root
        return f"brew install {package.brew}", ["brew", "install", package.brew] if allowed else None
    if shutil.which("apt-get"):
        command = ["sh", "-c", APT, "sh", package.apt]
        if os.getuid() == 0:
            return f"apt-get install {package.apt}", command
        allowed = shutil.which("sudo") and not subprocess.call(
            ["sudo", "-n", "true"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        return f"sudo apt-get install {package.apt}", ["sudo", "-n", *command] if allowed else None
    return f"install it ({package.elsewhere})", None
