"""A histogram of one tensor's values that grows with them, in bounded memory, and does not care how they were batched.

Bins are `2**scale` wide and the bin of a value is `floor(value / 2**scale)`. When a value falls outside, the scale
goes up by one and neighbours are joined: bin `i` of the finer scale lies whole in bin `i // 2` of the coarser. So the
counts at the end are those of a histogram made at the final scale from the first, whatever came in which order and
in whichever batches: a calibration over sentences of many lengths equals the one over all of them at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

HALF = 2048
"""Bins on each side of zero."""

FINEST = -120
"""The least scale: a finer one overflows float32 when it is divided by."""


@dataclass(slots=True)
class Histogram:
    """Counts of float values; least and greatest are exact.

    Attributes:
        scale: a bin is `2**scale` wide; None until the first value that is not zero.
        counts: int64 [2 * HALF]; bin `i` holds [(i - HALF) * width, (i - HALF + 1) * width).
        not_finite: values that are NaN or infinite, which are counted and otherwise left out.
    """

    low: float = math.inf
    high: float = -math.inf
    scale: int | None = None
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(2 * HALF, dtype=np.int64))
    zeros: int = 0
    total: int = 0
    not_finite: int = 0

    def add(self, values: NDArray[Any]) -> None:
        """Count values of any shape."""
        flat = np.ascontiguousarray(values, dtype=np.float32).reshape(-1)
        if flat.size == 0:
            return
        low, high = float(flat.min()), float(flat.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            finite = flat[np.isfinite(flat)]
            self.not_finite += flat.size - finite.size
            self.add(finite)
            return
        self.low, self.high = min(self.low, low), max(self.high, high)
        self.total += flat.size
        largest = max(abs(low), abs(high))
        if largest == 0.0:
            self.zeros += flat.size
            return
        self._reach(largest)
        self._count(flat)

    @property
    def width(self) -> float:
        """Of a bin, in the tensor's own unit; 0 while every value was zero."""
        return 0.0 if self.scale is None else math.ldexp(1.0, self.scale)

    def bins(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Middles and counts of the bins that hold anything; exact zeros stand at 0."""
        if self.scale is None:
            return np.zeros(1), np.array([self.zeros], dtype=np.int64)
        counts = self.counts.copy()
        counts[HALF] += self.zeros
        held = np.flatnonzero(counts)
        middles = (held - HALF + 0.5) * self.width
        return np.clip(middles, self.low, self.high), counts[held]

    def _reach(self, largest: float) -> None:
        """Widen the bins until `largest` has one; the last bin is kept free, as -largest may need the first."""
        needed = max(math.frexp(largest)[1] - HALF.bit_length() + 1, FINEST)
        if self.scale is None:
            self.scale = needed
            return
        for _ in range(needed - self.scale):
            self._join()

    def _join(self) -> None:
        assert self.scale is not None  # noqa: S101 - for the type checker: only called on a scale that is too fine
        pairs = self.counts.reshape(-1, 2).sum(axis=1)
        self.counts = np.zeros(2 * HALF, dtype=np.int64)
        self.counts[HALF // 2 : HALF // 2 + HALF] = pairs
        self.scale += 1

    def _count(self, flat: NDArray[np.float32]) -> None:
        assert self.scale is not None  # noqa: S101 - as above
        places = np.multiply(flat, np.float32(math.ldexp(1.0, -self.scale)))
        np.floor(places, out=places)
        bins = places.astype(np.int32)
        bins += HALF
        self.counts += np.bincount(bins, minlength=2 * HALF)
