"""The way of one process to the broker, through a proxy that sees each command whole and can hold, cut or kill there.

Each process of a scene gets a lane: a loopback port of its own, so that a command's sender is known without asking.
What goes over it is read by the lane of its protocol: RESP (resp_proxy.py) or AMQP 0-9-1 (amqp_proxy.py).
"""

import asyncio
import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from labkit.grader import commands
from labkit.grader.doors import reserve_port
from labkit.grader.history import COMMAND, REPLY, History

BEFORE, AFTER = "before", "after"
SHOWN_CHARACTERS = 100  # of one argument, in the history


class Names(Protocol):
    """Finds the tasks that a command or a reply names; the scene's Tasks does."""

    def numbers_in(self, value: object) -> tuple[int, ...]: ...
    def shown(self, argument: bytes) -> str: ...


@dataclass(frozen=True)
class Command:
    """One command on its way. `nth` counts the commands of this verb that the lane has seen, from 1."""

    verb: str
    args: tuple[bytes, ...]
    number: int
    nth: int
    tasks: tuple[int, ...]
    link: int = 0  # which connection of its process it came on

    @property
    def blocking(self) -> bool:
        if self.verb in ("XREAD", "XREADGROUP"):
            return any(arg.upper() == b"BLOCK" for arg in self.args)
        return self.verb in commands.BLOCKING


class Cut(Exception):
    """Raised by a gate: nothing more passes on this connection, in either direction."""


# Called with (lane, command, BEFORE or AFTER) for each command; the command waits until it returns.
Gate = Callable[["Lane", Command, str], Awaitable[None]]


class Conversation(Protocol):
    """One client connection and its counterpart at the broker."""

    async def run(self) -> None: ...
    def drop(self) -> None: ...


class Lane:
    """A process's port, the gates on it, and the record of what passed. A subclass knows the protocol."""

    def __init__(
        self, who: str, history: History, names: Names, broker: Callable[[], tuple[str, int]]
    ) -> None:
        self.who, self.history, self.names, self.broker = who, history, names, broker
        self.gates: list[Gate] = []
        self.dead = False
        self.port = 0
        self.in_flight: dict[int, Command] = {}
        self.connections = 0  # how often the process has connected
        self._count = 0
        self._verbs: Counter[str] = Counter()
        self._server: asyncio.Server | None = None
        self._connections: set[Conversation] = set()

    async def open(self, listener: socket.socket | None = None) -> "Lane":
        """Listen on this socket, which is bound; by default on a free port of the machine's own loopback."""
        self._server = await asyncio.start_server(self._serve, sock=listener or reserve_port())
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def close(self) -> None:
        self.cut()
        if self._server:
            self._server.close()

    def cut(self) -> None:
        """Pass nothing on any more and drop every connection, as when the process died."""
        self.dead = True
        self.hang_up()

    def hang_up(self) -> None:
        """Drop every connection, as a network does that fails; the process may connect again."""
        for connection in list(self._connections):
            connection.drop()

    def conversation(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Conversation:
        """The conversation on a new connection, in the lane's protocol."""
        raise NotImplementedError

    def note(self, verb: str, args: tuple[bytes, ...], tasks: tuple[int, ...], link: int) -> Command:
        """Give a command its numbers and write it into the history."""
        self._count += 1
        self._verbs[verb] += 1
        command = Command(verb, args, self._count, self._verbs[verb], tasks, link)
        self.in_flight[command.number] = command
        self._add(COMMAND, command, tasks)
        return command

    def note_reply(self, command: Command, tasks: tuple[int, ...] = (), **more: object) -> None:
        """Write the answer to a command into the history; more: `detail`, `empty` of an event."""
        self.in_flight.pop(command.number, None)
        self._add(REPLY, command, tasks, **more)

    def _add(self, what: str, command: Command, tasks: tuple[int, ...], **more: object) -> None:
        shown = tuple(self.names.shown(arg)[:SHOWN_CHARACTERS] for arg in command.args[:12])
        self.history.add(
            self.who, what, verb=command.verb, args=shown, tasks=tasks, number=command.number,
            blocking=command.blocking, link=command.link, **more,
        )  # fmt: skip

    async def pass_gates(self, command: Command, when: str) -> None:
        if command.number > 0:
            for gate in list(self.gates):
                await gate(self, command, when)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self.dead:
            writer.transport.abort()
            return
        conversation = self.conversation(reader, writer)
        self._connections.add(conversation)
        try:
            await conversation.run()
        finally:
            self._connections.discard(conversation)
