"""Whether a stream of rows has left its reference: at any time, for ever, with one promise for all its features.

For each feature, rows are counted in cells (cells.py). If nothing has changed, the rows of the reference and those of
the stream are exchangeable, and the chance of the next counts follows from all counts before: a Dirichlet-multinomial.
For each block s with which a change may have begun, the evidence E(s) is the ratio of what alternatives give to the
counts since s and what that predictive gives; before s both agree. So each ratio is a martingale while nothing changes,
and so is

    M = sum over s of w(s) E(s), averaged over the features; w(s) ~ 1 / (s log(s)^2), their sum is 1

whatever the features have to do with each other. By Ville's inequality M ever reaches 1 / alpha with probability at
most alpha, however often one looks, over streams whose shares are drawn from the prior: an e-detector (J. Shin,
A. Ramdas, A. Rinaldo, "E-detectors: a nonparametric framework for sequential change detection", 2022), weighted by a
prior over s instead of summed. Starts are thinned out as they age; one that goes hands its capital to its neighbour,
and M stays a martingale.

The alternatives: the reference believed less (Dirichlet-multinomials with a part of its weight: they find anything,
late), the reference tilted (its mean or spread has moved a little: found early), and the reference with one cell
inflated (an atom, missing or unseen values: found after a few dozen rows of one percent).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from scipy.special import gammaln, ndtri

from taxiway.stats.change import Counts, Floats, Layout, State, packed, prior_of_start, unpacked

PRIOR: Final = 0.5
"""Pseudo-count of every cell (Jeffreys)."""

_BELIEFS: Final = (0.0, 100.0, 1000.0)
"""How many rows of the reference a tempered alternative believes."""
_MOST_BELIEVED: Final = 0.7
_TILTS: Final = tuple(
    (sign * mean, sign * spread)
    for sign in (-1.0, 1.0)
    for mean, spread in ((0.08, 0.0), (0.2, 0.0), (0.5, 0.0), (0.0, 0.1), (0.0, 0.3))
)
"""Moves of mean and spread, in normal scores of the reference's ranks."""
_INFLATIONS: Final = (0.01, 0.05, 0.3)
"""Shares of the rows that are moved into one cell."""
_OF_AN_OCTAVE: Final = 3
"""How many starts are kept whose ages, in blocks, lie between a power of two and the next."""


@dataclass(frozen=True, slots=True)
class Feature:
    """What the evidence of one feature starts from.

    Attributes:
        reference: counts of the reference in each cell; of fewer than 50 rows it shows that cells were cut on them too.
        order: a number for each cell by which cells are ordered; NaN for cells that have no place in an order (words,
            missing values). None: no cell has one.
    """

    reference: Counts
    order: Floats | None = None


