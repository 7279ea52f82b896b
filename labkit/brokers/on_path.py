"""A server that is installed on this machine already."""

import shutil

from labkit.brokers.base import InfrastructureError
from labkit.brokers.server import OwnServer

PROGRAMS = ("valkey-server", "redis-server")


class ServerOnPath(OwnServer):
    """valkey-server, or else redis-server, as found on the PATH; started by us, with settings of ours."""

    source = "on the PATH"

    def find_binary(self) -> str:
        if self._binary is None:
            self._binary = next(filter(None, map(shutil.which, PROGRAMS)), None)
        if self._binary is None:
            raise InfrastructureError(f"neither {' nor '.join(PROGRAMS)} is on the PATH")
        return str(self._binary)
