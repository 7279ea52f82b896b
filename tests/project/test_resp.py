"""The protocol, read byte for byte: frames come out the same however the stream was cut on its way."""

import itertools
import random

import pytest

from labkit.resp import DEEPEST, LONGEST_BYTES, LONGEST_LINE, FrameReader, ProtocolError, ReplyError, encode

FRAMES = {
    b"+OK\r\n": b"OK",
    b":-7\r\n": -7,
    b"$5\r\nhello\r\n": b"hello",
    b"$0\r\n\r\n": b"",
    b"$-1\r\n": None,
    b"$4\r\n\r\n$1\r\n": b"\r\n$1",
    b"*-1\r\n": None,
    b"*0\r\n": [],
    b"*2\r\n$4\r\nLLEN\r\n$6\r\nimages\r\n": [b"LLEN", b"images"],
    b"*3\r\n:1\r\n*2\r\n+a\r\n$-1\r\n$1\r\nb\r\n": [1, [b"a", None], b"b"],
    b"_\r\n": None,
    b"#t\r\n": b"t",
    b",3.14\r\n": b"3.14",
    b"(3492890328409238509324850943850943825024385\r\n": b"3492890328409238509324850943850943825024385",
    b"=7\r\ntxt:abc\r\n": b"txt:abc",
    b"~2\r\n:1\r\n:2\r\n": [1, 2],
    b"%2\r\n$1\r\na\r\n:1\r\n*1\r\n:5\r\n:2\r\n": {b"a": 1, "[5]": 2},
    b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\nhi\r\n": [b"message", b"c", b"hi"],
    b"|1\r\n+ttl\r\n:3600\r\n$1\r\nx\r\n": b"x",
    b"LLEN images\r\n": [b"LLEN", b"images"],
    b"PING\n": [b"PING"],
    b"\r\n": [],
}
ERRORS = {
    b"-WRONGTYPE wrong kind of value\r\n": "WRONGTYPE wrong kind of value",
    b"!10\r\nERR broken\r\n": "ERR broken",
}
BROKEN = [
    b"$-2\r\n",
    b"*-5\r\n",
    b"%-1\r\n",
    b"$x\r\n",
    b"*1_0\r\n",
    b":\r\n",
    b"$%d\r\n" % (LONGEST_BYTES + 1),
    b"*" + b"9" * 30 + b"\r\n",
    b"*1\r\n" * (DEEPEST + 1) + b":1\r\n",
    b"+" + b"x" * (LONGEST_LINE + 1) + b"\r\n",
    b"x" * (LONGEST_LINE + 1) + b"\n",
]


def read(stream, *cuts):
    """The frames of a stream that comes in pieces, cut at these places."""
    reader = FrameReader()
    ends = [0, *sorted(cuts), len(stream)]
    return [frame for a, b in itertools.pairwise(ends) for frame in reader.feed(stream[a:b])]


@pytest.mark.parametrize("raw", FRAMES)
def test_a_frame_is_read_whole_and_kept_as_it_came(raw):
    for cut in range(len(raw)):
        [frame] = read(raw, cut)
        assert (frame.raw, frame.value, frame.push) == (raw, FRAMES[raw], raw.startswith(b">"))
    [frame] = read(raw, *range(len(raw)))
    assert (frame.raw, frame.value) == (raw, FRAMES[raw])


@pytest.mark.parametrize("raw", ERRORS)
def test_an_error_of_the_server_is_a_value(raw):
    [frame] = read(raw, 3)
    assert isinstance(frame.value, ReplyError)
    assert str(frame.value) == ERRORS[raw]


def test_any_stream_cut_anywhere_gives_the_same_frames():
    chance = random.Random(3)
    kinds = [*FRAMES, *ERRORS]
    for _ in range(400):
        frames = chance.choices(kinds, k=chance.randint(1, 12))
        stream = b"".join(frames)
        cuts = [chance.randrange(len(stream) + 1) for _ in range(chance.randint(0, 20))]
        seen = read(stream, *cuts)
        assert [frame.raw for frame in seen] == frames, (stream, cuts)


def test_random_values_come_back_from_their_encoding():
    chance = random.Random(4)
    for _ in range(200):
        words = [chance.randbytes(chance.choice([0, 1, 7, 300])) for _ in range(chance.randint(1, 6))]
        raw = encode(*words)
        [frame] = read(raw, chance.randrange(len(raw)))
        assert frame.value == words


def test_a_large_string_in_pieces():
    body = random.Random(5).randbytes(5_000_000)
    raw = encode("LPUSH", "images", body)
    [frame] = read(raw, *range(0, len(raw), 65536))
    assert frame.value == [b"LPUSH", b"images", body]
    assert frame.raw == raw


@pytest.mark.parametrize("raw", BROKEN, ids=lambda raw: repr(raw[:12]))
@pytest.mark.parametrize("whole", [True, False], ids=["at once", "in pieces"])
def test_what_can_not_be_read_is_refused(raw, whole):
    with pytest.raises(ProtocolError):
        read(raw, *(() if whole else range(0, len(raw), 7)))


def test_after_an_error_nothing_more_is_read():
    reader = FrameReader()
    with pytest.raises(ProtocolError):
        reader.feed(b"$x\r\n")
    for more in (b"+OK\r\n", b""):
        with pytest.raises(ProtocolError):
            reader.feed(more)


def test_what_came_whole_before_an_error_is_not_lost():
    reader = FrameReader()
    assert [frame.value for frame in reader.feed(b"PING\r\n+OK\r\n*-7\r\n")] == [[b"PING"], b"OK"]
    assert reader.error
    with pytest.raises(ProtocolError):
        reader.feed(b"")


def test_arrays_as_deep_as_allowed_are_read():
    [frame] = read(b"*1\r\n" * DEEPEST + b":1\r\n", 5, 9)
    value = frame.value
    for _ in range(DEEPEST):
        [value] = value
    assert value == 1


def test_random_bytes_never_do_harm():
    chance = random.Random(6)
    for _ in range(3000):
        reader = FrameReader()
        noise = bytes(chance.choices(b"*$+-:_#,(!=%~>|0123456789\r\nab", k=40))
        try:
            raw = b"".join(frame.raw for frame in [*reader.feed(noise[:20]), *reader.feed(noise[20:])])
        except ProtocolError:
            continue
        assert noise.startswith(raw)
