"""Whether today is unlike every day of the reference: a test that lets days differ as they have always differed.

Rows of one day are like each other, so that tests of rows call every day drift. Here the unit is the block (a day, an
hour): if nothing has changed, blocks are exchangeable, those of the reference and those after it. The distance of each
block from all the others together is its score; the rank of the newest score among all so far, ties broken by chance,
gives a p-value, and these p-values are independent and uniform whatever the blocks are (V. Vovk, "Testing
randomness online", Statistical Science 2021). Betting on small ones is a martingale, mixed over the block with which
the change began as in drift_evidence.py; by Ville's inequality it reaches 1 / alpha with probability at most alpha.

The bound is exact because each score is a function of the whole bag of blocks and nothing else; ranks among the
reference alone share that reference's luck, and are not independent.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from taxiway.stats.change import Counts, Floats, Layout, State, packed, prior_of_start, unpacked

_POWERS: Final = (0.15, 0.3, 0.5, 0.7, 0.85)
"""Bets eps * p^(eps - 1), each a density on [0, 1] that likes small p."""
_PRIOR: Final = 0.5


class BlockMartingale:
    """Blocks one after the other, each against all that came before it.

    Args:
        sizes: how many cells each feature has.
        seed: of the numbers that break ties.

    Attributes:
        log_e: the logarithm of the martingale; 0 until the reference is over.
        p_values: of the blocks after the reference.
    """

    def __init__(self, sizes: Sequence[int], *, seed: int = 0) -> None:
        self._layout = Layout(sizes)
        self._blocks: list[Counts] = []
        self._random = np.random.default_rng(seed)
        self._bets = np.zeros((0, len(_POWERS)))
        self._weights = np.zeros(0)
        self.p_values: list[float] = []
        self.log_e = 0.0

    def learn(self, counts: Counts) -> None:
        """One block of the reference: counts in each cell of each feature, one feature after the other."""
        if self.p_values:
            raise ValueError("the reference is over: blocks have been judged against it")
        self._blocks.append(counts)

    def judge(self, counts: Counts) -> float:
        """One more block; its p-value."""
        self._blocks.append(counts)
        scores = self.scores()
        above = int((scores[:-1] > scores[-1]).sum())
        ties = int((scores == scores[-1]).sum())
        p_value = float((above + self._random.uniform() * ties) / len(scores))
        self.p_values.append(p_value)
        self._bet(max(p_value, 1e-12))
        return p_value

    def state(self) -> State:
        """What it knows, beside what it was made with."""
        return {
            "blocks": [packed(block) for block in self._blocks],
            "bets": packed(self._bets),
            "weights": packed(self._weights),
            "p_values": self.p_values,
            "log_e": self.log_e,
            "random": json.dumps(self._random.bit_generator.state),
        }

    def restore(self, state: State) -> None:
        """Go on from what another one knew, which was made with the same.

        Raises:
            ValueError: it was made with something else.
        """
        blocks = [unpacked(block) for block in state["blocks"]]
        cells = int(self._layout.sizes.sum())
        if any(len(block) != cells for block in blocks):
            raise ValueError(f"its blocks are not of {cells} cells")
        self._blocks = blocks
        self._bets, self._weights = unpacked(state["bets"]), unpacked(state["weights"])
        self.p_values, self.log_e = list(state["p_values"]), state["log_e"]
        self._random.bit_generator.state = json.loads(state["random"])

    def scores(self) -> Floats:
        """How far each block is from all the others together, over all features.

        By feature the Jensen-Shannon divergence of the two distributions, less what blocks of their sizes would be
        apart by chance alone; summed: one feature that moves far counts as much as many that move a little.
        """
        blocks = np.stack(self._blocks).astype(np.float64)
        rest = blocks.sum(axis=0) - blocks
        total: Floats = self._divergence(blocks, rest).sum(axis=1)
        return total

    def _divergence(self, one: Floats, other: Floats) -> Floats:
        """[blocks, features]."""
        sums = self._layout.sums
        rows, others = sums(one), sums(other)
        p, q = self._shares(one), self._shares(other)
        middle = (p + q) / 2
        nats = (sums(p * np.log(p / middle)) + sums(q * np.log(q / middle))) / 2
        expected = (self._layout.sizes - 1) / 8 * (1 / np.maximum(rows, 1) + 1 / np.maximum(others, 1))
        divergence: Floats = nats - expected
        return divergence

    def _shares(self, counts: Floats) -> Floats:
        counts = counts + _PRIOR
        shares: Floats = counts / self._layout.spread(self._layout.sums(counts))
        return shares

    def _bet(self, p_value: float) -> None:
        self._weights = np.append(self._weights, prior_of_start(len(self.p_values)))
        self._bets = np.concatenate([self._bets, np.zeros((1, len(_POWERS)))])
        self._bets += np.log(_POWERS) + (np.array(_POWERS) - 1.0) * math.log(p_value)
        capital = np.logaddexp.reduce(self._bets, axis=1) - math.log(len(_POWERS)) + np.log(self._weights)
        self.log_e = float(np.logaddexp.reduce([*capital, math.log(1.0 - self._weights.sum())]))
