"""Whether the mean of bounded values is above a number, by betting on it, at any time.

For X in [0, 1] and the hypothesis that its mean is at most m: a gambler who puts a share of her capital on each X
being above m cannot grow rich if that is true. K = prod(1 + lambda_i (X_i - m)), each bet chosen before X_i is seen,
is a test supermartingale (I. Waudby-Smith, A. Ramdas, "Estimating means of bounded random variables by betting", JRSS
B 2023).
"""

from __future__ import annotations

import math
from typing import Final

_CAUTION: Final = 0.5
"""The largest bet loses this share of the capital at worst."""


class BettingTest:
    """One test; `log_e` is the logarithm of the capital.

    Args:
        null_mean: the hypothesis is that the mean is at most this, 0 < null_mean < 1.
        alpha: the level that the bets are made for; the test is valid at any other.
    """

    __slots__ = ("_alpha", "_m", "_spread", "_sum", "_variance", "count", "log_e")

    def __init__(self, null_mean: float, alpha: float) -> None:
        self._m = null_mean
        self._alpha = alpha
        self.count = 0
        self.log_e = 0.0
        self._sum = 0.5
        self._spread = 0.25
        self._variance = 0.25

    def add(self, x: float) -> None:
        """One more value, in [0, 1]."""
        time = self.count + 1
        bet = math.sqrt(2 * math.log(1 / self._alpha) / (self._variance * time * math.log(1 + time)))
        self.log_e += math.log1p(min(bet, _CAUTION / self._m) * (x - self._m))
        self.count = time
        self._sum += x
        mean = self._sum / (time + 1)
        self._spread += (x - mean) ** 2
        self._variance = self._spread / (time + 1)
