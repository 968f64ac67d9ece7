"""Several hypotheses at once: which of them e-values refute, at a level for all of them together.

Weighted Bonferroni bounds the probability of any wrong refutation; e-BH (R. Wang, A. Ramdas, "False discovery rate
control with e-values", JRSS B 2022, arXiv:2009.02824) the expected share of wrong ones among those refuted, whatever
the dependence between the e-values, and refutes more where there are many.
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def refuted_by_bonferroni(log_es: Sequence[float], alpha: float, weights: Sequence[float] | None = None) -> list[int]:
    """Places of the hypotheses refuted, none of them wrongly with probability 1 - alpha.

    Args:
        log_es: evidence against each, in nats.
        alpha: 0 to 1.
        weights: of each hypothesis in alpha, above 0; None: alike.
    """
    shares = weights or [1.0] * len(log_es)
    total = sum(shares)
    return [place for place, log_e in enumerate(log_es) if log_e >= math.log(total / (alpha * shares[place]))]


def level_by_e_bh(log_es: Sequence[float], alpha: float) -> float:
    """The evidence, in nats, from which on e-BH refutes, among just these."""
    return math.log(len(log_es) / (max(len(refuted_by_e_bh(log_es, alpha)), 1) * alpha))


def refuted_by_e_bh(log_es: Sequence[float], alpha: float) -> list[int]:
    """Places of the hypotheses refuted, of which a share of alpha is wrong at most on average.

    Args:
        log_es: evidence against each, in nats.
        alpha: 0 to 1.
    """
    order = sorted(range(len(log_es)), key=lambda place: -log_es[place])
    passed = [
        rank for rank, place in enumerate(order, 1) if log_es[place] >= math.log(len(log_es) / (rank * alpha)) - 1e-12
    ]
    return sorted(order[: max(passed, default=0)])
