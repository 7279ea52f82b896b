"""What a student gets in labs/ is the solution with the bodies of its TODO functions taken out."""

import ast
import os

import pytest

from labkit.course import labs
from labkit.stubs import originals

EXTRA_FOLDERS = {"wild"}
each_lab = pytest.mark.parametrize("lab", labs(), ids=lambda lab: lab.slug)


@pytest.mark.skipif("CI" not in os.environ, reason="labs/ may hold a student's work; CI compares every byte")
@each_lab
def test_labs_holds_what_the_solutions_make(lab):
    for name, content in originals(lab).items():
        assert (lab.folder / name).read_bytes() == content, f"{name}: run python -m labkit.stubs"


@each_lab
def test_labs_holds_no_other_code(lab):
    scripts = {path.relative_to(lab.folder) for path in lab.folder.rglob("*.py")}
    others = {str(path) for path in scripts if path.parts[0] not in EXTRA_FOLDERS} - originals(lab).keys()
    assert not others


@each_lab
def test_stub_and_solution_differ_only_in_the_bodies_of_todo_functions(lab):
    for name in originals(lab):
        if name.endswith(".py"):
            gaps = {todo.function: todo.number for todo in lab.todos if f"{todo.module}.py" == name}
            stub, solution = (folder.joinpath(name).read_text() for folder in (lab.folder, lab.solution))
            assert without_bodies(stub, gaps) == without_bodies(solution, gaps), name


@each_lab
def test_every_todo_is_a_gap_that_says_its_number(lab):
    for todo in lab.todos:
        stub = originals(lab)[f"{todo.module}.py"].decode()
        assert f"TODO {todo.number}: " in ast.unparse(function_called(todo.function, stub).body[-1]), todo


@each_lab
def test_todos_are_numbered_from_1(lab):
    assert [todo.number for todo in lab.todos] == list(range(1, len(lab.todos) + 1))


def without_bodies(source, functions):
    """The lines of a script, and in place of each of these functions its head and its docstring."""
    lines = source.splitlines()
    for name in functions:
        node = function_called(name, source)
        written = node.body[1:] if ast.get_docstring(node) else node.body
        for number in range(written[0].lineno - 1, node.end_lineno):
            lines[number] = None
    return [line for line in lines if line is not None]


def function_called(name, source):
    return next(
        node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef) and node.name == name
    )


@pytest.mark.parametrize(
    ("name", "first", "again"), [("mailer.py", 1, 5), ("images.py", 3, 6), ("samples.py", 3, 6)]
)
def test_work_that_two_labs_share_is_the_same_in_both(name, first, again):
    by_number = {lab.number: lab for lab in labs()}
    there, here = (by_number[number].solution / name for number in (first, again))
    assert here.read_bytes() == there.read_bytes()
