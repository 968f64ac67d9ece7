"""What is watched of tensors: elements, words, labels and how sure the model was."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from taxiway.core.samples import SampledTensor
from taxiway.monitor.drift.columns import Column, columns_of
from taxiway.monitor.drift.data import rows_of


def columns(inputs: dict[str, Any], outputs: dict[str, Any], names: dict[str, list[str]] | None = None) -> list[Column]:
    return columns_of(rows_of("m", 1, inputs, outputs), names or {})


def test_elements_are_columns_with_the_names_they_were_given() -> None:
    x = np.arange(6, dtype=np.float32).reshape(3, 2)
    told = columns({"x": x, "n": np.array([1, 2, 3], np.int64)}, {}, {"x": ["age"]})
    assert [column.name for column in told] == ["age", "x[1]", "n"]
    np.testing.assert_array_equal(told[0].values, [0, 2, 4])


def test_words_are_columns_of_bytes() -> None:
    words = np.array([[b"a", b"x"], [b"bc", b""]], dtype=object)
    first, second = columns({"w": words}, {})
    assert (first.values, second.values) == ([b"a", b"bc"], [b"x", b""])
    assert not first.is_numeric


def test_scores_of_classes_tell_a_label_and_how_sure_it_is() -> None:
    scores = np.array([[0.1, 0.9], [0.7, 0.3]], np.float32)
    told = {column.name: column for column in columns({}, {"p": scores})}
    assert list(told) == ["p[0]", "p[1]", "p.label", "p.confidence"]
    np.testing.assert_array_equal(told["p.label"].values, [1, 0])
    np.testing.assert_allclose(np.asarray(told["p.confidence"].values), [0.9, 0.7])
    assert "q.confidence" not in [column.name for column in columns({}, {"q": scores * 5})]


def test_a_long_row_is_told_by_a_few_numbers() -> None:
    told = columns({"image": np.ones((2, 3, 40, 40), np.float32)}, {})
    assert 0 < len(told) <= 16
    assert all(len(column) == 2 for column in told)


@pytest.mark.parametrize("value", [1.0, -2.5, 0.0])
def test_numbers_of_16_bits_are_read(value: float) -> None:
    word = np.array([value], np.float32).view(np.uint32) >> 16
    tensor = SampledTensor("BF16", (1, 1), word.astype(np.uint16).tobytes())
    rows = msgspec.structs.replace(rows_of("m", 1, {"x": np.zeros((1, 1), np.float32)}, {}), inputs={"x": tensor})
    (column,) = columns_of(rows, {})
    assert np.asarray(column.values)[0] == value
