"""Accuracy without labels: right where only the rows changed, and honest about how sure it is."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from taxiway.stats.label_free import BINS, ConfidenceCurve


def rows(random: np.random.Generator, number: int, a: float, b: float) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Confidences of an overconfident model, and whether it was right: less often than it says."""
    confidence = random.beta(a, b, size=number)
    return confidence, random.random(number) < confidence**2


def test_an_overconfident_model_is_set_right_on_other_rows() -> None:
    random = np.random.default_rng(0)
    curve = ConfidenceCurve.of(*rows(random, 20_000, 3, 1))
    confidence, correct = rows(random, 5000, 2, 2)
    estimate = curve.estimate(curve.count(confidence))

    assert estimate is not None
    assert abs(confidence.mean() - correct.mean()) > 0.1
    assert estimate.accuracy == pytest.approx(correct.mean(), abs=0.03)


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    held = 0
    for seed in range(100):
        random = np.random.default_rng(seed)
        curve = ConfidenceCurve.of(*rows(random, 4000, 3, 2))
        confidence, correct = rows(random, 1000, 3, 2)
        estimate = curve.estimate(curve.count(confidence))
        assert estimate is not None
        held += estimate.low <= correct.mean() <= estimate.high

    assert held >= 88


def test_rows_that_the_reference_hardly_had_are_thin_ground() -> None:
    random = np.random.default_rng(0)
    curve = ConfidenceCurve.of(*rows(random, 5000, 40, 4))
    near, far = (curve.estimate(curve.count(rows(random, 1000, *shape)[0])) for shape in ((40, 4), (4, 8)))

    assert near is not None
    assert far is not None
    assert (near.on_thin_ground, far.on_thin_ground) == (False, True)


def test_the_curve_never_falls() -> None:
    curve = ConfidenceCurve.of(*rows(np.random.default_rng(0), 300, 1, 1))

    assert len(curve.right) == BINS
    assert (np.diff(curve.right) >= 0).all()


def test_no_rows_have_no_estimate() -> None:
    curve = ConfidenceCurve.of(np.array([0.5, 0.9]), np.array([False, True]))

    assert curve.estimate(curve.count(np.zeros(0))) is None
    with pytest.raises(ValueError, match="labels"):
        ConfidenceCurve.of(np.zeros(0), np.zeros(0))
