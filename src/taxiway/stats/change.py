"""What the two detectors of change share: how cells are laid out, and when a change is expected to begin."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

_SUM_OF_WEIGHTS: Final = 2.109743
"""Of 1 / ((s + 1) log(s + 1)^2) over s >= 1."""


def prior_of_start(block: int) -> float:
    """The chance that a change begins with this block, counted from 1; over all blocks it sums to 1."""
    return 1.0 / (_SUM_OF_WEIGHTS * (block + 1) * math.log(block + 1) ** 2)


State = dict[str, Any]
"""What a detector knows, as plain data: numbers, texts, bytes, lists and dictionaries of them."""


def packed(array: NDArray[Any]) -> list[Any]:
    """An array as plain data."""
    return [array.dtype.str, list(array.shape), array.tobytes()]


def unpacked(told: Sequence[Any]) -> NDArray[Any]:
    """What `packed` made, to be written to.

    Raises:
        ValueError: it is not that.
    """
    dtype, shape, content = told
    return np.frombuffer(content, np.dtype(dtype)).reshape(shape).copy()


class Layout:
    """Where each feature's cells are in an array of all cells."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self.sizes = np.array(sizes)
        self._firsts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.intp)
        self._features = np.repeat(np.arange(len(sizes)), sizes)

    def sums(self, values: Floats) -> Floats:
        """Over the cells of each feature [..., C] -> [..., F]."""
        sums: Floats = np.add.reduceat(values, self._firsts, axis=-1)
        return sums

    def log_means(self, values: Floats) -> Floats:
        """The logarithm of the mean of exp(values) over the cells of each feature [..., C] -> [..., F]."""
        most = np.maximum.reduceat(values, self._firsts, axis=-1)
        result: Floats = most + np.log(self.sums(np.exp(values - self.spread(most))) / self.sizes)
        return result

    def spread(self, values: Floats) -> Floats:
        """A feature's value to each of its cells [..., F] -> [..., C]."""
        return values.take(self._features, axis=-1)
