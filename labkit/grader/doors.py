"""The doors between the grader and the loopback that a submission's scripts see.

Without a sandbox that is the machine's own loopback. Within one it is another: a socket belongs to the network in which
it was made, so the starter makes it there and hands it out, and what listens or is connected on it is the grader.
"""

import asyncio
import contextlib
import errno
import os
import select
import socket
import threading
from collections.abc import Callable
from typing import Protocol

from labkit.brokers import InfrastructureError

LOOPBACK = "127.0.0.1"
ANSWER_WITHIN_SECONDS = 20.0  # the starter may have scripts to start first
CHUNK = 65536


class Doors(Protocol):
    """Ports are those that a script sees."""

    def bind(self) -> socket.socket:
        """A socket on a free port, which nobody else is given while it is open."""

    def connect(self, port: int, timeout: float) -> socket.socket:
        """A connection to what a script listens on; OSError when there is none."""

    def outside(self, port: int) -> int:
        """The port of the machine's own loopback that leads to this one."""

    def close(self) -> None: ...


class OpenDoors:
    """The scripts are on the machine's own loopback, as we are."""

    def bind(self) -> socket.socket:
        return reserve_port()

    def connect(self, port: int, timeout: float) -> socket.socket:
        return socket.create_connection((LOOPBACK, port), timeout)

    def outside(self, port: int) -> int:
        return port

    def close(self) -> None:
        pass


class SandboxDoors:
    """The scripts have a loopback of their own; the starter within makes the sockets.

    ask: sends a request to the starter, as keywords; its answers, each with a file descriptor, come on `answers`.
    """

    def __init__(
        self, ask: Callable[..., None], answers: socket.socket, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._ask, self._answers, self._loop = ask, answers, loop
        self._lock = threading.Lock()
        self._ways: dict[int, asyncio.Server] = {}
        answers.settimeout(ANSWER_WITHIN_SECONDS)

    def bind(self) -> socket.socket:
        return socket.socket(fileno=self.fetch(door="bind"))

    def connect(self, port: int, timeout: float) -> socket.socket:
        connected = socket.socket(fileno=self.fetch(door="connect", port=port))
        try:
            if not select.select([], [connected], [], timeout)[1]:
                raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
            if error := connected.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                raise OSError(error, os.strerror(error))
            connected.settimeout(timeout)
        except BaseException:
            connected.close()
            raise
        return connected

    def fetch(self, **request: object) -> int:
        """Have the starter open something; return the file descriptor.

        Raises:
            OSError: it could not be opened, such as a connection that was refused.
            InfrastructureError: the starter is gone.
        """
        with self._lock:
            try:
                self._ask(**request)
                said, descriptors, _, _ = socket.recv_fds(self._answers, 4, 1)
            except OSError as error:
                raise InfrastructureError(f"the sandbox does not answer ({error})") from None
        if not said:
            raise InfrastructureError("the sandbox has ended")
        if not descriptors:
            code = int.from_bytes(said, "big")
            raise OSError(code, os.strerror(code))
        return descriptors[0]

    def outside(self, port: int) -> int:
        if port not in self._ways:
            opened = asyncio.run_coroutine_threadsafe(self._open_way(port), self._loop)
            self._ways[port] = opened.result()
        return self._ways[port].sockets[0].getsockname()[1]

    async def _open_way(self, port: int) -> asyncio.Server:
        """Listen outside, and pass what comes on to this port within."""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            within = None
            try:
                connect = asyncio.get_running_loop().run_in_executor(None, self.connect, port, 5.0)
                answers, within = await asyncio.open_connection(sock=await connect)
                await asyncio.gather(_pump(reader, within), _pump(answers, writer))
            except (OSError, InfrastructureError, asyncio.CancelledError):
                pass  # nobody listens there, or one of the two is gone
            finally:
                for each in (writer, within):
                    if each is not None:
                        each.close()

        return await asyncio.start_server(serve, LOOPBACK, 0)

    def close(self) -> None:
        for way in self._ways.values():
            self._loop.call_soon_threadsafe(way.close)
        self._answers.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(CHUNK):
        writer.write(data)
        await writer.drain()
    with contextlib.suppress(OSError):
        writer.write_eof()


def reserve_port() -> socket.socket:
    """A socket bound to a free port of the loopback, which nobody else is given while it is open.

    On Linux a server that sets SO_REUSEADDR, as all common ones do, can listen there all the same.
    """
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind((LOOPBACK, 0))
    return held
