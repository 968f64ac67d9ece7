"""Tensor elements as JSON and as bytes: every datatype at its edges, NaN and Infinity both ways, what is refused."""

from __future__ import annotations

import json
import math
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxiway.core.errors import (
    InvalidArgument,
    MalformedJson,
    TooLarge,
    ValueOutOfRange,
    WrongByteSize,
    WrongElementCount,
    WrongElementType,
)
from taxiway.core.tensors import Datatype
from taxiway.server.signature import split_bytes
from taxiway.server.wire.elements import (
    elements_of,
    join_bytes,
    parse_json,
    print_elements,
    print_texts,
)

INTEGERS = [datatype for datatype in Datatype if "INT" in datatype.name]
FLOATS = [Datatype.FP32, Datatype.FP64]
DEPTH = 10


def _read(datatype: Datatype, data: Any, count: int | None = None) -> Any:
    return elements_of("x", datatype, data, len(data) if count is None else count, DEPTH)


def _array(datatype: Datatype, data: Any, count: int | None = None) -> list[Any]:
    return np.frombuffer(_read(datatype, data, count), datatype.numpy_dtype).tolist()  # type: ignore[no-any-return]


def _range(datatype: Datatype) -> tuple[int, int]:
    info = np.iinfo(datatype.numpy_dtype)
    return int(info.min), int(info.max)


@pytest.mark.parametrize("datatype", INTEGERS)
def test_integers_up_to_their_edges(datatype: Datatype) -> None:
    low, high = _range(datatype)
    assert _array(datatype, [low, 0, 1, high]) == [low, 0, 1, high]


@pytest.mark.parametrize("datatype", INTEGERS)
def test_integers_beyond_their_edges_are_refused_by_element(datatype: Datatype) -> None:
    """D7 of the wire's defects: nothing wraps around."""
    low, high = _range(datatype)
    for outside in (low - 1, high + 1):
        with pytest.raises(ValueOutOfRange, match=f"element 2 of input 'x' is {outside}; {datatype.wire_name}") as told:
            _read(datatype, [0, 1, outside, 0])
        assert told.value.facts["element"] == 2
        assert str(low) in told.value.message
        assert str(high) in told.value.message


def test_uint8_300() -> None:
    with pytest.raises(ValueOutOfRange, match="element 0 of input 'x' is 300; UINT8 holds 0 to 255"):
        _read(Datatype.UINT8, [300])


@pytest.mark.parametrize("datatype", [*INTEGERS, *FLOATS])
@pytest.mark.parametrize("wrong", [True, False, None, "1", {}, b""])
def test_numbers_are_numbers(datatype: Datatype, wrong: Any) -> None:
    """A bool is never a number here, though Python thinks so."""
    with pytest.raises(WrongElementType, match="element 1 of input 'x'"):
        _read(datatype, [1, wrong, 1])


@pytest.mark.parametrize("datatype", INTEGERS)
@pytest.mark.parametrize("wrong", [1.0, 1.5, -0.0, math.nan, math.inf])
def test_integers_are_not_floats(datatype: Datatype, wrong: float) -> None:
    with pytest.raises(WrongElementType, match="an integer"):
        _read(datatype, [wrong])


@pytest.mark.parametrize("wrong", [0, 1, 1.0, "true", None])
def test_booleans_are_true_or_false(wrong: Any) -> None:
    assert _array(Datatype.BOOL, [True, False]) == [True, False]
    with pytest.raises(WrongElementType, match="true or false"):
        _read(Datatype.BOOL, [True, wrong])


def test_texts() -> None:
    assert _read(Datatype.BYTES, ["", "é", "a\0b", "😀"]) == [b"", "é".encode(), b"a\0b", "😀".encode()]
    for wrong in (1, True, None):
        with pytest.raises(WrongElementType, match="a string"):
            _read(Datatype.BYTES, [wrong])
    with pytest.raises(MalformedJson, match="surrogate"):
        _read(Datatype.BYTES, ["\ud800"])


@pytest.mark.parametrize("datatype", [Datatype.FP16, Datatype.BF16])
def test_half_precision_needs_binary(datatype: Datatype) -> None:
    with pytest.raises(InvalidArgument, match=f"receiving {datatype.wire_name} data via JSON is not supported"):
        _read(datatype, [1.0])


@pytest.mark.parametrize("datatype", FLOATS)
def test_floats_take_integers_and_what_json_has_no_word_for(datatype: Datatype) -> None:
    got = _array(datatype, [1, -1.5, math.inf, -math.inf, math.nan])
    assert got[:4] == [1.0, -1.5, math.inf, -math.inf]
    assert math.isnan(got[4])


# --- shape of the data -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data", [[1, 2, 3, 4], [[1, 2], [3, 4]], [[[1], [2]], [[3], [4]]], [1, [2, [3]], 4], [[], [1, 2, 3, 4]]]
)
def test_nesting_does_not_matter(data: list[Any]) -> None:
    assert _array(Datatype.INT32, data, 4) == [1, 2, 3, 4]


def test_the_depth_is_bounded() -> None:
    def nested(depth: int) -> Any:
        data: Any = 7
        for _ in range(depth):
            data = [data]
        return data

    assert _array(Datatype.INT8, nested(DEPTH), 1) == [7]
    with pytest.raises(TooLarge, match=f"deeper than {DEPTH}") as told:
        _read(Datatype.INT8, nested(DEPTH + 1), 1)
    assert "limits.max_json_depth" in told.value.hint


