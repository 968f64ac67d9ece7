"""Whether a quantile of one arm is above that of another by more than a margin, at any time.

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

import functools
import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from taxiway.stats.log_buckets import PER_OCTAVE, LogHistogram

Floats = NDArray[np.float64]
_ALTERNATIVES: Final = 40
_NEAREST: Final = 0.004
"""The first alternative changes the tail by so much, as a logarithm."""
_SHRINKS: Final = 3.0
_GROWS: Final = math.log(8.0)
"""The last ones: how far the tail shrinks, and grows."""


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


def log_e_quantile_above(baseline: Floats, candidate: Floats, p: float, margin: float) -> float:
    """Evidence, in nats, that the candidate's p-quantile is above (1 + margin) times the baseline's; exact.

    On the values themselves; `log_e_harm` comes close to it from below.

    Args:
        baseline: its values, shape (n,), above 0.
        candidate: its values, shape (m,).
        p: 0 to 1.
        margin: as a share.
    """
    base, other = np.sort(baseline), np.sort(candidate)
    places = np.concatenate([[-math.inf], other / (1 + margin)])
    below = np.searchsorted(base, places, side="left").astype(np.float64)
    within = np.concatenate([[0.0], np.searchsorted(other, other, side="right").astype(np.float64)])
    against = log_mixture(below, float(len(base)), p, above=True)
    return float((against + log_mixture(within, float(len(other)), p, above=False)).min())


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


@functools.lru_cache(maxsize=256)
def _grid(p: float, *, above: bool) -> Floats:
    """Dense near p: with a coarse one the factor that is not at fault falls exponentially, and power is lost.

    The tail 1 - p shrinks for probabilities above p, and grows for those below, of which the last is p / 5 at least.
    """
    furthest = _SHRINKS if above else min(_GROWS, math.log((1 - p / 5) / (1 - p)))
    tails = np.geomspace(min(_NEAREST, furthest / 10), furthest, _ALTERNATIVES)
    grid = 1 - (1 - p) * np.exp(-tails if above else tails)
    grid.flags.writeable = False
    return np.asarray(grid)
