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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import numpy as np
from scipy.special import gammaln, ndtri

from taxiway.stats.change import Counts, Floats, Layout, State, packed, prior_of_start, unpacked
from taxiway.stats.table import Table

PRIOR: Final = 0.5
"""Pseudo-count of every cell (Jeffreys)."""

_BELIEF: Final = 1000.0
"""How many rows of the reference a tempered alternative believes; another one believes none."""
_MOST_BELIEVED: Final = 0.7
_TILTS: Final = tuple(
    (sign * mean, sign * spread)
    for sign in (-1.0, 1.0)
    for mean, spread in ((0.08, 0.0), (0.2, 0.0), (0.5, 0.0), (0.0, 0.1), (0.0, 0.3))
)
"""Moves of mean and spread, in normal scores of the reference's ranks."""
_INFLATIONS: Final = (0.01, 0.05, 0.3)
"""Shares of the rows that are moved into one cell."""
_OF_AN_OCTAVE: Final = 2
"""How many starts are kept whose ages, in blocks, lie between a power of two and the next."""
_TABLED: Final = 1 << 16


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
        alpha = PRIOR + reference * layout.spread(scale)
        self._starts = _Starts(layout, alpha, np.concatenate([_normal_scores(one) for one in features]))
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
        start = {"blocks": self.blocks, "rows": self.rows, "weight": math.log(weight), "counts": self.counts}
        self._starts.join(start)
        self.counts = self.counts + counts
        self.rows += rows
        self._starts.judge(self.counts)
        self._starts.thin(self.blocks)
        self.log_e = np.logaddexp(np.logaddexp.reduce(self._starts.capital, axis=0), math.log(self._unused))

    def state(self) -> State:
        """What it knows, beside what it was made with."""
        return {
            "counts": packed(self.counts),
            "log_e": packed(self.log_e),
            "rows": self.rows,
            "blocks": self.blocks,
            "unused": self._unused,
            "starts": self._starts.state(),
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
        self._starts.restore(state["starts"])

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


class _Starts:
    """Blocks with which a change may have begun; S of them, of F features with C cells altogether.

    What alternatives need again and again of the counts before a start, which never change, is worked out once.

    Args:
        alpha: of the null's predictive, before anything was counted [C].
        scores: of the cells, for tilts [C].
    """

    def __init__(self, layout: Layout, alpha: Floats, scores: Floats) -> None:
        self._alpha = alpha
        self._alternatives = _Alternatives(layout, scores)
        features, cells = len(layout.sizes), len(alpha)
        self._table = Table(
            {
                "blocks": ((), np.int64),
                "rows": ((), np.int64),
                "counts": ((cells,), np.float64),
                "weight": ((features,), np.float64),
                "evidence": ((features,), np.float64),
                **_Alternatives.columns(features, cells),
            }
        )

    @property
    def rows(self) -> Counts:
        """How many rows had been seen before [S]."""
        return self._table["rows"]

    @property
    def counts(self) -> Counts:
        """What had been counted before [S, C]."""
        return self._table["counts"].astype(np.int64)

    @property
    def evidence(self) -> Floats:
        """The logarithm of E [S, F]."""
        return self._table["evidence"]

    @property
    def capital(self) -> Floats:
        """The logarithm of what each is worth [S, F]: E by its share, and by what it has inherited."""
        worth: Floats = self._table["weight"] + self._table["evidence"]
        return worth

    def join(self, row: Mapping[str, Any]) -> None:
        """One more: its block, the rows and counts before it, the logarithm of its share as weight."""
        self._table.add({**row, **self._alternatives.prepared(self._alpha + row["counts"])})

    def judge(self, counts: Counts) -> None:
        """Work out the evidence of all that has been counted."""
        self._table["evidence"][:] = self._alternatives.evidence(self._alpha + counts, counts, self._table)

    def thin(self, newest: int) -> None:
        """Let go of the second oldest of each octave of ages that has too many; the oldest inherits."""
        while (pair := self._crowded(newest)) is not None:
            oldest, second = pair
            capital = self.capital
            worth = np.logaddexp(capital[oldest], capital[second])
            self._table["weight"][oldest] = worth - self._table["evidence"][oldest]
            self._table.remove(second)

    def _crowded(self, newest: int) -> tuple[int, int] | None:
        """The two oldest of the oldest octave that has too many."""
        octaves = [(newest - int(block) + 1).bit_length() for block in self._table["blocks"]]
        crowded = max((one for one in octaves if octaves.count(one) > _OF_AN_OCTAVE), default=None)
        if crowded is None:
            return None
        inside = [place for place, one in enumerate(octaves) if one == crowded]
        oldest, second, *_ = sorted(inside, key=lambda place: self._table["blocks"][place])
        return oldest, second

    def state(self) -> list[State]:
        """Plain data: of each start what everything else follows from."""
        told = self._table.rows(("blocks", "rows", "counts", "weight", "evidence"))
        return [{name: packed(np.asarray(value)) for name, value in row.items()} for row in told]

    def restore(self, state: Sequence[State]) -> None:
        """Go on from what `state` told."""
        self._table.clear()
        for row in state:
            self.join({name: unpacked(value) for name, value in row.items()})


class _Alternatives:
    """What may have become of the reference."""

    def __init__(self, layout: Layout, scores: Floats) -> None:
        self._layout = layout
        self._scores = np.stack([scores, scores**2 - 1])
        self._tilts = np.exp([mean * scores + spread * (scores**2 - 1) for mean, spread in _TILTS])

    @staticmethod
    def columns(features: int, cells: int) -> dict[str, tuple[tuple[int, ...], Any]]:
        """What is worked out for each start."""
        return {
            "null": ((features,), np.float64),
            "log_shares": ((cells,), np.float64),
            "scale": ((features,), np.float64),
            "believed": ((features,), np.float64),
            "tilted": ((len(_TILTS), features), np.float64),
            "inflated": ((len(_INFLATIONS), cells), np.float32),
        }

    def prepared(self, alpha: Floats) -> dict[str, Floats]:
        """All that follows from a start's predictive [C] alone, whatever comes after it."""
        total = self._layout.sums(alpha)
        shares = alpha / self._layout.spread(total)
        scale = np.minimum(_BELIEF / total, _MOST_BELIEVED)
        return {
            "null": self._log_beta(alpha),
            "log_shares": np.log(shares),
            "scale": scale,
            "believed": self._log_beta(PRIOR + self._layout.spread(scale) * (alpha - PRIOR)),
            "tilted": np.log(self._layout.sums(shares * self._tilts)),
            "inflated": np.stack([np.log1p(moved / ((1.0 - moved) * shares)) for moved in _INFLATIONS]),
        }

    def evidence(self, alpha: Floats, counts: Counts, starts: Table) -> Floats:
        """The logarithm of E.

        Args:
            alpha: of the null's predictive, which knows everything: the same for all starts [C].
            counts: of everything [C].
            starts: with what was counted before each, and what was prepared.

        Returns: by start and feature [S, F].
        """
        sums = self._layout.sums
        since = counts - starts["counts"]
        rows = sums(since)
        null = self._log_beta(alpha) - starts["null"]
        plain = sums(starts["log_shares"] * since)
        moved = np.logaddexp(
            self._tilted(since, rows, starts["tilted"]), self._inflated(since, rows, starts["inflated"])
        )
        tempered = np.logaddexp(self._flat(since, rows), self._tempered(alpha - since, since, starts)) - math.log(2.0)
        result: Floats = np.logaddexp(tempered, moved + plain) - math.log(3.0) - null
        return result

    def _log_beta(self, alpha: Floats) -> Floats:
        """The normalizing constant of each feature's Dirichlet [..., C] -> [..., F]."""
        constant: Floats = self._layout.sums(gammaln(alpha)) - gammaln(self._layout.sums(alpha))
        return constant

    def _flat(self, since: Floats, rows: Floats) -> Floats:
        """The chance that nothing of the reference holds [S, F]."""
        total = PRIOR * self._layout.sizes
        cells = self._layout.sums(_log_gamma_of_half(since)) - self._layout.sizes * math.lgamma(PRIOR)
        chance: Floats = cells - gammaln(total + rows) + gammaln(total)
        return chance

    def _tempered(self, alpha: Floats, since: Floats, starts: Table) -> Floats:
        """The chance that a part of the reference is believed in [S, F]."""
        believed = PRIOR + self._layout.spread(starts["scale"]) * (alpha - PRIOR)
        chance: Floats = self._log_beta(believed + since) - starts["believed"]
        return chance

    def _tilted(self, since: Floats, rows: Floats, norms: Floats) -> Floats:
        """Relative to the chance that the reference's shares give [S, F]."""
        mean, spread = (self._layout.sums(since * scores) for scores in self._scores)
        by_mean, by_spread = np.array(_TILTS).T[:, :, None, None]
        return _log_mean(by_mean * mean + by_spread * spread - rows * np.moveaxis(norms, 1, 0))

    def _inflated(self, since: Floats, rows: Floats, gains: Floats) -> Floats:
        """Relative to the chance that the reference's shares give [S, F]."""
        few = since.astype(np.float32)  # precise enough for what is added up over cells, and half the work
        gained = self._layout.log_means(gains * few[:, None])
        lost = rows[:, None] * np.log1p(-np.array(_INFLATIONS))[:, None]
        return _log_mean(np.moveaxis(gained + lost, 1, 0))


@cache
def _table_of_half() -> Floats:
    return np.asarray(gammaln(np.arange(_TABLED) + 0.5))


def _log_gamma_of_half(counts: Floats) -> Floats:
    """Log gamma(n + 1/2); of small n from a table."""
    if counts.size and counts.max() >= _TABLED:
        return np.asarray(gammaln(counts + 0.5))
    return _table_of_half().take(counts.astype(np.intp))


def _log_mean(values: Floats) -> Floats:
    """The logarithm of the mean of exp(values) over the first axis."""
    most = values.max(axis=0)
    result: Floats = most + np.log(np.exp(values - most).mean(axis=0))
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
