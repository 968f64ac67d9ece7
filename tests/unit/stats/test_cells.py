"""Cells: every value has one, and odd ones are told apart."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxiway.stats.cells import ABOVE, BELOW, INFINITE, MISSING, OTHER, UNSEEN, CategoryCells, NumericCells

FINITE = st.floats(allow_nan=False, allow_infinity=False, width=32)


def named(cells: NumericCells, value: float) -> str:
    return cells.names[int(cells.cells(np.array([value]))[0])]


def test_quantile_ranges_hold_about_equally_many() -> None:
    values = np.random.default_rng(0).normal(size=8000)
    counts = NumericCells.of(values, ranges=16).count(values)

    assert counts[:16].min() > 400
    assert counts[:16].max() < 600


def test_what_is_odd_has_a_cell_of_its_own() -> None:
    cells = NumericCells.of(np.linspace(0.0, 1.0, 1000))

    assert named(cells, math.nan) == MISSING
    assert named(cells, math.inf) == named(cells, -math.inf) == INFINITE
    assert named(cells, -0.001) == BELOW
    assert named(cells, 1.001) == ABOVE
    assert named(cells, 1.0) != ABOVE
    assert named(cells, 1.7e308) == ABOVE


def test_what_gaps_are_filled_with_has_a_cell_of_its_own() -> None:
    values = np.random.default_rng(0).normal(size=999).astype(np.float32)
    cells = NumericCells.of(values)

    for filler in (np.float32(np.median(values.astype(np.float64))), np.float32(values.astype(np.float64).mean())):
        assert named(cells, float(filler)).startswith("exactly ")
        assert not named(cells, float(np.nextafter(filler, np.float32(np.inf)))).startswith("exactly ")


def test_a_frequent_value_has_a_cell_of_its_own() -> None:
    values = np.concatenate([np.random.default_rng(0).normal(size=900), np.full(100, 7.25)])

    assert named(NumericCells.of(values), 7.25) == "exactly 7.25"


def test_of_few_different_values_each_is_a_cell_and_what_lies_between_is_unseen() -> None:
    cells = NumericCells.of(np.array([1, 2, 2, 4] * 2, dtype=np.int64))

    assert [named(cells, value) for value in (1, 2, 4)] == ["1", "2", "4"]
    assert [named(cells, value) for value in (0, 1.5, 3, 5)] == [BELOW, UNSEEN, UNSEEN, ABOVE]


def test_nothing_finite_makes_no_cells() -> None:
    with pytest.raises(ValueError, match="finite"):
        NumericCells.of(np.array([math.nan, math.inf]))


@given(st.lists(FINITE, min_size=1, max_size=200), st.lists(st.floats(width=64), max_size=50))
def test_every_value_is_counted_once(reference: list[float], stream: list[float]) -> None:
    cells = NumericCells.of(np.array(reference))
    counts = cells.count(np.array(stream, dtype=np.float64))

    assert len(counts) == len(cells.names) == len(cells.middles)
    assert counts.sum() == len(stream)
    assert cells.count(np.array(reference))[[cells.names.index(name) for name in (BELOW, ABOVE, MISSING)]].sum() == 0


@given(st.lists(FINITE, min_size=1, max_size=100))
def test_the_cells_of_rising_values_that_are_no_atoms_rise(reference: list[float]) -> None:
    cells = NumericCells.of(np.array(reference))
    values = np.sort(np.array(reference))
    ranges = [at for at in cells.cells(values) if " to " in cells.names[at]]

    assert ranges == sorted(ranges)


def test_words_are_counted_by_how_frequent_they_were() -> None:
    cells = CategoryCells.of(["a"] * 5 + ["b"] * 3 + ["c"], most=2)

    assert cells.names == ("a", "b", OTHER, UNSEEN, MISSING)
    assert list(cells.count(["a", "b", "c", "z", "", None, "a"])) == [2, 1, 1, 1, 2]
