"""A submission's modules are compiled once a run; what cannot be compiled stays for each process to stumble over."""

import pytest

from labkit.course import lab
from labkit.grader import compiled, submission
from labkit.grader.run import Run


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "worker.py").write_text("import helper\nprint(helper.__file__, helper.where())\n")
    (tmp_path / "helper.py").write_text("def where():\n    return where.__code__.co_filename\n")
    return tmp_path


def said(folder):
    """What a worker of this submission says, and whether its helper was found compiled."""
    with Run(lab(3), submission.read(lab(3), folder)) as run:
        scene = run.scene("", 0)
        found = [path.name.split(".")[0] for path in (scene.code / compiled.CACHE).glob("*.pyc")]
        worker = scene.start("worker.py", "alice", may_fail=True)
        worker.wait_exit()
        text = worker.process.output() + worker.process.errors()
        scene.close()
        return text.replace(str(scene.code), "CODE"), found


def test_a_module_is_found_compiled_and_speaks_of_its_source(folder):
    text, found = said(folder)
    assert "helper" in found
    assert text.split() == ["CODE/helper.py", "CODE/helper.py"]


def test_what_cannot_be_compiled_is_the_processes_own_affair(folder):
    (folder / "helper.py").write_text("def where(:\n")
    text, found = said(folder)
    assert "helper" not in found
    assert "SyntaxError" in text and 'CODE/helper.py", line 1' in text


def test_a_compiler_that_does_not_end_is_not_waited_for(folder, monkeypatch):
    monkeypatch.setattr(compiled, "WITHIN_SECONDS", 0.1)
    monkeypatch.setattr(compiled, "COMMAND", ["sh", "-c", "exec sleep 60"])
    text, found = said(folder)
    assert found == []
    assert text.split() == ["CODE/helper.py", "CODE/helper.py"]
