"""When requests come, whatever the server does: sorted offsets in seconds from the beginning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from taxiway.core.errors import InvalidArgument


class Arrivals(Protocol):
    """A process of arrivals."""

    def offsets(self, rng: np.random.Generator, rate_per_s: float, duration_s: float) -> NDArray[np.float64]:
        """Sorted seconds from the beginning, all below `duration_s`."""


@dataclass(frozen=True, slots=True)
class Constant:
    """At even distances."""

    def offsets(self, rng: np.random.Generator, rate_per_s: float, duration_s: float) -> NDArray[np.float64]:  # noqa: ARG002
        """One every 1 / rate seconds."""
        return np.arange(int(np.ceil(rate_per_s * duration_s - 1e-9))) / rate_per_s


@dataclass(frozen=True, slots=True)
class Poisson:
    """Independent of each other, as users are."""

    def offsets(self, rng: np.random.Generator, rate_per_s: float, duration_s: float) -> NDArray[np.float64]:
        """Exponential distances."""
        expected = rate_per_s * duration_s
        gaps = rng.exponential(1 / rate_per_s, int(expected + 10 * np.sqrt(expected) + 10))
        times = np.cumsum(gaps)
        return times[times < duration_s]


@dataclass(frozen=True, slots=True)
class Replay:
    """As they once came: `times_s` from the beginning."""

    times_s: NDArray[np.float64]

    def offsets(self, rng: np.random.Generator, rate_per_s: float, duration_s: float) -> NDArray[np.float64]:  # noqa: ARG002
        """Those before `duration_s`."""
        return self.times_s[self.times_s < duration_s]


def parse_arrival(text: str) -> Arrivals:
    """`constant` or `poisson`.

    Raises:
        InvalidArgument: it is neither.
    """
    kinds: dict[str, Arrivals] = {"constant": Constant(), "poisson": Poisson()}
    if text not in kinds:
        raise InvalidArgument(f"arrival {text!r} is not one of {', '.join(kinds)}", hint="--arrival poisson")
    return kinds[text]
