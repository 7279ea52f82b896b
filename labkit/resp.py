"""The Redis serialization protocol, RESP2 and RESP3: commands as bytes, and frames cut from a stream as they arrive.

Source: the protocol description in the documentation of Valkey and of Redis ("RESP protocol description").
The grader speaks it itself because its proxy must see each frame whole and pass it on byte for byte.
"""

import re
from collections.abc import Generator
from typing import NamedTuple

LONGEST_BYTES = 64 * 1024 * 1024  # one string; a longer one is refused before it is read
LONGEST_LINE = 64 * 1024
DEEPEST = 32  # arrays within arrays
TYPES = b"*$+-:_#,(!=%~>|"  # a frame that begins with none of these bytes is an inline command
NUMBER = re.compile(rb"[+-]?[0-9]{1,19}")


class ProtocolError(ValueError):
    """Bytes that are not RESP, or a frame larger or deeper than this module reads."""


class ReplyError(Exception):
    """An error reply of the server, such as WRONGTYPE; its text is the server's."""


class Frame(NamedTuple):
    """One whole command or reply: `raw` as it came, `value` parsed, `push` for out-of-band data (RESP3 `>`)."""

    raw: bytes
    value: object
    push: bool


class FrameReader:
    """Cut a byte stream into frames. Bytes may come in pieces of any size; nothing is read twice."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._position = 0
        self._parser: Generator[None, None, object] | None = None
        self.error: ProtocolError | None = None  # why no further frame can be read

    def feed(self, data: bytes) -> list[Frame]:
        """Add `data` and return the frames that are now complete.

        Raises:
            ProtocolError: the stream cannot be read any further. Frames that came whole before are returned first.
        """
        if self.error:
            raise self.error
        self._buffer += data
        frames = []
        while self._buffer:
            if self._parser is None:
                self._position = 0
                self._parser = self._value(depth=0)
            try:
                next(self._parser)
            except ProtocolError as error:
                self.error = error  # for good: nobody knows where the next frame begins
                break
            except StopIteration as done:
                raw = bytes(self._buffer[: self._position])
                del self._buffer[: self._position]
                self._parser = None
                frames.append(Frame(raw, done.value, raw[:1] == b">"))
            else:
                break  # the rest of this frame is still on its way
        if self.error and not frames:
            raise self.error
        return frames

    def _value(self, depth: int) -> Generator[None, None, object]:
        if depth > DEEPEST:
            raise ProtocolError(f"arrays nested deeper than {DEEPEST}")
        line = yield from self._line()
        kind, rest = line[:1], line[1:]
        if kind in b"$=!" and kind:
            return (yield from self._string(kind, rest))
        if kind in b"*~>" and kind:
            return (yield from self._items(_number(rest), depth))
        if kind == b"%":
            flat = yield from self._items(2 * _number(rest), depth)
            return dict(zip(map(_hashable, flat[::2]), flat[1::2], strict=True))
        if kind == b"|":  # an attribute describes the reply that follows it
            yield from self._items(2 * _number(rest), depth)
            return (yield from self._value(depth + 1))
        if kind == b":":
            return _number(rest)
        if kind == b"-":
            return ReplyError(rest.decode("utf-8", "replace"))
        if kind == b"_":
            return None
        if kind in b"+,#(" and kind:
            return rest
        return line.split()  # an inline command, as typed into telnet

    def _string(self, kind: bytes, rest: bytes) -> Generator[None, None, object]:
        length = _number(rest)
        if length == -1:
            return None
        if length < 0:
            raise ProtocolError(f"a string of {length} bytes")
        if length > LONGEST_BYTES:
            raise ProtocolError(f"a string of {length} bytes; {LONGEST_BYTES} is the most")
        end = self._position + length + 2
        while len(self._buffer) < end:
            yield
        value = bytes(self._buffer[self._position : end - 2])
        self._position = end
        return ReplyError(value.decode("utf-8", "replace")) if kind == b"!" else value

    def _items(self, count: int, depth: int) -> Generator[None, None, list | None]:
        if count == -1:
            return None
        if count < 0:
            raise ProtocolError(f"an array of {count} items")
        items = []
        for _ in range(count):
            items.append((yield from self._value(depth + 1)))
        return items

    def _line(self) -> Generator[None, None, bytes]:
        seen = self._position
        while len(self._buffer) == seen:
            yield
        ending = b"\r\n" if self._buffer[seen] in TYPES else b"\n"  # an inline command may end as in netcat
        while (end := self._buffer.find(ending, seen)) < 0:
            seen = max(self._position, len(self._buffer) - 1)
            if seen - self._position > LONGEST_LINE:
                break
            yield
        if max(seen, end) - self._position > LONGEST_LINE:
            raise ProtocolError(f"a line of more than {LONGEST_LINE} bytes")
        line = bytes(self._buffer[self._position : end])
        self._position = end + len(ending)
        return line


def _number(digits: bytes) -> int:
    if not NUMBER.fullmatch(digits):
        raise ProtocolError(f"a number was expected, {digits[:40]!r} came")
    return int(digits)


def _hashable(value: object) -> object:
    return repr(value) if isinstance(value, list | dict) else value


def encode(*args: str | bytes | int | float) -> bytes:
    """One command as bytes: an array of strings."""
    parts = [b"*%d\r\n" % len(args)]
    for arg in args:
        data = arg if isinstance(arg, bytes) else str(arg).encode()
        parts.append(b"$%d\r\n%s\r\n" % (len(data), data))
    return b"".join(parts)
