"""gzip and deflate, there and back; what is refused, and how little it costs to refuse it."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxiway.core.errors import InvalidArgument, TooLarge
from taxiway.server.wire.coding import compress, decompress

PACK: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "deflate": zlib.compress}
UNPACK: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.decompress, "deflate": zlib.decompress}
CODINGS = pytest.mark.parametrize("coding", PACK)


@CODINGS
@given(st.lists(st.binary(max_size=300), max_size=5))
def test_what_is_packed_here_unpacks_elsewhere(coding: str, parts: list[bytes]) -> None:
    buffers = [memoryview(part) if index % 2 else part for index, part in enumerate(parts)]
    assert UNPACK[coding](compress(buffers, coding)) == b"".join(parts)


@CODINGS
@given(st.binary(max_size=1000))
def test_what_is_packed_elsewhere_unpacks_here(coding: str, data: bytes) -> None:
    assert decompress(PACK[coding](data), coding, 1000) == data


@CODINGS
@pytest.mark.parametrize("size", [0, 1, 262_143, 262_144, 262_145, 1_000_000])
def test_bodies_longer_than_a_step(coding: str, size: int) -> None:
    data = b"0123456789" * (size // 10) + b"x" * (size % 10)
    for level in (0, 9):
        packed = gzip.compress(data, level) if coding == "gzip" else zlib.compress(data, level)
        assert decompress(packed, coding, size) == data
        assert decompress(memoryview(bytearray(packed)), coding, size) == data


@CODINGS
def test_a_bomb_is_refused_before_it_costs_memory(coding: str) -> None:
    packed = PACK[coding](bytes(200_000_000))
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge, match="1000000 bytes") as refused:
            decompress(packed, coding, 1_000_000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert "limits.max_body_bytes" in refused.value.hint
    assert peak < 4_000_000


@CODINGS
def test_the_limit_itself_is_allowed(coding: str) -> None:
    assert len(decompress(PACK[coding](bytes(1000)), coding, 1000)) == 1000
    with pytest.raises(TooLarge):
        decompress(PACK[coding](bytes(1001)), coding, 1000)


@CODINGS
def test_every_truncation_is_refused(coding: str) -> None:
    packed = PACK[coding](b"some words and some more words")
    for length in range(len(packed)):
        with pytest.raises(InvalidArgument):
            decompress(packed[:length], coding, 1000)


@CODINGS
@pytest.mark.parametrize("tail", [b"x", b"\0", b"again", b"x" * 600_000], ids=["x", "nul", "word", "long"])
def test_anything_behind_the_stream_is_refused(coding: str, tail: bytes) -> None:
    packed = PACK[coding](b"words")
    with pytest.raises(InvalidArgument):
        decompress(packed + tail, coding, 1000)
    with pytest.raises(InvalidArgument):
        decompress(packed + packed, coding, 1000)


@CODINGS
def test_a_wrong_checksum_or_the_other_coding_is_refused(coding: str) -> None:
    packed = bytearray(PACK[coding](b"words"))
    packed[-5] ^= 1
    other = next(name for name in PACK if name != coding)
    for data in (bytes(packed), b"not packed at all", PACK[other](b"words")):
        with pytest.raises(InvalidArgument):
            decompress(data, coding, 1000)
