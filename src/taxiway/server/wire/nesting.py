"""Shapes taken from the nesting of JSON arrays, and {"b64": ...} standing for bytes, as KServe v1 has them."""

from __future__ import annotations

import base64
import binascii
import json
from itertools import chain
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from taxiway.core.errors import InvalidArgument, TooLarge, WrongElementType, WrongShape
from taxiway.core.tensors import Datatype, Shape, TensorSpec
from taxiway.server.wire.elements import Elements, elements_of

_B64 = "b64"


def unnest(name: str, value: Any, max_depth: int) -> tuple[Shape, list[Any]]:  # noqa: ANN401 - any JSON value
    """The shape that nested arrays form, and their elements in order; a value that is no array has shape ().

    Raises:
        WrongShape: arrays of unequal lengths, or arrays beside elements, at the same depth.
        TooLarge: deeper than `max_depth`.
    """
    if value.__class__ is not list:
        return (), [value]
    shape: Shape = (len(value),)
    flat: list[Any] = value
    while flat and list in (kinds := set(map(type, flat))):
        if len(kinds) > 1:
            raise _ragged(name, flat, len(shape))
        if len(shape) >= max_depth:
            raise TooLarge(
                f"input {name!r} nests deeper than {max_depth} arrays",
                hint="limits.max_json_depth bounds it",
                limit=max_depth,
            )
        lengths = set(map(len, flat))
        if len(lengths) > 1:
            raise _ragged(name, flat, len(shape))
        shape = (*shape, lengths.pop())
        flat = list(chain.from_iterable(flat))
    return shape, flat


def _ragged(name: str, level: list[Any], depth: int) -> WrongShape:
    """Names the first part that is unlike the first one, counted through the whole level."""
    sizes = [len(part) if part.__class__ is list else None for part in level]
    index = next(index for index, size in enumerate(sizes) if size != sizes[0])
    return WrongShape(
        f"input {name!r} is ragged: at depth {depth}, part 0 is {_part(sizes[0])} and part {index} is "
        f"{_part(sizes[index])}",
        hint="a tensor has one shape: pad the parts to the same length, or send them in requests of their own",
    )


def _part(size: int | None) -> str:
    return "no array" if size is None else f"an array of {size}"


def typed_elements(name: str, datatype: Datatype, flat: list[Any], max_depth: int) -> Elements:
    """The elements of one tensor, checked as strictly as /infer does; {"b64": ...} may stand for a BYTES element.

    Raises:
        InvalidArgument, WrongElementType, ValueOutOfRange: as `elements_of`.
    """
    if datatype is not Datatype.BYTES or dict not in set(map(type, flat)):
        return elements_of(name, datatype, flat, len(flat), max_depth)
    decoded = {index: _from_b64(name, index, item) for index, item in enumerate(flat) if is_b64(item)}
    texts = ["" if index in decoded else item for index, item in enumerate(flat)]
    elements: list[bytes] = elements_of(name, datatype, texts, len(flat), max_depth)
    return [decoded.get(index, item) for index, item in enumerate(elements)]


def is_b64(value: Any) -> bool:  # noqa: ANN401
    """Whether a JSON value is the v1 protocol's form of bytes."""
    return value.__class__ is dict and len(value) == 1 and value.get(_B64).__class__ is str


def _from_b64(name: str, index: int, item: dict[str, str]) -> bytes:
    try:
        return base64.b64decode(item[_B64], validate=True)
    except (binascii.Error, ValueError) as problem:
        raise WrongElementType(f"element {index} of input {name!r} is not base64: {problem}") from None


def text_or_b64(item: bytes) -> str | dict[str, str]:
    """How an element of BYTES is told: as text if it is UTF-8."""
    try:
        return item.decode()
    except UnicodeDecodeError:
        return {_B64: base64.b64encode(item).decode()}


def print_document(document: Any) -> bytes:  # noqa: ANN401 - dicts, lists, numbers, texts
    """A JSON document without null in it; NaN and Infinity are printed as such tokens, as /infer prints them."""
    text = orjson.dumps(document)
    if b"null" in text:  # what orjson makes of NaN, or a text that holds the word
        return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
    return text


def nested(spec: TensorSpec, array: NDArray[Any]) -> Any:  # noqa: ANN401 - lists of lists of whatever it holds
    """An output as nested lists; a scalar as it is.

    Raises:
        InvalidArgument: BF16, whose numbers are only known to binary readers.
    """
    if spec.datatype is Datatype.BF16:
        raise InvalidArgument(
            f"output {spec.name!r} is BF16, which this protocol cannot carry",
            hint='ask /v2/models/{model}/infer for it with "parameters": {"binary_data": true}',
        )
    if spec.datatype is Datatype.BYTES:
        texts = np.empty(array.size, dtype=object)
        texts[:] = [text_or_b64(item) for item in array.reshape(-1).tolist()]
        array = texts.reshape(array.shape)
    return array.tolist()
