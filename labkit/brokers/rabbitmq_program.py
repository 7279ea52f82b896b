"""Where RabbitMQ's program lies, and the few of its plugins that a course needs: the fewer, the sooner it answers.

A booting node looks into every module of every plugin that it finds, used or not, and seeks each module in one
folder after the other: more than fifty thousand times in vain, a third of its boot. So it is shown a folder with
links to what it needs, and is told where to look first.
"""

import pathlib
import re
import shutil

PROGRAM = "rabbitmq-server"
SYSTEMS_OWN = "rabbitmq-script-wrapper"  # Debian's: it knows only the system's own node
BEHIND_A_WRAPPER = pathlib.Path("/usr/lib/rabbitmq/bin")  # RabbitMQ's own packages wrap it in a copy of that
NEEDED = ("rabbit", "rabbitmq_management")


def find_program() -> str | None:
    """Return the path of a rabbitmq-server that starts whatever node it is told to; None if there is none."""
    found = shutil.which(PROGRAM) or _beside_the_path()
    if found is None:
        return None
    real = pathlib.Path(found).resolve()
    if real.name == SYSTEMS_OWN:
        found = real.with_name(PROGRAM)
        return str(found) if found.is_file() else None
    if not real.with_name("rabbitmq-env").exists() and (BEHIND_A_WRAPPER / PROGRAM).is_file():
        return str(BEHIND_A_WRAPPER / PROGRAM)
    return str(found)


def _beside_the_path() -> str | None:
    """Servers lie in the administrator's folders, which are not on every user's PATH."""
    return shutil.which(PROGRAM, path="/usr/sbin:/usr/local/sbin:/opt/homebrew/sbin")


def link_needed_plugins(program: str, folder: pathlib.Path) -> list[pathlib.Path]:
    """Link what a node needs into this folder; return where its modules are to be sought, the likeliest first.

    An empty list, and no folder, where the installation does not look as expected: it boots all the same.
    """
    plugins = pathlib.Path(program).resolve().parents[1] / "plugins"
    own = _needed(_applications_in(_erlang_library(program)) | _applications_in(plugins))
    if own is None:
        return []
    folder.mkdir(exist_ok=True)
    sought = []
    for application in own:
        if application.parent == plugins:
            link = folder / application.name
            link.unlink(missing_ok=True)
            link.symlink_to(application, target_is_directory=True)
            sought.append(link / "ebin")
        else:
            sought.append(application / "ebin")
    return sorted(sought, key=lambda each: -sum(1 for _ in each.glob("*.beam")))


def _applications_in(folder: pathlib.Path | None) -> dict[str, pathlib.Path]:
    """Applications by their names: folders such as ra-2.2.0 with a file ebin/ra.app."""
    if folder is None or not folder.is_dir():
        return {}
    return {file.stem: file.parents[1] for file in sorted(folder.glob("*/ebin/*.app"))}


def _needed(applications: dict[str, pathlib.Path]) -> list[pathlib.Path] | None:
    """The applications that the needed ones ask for, and those that these ask for; None if a needed one is missing."""
    if not applications.keys() >= set(NEEDED):
        return None
    found: dict[str, pathlib.Path] = {}
    names = list(NEEDED)
    while names:
        name = names.pop()
        if name in applications and name not in found:
            found[name] = applications[name]
            names += _asked_for(applications[name] / "ebin" / f"{name}.app")
    return list(found.values())


def _asked_for(file: pathlib.Path) -> list[str]:
    text = file.read_text(errors="replace")
    lists = re.findall(r"(?<!\w)\{\s*(?:included_|optional_)?applications\s*,\s*\[([^\]]*)\]", text)
    return [name.strip(" '\n\t") for each in lists for name in each.split(",")]


def _erlang_library(program: str) -> pathlib.Path | None:
    """The library of the Erlang that the program runs; None where that cannot be told for sure."""
    erl = shutil.which("erl")
    try:
        says = pathlib.Path(program).read_text(errors="replace")
    except OSError:
        return None
    if erl is None or "exec erl" not in says:
        return None
    library = pathlib.Path(erl).resolve().parents[1] / "lib"
    return library if len(list(library.glob("kernel-*"))) == 1 else None