class DriftEvidence:
    """The evidence against "the stream is like the reference", feature by feature.

    Args:
        features: their references.
        tolerance: shares of cells are taken as known from at most this many rows, so that a stream as far from the
            reference as another sample of that size is not found; None: all the reference's rows.

    Attributes:
        log_e: the logarithm of M, by feature; each alone is a martingale that starts at 1.
        counts: of the whole stream in each cell of each feature, one feature after the other.
        rows: how many were added.
        blocks: in how many blocks.
    """

    def __init__(self, features: Sequence[Feature], *, tolerance: float | None = None) -> None:
        layout = Layout([len(one.reference) for one in features])
        reference = np.concatenate([one.reference for one in features]).astype(np.float64)
        total = layout.sums(reference)
        scale = np.ones_like(total) if tolerance is None else np.minimum(1.0, tolerance / np.maximum(total, 1.0))
        self._alternatives = _Alternatives(layout, np.concatenate([_normal_scores(one) for one in features]))
        self._alpha = PRIOR + reference * layout.spread(scale)
        self._starts = _Starts.none(len(features), len(reference))
        self._unused = 1.0
        self.counts: Counts = np.zeros(len(reference), dtype=np.int64)
        self.log_e: Floats = np.zeros(len(features))
        self.blocks = self.rows = 0

    def add(self, counts: Counts, rows: int) -> None:
        """One more block, with which a change may have begun.

        Args:
            counts: in each cell of each feature, one feature after the other.
            rows: of the block; a feature's counts may be fewer.
        """
        self.blocks += 1
        weight = prior_of_start(self.blocks)
        self._unused -= weight
        starts = self._starts.joined(self.blocks, self.rows, math.log(weight), self.counts, self._alpha + self.counts)
        self.counts = self.counts + counts
        self.rows += rows
        self._starts = starts.judged(self._alternatives, self.counts).thinned()
        cash = np.full((1, len(self.log_e)), math.log(self._unused))
        self.log_e = np.logaddexp.reduce(np.concatenate([self._starts.capital, cash]), axis=0)

    def state(self) -> State:
        """What it knows, beside what it was made with."""
        return {
            "counts": packed(self.counts),
            "log_e": packed(self.log_e),
            "rows": self.rows,
            "blocks": self.blocks,
            "unused": self._unused,
            "starts": {name: packed(getattr(self._starts, name)) for name in _ARRAYS},
        }

    def restore(self, state: State) -> None:
        """Go on from what another one knew, which was made with the same.

        Raises:
            ValueError: it was made with something else.
        """
        counts = unpacked(state["counts"])
        if counts.shape != self.counts.shape:
            raise ValueError(f"it counted in {len(counts)} cells; these are {len(self.counts)}")
        self.counts, self.log_e = counts, unpacked(state["log_e"])
        self.rows, self.blocks, self._unused = state["rows"], state["blocks"], state["unused"]
        self._starts = _Starts(*(unpacked(state["starts"][name]) for name in _ARRAYS))

    @property
    def log_average(self) -> float:
        """The logarithm of the average over features: it ever reaches log(1 / alpha) with probability at most alpha."""
        return float(np.logaddexp.reduce(self.log_e) - math.log(len(self.log_e)))

    def since(self, feature: int) -> int:
        """The row with which the change of a feature most likely began, if there was one."""
        return int(self._starts.rows[self._likeliest(feature)]) if self.blocks else 0

    def counts_since(self, feature: int) -> Counts:
        """Counts in every feature's cells since the likeliest change of this one."""
        return self.counts - self._starts.counts[self._likeliest(feature)] if self.blocks else self.counts

    def _likeliest(self, feature: int) -> int:
        return int(np.argmax(self._starts.evidence[:, feature]))


_ARRAYS: Final = ("blocks", "rows", "weight", "counts", "alpha", "evidence")


@dataclass(frozen=True, slots=True)
class _Starts:
    """Blocks with which a change may have begun, oldest first; S of them, of F features with C cells altogether.

    Attributes:
        blocks, rows: their numbers, and how many rows had been seen before [S].
        weight: the logarithm of their shares, with what they have inherited [S, F].
        counts: what had been counted before them [S, C].
        alpha: of the predictive that knew all of that [S, C].
        evidence: the logarithm of E [S, F].
    """

    blocks: Counts
    rows: Counts
    weight: Floats
    counts: Counts
    alpha: Floats
    evidence: Floats

    @classmethod
    def none(cls, features: int, cells: int) -> _Starts:
        """Before the first block."""
        number = np.zeros(0, dtype=np.int64)
        by_feature, by_cell = np.zeros((0, features)), np.zeros((0, cells))
        return cls(number, number, by_feature, by_cell.astype(np.int64), by_cell, by_feature)

    @property
    def capital(self) -> Floats:
        """The logarithm of what each is worth [S, F]."""
        return self.weight + self.evidence

    def joined(self, block: int, rows: int, log_weight: float, counts: Counts, alpha: Floats) -> _Starts:
        """With one more."""
        features = self.weight.shape[1]
        return _Starts(
            np.append(self.blocks, block),
            np.append(self.rows, rows),
            np.concatenate([self.weight, np.full((1, features), log_weight)]),
            np.concatenate([self.counts, counts[None]]),
            np.concatenate([self.alpha, alpha[None]]),
            np.concatenate([self.evidence, np.zeros((1, features))]),
        )

    def judged(self, alternatives: _Alternatives, counts: Counts) -> _Starts:
        """With the evidence of all that has been counted."""
        return replace(self, evidence=alternatives.evidence(self.alpha, counts - self.counts))

    def thinned(self) -> _Starts:
        """Without the second oldest of an octave of ages that has too many; the oldest inherits."""
        octaves = np.log2(self.blocks[-1] - self.blocks + 1).astype(int)
        sizes = np.bincount(octaves)
        crowded = np.flatnonzero(sizes > _OF_AN_OCTAVE)
        if not len(crowded):
            return self
        oldest = int(np.flatnonzero(octaves == crowded[-1])[0])
        inherited = np.logaddexp(self.capital[oldest], self.capital[oldest + 1]) - self.evidence[oldest]
        weight = self.weight.copy()
        weight[oldest] = inherited
        kept = np.arange(len(self.blocks)) != oldest + 1
        return _Starts(
            self.blocks[kept],
            self.rows[kept],
            weight[kept],
            self.counts[kept],
            self.alpha[kept],
            self.evidence[kept],
        ).thinned()


