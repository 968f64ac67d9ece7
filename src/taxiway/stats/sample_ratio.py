"""Whether requests were split in the ratio that was asked for, at any time.

The sequential test of M. Lindon, A. Malek, "Anytime-valid inference for multinomial count data", NeurIPS 2022: a Bayes
factor of a Dirichlet prior around the wanted shares against the shares themselves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

CONCENTRATION: Final = 10_000.0
"""How close to the wanted shares the alternatives lie."""
FLAG_LOG_E: Final = math.log(1000.0)


def log_bayes_factor(counts: Sequence[int], shares: Sequence[float], prior: Sequence[float] | None = None) -> float:
    """Evidence, in nats, that these counts do not come from these shares.

    Args:
        counts: requests of each arm.
        shares: wanted, each above 0, together 1.
        prior: of the alternatives; None: CONCENTRATION around the shares.
    """
    alphas = [CONCENTRATION * share for share in shares] if prior is None else list(prior)
    gamma = math.lgamma
    value = gamma(sum(alphas)) - gamma(sum(alphas) + sum(counts))
    for count, share, alpha in zip(counts, shares, alphas, strict=True):
        value += gamma(alpha + count) - gamma(alpha) - count * math.log(share)
    return value
