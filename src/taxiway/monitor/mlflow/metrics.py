"""What of a drift report is a number that MLflow can draw."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

_FEATURES: Final = 100
"""Features that are told, those with the most evidence."""
_FOREIGN: Final = re.compile(r"[^A-Za-z0-9_\-. /]")
"""What MLflow takes in no name."""
_NAME: Final = 200


def metrics_of(report: Mapping[str, Any]) -> dict[str, float]:
    """Numbers by names as MLflow takes them; what is not finite is left out."""
    return {_named(name): float(value) for name, value in _numbers(report) if value is not None and _finite(value)}


def _numbers(report: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name in ("rows", "requests", "dropped", "evidence", "block_evidence", "threshold", "alarm", "block_alarm"):
        yield f"drift/{name}", report[name]
    for source in ("labelled", "estimate"):
        told = report["quality"].get(source, {})
        for name in ("rows", "accuracy", "low", "high", "unreliable"):
            yield f"quality/{source}/{name}", told.get(name)
    for feature in report.get("features", ())[:_FEATURES]:
        for name in ("evidence", "psi", "js", "ks"):
            yield f"features/{feature['side']}/{feature['name']}/{name}", feature.get(name)


def _named(name: str) -> str:
    told = _FOREIGN.sub("_", name)
    return "/".join(part if part.strip(".") else "_" for part in told.split("/"))[:_NAME]


def _finite(value: float) -> bool:
    return math.isfinite(value)
