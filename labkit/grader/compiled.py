"""A submission's modules, compiled once a run: each of its hundreds of processes would compile them anew.

The compiling is done in a process of its own, since a source can be made so that the compiler crashes or never ends.
Nothing of the submission is run by that.
"""

import shutil
import subprocess
import sys
from pathlib import Path

from labkit.grader.submission import Submission
from labkit.janitor import janitor

WITHIN_SECONDS = 5.0
COMMAND = [sys.executable, "-I", "-m", "compileall", "-q", "-l", "--invalidation-mode", "unchecked-hash"]
CACHE = "__pycache__"


class Compiled:
    """Compiling begins when it is made, and goes on beside whatever else has to be started."""

    def __init__(self, submission: Submission, folder: Path) -> None:
        self._cache = submission.lay_out(folder) / CACHE
        shutil.rmtree(self._cache, ignore_errors=True)
        self._process = janitor().start_process(
            [*COMMAND, str(folder)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def wait(self) -> None:
        """Wait for the compiler; what it has not done by then, or could not do, each process does by itself."""
        try:
            self._process.wait(WITHIN_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            shutil.rmtree(self._cache, ignore_errors=True)
        janitor().forget_process(self._process.pid)

    def lay_beside(self, code: Path) -> None:
        """Put the compiled modules beside the sources in `code`, where an import finds them."""
        if self._cache.is_dir():
            shutil.copytree(self._cache, code / CACHE, dirs_exist_ok=True)
