"""The documents say what is so: points, checks, hints, settings, links, files, commands."""

import itertools
import re
import runpy
import shlex
import subprocess
from pathlib import Path
from urllib.parse import unquote

import pytest
import typer

from labkit import course
from labkit.cli import app
from labkit.commands.hint import hints
from labkit.stubs import originals

ROOT = course.ROOT
LABS = course.labs()
DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "*/README.md", "labs/*/README.md", "labs/*/wild/README.md")
    for path in ROOT.glob(pattern)
)
MADE_WHEN_RUN = (".lab/", ".venv/", "photos/", "out/")  # not in a fresh clone
SETTING = re.compile(r'^\w+ = .*?os\.environ\.get\("(\w+)", (?:HERE / )?"(.*?)"\)', re.MULTILINE)
COMMAND = re.compile(r"(?<![\w/])(?:\./|(?:\.\./)+)lab\b([^`\n#|]*)")
PLACEHOLDER = re.compile(r"NN|\b(ID|NAME|DIR|FILE)\b|…|[<>*{}$ ]")

each_lab = pytest.mark.parametrize("lab", LABS, ids=[lab.slug for lab in LABS])
each_document = pytest.mark.parametrize(
    "path", DOCUMENTS, ids=[str(path.relative_to(ROOT)) for path in DOCUMENTS]
)


# ---- reading -----------------------------------------------------------------------------------------


def readme(lab):
    return (lab.folder / "README.md").read_text(encoding="utf-8")


