"""Coefficients of regressions: published values, and that true zeros are seldom refuted."""

from __future__ import annotations

import math

import numpy as np
import pytest

from taxiway.stats.regression import half_width, log_e_not_zero, prior_share

README = [
    (0.9163, 0.1586, 5.776, 5.632e-06, 0.4021, 1.430),
    (1.8723, 0.1809, 10.352, 7.565e-15, 1.2921, 2.453),
    (2.8503, 0.1828, 15.590, 1.838e-24, 2.2643, 3.436),
    (3.9056, 0.1594, 24.499, 1.051e-37, 3.3891, 4.422),
    (2.3224, 0.2157, 10.769, 1.842e-15, 1.6393, 3.006),
    (2.2998, 0.2414, 9.527, 6.110e-13, 1.5404, 3.059),
    (3.3117, 0.2325, 14.243, 1.523e-21, 2.5786, 4.045),
    (0.4801, 0.2112, 2.273, 4.471e-01, -0.1899, 1.150),
]
"""Of the R package avlm: estimate, standard error, t, p-value and interval of each coefficient."""


@pytest.mark.parametrize(("estimate", "error", "t", "p_value", "low", "high"), README)
def test_the_table_of_avlm(estimate: float, error: float, t: float, p_value: float, low: float, high: float) -> None:
    """To what the rounding of its columns allows. It counts one degree of freedom less than the residuals' 92."""
    share = prior_share(error, 1.065)
    assert math.exp(-log_e_not_zero(t, 91, share)) == pytest.approx(p_value, rel=5e-3)
    width = half_width(91, share, 0.05) * error
    assert (estimate - width, estimate + width) == pytest.approx((low, high), abs=6e-4)


def test_the_interval_ends_where_the_evidence_does() -> None:
    assert log_e_not_zero(half_width(40, 0.02, 0.05), 40, 0.02) == pytest.approx(math.log(20))
    assert half_width(1, 0.5, 0.05) == math.inf


def test_a_treatment_without_effect_is_seldom_refuted_however_often_it_is_looked_at() -> None:
    """Beside a covariate that explains most; an effect of one and a half deviations is found nearly always."""
    chance = np.random.default_rng(12)
    refuted = [sum(max(_evidence(chance, effect)) >= math.log(20) for _ in range(200)) / 200 for effect in (0.0, 1.5)]
    assert refuted[0] <= 0.05
    assert refuted[1] >= 0.9


def _evidence(chance: np.random.Generator, effect: float) -> list[float]:
    x, treated = chance.normal(0, 1, 80), chance.integers(0, 2, 80)
    treated[:4] = [0, 1, 0, 1]
    y = 1 + 3 * x + effect * treated + chance.normal(0, 1, 80)
    design = np.column_stack([treated, np.ones(80), x])
    return [_of(design[:n], y[:n]) for n in range(8, 81, 4)]


def _of(design: np.ndarray, y: np.ndarray) -> float:
    inverse = np.linalg.inv(design.T @ design)
    estimates = inverse @ design.T @ y
    freedom = len(y) - design.shape[1]
    deviation = math.sqrt(((y - design @ estimates) ** 2).sum() / freedom)
    error = deviation * math.sqrt(inverse[0, 0])
    return log_e_not_zero(estimates[0] / error, freedom, prior_share(error, deviation))
