"""Histograms that do not care how values were batched, and the ranges that come of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from taxiway.optimize.calibrate.collecting import collect
from taxiway.optimize.calibrate.histogram import Histogram
from taxiway.optimize.calibrate.ranges import Method, range_of
from taxiway.optimize.calibrate.store import load_histograms, write_histograms

Floats = NDArray[np.float32]
values = hnp.arrays(np.float32, st.integers(1, 200), elements=st.floats(-1e6, 1e6, width=32))


def histogram_of(*pieces: NDArray[np.float32]) -> Histogram:
    made = Histogram()
    for piece in pieces:
        made.add(piece)
    return made


def same(one: Histogram, other: Histogram) -> bool:
    return (one.low, one.high, one.scale, one.zeros + int(one.counts.sum()), one.total) == (
        other.low,
        other.high,
        other.scale,
        other.zeros + int(other.counts.sum()),
        other.total,
    ) and np.array_equal(one.bins()[1], other.bins()[1])


@given(values, st.integers(0, 200), st.randoms())
def test_it_is_the_same_however_the_values_were_batched_and_ordered(
    drawn: Floats, cut: int, order: np.random.Generator
) -> None:
    shuffled = drawn.copy()
    order.shuffle(shuffled)
    assert same(histogram_of(drawn), histogram_of(shuffled[:cut], shuffled[cut:]))


@given(values)
def test_it_counts_every_value_and_knows_both_ends(drawn: Floats) -> None:
    made = histogram_of(drawn)
    middles, counts = made.bins()
    assert counts.sum() == made.total == len(drawn)
    assert (made.low, made.high) == (drawn.min(), drawn.max())
    assert (middles >= made.low).all()
    assert (middles <= made.high).all()


def test_what_is_not_a_number_is_counted_and_left_out() -> None:
    made = histogram_of(np.array([1.0, np.nan, np.inf, -2.0], dtype=np.float32))
    assert (made.total, made.not_finite, made.low, made.high) == (2, 2, -2.0, 1.0)


def test_it_takes_bounded_memory_however_far_values_lie_apart() -> None:
    made = histogram_of(*(np.array([10.0**at], dtype=np.float32) for at in range(-20, 20)))
    assert made.counts.nbytes == 4096 * 8
    assert made.total == 40


def test_a_file_holds_all_of_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    written = {
        "spread": histogram_of(rng.normal(0, 3, 1000).astype(np.float32)),
        "zeros": histogram_of(np.zeros(7, dtype=np.float32)),
        "nothing": Histogram(),
    }
    write_histograms(written, tmp_path / "h.npz")
    read = load_histograms(tmp_path / "h.npz")
    assert list(read) == list(written)
    assert all(same(read[name], written[name]) for name in ("spread", "zeros"))
    assert read["nothing"].total == 0


@given(values, st.sampled_from(Method), st.booleans())
def test_a_range_holds_zero_and_lies_within_what_was_seen(drawn: Floats, method: Method, symmetric: bool) -> None:
    low, high = range_of(histogram_of(drawn), method, symmetric=symmetric)
    largest = float(np.abs(drawn).max())
    assert low <= 0.0 <= high
    assert max(-low, high) <= largest * (1 + 1e-6)
    assert not symmetric or low == -high


def test_an_outlier_is_clipped_where_that_costs_less_than_it_saves() -> None:
    rng = np.random.default_rng(1)
    drawn = np.append(rng.normal(0, 1, 1_000_000), [30.0]).astype(np.float32)

    def squared_error(method: Method) -> float:
        low, high = range_of(histogram_of(drawn), method, symmetric=False)
        step = (high - low) / 255
        rounded = np.round((np.clip(drawn, low, high) - low) / step) * step + low
        return float(((rounded - drawn) ** 2).mean())

    assert squared_error(Method.MSE) < 0.6 * squared_error(Method.MINMAX)


def padded_model() -> onnx.ModelProto:
    """Looks ids up, and multiplies them: [N, T] ids and mask."""
    rng = np.random.default_rng(2)
    table = rng.normal(0, 1, (50, 6)).astype(np.float32)
    table[0] = 1000.0  # what padding looks like, if it is looked at
    constants = [numpy_helper.from_array(table, "table"), numpy_helper.from_array(table[1:7].copy(), "weight")]
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["rows"], name="look"),
        helper.make_node("MatMul", ["rows", "weight"], ["hidden"], name="times"),
        helper.make_node("Cast", ["attention_mask"], ["seen"], to=TensorProto.FLOAT, name="cast"),
        helper.make_node("Unsqueeze", ["seen", "two"], ["seen3"], name="wide"),
        helper.make_node("Mul", ["hidden", "seen3"], ["out"], name="mask"),
    ]
    constants.append(numpy_helper.from_array(np.array([2], dtype=np.int64), "two"))
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["N", "T"]) for name in ("ids", "attention_mask")]
    outputs = [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["N", "T", 6])]
    graph = helper.make_graph(nodes, "padded", inputs, outputs, constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return onnx.shape_inference.infer_shapes(made)


def sentences(lengths: list[int], to: int) -> dict[str, NDArray[np.int64]]:
    rng = np.random.default_rng(3)
    ids = np.zeros((len(lengths), to), dtype=np.int64)
    mask = np.zeros_like(ids)
    for row, length in enumerate(lengths):
        ids[row, :length] = rng.integers(1, 50, length)
        mask[row, :length] = 1
    return {"ids": ids, "attention_mask": mask}


def test_padding_sets_no_range(tmp_path: Path) -> None:
    found = collect(padded_model(), tmp_path, [sentences([9, 4, 16], 16)])
    assert found["rows"].high < 10
    assert found["rows"].total == (9 + 4 + 16) * 6


def test_sentences_of_many_lengths_equal_the_one_batch_of_all(tmp_path: Path) -> None:
    lengths = [9, 4, 16, 12, 2, 15]
    together = sentences(lengths, 16)
    one_by_one = [
        {name: array[row : row + 1, :length] for name, array in together.items()} for row, length in enumerate(lengths)
    ]
    at_once = collect(padded_model(), tmp_path, [together])
    apart = collect(padded_model(), tmp_path, one_by_one)
    assert same(at_once["rows"], apart["rows"])
    assert at_once["hidden"].total == apart["hidden"].total
    assert (at_once["hidden"].low, at_once["hidden"].high) == pytest.approx(
        (apart["hidden"].low, apart["hidden"].high), rel=1e-5
    )
