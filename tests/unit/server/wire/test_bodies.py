"""Bodies in pieces: chunks against an oracle whatever the reads, and memory that is where the tensors need it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxiway.core.errors import MalformedHttp, TaxiwayError, TooLarge
from taxiway.server.wire.bodies import ChunkedBody, FixedBody

NEXT = b"GET /next HTTP/1.1\r\n\r\n"


def _feed(body: ChunkedBody | FixedBody, pieces: list[bytes]) -> bytes:
    """Give the body what it wants of each piece; what it left."""
    left = b""
    for piece in pieces:
        position = 0 if not body.done else None
        left += piece if position is None else piece[body.feed(piece, position) :]
    return left


def _cut(data: bytes, cuts: list[int]) -> list[bytes]:
    marks = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:stop] for start, stop in itertools.pairwise(marks)]


_SIZE_FORMS = st.sampled_from(["%x", "%X", "0%x", "%x;name=value", "%x ; a", "%x\t"])
_TRAILERS = st.lists(st.sampled_from([b"X: y\r\n", b"Checksum: 1\r\n"]), max_size=3)


@given(st.lists(st.binary(min_size=1, max_size=200), max_size=8), st.data())
def test_chunks_are_joined_however_they_come(chunks: list[bytes], data: st.DataObject) -> None:
    sent = b"".join(
        (data.draw(_SIZE_FORMS) % len(chunk)).encode() + b"\r\n" + chunk + b"\r\n" for chunk in chunks
    ) + b"".join([b"0\r\n", *data.draw(_TRAILERS), b"\r\n", NEXT])
    body = ChunkedBody(2000, 10)
    left = _feed(body, _cut(sent, data.draw(st.lists(st.integers(0, 3000), max_size=20))))
    assert body.done
    assert body.content() == b"".join(chunks)
    assert body.received == sum(map(len, chunks))
    assert left == NEXT


def test_chunks_byte_by_byte() -> None:
    body = ChunkedBody(100, 10)
    sent = b"3\r\nabc\r\n2;x\r\nde\r\n0\r\nT: 1\r\n\r\n"
    assert _feed(body, [bytes([byte]) for byte in sent]) == b""
    assert body.content() == b"abcde"
    assert body.done


MALFORMED = {
    "no-size": b"\r\nabc\r\n",
    "not-hexadecimal": b"3g\r\nabc\r\n",
    "signed": b"+3\r\nabc\r\n",
    "negative": b"-3\r\nabc\r\n",
    "prefixed": b"0x3\r\nabc\r\n",
    "underscore": b"1_0\r\n",
    "leading-space": b" 3\r\nabc\r\n",
    "over-64-bits": b"10000000000000003\r\nabc\r\n",
    "bare-line-feed-after-size": b"3\nabc\r\n",
    "bare-line-feed-in-extension": b"3;a\nb\r\nabc\r\n",
    "bare-return-in-extension": b"3;a\rb\r\nabc\r\n",
    "bare-return-after-size": b"3\r\r\nabc\r\n",
    "longer-than-said": b"3\r\nabcd\r\n",
    "shorter-than-said": b"3\r\nab\r\n0\r\n\r\n",
    "bare-line-feed-after-data": b"3\r\nabc\n0\r\n\r\n",
    "bare-return-in-trailer": b"0\r\nA: b\rc\r\n\r\n",
    "bare-line-feed-in-trailer": b"0\r\nA: b\n\r\n",
    "only-a-line-feed-in-trailer": b"0\r\n\n",
    "endless-size-line": b"3;" + b"x" * 2000,
    "endless-trailer-line": b"0\r\nA: " + b"x" * 9000,
    "endless-trailer": b"0\r\n" + b"A: b\r\n" * 2000,
}


@pytest.mark.parametrize("sent", MALFORMED.values(), ids=MALFORMED.keys())
@pytest.mark.parametrize("whole", [True, False], ids=["at-once", "byte-by-byte"])
def test_malformed_chunks_are_refused(sent: bytes, whole: bool) -> None:
    with pytest.raises(MalformedHttp):
        _feed(ChunkedBody(10_000, 10), [sent] if whole else [bytes([byte]) for byte in sent])


def test_limits_are_enforced_before_the_bytes_come_and_named() -> None:
    with pytest.raises(TooLarge, match="10 bytes") as refused:
        _feed(ChunkedBody(10, 10), [b"b\r\n"])
    assert "limits.max_body_bytes" in refused.value.hint
    with pytest.raises(TooLarge, match="10 bytes"):
        _feed(ChunkedBody(10, 10), [b"a\r\n0123456789\r\n1\r\n"])
    with pytest.raises(TooLarge, match="2 chunks") as refused:
        _feed(ChunkedBody(10, 2), [b"1\r\na\r\n" * 3])
    assert "limits.max_chunks" in refused.value.hint
    body = ChunkedBody(10, 1)
    _feed(body, [b"a\r\n0123456789\r\n0\r\n\r\n"])
    assert body.content() == b"0123456789"


@given(st.binary(max_size=60), st.lists(st.integers(0, 60), max_size=5))
def test_cutting_chunks_differently_never_changes_the_verdict(noise: bytes, cuts: list[int]) -> None:
    def verdict(pieces: list[bytes]) -> object:
        body = ChunkedBody(30, 3)
        try:
            left = _feed(body, pieces)
        except TaxiwayError as error:
            return type(error)
        return body.done, body.content(), left

    sent = b"3\r\nabc\r\n" + noise
    assert verdict(_cut(sent, cuts)) == verdict([sent])


@given(st.integers(0, 300), st.integers(0, 400), st.lists(st.integers(0, 400), max_size=6))
def test_a_fixed_body_takes_its_length_and_aligns_its_binary_part(length: int, json: int, cuts: list[int]) -> None:
    content = bytes(index % 251 for index in range(length))
    body = FixedBody(length, json)
    left = _feed(body, _cut(content + NEXT, cuts))
    assert body.done
    assert (body.received, body.missing) == (length, 0)
    assert bytes(body.content()) == content
    assert left == NEXT
    if json < length:
        assert np.frombuffer(body.content()[json:], np.uint8).ctypes.data % 64 == 0


def test_a_fixed_body_is_filled_in_place() -> None:
    body = FixedBody(100, 10)
    body.feed(b"x" * 40 + NEXT[:0], 0)
    space = body.space()
    assert len(space) == body.missing == 60
    assert np.shares_memory(np.frombuffer(space, np.uint8), np.frombuffer(body.content(), np.uint8))
    space[:60] = b"y" * 60
    body.advance(59)
    assert not body.done
    body.advance(1)
    assert bytes(body.content()) == b"x" * 40 + b"y" * 60


def test_an_announced_gigabyte_costs_nothing_until_it_comes() -> None:
    def resident() -> int:
        with open("/proc/self/statm") as file:  # noqa: PTH123 - a file of one line
            return int(file.read().split()[1]) * 4096

    before = resident()
    body = FixedBody(1 << 30, 0)
    body.feed(b"x" * 1000, 0)
    assert resident() - before < 64 << 20
