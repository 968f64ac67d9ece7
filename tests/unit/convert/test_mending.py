"""Thresholds in float32 decide as float64 ones do."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from taxiway.convert.mending import floor_to_float32

NUMBERS = st.floats(-1e300, 1e300)


@given(NUMBERS, st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_every_float32_value_goes_the_same_way(threshold: float, value: float) -> None:
    assert (value <= threshold) == bool(np.float32(value) <= floor_to_float32(np.array([threshold]))[0])


@given(NUMBERS, st.integers(-2, 2))
def test_also_those_next_to_the_threshold(threshold: float, steps: int) -> None:
    with np.errstate(over="ignore"):
        value = np.float32(np.clip(threshold, -3e38, 3e38))
    for _ in range(abs(steps)):
        value = np.nextafter(value, np.float32(np.inf if steps > 0 else -np.inf))
    assert (float(value) <= threshold) == bool(value <= floor_to_float32(np.array([threshold]))[0])
