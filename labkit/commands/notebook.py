"""`./lab notebook N`: JupyterLab on the lab's notebook, with the broker running that it needs."""

import os
import subprocess
import sys

from labkit import standing
from labkit.commands.broker import FOLDER
from labkit.course import ROOT, VALKEY, Lab


def open_lab(lab: Lab) -> int:
    """Open the notebook and return when JupyterLab ends; a broker that was started for it is stopped then."""
    if not lab.notebook.exists():
        print(f"lab: lab {lab.number} has no notebook.", file=sys.stderr)
        return 2
    broker = standing.up(FOLDER) if lab.broker == VALKEY else None  # else it starts its own
    command = [sys.executable, "-m", "jupyterlab", str(lab.notebook), "--ServerApp.ip=127.0.0.1"]
    if os.geteuid() == 0:
        command.append("--allow-root")
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | ({"VALKEY_URL": broker.url} if broker else {})
    try:
        return subprocess.call(command, env=environment, cwd=ROOT)
    except KeyboardInterrupt:
        return 130
    finally:
        if broker and broker.started:
            standing.down(FOLDER)
