"""The HTTP endpoint of one scene: webhooks are delivered to it, and it counts them by their idempotency key.

The path of a URL says how requests are answered: /200, or /503,503,200 for an answer after the other; the last one
repeats. So a task carries its own fate, and a story that shows its URL shows that, too. The nth answer is for the nth
request with the same Idempotency-Key.
"""

import asyncio
import contextlib
import http
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labkit.grader.history import REQUESTED
from labkit.grader.marks import ENDPOINT

if TYPE_CHECKING:
    from labkit.grader.scene import Scene

CUT, NEVER, GARBAGE = "cut", "never", "garbage"
RETRY_AFTER_SECONDS = 1  # asked for with each 429
LONGEST_BODY = 1024 * 1024


@dataclass(frozen=True)
class Request:
    """A request that arrived `at` seconds after the scene began: its key, its task's number or 0, and the answer."""

    at: float
    key: str
    task: int
    answer: str
    body: bytes


class Endpoint:
    """Listens on a port of its own. `override` is an answer that all requests get while it is set."""

    def __init__(self, scene: "Scene") -> None:
        self.scene = scene
        self.requests: list[Request] = []
        self.override = ""
        self.port = 0
        self._count: Counter[str] = Counter()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._closed_port = scene.run.doors.bind()
        self._listener = scene.run.doors.bind()

    async def open(self) -> "Endpoint":
        self._server = await asyncio.start_server(self._serve, sock=self._listener)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def url(self, answers: str = "200") -> str:
        """Where to deliver to, for these answers: statuses, or the words cut, never and garbage."""
        return f"http://127.0.0.1:{self.port}/{answers}"

    @property
    def refused_url(self) -> str:
        """An address at which nobody listens."""
        return f"http://127.0.0.1:{self._closed_port.getsockname()[1]}/200"

    def requests_for(self, task: int) -> list[Request]:
        """The requests that came for a task, by its number."""
        return [request for request in list(self.requests) if request.task == task]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            path, headers, body = await _read_request(reader)
            answer = self._note(path, headers.get("idempotency-key", ""), body)
            if answer == NEVER:
                await reader.read()  # until the client has hung up
            else:
                writer.write(_response(answer))
                await writer.drain()
        except (OSError, ValueError, LookupError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # no request, or its sender is gone
        finally:
            self._writers.discard(writer)
            writer.close()

    def _note(self, path: str, key: str, body: bytes) -> str:
        """Write the request down; return its answer."""
        tasks = self.scene.tasks.numbers_in(key.encode())
        self._count[key] += 1
        answers = path.strip("/").split(",")
        answer = self.override or answers[min(self._count[key], len(answers)) - 1]
        now = self.scene.history.now()
        self.requests.append(Request(now, key, tasks[0] if tasks else 0, answer, body))
        self.scene.history.add(ENDPOINT, REQUESTED, tasks=tasks, detail=answer)
        return answer

    async def close(self) -> None:
        self._closed_port.close()
        self._server.close()
        for writer in list(self._writers):
            with contextlib.suppress(OSError):
                writer.transport.abort()


async def _read_request(reader: asyncio.StreamReader) -> tuple[str, dict[str, str], bytes]:
    """Path, headers (names in lower case) and body of one HTTP/1.1 request."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    _, path, _ = head[0].split(" ")
    headers = {
        name.lower(): value.strip() for name, value in (line.split(":", 1) for line in head[1:] if line)
    }
    length = min(int(headers.get("content-length", 0)), LONGEST_BODY)
    return path, headers, await reader.readexactly(length)


def _response(answer: str) -> bytes:
    if answer == GARBAGE:
        return b"what do you want from me?\r\n\r\n"
    if answer == CUT:
        return b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nas far as h"
    status = http.HTTPStatus(int(answer))
    more = f"Retry-After: {RETRY_AFTER_SECONDS}\r\n" if status == 429 else ""
    return (
        f"HTTP/1.1 {status} {status.phrase}\r\n{more}Connection: close\r\nContent-Length: 0\r\n\r\n".encode()
    )
