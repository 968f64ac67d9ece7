"""Rows at the splits of trees: each split is reached, and stood on from both sides."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from taxiway.convert.trees import LEAF, Probes, Tree, divided, probe_splits

WIDTH = 3


def grown(depth: int, chance: np.random.Generator, datatype: str = "f4") -> Tree:
    """A full tree whose thresholds can all be reached: each lies within what the splits above leave of its feature."""
    count = 2 ** (depth + 1) - 1
    feature, left, right = (np.full(count, LEAF) for _ in range(3))
    threshold = np.zeros(count)
    boxes: dict[int, list[tuple[float, float]]] = {0: [(-100.0, 100.0)] * WIDTH}
    for node in range(2**depth - 1):
        feature[node] = chance.integers(WIDTH)
        low, high = boxes[node][feature[node]]
        threshold[node] = np.asarray(low + (high - low) * chance.uniform(0.3, 0.7)).astype(datatype)
        left[node], right[node] = 2 * node + 1, 2 * node + 2
        for child, box in ((left[node], (low, threshold[node])), (right[node], (threshold[node], high))):
            boxes[int(child)] = [box if f == feature[node] else boxes[node][f] for f in range(WIDTH)]
    return Tree(feature, threshold, left, right)


def visits(tree: Tree, row: NDArray[np.float64]) -> list[int]:
    """The splits that a row comes by."""
    node, seen = 0, []
    while tree.feature[node] != LEAF:
        seen.append(node)
        node = int(tree.left[node] if row[tree.feature[node]] <= tree.threshold[node] else tree.right[node])
    return seen


def of_kind(probes: Probes, kind: str) -> NDArray[np.float64]:
    return probes.rows[[origin == kind for origin in probes.origins]]


@given(st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_every_split_is_stood_on_from_both_sides(depth: int, seed: int) -> None:
    chance = np.random.default_rng(seed)
    tree = grown(depth, chance)
    probes = probe_splits([tree], WIDTH, "f4", chance, splits=1000, missing=False)
    assert (probes.splits, probes.splits_in_all) == (2**depth - 1, 2**depth - 1)
    for node in range(2**depth - 1):
        below, on, above = (of_kind(probes, f"{where} a split")[node] for where in ("below", "on", "above"))
        assert node in visits(tree, below)
        assert node in visits(tree, above)
        assert below[tree.feature[node]] < on[tree.feature[node]] < above[tree.feature[node]]
        assert on[tree.feature[node]] == tree.threshold[node]


def test_an_edge_is_the_next_value_that_the_inputs_can_hold() -> None:
    tree = Tree(np.array([0, LEAF, LEAF]), np.array([0.1, 0, 0]), np.array([1, LEAF, LEAF]), np.array([2, LEAF, LEAF]))
    single = probe_splits([tree], 1, "f4", np.random.default_rng(0), splits=1, missing=False)
    double = probe_splits([tree], 1, "f8", np.random.default_rng(0), splits=1, missing=False)
    assert of_kind(single, "below a split")[0, 0] == np.nextafter(np.float32(0.1), np.float32(0))
    assert of_kind(double, "below a split")[0, 0] == np.nextafter(0.1, 0)


def test_missing_values_come_to_each_split_if_the_framework_takes_them() -> None:
    chance = np.random.default_rng(3)
    tree = grown(3, chance)
    probes = probe_splits([tree], WIDTH, "f4", chance, splits=1000, missing=True)
    missing = of_kind(probes, "missing at a split")
    assert [int(np.flatnonzero(np.isnan(row))[0]) for row in missing[:7]] == tree.feature[:7].tolist()


def test_cells_too_narrow_for_float32_are_still_visited() -> None:
    """Two thresholds that float32 does not tell apart: a row between them shows that it does not."""
    edges = (1.0, 1.0 + 1e-12)
    trees = [
        Tree(np.array([0, LEAF, LEAF]), np.array([e, 0, 0]), np.array([1, LEAF, LEAF]), np.array([2, LEAF, LEAF]))
        for e in edges
    ]
    probes = probe_splits(trees, 1, "f4", np.random.default_rng(0), splits=2, missing=False)
    inside = of_kind(probes, "between splits")[:, 0]
    assert ((inside > edges[0]) & (inside < edges[1])).any()


@pytest.mark.parametrize("threshold", [np.inf, 1e300, -np.inf])
def test_a_threshold_beyond_all_values_makes_no_row_infinite(threshold: float) -> None:
    tree = Tree(
        np.array([0, LEAF, LEAF]), np.array([threshold, 0, 0]), np.array([1, LEAF, LEAF]), np.array([2, LEAF, LEAF])
    )
    probes = probe_splits([tree], 1, "f4", np.random.default_rng(0), splits=1, missing=True)
    assert not np.isinf(probes.rows.astype("f4")).any()


def test_a_sample_of_the_splits_of_a_large_forest() -> None:
    chance = np.random.default_rng(1)
    probes = probe_splits([grown(5, chance) for _ in range(10)], WIDTH, "f4", chance, splits=100, missing=False)
    assert (probes.splits, probes.splits_in_all) == (100, 310)


def test_a_row_comes_to_what_stands_behind_a_category() -> None:
    """A chain of two equalities, and behind both the same split on another feature."""
    tree = Tree(
        np.array([0, 0, 1, LEAF, LEAF, LEAF]),
        np.array([3.0, 7.0, 0.5, 0, 0, 0]),
        np.array([2, 2, 3, LEAF, LEAF, LEAF]),
        np.array([1, 5, 4, LEAF, LEAF, LEAF]),
        equals=np.array([True, True, False, False, False, False]),
    )
    probes = probe_splits([tree], 2, "f4", np.random.default_rng(0), splits=3, missing=False)
    assert {float(on[0]) for on in of_kind(probes, "on a split") if on[1] == 0.5} <= {3.0, 7.0}
    assert {3.0, 7.0} < set(of_kind(probes, "between splits")[:, 0])


@given(st.integers(1, 6), st.integers(1, 200), st.integers(0, 2**32 - 1))
def test_a_split_counts_if_rows_come_to_both_sides_of_it(depth: int, count: int, seed: int) -> None:
    chance = np.random.default_rng(seed)
    trees = [grown(depth, chance), grown(1, chance)]
    rows = chance.uniform(-100, 100, (count, WIDTH))
    sides = {
        (at, node, bool(row[tree.feature[node]] <= tree.threshold[node]))
        for at, tree in enumerate(trees)
        for row in rows
        for node in visits(tree, row)
    }
    both = sum((at, node, not side) in sides for at, node, side in sides) // 2
    assert divided(trees, rows, at_most=1000) == both
    assert divided(trees, rows, at_most=1) == min(both, 1)


def test_a_missing_value_is_on_neither_side_and_goes_where_the_model_says() -> None:
    feature, left, right = (
        np.array([0, 1, LEAF, LEAF, LEAF]),
        np.array([1, 2, -1, -1, -1]),
        np.array([4, 3, -1, -1, -1]),
    )
    rows = np.array([[np.nan, 0.0], [5.0, 2.0]])
    for goes_left, reached in ((True, 0), (False, 0)):
        tree = Tree(feature, np.array([1.0] * 5), left, right, missing_left=np.array([goes_left] * 5))
        assert divided([tree], rows, at_most=9) == reached
        assert divided([tree], np.array([[np.nan, 0.0], [0.0, 2.0]]), at_most=9) == int(goes_left)


def test_a_category_is_divided_from_the_others() -> None:
    tree = Tree(
        np.array([0, LEAF, LEAF]), np.array([3.0, 0, 0]), np.array([1, -1, -1]), np.array([2, -1, -1]),
        equals=np.array([True, False, False]),
    )  # fmt: skip
    assert divided([tree], np.array([[2.0], [4.0]]), at_most=9) == 0
    assert divided([tree], np.array([[2.0], [3.0]]), at_most=9) == 1
