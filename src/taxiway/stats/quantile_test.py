"""Whether a quantile of one arm is above that of another by more than a margin, on histograms, at any time.

The one-sided two-sample e-process for quantiles: for any time x, count kA = #{baseline < x} and kB = #{candidate <=
(1 + d) x}. Under the hypothesis Q_c(p) <= (1 + d) Q_b(p), at x = Q_b(p) the first is a sum of trials of probability
at most p and the second of probability at least p: a mixture of likelihood ratios against either is a test
supermartingale, and the least product over all x is no larger than the product at that one, so that it is an
e-process too (in the manner of S. Howard, A. Ramdas, "Sequential estimation of quantiles with applications to A/B
testing", Bernoulli 2022, arXiv:1906.09712; ties and atoms are allowed). On log buckets (1 + d) is a shift by whole
buckets: rounded up it enlarges the hypothesis, so that nothing is refuted that is true.

For safety the two change places: that the baseline's quantile is at most the candidate's over (1 + d) is refuted.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from taxiway.stats.log_buckets import PER_OCTAVE, LogHistogram

Floats = NDArray[np.float64]
_TAILS_UP: Final = np.exp(np.geomspace(0.004, math.log(8.0), 40))
_TAILS_DOWN: Final = np.exp(-np.geomspace(0.004, 3.0, 40))


def log_e_harm(baseline: LogHistogram, candidate: LogHistogram, p: float, margin: float) -> float:
    """Evidence that the candidate's quantile is more than (1 + margin) times the baseline's, in nats."""
    return log_e_shifted(baseline, candidate, p, math.ceil(_buckets_of(margin) - 1e-9))


def log_e_safe(baseline: LogHistogram, candidate: LogHistogram, p: float, margin: float) -> float:
    """Evidence that the candidate's quantile is less than (1 + margin) times the baseline's, in nats.

    The hypothesis Q_c >= (1 + margin) Q_b is Q_b <= Q_c / (1 + margin): the same test with the arms exchanged and the
    shift negative; rounded towards zero, it is of a smaller margin, and refutes no more than it may.
    """
    return log_e_shifted(candidate, baseline, p, -math.floor(_buckets_of(margin) + 1e-9))


def log_e_shifted(first: LogHistogram, second: LogHistogram, p: float, shift: int) -> float:
    """Evidence that the second's quantile is above the first's by more than `shift` buckets."""
    one, two = np.asarray(first.counts, np.float64), np.asarray(second.counts, np.float64)
    total_one, total_two = float(one.sum()), float(two.sum())
    if not total_one or not total_two:
        return 0.0
    below = np.concatenate([[0.0], np.cumsum(one)])[:-1]
    upto = np.cumsum(two)
    places = np.clip(np.arange(len(one)) + shift, -1, len(one) - 1)
    within = np.where(places < 0, 0.0, upto[places])
    # A time x within bucket i: all of the buckets below it are below x, and none of the second's beyond i + shift is.
    gain = log_mixture(below, total_one, p, above=True) + log_mixture(within, total_two, p, above=False)
    return float(gain.min())


def _buckets_of(margin: float) -> float:
    return math.log2(1.0 + margin) * PER_OCTAVE


def log_mixture(counts: Floats, total: Floats | float, p: float, *, above: bool) -> Floats:
    """Log of the mean likelihood ratio of probabilities above (or below) p against p, for each count of `total`."""
    probabilities = _grid(p, above=above)
    gains = np.log(probabilities / p)[:, None] * counts + np.log((1 - probabilities) / (1 - p))[:, None] * (
        total - counts
    )
    top: Any = gains.max(axis=0)
    return np.asarray(top + np.log(np.exp(gains - top).mean(axis=0)))


def _grid(p: float, *, above: bool) -> Floats:
    """Dense near p: with a coarse one the factor that is not at fault falls exponentially, and power is lost.

    The tail 1 - p shrinks for probabilities above p, and grows for those below.
    """
    grid = 1 - (1 - p) * (_TAILS_DOWN if above else _TAILS_UP)
    return np.asarray(grid[grid > 0])
