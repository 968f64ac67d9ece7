"""Shapes from nesting, and texts that stand for bytes."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxiway.core.errors import TooLarge, WrongElementType, WrongShape
from taxiway.core.tensors import Datatype
from taxiway.server.wire.nesting import print_document, text_or_b64, typed_elements, unnest


@given(st.lists(st.integers(0, 4), max_size=4))
def test_a_whole_tensor_gives_its_shape_and_its_elements_in_order(shape: list[int]) -> None:
    array = np.arange(math.prod(shape)).reshape(shape)
    found, flat = unnest("x", array.tolist(), 100)
    # What lies below a dimension of 0 cannot be seen in JSON.
    seen = shape[: shape.index(0) + 1] if 0 in shape else shape
    assert found == tuple(seen)
    assert flat == array.reshape(-1).tolist()


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([[1, 2], [3]], "at depth 1, part 0 is an array of 2 and part 1 is an array of 1"),
        ([1, [2]], "at depth 1, part 0 is no array and part 1 is an array of 1"),
        ([[1], 2], "at depth 1, part 0 is an array of 1 and part 1 is no array"),
        ([[[1], [2]], [[3], 4]], "at depth 2, part 0 is an array of 1 and part 3 is no array"),
        ([[], [1]], "at depth 1, part 0 is an array of 0 and part 1 is an array of 1"),
    ],
)
def test_ragged_nesting_is_refused(value: Any, words: str) -> None:
    with pytest.raises(WrongShape, match=words):
        unnest("x", value, 100)


def test_depth_is_bounded() -> None:
    assert unnest("x", [[[1]]], 3)[0] == (1, 1, 1)
    with pytest.raises(TooLarge, match="deeper than 2 arrays"):
        unnest("x", [[[1]]], 2)


@given(st.lists(st.binary(max_size=8), min_size=1, max_size=5))
def test_bytes_survive_the_round_trip(items: list[bytes]) -> None:
    assert typed_elements("x", Datatype.BYTES, [text_or_b64(item) for item in items], 100) == items


@pytest.mark.parametrize("item", [{"b64": "?"}, {"b64": "YQ="}, {"b64": 1}, {"b64": "YQ==", "more": 1}, {}])
def test_what_is_no_base64_is_refused(item: Any) -> None:
    with pytest.raises(WrongElementType, match="element 1 of input 'x' is"):
        typed_elements("x", Datatype.BYTES, ["a", item], 100)


def test_documents_keep_what_is_no_number() -> None:
    assert print_document({"a": [math.nan, -math.inf, 1.0]}) == b'{"a":[NaN,-Infinity,1.0]}'
    assert print_document({"a": ["null", "ö"]}) == '{"a":["null","ö"]}'.encode()
    assert json.loads(print_document({"a": [2**63 - 1]})) == {"a": [2**63 - 1]}
