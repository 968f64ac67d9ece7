"""Opcodes are read as Python's own unpickler reads them: what it goes on from, we go on from."""

from __future__ import annotations

import io
import pickle

import pytest

from taxiway.intake.read.pickles import read_stream

CALL = b"cos\nsystem\n(S'true'\ntR."


@pytest.mark.parametrize(
    "before",
    [b"I0x10\n", b"I0b1\n", b"I010\n", b"I-0x10\n", b"I1\r\n", b"I\n", b"L0x10L\n", b"L5\n", b"F1\n", b"S'\\x41'\n",
     b"V" + b"x" * 100_000 + b"\n", b"T\x02\0\0\0ab", b"C\x02ab", b"\x8e\x02\0\0\0\0\0\0\0ab", b"G" + b"\xff" * 8,
     b"\x8a\x01\x05", b"\x80\x05", "S'é'\n".encode()],
)  # fmt: skip
def test_nothing_stops_only_us(before: bytes) -> None:
    stream = read_stream(io.BytesIO(before + b"N0" + CALL), 1000)
    assert stream.globals == ("os.system",)
    assert stream.acts
    assert stream.ends


@pytest.mark.parametrize("data", [b"\x80\x06N.", b"I0xz\nN.", b"S'a\nN.", b"C\x05ab", b"T\xff\xff\xff\xffN.", b"N"])
def test_what_the_unpickler_stops_at_stops_us(data: bytes) -> None:
    with pytest.raises(Exception):  # noqa: B017, PT011 - the unpickler has many
        pickle.loads(data)  # noqa: S301 - nothing in it runs
    assert not read_stream(io.BytesIO(data), 1000).ends


def test_a_large_argument_is_not_read_but_must_be_there() -> None:
    whole = b"B" + (1 << 20).to_bytes(4, "little") + bytes(1 << 20)
    assert read_stream(io.BytesIO(whole + b"0" + CALL), 1000).acts
    assert "bytes are expected" in read_stream(io.BytesIO(whole[:-1]), 1000).problem
