"""Histograms as a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from taxiway.optimize.calibrate.histogram import HALF, Histogram


def write_histograms(histograms: Mapping[str, Histogram], path: Path) -> None:
    """As one `.npz`."""
    found = list(histograms.values())
    empty = np.zeros((0, 2 * HALF), dtype=np.int64)
    np.savez_compressed(
        path,
        names=np.array(list(histograms), dtype=str),
        ranges=np.array([(one.low, one.high) for one in found], dtype=np.float64).reshape(-1, 2),
        scales=np.array([_NONE if one.scale is None else one.scale for one in found], dtype=np.int64),
        numbers=np.array([(one.zeros, one.total, one.not_finite) for one in found], dtype=np.int64).reshape(-1, 3),
        counts=np.stack([one.counts for one in found]) if found else empty,
    )


def load_histograms(path: Path) -> dict[str, Histogram]:
    """What `write_histograms` wrote."""
    with np.load(path, allow_pickle=False) as stored:
        names, ranges, scales = stored["names"], stored["ranges"], stored["scales"]
        numbers, counts = stored["numbers"], stored["counts"]
        return {
            str(name): Histogram(
                low=float(ranges[at][0]),
                high=float(ranges[at][1]),
                scale=None if scales[at] == _NONE else int(scales[at]),
                counts=counts[at],
                zeros=int(numbers[at][0]),
                total=int(numbers[at][1]),
                not_finite=int(numbers[at][2]),
            )
            for at, name in enumerate(names)
        }


_NONE = np.iinfo(np.int64).min
