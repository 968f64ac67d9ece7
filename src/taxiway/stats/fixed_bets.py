"""Evidence about means from counts of values, by betting with many fixed stakes at once.

For payoffs Y whose mean is at most zero under the hypothesis, and of which none is below -worst, a gambler who stakes
the same share f of her capital on each, at Y / worst to one, has prod(1 + f Y / worst): a test supermartingale, however
the distribution drifts, and so is the average over gamblers of different f (I. Waudby-Smith, A. Ramdas, "Estimating
means of bounded random variables by betting", JRSS B 2023). With fixed stakes the order does not matter: counts of
equal values are all that has to be kept, and they add up over processes.

Two arms are compared through requests that are split at random: a value y of the candidate, which gets a share p of the
requests of both, counts as (y - c) / p, and one of the other arm as -(y - c) / (1 - p). The mean of those is the
difference of the arms' means at every moment, whatever drifts in both and whatever the centre c, which only keeps the
variance low: where it is best is not known, so that several share the capital.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

STAKES: Final = np.geomspace(0.01, 0.95, 8)
"""Shares of what she could lose at worst that the gamblers put on each payoff."""
_CENTRES: Final = (0.1, 0.3, 0.5, 0.7, 0.9)
RATES: Final = (0.0,)
"""The centre for events that are rare: what did not happen counts nothing."""


class Values(NamedTuple):
    """Equal values of one arm, 0 to 1, that came while the weights stayed as they were.

    Attributes:
        share: the candidate's, of the requests of both arms, 0 < share < 1.
        candidate: whose they are; otherwise they are the other arm's.
        times: how often it came.
    """

    share: float
    candidate: bool
    value: float
    times: float


def log_capital(payoffs: Floats, worst: Floats | float, counts: Floats) -> float:
    """Evidence, in nats, that the mean of the payoffs is above zero.

    Args:
        payoffs: distinct ones.
        worst: what one of its kind can lose at most, above 0.
        counts: how often each came.
    """
    return _log_mean_exp(np.log1p(STAKES[:, None] * (payoffs / worst)) @ counts)


def _log_mean_exp(logs: Floats) -> float:
    top = float(logs.max())
    return top + math.log(float(np.exp(logs - top).mean()))


def log_e_mean_above(values: Sequence[float], counts: Sequence[float], mean: float) -> float:
    """Evidence that the mean of values in [0, 1] is above `mean`, 0 < mean < 1."""
    return log_capital(np.asarray(values) - mean, mean, np.asarray(counts, np.float64))


def log_e_mean_below(values: Sequence[float], counts: Sequence[float], mean: float) -> float:
    """Evidence that it is below."""
    return log_e_mean_above([1 - value for value in values], counts, 1 - mean)


def log_e_difference_above(values: Sequence[Values], difference: float, centres: Sequence[float] = _CENTRES) -> float:
    """Evidence that the candidate's mean is more than `difference` above the other arm's, -1 < difference < 1."""
    if not values:
        return 0.0
    table = np.asarray(values, np.float64)
    return _log_e_difference(table[:, 0], table[:, 1] > 0, table[:, 2], table[:, 3], difference, centres)


def log_e_difference_below(values: Sequence[Values], difference: float, centres: Sequence[float] = _CENTRES) -> float:
    """Evidence that the candidate's mean is less than `difference` above the other arm's: the arms change places."""
    if not values:
        return 0.0
    table = np.asarray(values, np.float64)
    return _log_e_difference(1 - table[:, 0], table[:, 1] == 0, table[:, 2], table[:, 3], -difference, centres)


def _log_e_difference(
    shares: Floats,
    mine: NDArray[np.bool_],
    values: Floats,
    counts: Floats,
    difference: float,
    centres: Sequence[float],
) -> float:
    capitals = []
    for centre in centres:
        payoffs = np.where(mine, (values - centre) / shares, (centre - values) / (1 - shares)) - difference
        worst = np.maximum(centre / shares, (1 - centre) / (1 - shares)) + difference
        capitals.append(log_capital(payoffs, np.maximum(worst, 1e-9), counts))
    return _log_mean_exp(np.asarray(capitals))
