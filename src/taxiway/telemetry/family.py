"""What a metric family is; the list of all of them is the catalogue."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Literal

Dialect = Literal["native", "triton", "kserve", "vllm"]
"""Whose names: ours, Triton's, KServe's, and vLLM's, of which there are none before an engine is served."""


class MetricKind(enum.Enum):
    """What Prometheus may do with a family's values."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Merge(enum.Enum):
    """How the values of several processes make one."""

    SUM = "sum"
    MAX = "max"
    MIN = "min"


@dataclass(frozen=True, slots=True)
class Family:
    """One metric family: all series of this name, told apart by the values of `labels`.

    Attributes:
        unit: the unit of its values, empty where they are plain counts.
        merge: how the values of several processes make one; what each counts of its own is added up.
    """

    name: str
    kind: MetricKind
    help: str
    labels: tuple[str, ...] = ()
    unit: str = ""
    merge: Merge = Merge.SUM
