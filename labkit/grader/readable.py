"""Makes Python readable for another user, where it lies in a folder that is closed to all but its owner.

    python -I -S readable.py '{"closed": ["/root"], "needed": ["/root/.pyenv/versions/3.12.1"]}' COMMAND...

Root's own Python often lies under /root, which nobody else may enter. The command then gets a mount namespace of its
own, in which an empty folder that all may enter covers the closed one, and only what is needed is in it. The mounts end
with the last process in the namespace.
"""

import ctypes
import json
import os
import stat
import sys

CLONE_NEWNS = 0x00020000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18


def around(command: list[str], more: list[os.PathLike]) -> list[str]:
    """The command line that runs `command` with Python, and these files and folders, within reach of any user."""
    if sys.platform != "linux":
        return command
    python = dict.fromkeys(os.path.realpath(prefix) for prefix in (sys.base_prefix, sys.prefix))
    needed = [*python, *dict.fromkeys((sys.base_prefix, sys.prefix)), *map(os.fspath, more)]
    closed = list(dict.fromkeys(filter(None, map(closed_above, needed))))
    if not closed:
        return command
    told = {"closed": closed, "needed": [each for each in dict.fromkeys(needed) if closed_above(each)]}
    return [sys.executable, "-I", "-S", os.path.abspath(__file__), json.dumps(told), *command]


def closed_above(path: str) -> str:
    """The topmost folder above this one that others may not enter; "" if there is none."""
    above = path
    found = ""
    while above != os.path.dirname(above):
        above = os.path.dirname(above)
        if not os.stat(above).st_mode & 0o001:
            found = above
    return found


def open_up(closed: list[str], needed: list[str]) -> None:
    """In a mount namespace of our own, cover the closed folders by open ones with only what is needed in them.

    Raises:
        OSError: the kernel does not let us.
    """
    kernel = ctypes.CDLL(None, use_errno=True)

    def expect(status: int) -> None:
        if status:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    def mount(what: str, where: str, kind: str | None, flags: int, more: str | None = None) -> None:
        words = (each if each is None else each.encode() for each in (what, where, kind))
        expect(kernel.mount(*words, flags, None if more is None else more.encode()))

    expect(kernel.unshare(CLONE_NEWNS))
    mount("none", "/", None, MS_REC | MS_PRIVATE)  # what we mount is nobody else's
    held = {path: os.open(path, os.O_PATH) for path in needed}
    for folder in closed:
        mount("tmpfs", folder, "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=1m")
    for path, descriptor in held.items():
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            os.makedirs(path, exist_ok=True)
        else:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            open(path, "a").close()
        mount(f"/proc/self/fd/{descriptor}", path, None, MS_BIND | MS_REC)
        os.close(descriptor)
    for folder in closed:
        mount("none", folder, None, MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV)


if __name__ == "__main__":
    wanted = json.loads(sys.argv[1])
    os.umask(0o022)
    try:
        open_up(wanted["closed"], wanted["needed"])
    except OSError as error:
        sys.exit(
            f"Python lies in {wanted['closed'][0]}, which is closed to other users, and it cannot be opened to a "
            f"submission: {error}"
        )
    os.execv(sys.argv[2], sys.argv[2:])
