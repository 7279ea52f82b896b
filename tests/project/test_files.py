"""Files of a submission: what is read of them, and what is written beside them, never leads elsewhere."""

import os

import pytest

from labkit.grader.files import content, is_filled, write_new


@pytest.fixture
def outputs(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(b"not yours")
    return folder


def test_an_ordinary_file_is_read(outputs):
    (outputs / "report").write_bytes(b"whole")
    assert content(outputs / "report") == b"whole" and is_filled(outputs / "report")
    assert content(outputs / "none") is None


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_what_is_no_ordinary_file_is_not_read_nor_written(outputs, kind):
    path = outputs / "report"
    {"link": lambda: path.symlink_to("../secret"), "pipe": lambda: os.mkfifo(path), "folder": path.mkdir}[
        kind
    ]()
    assert content(path) is None and not is_filled(path)
    assert not write_new(path, b"ours")
    assert (outputs.parent / "secret").read_bytes() == b"not yours"


def test_a_link_in_place_of_the_folder_leads_nowhere(outputs):
    outputs.rename(outputs.parent / "moved")
    outputs.symlink_to(outputs.parent)
    assert content(outputs / "secret") is None
    assert not write_new(outputs / "new", b"ours")
    assert sorted(path.name for path in outputs.parent.iterdir()) == ["moved", "out", "secret"]


def test_only_a_new_file_is_written(outputs):
    assert write_new(outputs / "report", b"older")
    assert not write_new(outputs / "report", b"newer")
    assert content(outputs / "report") == b"older"


def test_a_file_without_end_is_read_in_part(outputs, monkeypatch):
    monkeypatch.setattr("labkit.grader.files.LARGEST_OUTPUT", 1000)
    (outputs / "report").write_bytes(b"x" * 5000)
    assert content(outputs / "report") == b"x" * 1000
