"""The measurements of `./lab bench`: each yields its rows, and what cannot be measured is said."""

import json

import pytest

from labkit import course
from labkit.bench.batch import class_grading, graded
from labkit.commands import bench


@pytest.fixture(autouse=True)
def state(monkeypatch, tmp_path):
    """The figures of this machine are not replaced."""
    monkeypatch.setattr(bench, "STATE", tmp_path)
    return tmp_path


def test_a_part_is_measured_shown_and_kept(state, capsys):
    assert bench.run(["start"], quick=True) == 0
    kept = json.loads((state / "bench.json").read_text())["embedded broker, start to ready"]
    assert kept["median"].endswith(" ms")
    assert float(kept["ratio"].partition(" ")[0]) > 0
    assert kept["median"] in capsys.readouterr().out


def test_a_part_that_is_not_there_is_named(state, capsys):
    assert bench.run(["start", "speed"], quick=True) == 2
    assert capsys.readouterr().out == (
        "lab: there is no part 'speed'. These are there: start, worker, idle, grading, class.\n"
    )
    assert not list(state.iterdir())


def test_a_class_is_graded_by_one_by_two_and_at_each_level():
    rows = {name: (median, ratio) for name, median, ratio in class_grading(1, course.lab(2).folder)}
    by_one, by_two = (float(rows[f"a class of 2, --jobs {jobs}"][0].split()[0]) for jobs in (1, 2))
    ratio = float(rows["a class of 2, --jobs 2"][1].removesuffix(" of --jobs 1"))
    assert by_one > 0
    assert ratio == pytest.approx(by_two / by_one, rel=0.05)
    assert rows["one submission, --isolation none"][1] == "1.00 of none"
    assert {"one submission, --isolation process", "one submission, --isolation bubblewrap"} < rows.keys()


def test_what_is_not_graded_is_not_measured(tmp_path):
    with pytest.raises(RuntimeError, match=r"^\./lab grade --jobs 1 ended with status 2$"):
        graded([tmp_path / "nobody"], tmp_path, "--jobs", "1")
