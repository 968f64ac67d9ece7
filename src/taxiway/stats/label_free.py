"""The accuracy of a classifier on rows without labels, from how sure it says that it is.

A model's confidence is set right by isotonic regression on rows whose labels are known; the mean of confidences set
right then is the accuracy to be expected, as long as it is only the rows that have changed and not what they mean
(confidence based performance estimation: J. Bialek et al., "Estimating model performance under covariate shift without
labels", 2024). Where the meaning has changed, or rows are unlike any in the reference, no method without labels knows;
an estimate says of itself when it stands on such ground.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

BINS: Final = 200
"""Of confidence; what is counted per bin adds up across blocks and processes."""
_Z: Final = 1.959964
_NEAR: Final = 9
"""Bins that count as near the one in their middle."""
_THIN: Final = 0.2
"""A share of rows with confidences that the reference hardly had, above which an estimate stands on thin ground."""


@dataclass(frozen=True, slots=True)
class AccuracyEstimate:
    """What is expected without labels.

    Attributes:
        accuracy: 0 to 1.
        low, high: an interval of 95 % for both the sample of rows and that of the reference; not for changed meaning.
        outside: the share of rows whose confidence the reference hardly had.
        rows: how many it was made of.
    """

    accuracy: float
    low: float
    high: float
    outside: float
    rows: int

    @property
    def on_thin_ground(self) -> bool:
        """Whether too many rows are unlike the reference in the confidence alone."""
        return self.outside > _THIN


@dataclass(frozen=True, slots=True)
class ConfidenceCurve:
    """How often the model was right at each confidence, in the reference.

    Attributes:
        right: the share, never falling, by bin [BINS].
        rows: of the reference, by bin [BINS].
    """

    right: Floats
    rows: Counts

    @classmethod
    def of(cls, confidence: NDArray[Any], correct: NDArray[Any]) -> Self:
        """Fitted on rows with labels.

        Args:
            confidence: the largest probability that the model gave [N], 0 to 1.
            correct: whether that class was the true one [N].

        Raises:
            ValueError: no rows.
        """
        if not len(confidence):
            raise ValueError("a curve of confidence needs rows with labels")
        bins = bins_of(confidence)
        hits = np.bincount(bins, weights=np.asarray(correct, dtype=np.float64), minlength=BINS)
        return cls.of_counts(np.bincount(bins, minlength=BINS), hits)

    @classmethod
    def of_counts(cls, rows: Counts, hits: NDArray[Any]) -> Self:
        """Fitted on rows with labels that were counted.

        Args:
            rows: by bin [BINS], at least one.
            hits: how many of them were right [BINS].
        """
        seen = rows > 0
        fitted = isotonic_regression(hits[seen] / rows[seen], weights=rows[seen]).x
        middles = (np.arange(BINS) + 0.5) / BINS
        return cls(np.interp(middles, middles[seen], fitted), rows)

    def count(self, confidence: NDArray[Any]) -> Counts:
        """Rows by bin, for `estimate`."""
        return np.bincount(bins_of(confidence), minlength=BINS)

    def estimate(self, counts: Counts) -> AccuracyEstimate | None:
        """What these rows let expect; None if there are none."""
        total = int(counts.sum())
        if not total:
            return None
        share = counts / total
        accuracy = float(share @ self.right)
        chance = float(share @ (self.right * (1 - self.right))) / total
        near = _smoothed(self.rows)
        doubt = float((share**2 * self.right * (1 - self.right) / np.maximum(near / _NEAR, 1.0)).sum())
        half = _Z * math.sqrt(chance + doubt)
        outside = float(share[near < _hardly(self.rows)].sum())
        return AccuracyEstimate(accuracy, max(0.0, accuracy - half), min(1.0, accuracy + half), outside, total)


def bins_of(confidence: NDArray[Any]) -> NDArray[np.intp]:
    """The bin of each confidence."""
    values = np.nan_to_num(np.asarray(confidence, dtype=np.float64).ravel(), nan=0.0)
    return np.minimum((np.clip(values, 0.0, 1.0) * BINS).astype(np.intp), BINS - 1)


def _smoothed(rows: Counts) -> Floats:
    """Rows of the reference near each bin."""
    smoothed: Floats = np.convolve(rows, np.ones(_NEAR), mode="same")
    return smoothed


def _hardly(rows: Counts) -> float:
    return max(1.0, 0.0005 * float(rows.sum()))
