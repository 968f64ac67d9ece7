"""Tensor elements as JSON and as bytes.

JSON numbers go into `array.array`, which checks each one's type and range in C and whose memory a model reads as it is.
orjson refuses the NaN and Infinity tokens that the protocol needs, and prints such floats as null; so a body it
refuses gets a second reader, and a text with a null in it a second writer.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from taxiway.core.errors import (
    InvalidArgument,
    MalformedJson,
    TooLarge,
    ValueOutOfRange,
    WrongElementCount,
    WrongElementType,
)
from taxiway.core.tensors import Datatype

Elements = Any
"""A C-ordered little-endian buffer, or a list of bytes objects for BYTES."""

_TYPECODES = {
    Datatype.UINT8: "B",
    Datatype.UINT16: "H",
    Datatype.UINT32: "I",
    Datatype.UINT64: "Q",
    Datatype.INT8: "b",
    Datatype.INT16: "h",
    Datatype.INT32: "i",
    Datatype.INT64: "q",
    Datatype.FP32: "f",
    Datatype.FP64: "d",
}
_INT: set[type] = {int}
_NUMBER: set[type] = {int, float}
_ALLOWED: dict[Datatype, set[type]] = {
    **dict.fromkeys(_TYPECODES, _INT),
    Datatype.FP32: _NUMBER,
    Datatype.FP64: _NUMBER,
    Datatype.BOOL: {bool},
    Datatype.BYTES: {str},
}
_JSON_WORD = {
    **dict.fromkeys(_TYPECODES, "an integer"),
    Datatype.FP32: "a number",
    Datatype.FP64: "a number",
    Datatype.BOOL: "true or false",
    Datatype.BYTES: "a string",
}


def _pack(typecode: str) -> Callable[[list[Any]], Elements]:
    return lambda flat: array(typecode, flat)


_PACK: dict[Datatype, Callable[[list[Any]], Elements]] = {
    **{datatype: _pack(typecode) for datatype, typecode in _TYPECODES.items()},
    Datatype.BOOL: bytes,
    Datatype.BYTES: lambda flat: [item.encode() for item in flat],
}


# --- JSON in -------------------------------------------------------------------------------------------


def parse_json(body: Any) -> Any:  # noqa: ANN401 - any buffer in, any JSON value out
    """The document in `body`; NaN, Infinity and -Infinity are numbers, as in Triton.

    Raises:
        MalformedJson: not UTF-8, not JSON, or too deep.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as problem:
        raw = bytes(body)
        if raw.startswith(b"\xef\xbb\xbf") or b"NaN" in raw or b"Inf" in raw:
            return _parse_leniently(raw)
        raise MalformedJson(
            f"the body is not JSON: {problem}",
            hint="a body with binary tensors needs the header Inference-Header-Content-Length",
        ) from None


