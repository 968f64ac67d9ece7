"""What a calibration found, and the ranges made of it, each of them once."""

from __future__ import annotations

from collections.abc import Mapping

from taxiway.optimize.calibrate.histogram import Histogram
from taxiway.optimize.calibrate.ranges import Method, Range, range_of


class Calibration:
    """Histograms by tensor, from one pass: every recipe's ranges come from these."""

    def __init__(self, histograms: Mapping[str, Histogram]) -> None:
        self.histograms = histograms
        self._ranges: dict[tuple[Method, bool], dict[str, Range]] = {}

    def ranges(self, method: Method, *, symmetric: bool) -> Mapping[str, Range]:
        """By tensor."""
        key = (method, symmetric)
        if key not in self._ranges:
            found = {name: range_of(one, method, symmetric=symmetric) for name, one in self.histograms.items()}
            self._ranges[key] = found
        return self._ranges[key]
