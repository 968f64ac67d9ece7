"""Whether today is unlike every day of the reference: a test that lets days differ as they have always differed.

Rows of one day are like each other, so that tests of rows call every day drift. Here the unit is the block (a day, an
hour): if nothing has changed, blocks are exchangeable, those of the reference and those after it. A block is looked at
from several sides: how many of its rows lie below some of the edges between a feature's cells, and how many in each
frequent cell that has no order. The rank of the newest block's share among those of all blocks so far, ties broken by
chance, gives p-values, and those of one side are independent and uniform whatever the blocks are (V. Vovk, "Testing
randomness online", Statistical Science 2021). Betting on small ones is a martingale for each side and direction. With
it go all blocks with which the change may have begun, weighted as in drift_evidence.py: since they all win or lose the
same bet, their sum A follows from the last one, A(n) = (A(n - 1) + w(n)) b(n). The average over sides, directions and
bets is a martingale whatever they have to do with each other; by Ville's inequality it reaches 1 / alpha with
probability at most alpha.

The bound is exact because each rank is among all blocks so far; ranks among the reference alone share that reference's
luck, and are not independent. So that a life may be long, blocks are forgotten all at once after a thousand, and as
many are learned anew as at first, without a bet, while the capital stays: ranks in disjoint groups of blocks are
independent.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from taxiway.stats.change import Counts, Floats, State, packed, prior_of_start, unpacked
from taxiway.stats.drift_evidence import Feature

MOST_BLOCKS: Final = 1_000
"""Blocks that are kept; then all are forgotten, and others are learned in their place."""
_POWERS: Final = np.array((0.15, 0.3, 0.5, 0.7, 0.85))
"""Bets eps * p^(eps - 1), each a density on [0, 1] that likes small p."""
_LEVELS: Final = (0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.98)
"""Shares of the reference below the edges that are looked at: few, as each costs the others evidence."""
_MOST_CELLS: Final = 8
"""Cells without an order that are looked at, the most frequent ones."""
_PRIOR: Final = 0.5
_LEAST_P: Final = 1e-12
_NOTHING: Final = -1e300
"""The logarithm of no capital."""


class BlockMartingale:
    """Blocks one after the other, each against all that came before it.

    Args:
        features: how each one's cells are ordered.
        seed: of the numbers that break ties.

    Attributes:
        log_e: the logarithm of the martingale; 0 until the reference is over.
        p_values: of the last blocks after the reference: the smallest of each, over all sides. It shows which blocks
            were odd, and is no p-value by itself. 1 for one that was learned.
        judged: how many were judged.
        log_e_by_feature: the logarithm of each feature's own average [F].
    """

    def __init__(self, features: Sequence[Feature], *, seed: int = 0) -> None:
        sides = [_sides(feature) for feature in features]
        self._sides = _block_diagonal(sides)
        self._owners = np.tile(np.repeat(np.arange(len(features)), [len(one) for one in sides]), 2)
        self._sizes = [len(feature.reference) for feature in features]
        self._shares = np.zeros((0, len(self._sides)), dtype=np.float32)
        self._random = np.random.default_rng(seed)
        self._capital = np.full((len(_POWERS), 2 * len(self._sides)), _NOTHING)
        self._unused = 1.0
        self._learned = self._to_learn = 0
        self.judged = 0
        self.p_values: list[float] = []
        self.log_e = 0.0
        self.log_e_by_feature: Floats = np.zeros(len(features))

    def learn(self, counts: Counts) -> None:
        """One block of the reference: counts in each cell of each feature, one feature after the other."""
        if self.judged:
            raise ValueError("the reference is over: blocks have been judged against it")
        self._learned += 1
        self._keep(self._seen(counts))

    def judge(self, counts: Counts) -> float:
        """One more block; the smallest of its p-values, or 1 if it had to be learned."""
        shares = self._seen(counts)
        self.judged += 1
        if len(self._shares) >= MOST_BLOCKS:
            self._shares, self._to_learn = self._shares[:0], self._learned
        self._keep(shares)
        if self._to_learn:
            self._to_learn -= 1
            return self._told(1.0)
        ties = (self._shares == shares).sum(axis=0) * self._random.uniform()
        above = ((self._shares > shares).sum(axis=0) + ties) / len(self._shares)
        below = ((self._shares < shares).sum(axis=0) + ties) / len(self._shares)
        p_values = np.maximum(np.concatenate([above, below]), _LEAST_P)
        self._bet(p_values)
        return self._told(float(p_values.min()))

    def _told(self, p_value: float) -> float:
        self.p_values = [*self.p_values[-(MOST_BLOCKS - 1) :], p_value]
        return p_value

    def state(self) -> State:
        """What it knows, beside what it was made with."""
        return {
            "shares": packed(self._shares),
            "capital": packed(self._capital),
            "unused": self._unused,
            "learned": [self._learned, self._to_learn, self.judged],
            "p_values": self.p_values,
            "log_e": self.log_e,
            "by_feature": packed(self.log_e_by_feature),
            "random": json.dumps(self._random.bit_generator.state),
        }

    def restore(self, state: State) -> None:
        """Go on from what another one knew, which was made with the same.

        Raises:
            ValueError: it was made with something else.
        """
        shares = unpacked(state["shares"])
        if shares.shape[1:] != self._shares.shape[1:]:
            raise ValueError(f"it looked at {shares.shape[1:]} sides; these are {self._shares.shape[1:]}")
        self._shares, self._capital = shares, unpacked(state["capital"])
        self._unused, self.log_e = state["unused"], state["log_e"]
        self._learned, self._to_learn, self.judged = state["learned"]
        self.p_values, self.log_e_by_feature = list(state["p_values"]), unpacked(state["by_feature"])
        self._random.bit_generator.state = json.loads(state["random"])

    def _seen(self, counts: Counts) -> Floats:
        """A block from every side: shares of its rows [T]."""
        prior = np.asarray(counts, dtype=np.float64) + _PRIOR
        totals = np.add.reduceat(prior, np.concatenate([[0], np.cumsum(self._sizes)[:-1]]))
        shares: Floats = self._sides @ (prior / np.repeat(totals, self._sizes))
        return shares.astype(np.float32)

    def _keep(self, shares: Floats) -> None:
        self._shares = np.concatenate([self._shares, shares[None].astype(np.float32)])

    def _bet(self, p_values: Floats) -> None:
        weight = prior_of_start(self.judged)
        self._unused -= weight
        won = np.log(_POWERS)[:, None] + (_POWERS[:, None] - 1.0) * np.log(p_values)
        self._capital = np.logaddexp(self._capital, math.log(weight)) + won
        worth = np.logaddexp(self._capital, math.log(self._unused))
        by_side = _log_mean(worth)
        self.log_e = float(_log_mean(by_side))
        self.log_e_by_feature = np.array([_log_mean(by_side[self._owners == at]) for at in range(len(self._sizes))])


def _sides(feature: Feature) -> Floats:
    """From which a feature is looked at [T, C]: each row adds up the shares of some of its cells."""
    reference = feature.reference + _PRIOR
    order = np.full(len(reference), math.nan) if feature.order is None else feature.order
    placed = np.flatnonzero(~np.isnan(order))
    rising = placed[np.argsort(order[placed], kind="stable")]
    below = np.cumsum(reference[rising]) / reference.sum()
    edges = sorted({int(np.abs(below[:-1] - level).argmin()) for level in _LEVELS}) if len(rising) > 1 else []
    alone = np.flatnonzero(np.isnan(order))
    often = alone[np.argsort(-reference[alone], kind="stable")[:_MOST_CELLS]]
    sides = np.zeros((len(edges) + len(often), len(reference)))
    for number, edge in enumerate(edges):
        sides[number, rising[: edge + 1]] = 1.0
    sides[np.arange(len(edges), len(sides)), often] = 1.0
    return sides


def _block_diagonal(parts: Sequence[Floats]) -> Floats:
    """All sides of all features over all cells."""
    whole = np.zeros((sum(len(part) for part in parts), sum(part.shape[1] for part in parts)))
    row = column = 0
    for part in parts:
        whole[row : row + len(part), column : column + part.shape[1]] = part
        row, column = row + len(part), column + part.shape[1]
    return whole


def _log_mean(values: Floats) -> Floats:
    """The logarithm of the mean of exp(values) over the first axis."""
    most = values.max(axis=0)
    result: Floats = most + np.log(np.exp(values - most).mean(axis=0))
    return result