def _parse_leniently(raw: bytes) -> Any:  # noqa: ANN401
    try:
        document = json.loads(raw.decode("utf-8-sig"))
        if b"\\u" in raw:
            # Unlike orjson, json takes half a surrogate pair, which no answer could repeat.
            json.dumps(document, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as problem:
        raise MalformedJson(f"the body is not JSON: {problem}") from None
    return document


def elements_of(name: str, datatype: Datatype, data: Any, count: int | None, max_depth: int) -> Elements:  # noqa: ANN401
    """The elements of JSON `data` (flat or nested however deep), which must be `count` if that is given.

    BYTES are not counted here: Triton counts them later, with the binary ones.

    Raises:
        InvalidArgument: a datatype that JSON cannot carry (FP16, BF16).
        WrongElementType, ValueOutOfRange, WrongElementCount, TooLarge: what it says, naming input and element.
    """
    allowed = _ALLOWED.get(datatype)
    if allowed is None:
        raise InvalidArgument(
            f"receiving {datatype.wire_name} data via JSON is not supported. "
            f"Please use the binary data format for input {name}",
            hint="send the tensor with the binary tensor data extension",
        )
    if data.__class__ is not list:
        raise WrongElementType(f"'data' of input {name!r} is {_shown(data)}; it must be an array")
    kinds = set(map(type, data))
    if not kinds <= allowed:
        if list in kinds:
            data = _flatten(name, data, max_depth)
            kinds = set(map(type, data))
        if not kinds <= allowed:
            raise _wrong_type(name, datatype, data, allowed, count)
    if count is not None and len(data) != count and datatype is not Datatype.BYTES:
        raise _wrong_count(name, data, count)
    try:
        return _PACK[datatype](data)
    except OverflowError:
        raise _out_of_range(name, datatype, data) from None
    except UnicodeEncodeError:
        raise MalformedJson(f"a string of input {name!r} is not Unicode text: it holds half a surrogate pair") from None


def _flatten(name: str, data: list[Any], max_depth: int) -> list[Any]:
    """Elements of nested lists in order; lists and elements may stand side by side, as Triton takes them."""
    for _ in range(max_depth):
        flat: list[Any] = []
        deeper = False
        for item in data:
            if item.__class__ is list:
                flat += item
                deeper = True
            else:
                flat.append(item)
        if not deeper:
            return flat
        data = flat
    raise TooLarge(
        f"'data' of input {name!r} nests deeper than {max_depth} arrays",
        hint="limits.max_json_depth bounds it; flat data is always taken",
        limit=max_depth,
    )


def _wrong_count(name: str, data: list[Any], count: int) -> WrongElementCount:
    return WrongElementCount(f"'data' of input {name!r} has {len(data)} elements; its shape says {count}")


def _wrong_type(
    name: str, datatype: Datatype, data: list[Any], allowed: set[type], count: int | None
) -> WrongElementType | WrongElementCount:
    """The first element of another kind; beyond those that the shape has, it is one too many before all else."""
    index, item = next((index, item) for index, item in enumerate(data) if type(item) not in allowed)
    if count is not None and index >= count and datatype is not Datatype.BYTES:
        return _wrong_count(name, data, count)
    return WrongElementType(
        f"element {index} of input {name!r} is {_shown(item)}; {datatype.wire_name} takes {_JSON_WORD[datatype]}"
    )


def _out_of_range(name: str, datatype: Datatype, data: list[Any]) -> ValueOutOfRange:
    if datatype in (Datatype.FP32, Datatype.FP64):
        return ValueOutOfRange(f"an integer of input {name!r} has more digits than {datatype.wire_name} holds")
    bits = datatype.itemsize * 8
    low, high = (0, 2**bits - 1) if datatype.wire_name.startswith("U") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    index, item = next(((i, item) for i, item in enumerate(data) if not low <= item <= high), (0, data[0]))
    return ValueOutOfRange(
        f"element {index} of input {name!r} is {item}; {datatype.wire_name} holds {low} to {high}", element=index
    )


def _shown(item: Any) -> str:  # noqa: ANN401
    """What was sent, in a few words: it may be large, and nested as deep as the reader allows."""
    if item.__class__ in (list, dict):
        return "an array" if item.__class__ is list else "an object"
    if item.__class__ is str:
        return json.dumps(item if len(item) <= 60 else item[:57] + "...")
    return json.dumps(item, default=str)[:60]


# --- JSON out ------------------------------------------------------------------------------------------


def print_elements(flat: Sequence[Any]) -> bytes:
    """A JSON array of a tensor's elements (a list of bool, int, float or str)."""
    text = orjson.dumps(flat)
    if b"null" in text and flat and flat[0].__class__ is float:
        return json.dumps(flat, separators=(",", ":")).encode()
    return text


def print_texts(items: Sequence[bytes], name: str) -> bytes:
    """A JSON array of a BYTES tensor's elements.

    Raises:
        InvalidArgument: an element is not UTF-8, which JSON cannot carry.
    """
    try:
        return orjson.dumps([item.decode() for item in items])
    except UnicodeDecodeError:
        raise InvalidArgument(
            f"output {name!r} holds bytes that are not UTF-8 text, which JSON cannot carry",
            hint='ask for it with "parameters": {"binary_data": true}',
        ) from None


# --- bytes in and out ----------------------------------------------------------------------------------


def join_bytes(items: Sequence[bytes]) -> bytes:
    """A BYTES tensor's elements in binary."""
    return b"".join([part for item in items for part in (len(item).to_bytes(4, "little"), item)])