class _Alternatives:
    """What may have become of the reference."""

    def __init__(self, layout: Layout, scores: Floats) -> None:
        self._layout = layout
        self._tilts = np.stack([mean * scores + spread * (scores**2 - 1) for mean, spread in _TILTS])

    def evidence(self, alpha: Floats, counts: Counts) -> Floats:
        """The logarithm of E.

        Args:
            alpha: of the null's predictive, before the counts [S, C].
            counts: since then [S, C].

        Returns: by start and feature [S, F].
        """
        sums = self._layout.sums
        total, rows = sums(alpha), sums(counts.astype(np.float64))
        null = self._log_chance(alpha, total, counts, rows)
        shares = alpha / self._layout.spread(total)
        plain = sums(np.log(shares) * counts)
        tempered = self._tempered(alpha, total, counts, rows)
        moved = np.logaddexp(self._tilted(shares, counts, rows), self._inflated(shares, counts, rows)) + plain
        result: Floats = np.logaddexp(tempered, moved) - math.log(3.0) - null
        return result

    def _log_chance(self, alpha: Floats, total: Floats, counts: Counts, rows: Floats) -> Floats:
        """Of the sequence of cells, by the Dirichlet-multinomial [S, F]."""
        cells = self._layout.sums(gammaln(alpha + counts) - gammaln(alpha))
        result: Floats = cells - gammaln(total + rows) + gammaln(total)
        return result

    def _tempered(self, alpha: Floats, total: Floats, counts: Counts, rows: Floats) -> Floats:
        chances = []
        for belief in _BELIEFS:
            scale = self._layout.spread(np.minimum(belief / total, _MOST_BELIEVED))
            believed = PRIOR + scale * (alpha - PRIOR)
            chances.append(self._log_chance(believed, self._layout.sums(believed), counts, rows))
        return _log_mean(chances)

    def _tilted(self, shares: Floats, counts: Counts, rows: Floats) -> Floats:
        """Relative to the chance that `shares` give [S, F]."""
        ratios = [
            self._layout.sums(counts * tilt) - rows * np.log(self._layout.sums(shares * np.exp(tilt)))
            for tilt in self._tilts
        ]
        return _log_mean(ratios)

    def _inflated(self, shares: Floats, counts: Counts, rows: Floats) -> Floats:
        """Relative to the chance that `shares` give [S, F]."""
        ratios = [
            rows * math.log1p(-moved) + self._layout.log_means(np.log1p(moved / ((1.0 - moved) * shares)) * counts)
            for moved in _INFLATIONS
        ]
        return _log_mean(ratios)


def _log_mean(values: list[Floats]) -> Floats:
    """Of exp(values), one array beside the other."""
    result: Floats = np.logaddexp.reduce(values, axis=0) - math.log(len(values))
    return result


def _normal_scores(feature: Feature) -> Floats:
    """The cells' places in the reference as a normal variable's values would be placed; 0 where there is no order."""
    scores = np.zeros(len(feature.reference))
    if feature.order is None:
        return scores
    placed = np.flatnonzero(~np.isnan(feature.order))
    if len(placed) < 2:
        return scores
    rising = placed[np.argsort(feature.order[placed], kind="stable")]
    share = (feature.reference[rising] + PRIOR) / (feature.reference[rising] + PRIOR).sum()
    middles = np.cumsum(share) - share / 2
    scores[rising] = ndtri(middles)
    spread = math.sqrt(float((share * scores[rising] ** 2).sum()))
    scores[rising] /= spread
    return scores
