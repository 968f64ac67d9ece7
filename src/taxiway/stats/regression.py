"""Whether a coefficient of a linear regression is 0, at any time, exact for normal errors.

The t statistic's likelihood ratio, mixed over a normal prior of the coefficient in units of the errors' deviation: M.
Lindon, D. Ham, M. Tingley, I. Bojinov, "Anytime-valid inference in linear models and regression-adjusted causal
inference" (arXiv:2210.08589). With covariates known before the treatment it is the exact counterpart of
mean_sequence.py, which needs no normal errors but enough values.
"""

from __future__ import annotations

import math


def prior_share(error: float, deviation: float, precision: float = 1.0) -> float:
    """The prior's part of all that is known of a coefficient.

    Args:
        error: the coefficient's standard error.
        deviation: of the regression's errors.
        precision: of the prior of coefficient / deviation.
    """
    return precision / (precision + (deviation / error) ** 2)


def log_e_not_zero(t: float, freedom: int, share: float) -> float:
    """Evidence, in nats, that the coefficient is not 0.

    Args:
        t: the estimate over its standard error.
        freedom: degrees of freedom of the residuals.
        share: see `prior_share`.
    """
    square = t**2 / freedom
    return (math.log(share) + (freedom + 1) * (math.log1p(square) - math.log1p(share * square))) / 2


def half_width(freedom: int, share: float, alpha: float) -> float:
    """Half the length of the coefficient's interval, in standard errors; infinite while too little is known."""
    root = (share * alpha**2) ** (1 / (freedom + 1))
    return math.sqrt(freedom * (1 - root) / (root - share)) if root > share else math.inf
