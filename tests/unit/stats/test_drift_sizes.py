"""Effect sizes beside scipy's and the formulas of the papers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import wasserstein_distance

from taxiway.stats.drift_sizes import drift_sizes

REFERENCE = np.array([100, 200, 400, 200, 100])
NOW = np.array([50, 150, 300, 300, 200])
ORDER = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])


def test_nothing_changed_is_no_size() -> None:
    sizes = drift_sizes(REFERENCE, REFERENCE, ORDER)

    assert (sizes.psi, sizes.js, sizes.ks, sizes.wasserstein) == (0.0, 0.0, 0.0, 0.0)


def test_sizes_are_those_of_others() -> None:
    sizes = drift_sizes(REFERENCE * 1000, NOW * 1000, ORDER)
    p, q = REFERENCE / 1000, NOW / 1000

    assert sizes.js == pytest.approx(jensenshannon(p, q, base=2), rel=1e-3)
    assert sizes.psi == pytest.approx(float(((q - p) * np.log(q / p)).sum()), rel=1e-3)
    assert sizes.ks == pytest.approx(0.2)
    spread = math.sqrt(float((p * ORDER**2).sum()))
    assert sizes.wasserstein == pytest.approx(wasserstein_distance(ORDER, ORDER, p, q) / spread)


def test_cells_without_an_order_have_no_distance() -> None:
    sizes = drift_sizes(REFERENCE, NOW)

    assert math.isnan(sizes.ks)
    assert math.isnan(sizes.wasserstein)
    assert sizes.psi > 0


def test_no_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="rows"):
        drift_sizes(REFERENCE, np.zeros(5, dtype=np.int64))