def section(text, heading):
    """What stands under a heading of the second level."""
    found = re.search(rf"^## {re.escape(heading)}$(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"there is no section {heading!r}"
    return found.group(1)


def rows(text):
    """The cells of each table row, headings and rulers left out."""
    lines = [line.strip() for line in text.splitlines()]
    for before, line in itertools.pairwise(lines):
        if line.startswith("|") and before.startswith("|") and not set(line) <= set("|-: "):
            yield [cell.strip() for cell in line.strip("|").split("|")]


def checks(lab):
    """Each check of a lab's grader as (title, id, TODO, points), in order."""
    for name, value in runpy.run_path(str(lab.grader)).items():
        for mark in getattr(value, "pytestmark", ()):
            if mark.name == "check":
                title = value.__doc__.strip().splitlines()[0].rstrip(".")
                todo = mark.kwargs.get("todo", 0)
                yield title, name.removeprefix("test_"), str(todo or ""), str(mark.kwargs["points"])


def without_code(text):
    """A document without its fenced blocks, in which a backtick or a bracket means something else."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def commands_of_lab():
    """Each command of ./lab with its options."""
    group = typer.main.get_command(app)
    return {
        name: {option for parameter in command.params for option in parameter.opts if option.startswith("-")}
        for name, command in group.commands.items()
    }


# ---- the labs' READMEs -------------------------------------------------------------------------------


@each_lab
def test_the_points_table_is_that_of_the_grader(lab):
    """Titles, names, TODOs and points, in the grader's order, and their sum"""
    *listed, total = rows(section(readme(lab), "Points"))
    wanted = list(checks(lab))
    assert [(title, name.strip("`"), todo, points) for title, name, todo, points in listed] == wanted
    assert total == [f"**All {len(wanted)}**", "", "", f"**{sum(int(points) for *_, points in wanted)}**"]


@each_lab
def test_the_contract_and_the_grader_name_the_same_checks(lab):
    """The last column of each table names checks that there are, and every check is named"""
    known = {name for _, name, *_ in checks(lab)}
    named = {
        name for row in rows(section(readme(lab), "The contract")) for name in re.findall(r"`(\w+)`", row[-1])
    }
    assert named == known


@each_lab
def test_the_steps_are_the_todos(lab):
    """The table of the steps has each TODO once, in order, with its function and its file"""
    steps = [row[:2] for row in rows(section(readme(lab), "The steps"))]
    assert steps == [[str(todo.number), f"`{todo.function}` in `{todo.module}.py`"] for todo in lab.todos]


@each_lab
def test_the_last_step_has_all_the_points(lab):
    """The points after each step do not fall, and end with the sum of all"""
    points = [int(row[-1]) for row in rows(section(readme(lab), "The steps"))]
    assert points == sorted(points)
    assert points[-1] == sum(int(check[-1]) for check in checks(lab))


@each_lab
def test_there_are_three_hints(lab):
    """./lab hint finds three, numbered, and none is empty"""
    found = hints(lab)
    assert [title.split(":")[0] for title, _ in found] == ["Hint 1", "Hint 2", "Hint 3"]
    assert readme(lab).count("<details>") == 3, "a folded part that is no hint, or a hint that does not parse"
    assert all(len(text) > 100 for _, text in found)


@each_lab
def test_no_hint_gives_a_gap_away(lab):
    """No whole line of a TODO's body in the solution stands in the README"""
    stub = {name: content.decode() for name, content in originals(lab).items()}
    given_away = [
        line.strip()
        for path in lab.solution.glob("*.py")
        for line in path.read_text().splitlines()
        if len(line.strip()) > 20 and line not in stub[path.name] and line.strip() in readme(lab)
    ]
    assert not given_away


@each_lab
def test_the_settings_are_those_of_the_scripts(lab):
    """The contract's environment table has each variable with its default, and the scripts that read it"""
    wanted, readers = {}, {}
    for path in sorted(lab.solution.glob("*.py")):
        for name, default in SETTING.findall(path.read_text()):
            assert wanted.setdefault(name, default) == default, f"{name} has two defaults"
            readers.setdefault(name, set()).add(path.stem)
    told = {row[0].strip("`"): row for row in rows(section(readme(lab), "The contract")) if len(row) == 5}
    assert {name: re.search(r"`(.*?)`", row[1]).group(1) for name, row in told.items()} == wanted
    for name, row in told.items():
        assert row[2] == "all" or set(row[2].split(", ")) == readers[name], f"who reads {name}?"


# ---- every document ----------------------------------------------------------------------------------


@each_document
def test_links_lead_somewhere(path):
    """Each relative link is a file, and its #part a heading there"""
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(path.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, part = unquote(target).partition("#")
        file = (path.parent / name).resolve() if name else path
        assert file.exists(), f"there is no {target}"
        if part:
            headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            assert part in [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]


@each_document
def test_files_that_are_named_exist(path):
    """What stands in backticks and has a slash is there: at the top, beside the document, or in a lab"""
    places = (ROOT, path.parent, *(lab.folder for lab in LABS))
    named = re.findall(r"`([\w.-]+/[^`]*)`", without_code(path.read_text(encoding="utf-8")))
    files = [name for name in named if not PLACEHOLDER.search(name) and not name.startswith(("./", "../"))]
    missing = [
        name
        for name in files
        if not name.startswith(MADE_WHEN_RUN) and not any((place / name).exists() for place in places)
    ]
    assert not missing


@each_document
def test_commands_that_are_shown_exist(path):
    """./lab has each command that is shown, with its options; a lab's number is that of a lab"""
    known = commands_of_lab()
    text = re.sub(r"`lab: .*?`", "", path.read_text(encoding="utf-8"))  # what the launcher says of itself
    for shown in COMMAND.findall(text):
        words = shlex.split(shown.strip(" .,;:)\"'"))
        if not words or not re.fullmatch(r"[a-z-]+", words[0]):
            continue  # ./lab alone
        command, *more = words
        assert command in known, f"./lab has no command {command!r}"
        options = {word.partition("=")[0] for word in more if word.startswith("--")}
        assert command == "test" or options <= known[command], (
            f"./lab {command} has no {options - known[command]}"
        )
        numbers = [int(word) for word in more[:1] if word.isdigit()]
        assert set(numbers) <= {lab.number for lab in LABS}, f"./lab{shown}: there is no such lab"


@each_document
def test_scripts_that_are_shown_exist(path):
    """`python x.py` names a script beside the document, or of some lab"""
    scripts = {script.name for lab in LABS for script in lab.folder.glob("*.py")}
    shown = re.findall(r"python ([\w/]+\.py)", path.read_text(encoding="utf-8"))
    assert set(shown) <= scripts


def test_every_command_is_in_the_readme():
    """The README's table has all commands of ./lab"""
    table = section((ROOT / "README.md").read_text(encoding="utf-8"), "The commands")
    shown = {words.split()[0] for words in COMMAND.findall(table) if words.split()}
    assert shown == set(commands_of_lab())


def test_the_labs_that_are_here_are_said_to_be_here():
    """The README's table links to the labs that exist, and to no others"""
    table = section((ROOT / "README.md").read_text(encoding="utf-8"), "The labs")
    here = [row for row in rows(table) if "coming" not in row[-1]]
    assert [row[-1] for row in here] == [f"**[here](labs/{lab.slug}/README.md)**" for lab in LABS]


def test_the_launcher_says_what_the_readme_quotes():
    """Each `lab: …` line of the table of troubles is one that the launcher can print"""

    def plain(text):
        return re.sub(r"\{.*?\}|\d+(\.\d+)?", "", text)

    table = section((ROOT / "README.md").read_text(encoding="utf-8"), "Trouble and its cure")
    quoted = re.findall(r"`lab: (.*?)`", table)
    assert len(quoted) >= 5
    launcher = plain((ROOT / "lab").read_text(encoding="utf-8"))
    assert [line for line in quoted if plain(line) not in launcher] == []


def test_the_exit_statuses_are_those_of_the_command_line():
    """README and labkit/cli.py give the same meaning to 0, 1, 2 and 3"""
    readme, code = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "labkit/cli.py"))
    for words in ("0 all passed", "1 a check failed", "2 the command was wrong", "3 infrastructure"):
        assert words in readme
        assert words.replace(" ", ": ", 1) in code


def test_documents_name_nobodys_machine():
    """No absolute path of a machine, and no address of a package index, in any document"""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "*.md"], cwd=ROOT, capture_output=True, text=True
    )
    names = listed.stdout.split() or [str(path.relative_to(ROOT)) for path in DOCUMENTS]
    for name in names:
        text = Path(ROOT, name).read_text(encoding="utf-8")
        assert not re.search(r"(?<![\w.])/(home|root|tmp|work|Users)/", text), (
            f"{name} names a path of a machine"
        )
        assert not re.search(r"\b(pypi|simple/|index-url)\b", text), f"{name} names a package index"
