"""A mail server for one process: what arrives there is the evidence that its work was done.

Each process of a scene gets a port of its own, so that a mail's sender is known without asking. A mail names its task
in a header; the work on the task lasts from the moment that the whole mail is here until the server has answered for
it, and the scene's WorkControl can hold it, slow it or have it refused, as it can any other work.
"""

import asyncio
import socket
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import TYPE_CHECKING

from labkit.grader.doors import reserve_port

if TYPE_CHECKING:
    from labkit.grader.scene import Scene

TASK_HEADER = "X-Task-Id"


@dataclass(frozen=True)
class Mail:
    """One mail that was taken: who sent it, to whom by the envelope, and the mail itself."""

    sender: str
    recipients: tuple[str, ...]
    content: bytes

    def read(self) -> EmailMessage:
        return message_from_bytes(self.content, policy=policy.default)


class MailLane:
    """The way of one process to the mail server; `who` is its name."""

    def __init__(self, scene: "Scene", who: str) -> None:
        self.scene, self.who = scene, who
        self.taken: list[Mail] = []
        self.dead = False
        self.port = 0
        self._server: asyncio.Server | None = None
        self._transports: set[asyncio.BaseTransport] = set()

    async def open(self, listener: socket.socket | None = None) -> "MailLane":
        """Listen on this socket, which is bound; by default on a free port of the machine's own loopback."""
        from aiosmtpd.smtp import SMTP

        lane, loop = self, asyncio.get_running_loop()

        class Conversation(SMTP):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                lane._transports.add(transport)
                super().connection_made(transport)
                if lane.dead:
                    transport.abort()

            def connection_lost(self, error: Exception | None) -> None:
                lane._transports.discard(self.transport)
                super().connection_lost(error)

        make = lambda: Conversation(self, hostname="mail.example.com", enable_SMTPUTF8=True, loop=loop)  # noqa: E731
        self._server = await loop.create_server(make, sock=listener or reserve_port())
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def environment(self) -> dict[str, str]:
        """Where the process finds the server."""
        return {"SMTP_URL": f"smtp://127.0.0.1:{self.port}"}

    async def handle_DATA(self, server: object, session: object, envelope: object) -> str:
        """Called by aiosmtpd when the whole of a mail has come; returns the answer."""
        if self.dead:
            return "421 too late"
        mail = Mail(self.who, tuple(envelope.rcpt_tos), bytes(envelope.content))
        task = str(mail.read().get(TASK_HEADER, "")).strip()
        work = self.scene.work
        try:
            order = await work.report(self.who, "started", task, "")
        except asyncio.CancelledError:  # the client would wait no longer, and has hung up
            if not self.dead:
                await work.report(self.who, "failed", task, "hung up")
            raise
        if self.dead:
            return "421 too late"  # heard by nobody
        if "fail" in order:
            await work.report(self.who, "failed", task, order["fail"])
            return f"550 {order['fail']}"
        self.taken.append(mail)
        await work.report(self.who, "finished", task, "")
        return "250 taken"

    def cut(self) -> None:
        """Take nothing more and drop every connection, as when the process died."""
        self.dead = True
        for transport in list(self._transports):
            transport.abort()

    async def close(self) -> None:
        self.cut()
        if self._server:
            self._server.close()
