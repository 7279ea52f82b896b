"""Each notebook runs from start to end on a broker of its own, and its stored outputs are what it prints.

nbval passes when there is nothing to compare, so what is stored is looked at first.
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import time

import pytest

from labkit.brokers import EmbeddedValkey

ROOT = pathlib.Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
LEAST_COMPARED = 5  # cells of a notebook
CELL_WITHIN_SECONDS = 120
GONE_WITHIN_SECONDS = 10

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(path):
    """The cells with code, as dicts."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code" and "".join(cell["source"]).strip()]


def is_ignored(cell):
    """Tell whether nbval compares nothing of this cell."""
    tags = cell["metadata"].get("tags", [])
    return "NBVAL_" in "".join(cell["source"]) or any(
        re.match("nbval-|raises-exception", tag) for tag in tags
    )


def texts(cell):
    """What a cell has stored, without its images."""
    for output in cell["outputs"]:
        yield "".join(output.get("text", ""))
        for kind, data in output.get("data", {}).items():
            if not kind.startswith("image/"):
                yield "".join(data)
        yield "\n".join(output.get("traceback", []))


def run_nbval(path, **settings):
    """Run a notebook with nbval in this virtual environment, without the caller's broker."""
    environment = {name: value for name, value in os.environ.items() if name != "VALKEY_URL"}
    command = [sys.executable, "-m", "pytest", "-o", "addopts=", "-p", "no:cacheprovider", "-p", "no:valkey"]
    options = ["--nbval", "--nbval-current-env", f"--nbval-cell-timeout={CELL_WITHIN_SECONDS}"]
    return subprocess.run(
        [*command, *options, path],
        env=environment | settings,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )


def test_there_is_a_notebook():
    assert NOTEBOOKS, "notebooks/ is empty, so the checks of this file check nothing"


@each_notebook
def test_a_notebook_is_stored_as_it_ran_from_start_to_end(path):
    counts = [cell["execution_count"] for cell in code_cells(path)]
    assert counts == list(range(1, len(counts) + 1)), "run it again in a new kernel and store it"


@each_notebook
def test_a_notebook_has_outputs_that_are_compared(path):
    compared = [cell for cell in code_cells(path) if any(texts(cell)) and not is_ignored(cell)]
    assert len(compared) >= LEAST_COMPARED


@each_notebook
def test_a_notebook_has_a_picture(path):
    kinds = {
        kind for cell in code_cells(path) for output in cell["outputs"] for kind in output.get("data", {})
    }
    assert kinds & {"image/png", "image/jpeg", "image/svg+xml"}


@each_notebook
def test_a_notebook_stores_no_error_and_nothing_of_the_machine(path):
    for cell in code_cells(path):
        assert all(output["output_type"] != "error" for output in cell["outputs"])
        for text in texts(cell):
            assert "Traceback" not in text
            assert not re.search(r"(?<![\w.])/\w[\w.-]*/\w|\b[A-Z]:\\", text), "an absolute path"
    metadata = json.loads(path.read_text(encoding="utf-8"))["metadata"]
    assert metadata["kernelspec"]["name"] == "python3"
    assert set(metadata["language_info"]) == {"name"}, "the rest is of the machine that stored it"


@each_notebook
def test_a_notebook_never_flushes_a_broker(path):
    sources = "\n".join("".join(cell["source"]) for cell in code_cells(path))
    assert not re.search(r"flush_?(all|db)|swapdb", sources, re.IGNORECASE)


@each_notebook
def test_a_notebook_prints_what_is_stored_and_leaves_nothing_behind(path, tmp_path):
    ran = run_nbval(path, TMPDIR=str(tmp_path))
    assert ran.returncode == 0, ran.stdout + ran.stderr
    passed = re.search(r"(\d+) passed", ran.stdout)
    assert passed and int(passed[1]) == len(code_cells(path)), ran.stdout
    deadline = time.monotonic() + GONE_WITHIN_SECONDS
    while left_behind(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left_behind(tmp_path) == []


def left_behind(folder):
    """Folders of the notebook that are still there, and processes that were given one of them."""
    processes = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout.splitlines()
    ours = [line for line in processes if str(folder) in line and not line.startswith("ps ")]
    return [path.name for pattern in ("lab-*", "notebook-*") for path in folder.glob(pattern)] + ours


def test_an_output_that_differs_from_the_stored_one_is_noticed(tmp_path):
    printed = {"output_type": "stream", "name": "stdout", "text": ["two tasks\n"]}
    cell = {"cell_type": "code", "execution_count": 1, "id": "a", "metadata": {}, "outputs": [printed]}
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    notebook = {"cells": [cell], "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}
    for source, status in (("print('two tasks')", 0), ("print('three tasks')", 1)):
        cell["source"] = [source]
        path = tmp_path / "small.ipynb"
        path.write_text(json.dumps(notebook))
        assert run_nbval(path).returncode == status


@pytest.mark.parametrize("end", ["pass", "import os; os.kill(os.getpid(), 9)"], ids=["ended", "killed"])
def test_a_broker_given_by_url_keeps_what_others_have_there_and_nothing_of_ours(end):
    program = f"""
import redis
from labkit.notebook import open_broker
url, prefix = open_broker("lab03")
redis.Redis.from_url(url).lpush(prefix + "images", "task-1")
print(redis.Redis.from_url(url).dbsize(), flush=True)
{end}
"""
    with EmbeddedValkey(appendonly="off") as server, server.connect() as connection:
        connection.ask("SET", "theirs", "kept")
        ran = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "VALKEY_URL": server.url, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (ran.stdout, ran.stderr) == ("2\n", "")
        deadline = time.monotonic() + GONE_WITHIN_SECONDS
        while connection.ask("KEYS", "*") != [b"theirs"] and time.monotonic() < deadline:
            time.sleep(0.05)
        assert connection.ask("KEYS", "*") == [b"theirs"]
