"""Whether a rate is below a number, at any time: what there is to say where bad events hardly ever come.

A mixture of likelihood ratios of smaller rates against the number itself; for independent trials a test supermartingale
under the hypothesis that the rate is at least that.
"""

from __future__ import annotations

import math
from typing import Final

from taxiway.stats.event_label import log_sum_exp

_SHARES: Final = tuple(0.02 * (0.9 / 0.02) ** (number / 15) for number in range(16))


def log_e_below(bad: int, trials: int, rate: float) -> float:
    """Evidence, in nats, that the rate of bad events is below `rate`, 0 < rate < 1."""
    logs = []
    for share in _SHARES:
        other = rate * share
        logs.append(bad * math.log(share) + (trials - bad) * (math.log1p(-other) - math.log1p(-rate)))
    return log_sum_exp(logs) - math.log(len(_SHARES))


def trials_needed(rate: float, log_threshold: float) -> int:
    """Trials without any bad event after which the evidence crosses."""
    most = 1
    while log_e_below(0, most, rate) < log_threshold:
        most *= 2
    least = most // 2
    while most - least > 1:
        middle = (least + most) // 2
        least, most = (middle, most) if log_e_below(0, middle, rate) < log_threshold else (least, middle)
    return most
