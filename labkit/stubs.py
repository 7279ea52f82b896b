"""Make a lab's stubs from its solution: the same files, with the bodies of the TODO functions taken out.

labs/ is written by this module, so a stub and its solution cannot drift apart.
    python -m labkit.stubs      writes every file of labs/ that comes from solutions/
"""

import ast
import shutil
import textwrap
from pathlib import Path

from labkit.course import Lab, Todo, labs

LONGEST_LINE = 110


def stub_of(source: str, todos: list[Todo]) -> str:
    """The solution's text with each TODO function's body (all but its docstring) replaced by a loud gap."""
    functions = {node.name: node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)}
    lines = source.splitlines(keepends=True)
    for todo in sorted(todos, key=lambda todo: -functions[todo.function].lineno):
        body = functions[todo.function].body
        kept = body[0].end_lineno if ast.get_docstring(functions[todo.function]) else body[0].lineno - 1
        lines[kept : body[-1].end_lineno] = [gap(todo)]
    return "".join(lines)


def gap(todo: Todo) -> str:
    """The lines that stand where a student will write."""
    text = f"TODO {todo.number}: {todo.say}"
    line = f'    raise NotImplementedError("{text}")\n'
    if len(line) <= LONGEST_LINE + 1:
        return line
    if len(text) + 10 <= LONGEST_LINE:  # as the formatter would have it
        return f'    raise NotImplementedError(\n        "{text}"\n    )\n'
    *first, last = textwrap.wrap(text, 90)
    parts = [f'        "{part} "\n' for part in first] + [f'        "{last}"\n']
    return "    raise NotImplementedError(\n" + "".join(parts) + "    )\n"


def originals(lab: Lab) -> dict[str, bytes]:
    """Every file of the lab as a student first gets it, by name: made from its solution.

    A package without solutions has the files themselves.
    """
    files = {}
    whole = lab.solution.is_dir()
    for path in sorted(lab.given_folder.iterdir()):
        if path.is_file():
            todos = [todo for todo in lab.todos if whole and f"{todo.module}.py" == path.name]
            text = path.read_text()
            files[path.name] = (stub_of(text, todos) if todos else text).encode()
    return files


def write(lab: Lab, folder: Path) -> None:
    """Write the lab's original files into `folder`; other files there stay."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in originals(lab).items():
        (folder / name).write_bytes(content)
        shutil.copymode(lab.given_folder / name, folder / name)


if __name__ == "__main__":
    for each in labs():
        write(each, each.folder)
