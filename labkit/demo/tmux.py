"""A tmux server of our own: on a socket that nobody else knows, with no configuration, and deaf to all keys.

What is typed reaches the program in the active pane; there is no prefix, no key table and no mouse. The server ends by
itself when the programs in its panes have ended, however that came about; the janitor knows it besides.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from labkit.brokers import InfrastructureError
from labkit.installing import Package
from labkit.installing import install as install_package
from labkit.janitor import is_running, janitor, kill_processes, process_mark

OLDEST = (3, 2)  # the first with borders that can be seen from afar, and sizes that are left to us
ANSWERS_WITHIN_SECONDS = 20.0
ENDS_WITHIN_SECONDS = 5.0
OTHERWISE = "--single shows all in one terminal"
SEPARATOR = "|"  # in a pane's title, between what stands at its left and at its right
LEFT, RIGHT = f"#{{s/[{SEPARATOR}].*//:pane_title}}", f"#{{s/.*[{SEPARATOR}]//:pane_title}}"
LINES = "fg=#5FAFFF"
OPTIONS = {
    "status": "off",
    "prefix": "None",
    "prefix2": "None",
    "mouse": "off",
    "escape-time": "0",
    "history-limit": "0",
    "window-size": "manual",  # what is where is decided here, and not when a terminal changes its size
    "remain-on-exit": "off",
    "default-terminal": "screen-256color",  # no program in the panes asks, and every system knows it
    "pane-border-lines": "heavy",
    "pane-border-style": LINES,
    "pane-active-border-style": LINES,  # none of them is to stand out
    "pane-border-indicators": "off",
    "pane-border-format": f"#[bold]{LEFT}#[align=right]{RIGHT}",
    "pane-border-status": "top",
}
KEY_TABLES = ("root", "prefix", "copy-mode", "copy-mode-vi")

# Run in the user's own terminal: whatever becomes of the client, and of us, the terminal is left as it was found.
ATTACH = """\
trap '' TTOU
before=$(stty -g)
"$@" > /dev/null
status=$?
{ stty "$before"; printf '\\033[?1049l\\033[?25h\\033[0m'; } 2> /dev/null
exit $status
"""


def find() -> str | None:
    """The tmux on the PATH."""
    return shutil.which("tmux")


def require(program: str) -> str:
    """Return what this tmux calls itself, such as "tmux 3.3a".

    Raises:
        InfrastructureError: it is too old, or does not say.
    """
    try:
        said = subprocess.run(
            [program, "-V"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=ANSWERS_WITHIN_SECONDS,
        ).stdout.strip()
    except (OSError, subprocess.TimeoutExpired) as trouble:
        raise _trouble(str(trouble)) from None
    version = re.search(r"(\d+)\.(\d+)", said)
    if version is None and "master" not in said:
        raise _trouble(f"{program} -V says {said[:60]!r}")
    if version and tuple(map(int, version.groups())) < OLDEST:
        wanted = ".".join(map(str, OLDEST))
        raise InfrastructureError(
            f"{said} is too old: it takes {wanted} or newer; upgrade it, or {OTHERWISE}"
        )
    return said


def install(*, may_install: bool) -> str:
    """Install tmux where it is missing and return the path of its program. A line on stderr says what is done.

    InfrastructureError, with what the user may do, where that cannot be or may not be done.
    """
    package = Package(
        "tmux",
        apt="tmux",
        brew="tmux",
        find=find,
        elsewhere="https://github.com/tmux/tmux/wiki/Installing",
        or_else=OTHERWISE,
    )
    return install_package(package, may_install=may_install)


class Tmux:
    """One server, with one window, whose panes have the numbers 0, 1, ... as their commands were given."""

    def __init__(self, program: str, folder: Path) -> None:
        """folder: a private one, with a short path, for its socket. Nothing is started yet."""
        self._program, self._folder = program, folder
        self._socket = folder / "tmux"
        self._said = folder / "tmux-says"
        self._pid, self._mark = 0, "-"
        self._client: subprocess.Popen | None = None

    def start(self, commands: Sequence[Sequence[str]], width: int, height: int, layout: str) -> None:
        """Start the server, with a pane for each command; layout: as `tell` wants it in select-layout.

        Raises:
            InfrastructureError: it does not start.
        """
        first, *others = commands
        size = ("-x", str(width), "-y", str(height))
        orders = [["new-session", "-d", "-P", "-F", "#{pid}", "-s", "stage", *size, *first]]
        orders += [["set-option", "-gq", name, value] for name, value in OPTIONS.items()]
        orders += [["unbind-key", "-a", "-T", table] for table in KEY_TABLES]
        for number, command in enumerate(others):
            orders += [
                ["split-window", "-d", "-t", f"%{number}", *command],
                ["select-layout", "even-vertical"],
            ]
        said = self.tell(*orders, ["select-layout", layout])
        if not said.isdigit():
            raise _trouble(said)
        self._pid, self._mark = int(said), process_mark(int(said))
        janitor().watch_process(self._pid)

    def tell(self, *orders: Sequence[str]) -> str:
        """Give the server these commands; return what it says.

        Raises:
            InfrastructureError: it refuses one, or does not answer.
        """
        words = [word for order in orders for word in (*order, ";")][:-1]
        try:
            done = subprocess.run(
                self._command("-f", os.devnull, *words),
                env=_environment(),
                cwd="/",
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=ANSWERS_WITHIN_SECONDS,
            )
        except (OSError, subprocess.TimeoutExpired) as trouble:
            raise _trouble(str(trouble)) from None
        if done.returncode:
            raise _trouble(done.stderr)
        return done.stdout.strip()

    def attach(self) -> None:
        """Show it in the terminal that is our standard output.

        Raises:
            InfrastructureError: it cannot be shown there.
        """
        rich = os.environ.get("COLORTERM", "") in (
            "truecolor",
            "24bit",
        )  # else the terminal's name tells its colors
        command = self._command("-u", *(("-T", "RGB") if rich else ()), "attach-session", "-t", "stage")
        terminal = os.open(os.ttyname(sys.stdout.fileno()), os.O_RDWR | os.O_NOCTTY)
        try:
            with open(self._said, "wb") as said:
                self._client = subprocess.Popen(
                    ["/bin/sh", "-c", ATTACH, "sh", *command], env=_environment(), stdin=terminal, stderr=said
                )
        finally:
            os.close(terminal)
        deadline = time.monotonic() + ANSWERS_WITHIN_SECONDS
        while not self.tell(["list-clients", "-F", "#{client_tty}"]):
            if self.has_ended() or time.monotonic() > deadline:
                raise _trouble(self._said.read_text(errors="replace"))
            time.sleep(0.01)

    def has_ended(self) -> bool:
        """Whether nobody sees it any more: the client that `attach` started has ended, in whatever way."""
        return self._client is not None and self._client.poll() is not None

    def close(self) -> None:
        """End it, and leave the terminal as it was. Never raises; closing twice is allowed."""
        if self._pid and self._mark in (process_mark(self._pid), "-"):
            with contextlib.suppress(OSError):
                os.kill(self._pid, signal.SIGTERM)
            _wait_until(lambda: not is_running(self._pid))
            kill_processes({self._pid: (self._mark, True)})
        if self._pid:
            janitor().forget_process(self._pid)
            self._pid = 0
        if self._client:
            try:
                self._client.wait(ENDS_WITHIN_SECONDS)
            except subprocess.TimeoutExpired:
                self._client.kill()
                self._client.wait()
            self._client = None

    def _command(self, *arguments: str) -> list[str]:
        return [self._program, "-S", str(self._socket), *arguments]


def layout_text(cells: str) -> str:
    """A layout as select-layout wants it: what tmux calls a checksum, and the cells."""
    check = 0
    for byte in cells.encode():
        check = ((check >> 1) + ((check & 1) << 15) + byte) & 0xFFFF
    return f"{check:04x},{cells}"


def _environment() -> dict[str, str]:
    """That of a client which is not to know that it runs inside another tmux."""
    return {
        name: text for name, text in os.environ.items() if name not in ("TMUX", "TMUX_PANE", "TMUX_TMPDIR")
    }


def _wait_until(there: Callable[[], object]) -> None:
    deadline = time.monotonic() + ENDS_WITHIN_SECONDS
    while not there() and time.monotonic() < deadline:
        time.sleep(0.005)


def _trouble(said: str) -> InfrastructureError:
    line = next(filter(None, map(str.strip, said.splitlines())), "it says nothing")
    return InfrastructureError(f"tmux does not start: {line}; {OTHERWISE}")
