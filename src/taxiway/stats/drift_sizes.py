"""How large a change of a distribution is: effect sizes of counts in the same cells. None of them is a test.

Each grows with nothing but the change, on average; each is never zero for samples, and none says whether it is chance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

_PRIOR: Final = 0.5


@dataclass(frozen=True, slots=True)
class DriftSizes:
    """Of one feature.

    Attributes:
        psi: population stability index, sum of (q - p) log(q / p); conventions call 0.1 little and 0.25 much.
        js: Jensen-Shannon distance, the root of the divergence in bits, 0 to 1.
        ks: largest difference of the cumulative shares, 0 to 1; NaN where cells have no order.
        wasserstein: earth mover's distance of the cells' middles, in standard deviations of the reference; NaN where
            cells have no order.
    """

    psi: float
    js: float
    ks: float
    wasserstein: float


def drift_sizes(reference: Counts, now: Counts, order: Floats | None = None) -> DriftSizes:
    """Sizes of the change from one distribution to another.

    Args:
        reference: counts in each cell before.
        now: in the same cells since.
        order: what cells are ordered by, in the feature's unit; NaN where a cell has no place.

    Raises:
        ValueError: no rows in one of them.
    """
    if not reference.sum() or not now.sum():
        raise ValueError("the size of a change needs rows on both sides")
    p, q = _shares(reference), _shares(now)
    middle = (p + q) / 2
    divergence = ((p * np.log2(p / middle)).sum() + (q * np.log2(q / middle)).sum()) / 2
    ks, wasserstein = _ordered_sizes(reference, now, order)
    return DriftSizes(
        psi=float(((q - p) * np.log(q / p)).sum()),
        js=float(np.sqrt(max(divergence, 0.0))),
        ks=ks,
        wasserstein=wasserstein,
    )


def _shares(counts: Counts) -> Floats:
    shares: Floats = (counts + _PRIOR) / (counts.sum() + _PRIOR * len(counts))
    return shares


def _ordered_sizes(reference: Counts, now: Counts, order: Floats | None) -> tuple[float, float]:
    placed = np.zeros(0, dtype=np.intp) if order is None else np.flatnonzero(np.isfinite(order))
    if order is None or len(placed) < 2 or not reference[placed].sum() or not now[placed].sum():
        return float("nan"), float("nan")
    rising = placed[np.argsort(order[placed], kind="stable")]
    places = order[rising]
    p, q = reference[rising] / reference[rising].sum(), now[rising] / now[rising].sum()
    apart = np.abs(np.cumsum(p) - np.cumsum(q))
    mean = float((p * places).sum())
    spread = float(np.sqrt((p * (places - mean) ** 2).sum()))
    moved = float((apart[:-1] * np.diff(places)).sum())
    return float(apart.max()), moved / spread if spread > 0 else float("nan")