@pytest.mark.parametrize(("data", "count"), [([1, 2], 3), ([1, 2], 1), ([], 1), ([[1], [2]], 3), ([[]], 1), ([1], 0)])
def test_the_count_must_be_the_shapes(data: list[Any], count: int) -> None:
    with pytest.raises(WrongElementCount, match=f"its shape says {count}"):
        _read(Datatype.INT32, data, count)


def test_an_element_beyond_the_shape_is_one_too_many_whatever_it_is() -> None:
    with pytest.raises(WrongElementCount, match="has 3 elements; its shape says 2"):
        _read(Datatype.INT32, [1, 2, "x"], 2)
    with pytest.raises(WrongElementType, match="element 1"):
        _read(Datatype.INT32, [1, "x", 3], 2)


@pytest.mark.parametrize("data", [None, 1, "1", {}, True])
def test_data_is_an_array(data: Any) -> None:
    with pytest.raises(WrongElementType, match="must be an array"):
        elements_of("x", Datatype.INT32, data, 1, DEPTH)


# --- documents -----------------------------------------------------------------------------------------


def test_the_tokens_that_json_lacks() -> None:
    got = parse_json(b'{"a":[NaN,Infinity,-Infinity,1.5]}')["a"]
    assert math.isnan(got[0])
    assert got[1:] == [math.inf, -math.inf, 1.5]
    assert parse_json(memoryview(b"[-Infinity]")) == [-math.inf]


def test_a_byte_order_mark_is_skipped() -> None:
    assert parse_json(b'\xef\xbb\xbf{"a":1}') == {"a": 1}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nan",
        b"[1,]",
        b"{'a':1}",
        b"[NaN",
        b"\xff",
        b'"NaN" \xff',
        b"[1] x",
        b"[01]",
        b"[Infinit]",
        b'{"NaN":}',
        b'{"id":"\\ud800","x":NaN}',
        b'{"\\ud800":NaN}',
    ],
)
def test_what_is_not_json_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedJson):
        parse_json(body)


@pytest.mark.parametrize("word", [b"1", b"NaN"])
def test_bottomless_nesting_is_refused(word: bytes) -> None:
    with pytest.raises(MalformedJson):
        parse_json(b"[" * 100_000 + word + b"]" * 100_000)


# --- out, and back -------------------------------------------------------------------------------------


def _bits32(value: float) -> bytes:
    return struct.pack("<f", value)


@given(st.lists(st.floats(width=32), min_size=1))
def test_fp32_comes_back_bit_by_bit(values: list[float]) -> None:
    array = np.array(values, np.float32)
    back = np.frombuffer(_read(Datatype.FP32, parse_json(print_elements(array.tolist()))), np.float32)
    nan = np.isnan(array)
    np.testing.assert_array_equal(np.isnan(back), nan)  # which NaN it was, JSON cannot say
    assert back[~nan].tobytes() == array[~nan].tobytes()


@given(st.integers(0, 2**32 - 1))
def test_every_pattern_of_32_bits_comes_back(bits: int) -> None:
    value = np.array([bits], np.uint32).view(np.float32)
    back = _read(Datatype.FP32, parse_json(print_elements(value.tolist())))
    if math.isnan(value[0]):
        assert math.isnan(back[0])
    else:
        assert bytes(memoryview(back)) == value.tobytes()


@given(st.lists(st.floats(allow_nan=False), min_size=1))
def test_fp64_comes_back(values: list[float]) -> None:
    assert _array(Datatype.FP64, parse_json(print_elements(values))) == values


@given(st.lists(st.floats(width=32)))
def test_what_is_printed_is_what_any_reader_of_json_with_nan_reads(values: list[float]) -> None:
    text = print_elements(values)
    np.testing.assert_array_equal(json.loads(text), values)
    assert b"null" not in text
    assert b" " not in text


def test_printed_forms() -> None:
    assert print_elements(np.array([0.1, 2, -0.0, np.nan, np.inf, -np.inf], np.float32).tolist()) == (
        b"[0.10000000149011612,2.0,-0.0,NaN,Infinity,-Infinity]"
    )
    assert print_elements([]) == b"[]"
    assert print_elements([True, False]) == b"[true,false]"
    assert print_elements([2**64 - 1, -(2**63)]) == b"[18446744073709551615,-9223372036854775808]"
    assert print_texts([b"null", "é".encode(), b'"'], "y") == '["null","é","\\""]'.encode()


def test_bytes_that_are_not_text_cannot_be_printed() -> None:
    with pytest.raises(InvalidArgument, match="not UTF-8") as told:
        print_texts([b"\xff"], "y")
    assert "binary_data" in told.value.hint


@given(st.lists(st.binary(max_size=20)))
def test_binary_texts_come_back(items: list[bytes]) -> None:
    assert split_bytes("x", memoryview(join_bytes(items)), len(items)) == items


@given(st.lists(st.binary(max_size=20), min_size=1), st.data())
def test_binary_texts_cut_short_or_miscounted_are_refused(items: list[bytes], data: st.DataObject) -> None:
    raw = memoryview(join_bytes(items))
    for count in {len(items) - 1, len(items) + 1}:
        with pytest.raises(WrongByteSize):
            split_bytes("x", raw, count)
    with pytest.raises(WrongByteSize):
        split_bytes("x", raw[: data.draw(st.integers(0, len(raw) - 1))], len(items))


def test_a_length_beyond_the_end_is_refused_without_reading_it() -> None:
    with pytest.raises(WrongByteSize, match="4294967295 bytes; 1 are left"):
        split_bytes("x", memoryview(b"\xff\xff\xff\xffa"), 1)
