"""Which of several right graphs is kept. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from taxiway.convert.outcome import Candidate

TIE: Final = 0.03
"""Two graphs whose CPU times differ by less are equally fast; the smaller is kept."""


def choose(candidates: Sequence[Candidate]) -> Candidate:
    """The fastest; of those as fast, the smallest."""
    fastest = min(one.cpu_ms for one in candidates)
    return min(
        (one for one in candidates if one.cpu_ms <= fastest * (1.0 + TIE)), key=lambda one: (one.size_bytes, one.cpu_ms)
    )
