"""The metrics that a model's own code counts: kept here, so that they outlive the process that counted.

Their names are whatever the model says, so their number is bounded: what is over that is counted nowhere, and told
once.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from taxiway.runtimes.hosted.frames import Metric
from taxiway.server.execution.processes.confusion import Confused
from taxiway.telemetry.catalogue import CATALOGUE
from taxiway.telemetry.family import Family, MetricKind
from taxiway.telemetry.histogram import Distribution
from taxiway.telemetry.logs import Log
from taxiway.telemetry.render import Point

_log = Log("taxiway.models")
MAX_SERIES = 1000
"""Of one version of a model, all its families together."""
_RESERVED = {family.name for family in CATALOGUE}
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]{0,199}")
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]{0,199}")
_KINDS = frozenset(kind.value for kind in MetricKind)
_SUFFIXES = ("_bucket", "_count", "_sum")


@dataclass(slots=True)
class _Series:
    """One metric of a model.

    Attributes:
        family: with the names of its labels, in their order.
        holders: how many of each process's own objects count with it.
    """

    family: Family
    labels: tuple[str, ...]
    le: tuple[float, ...] = ()
    value: float = 0.0
    counts: list[int] = field(default_factory=list)
    holders: Counter[int] = field(default_factory=Counter)

    def take(self, act: str, value: float) -> None:
        """It has moved."""
        match act:
            case "set":
                self.value = float(value)
            case "add" | "observe":
                self.value += value
        if act == "observe" and self.counts:
            self.counts[bisect_left(self.le, value)] += 1

    def point(self) -> Point:
        """As it is shown."""
        if self.family.kind is not MetricKind.HISTOGRAM:
            return Point(self.family, self.labels, self.value)
        le = tuple(repr(float(bound)) for bound in self.le)
        return Point(self.family, self.labels, Distribution(le, tuple(self.counts), self.value))


def _check(moved: Metric) -> None:
    """Refuse what our own code in the process would not have let the model say.

    Raises:
        Confused: so it does not come from there.
    """
    if moved.kind not in _KINDS or any(low >= high for low, high in pairwise(moved.buckets)):
        raise Confused("it counted what cannot be counted")


class OwnMetrics:
    """Those of one version of a model, whichever of its processes count them."""

    def __init__(self, model: str, version: str) -> None:
        self._model = model
        self._version = version
        self._series: dict[tuple[str, tuple[tuple[str, str], ...]], _Series] = {}
        self._kinds: dict[str, MetricKind] = {}
        self._complained = False

    def take(self, process: int, moved: Metric) -> None:
        """What the process of this index has said.

        Raises:
            Confused: it cannot be true.
        """
        _check(moved)
        labels = tuple(sorted(moved.labels.items()))
        key = (moved.name, labels)
        series = self._series.get(key)
        if series is None:
            if moved.act == "remove" or (series := self._new(moved, labels)) is None:
                return
            self._series[key] = series
        if moved.act == "create":
            series.holders[process] += 1
        elif moved.act == "remove":
            series.holders[process] -= 1
            if not any(count > 0 for count in series.holders.values()):
                del self._series[key]
        else:
            series.take(moved.act, moved.value)

    def forget(self, process: int) -> None:
        """It has died, and with it whatever held its metrics; what it has counted stays."""
        for series in self._series.values():
            series.holders.pop(process, None)

    def points(self) -> Iterator[Point]:
        """All of them as they stand."""
        for series in self._series.values():
            yield series.point()

    def _new(self, moved: Metric, labels: tuple[tuple[str, str], ...]) -> _Series | None:
        kind = MetricKind(moved.kind)
        if (reason := self._refusal(moved, kind)) is not None:
            if not self._complained:
                self._complained = True
                _log.warning(
                    "metric_refused", model=self._model, version=self._version, metric=moved.name, reason=reason
                )
            return None
        self._kinds[moved.name] = kind
        family = Family(moved.name, kind, moved.description, tuple(name for name, _ in labels))
        counts = [0] * (len(moved.buckets) + 1) if kind is MetricKind.HISTOGRAM else []
        return _Series(family, tuple(value for _, value in labels), moved.buckets, counts=counts)

    def _refusal(self, moved: Metric, kind: MetricKind) -> str | None:
        name = moved.name
        if not _NAME.fullmatch(name) or not all(_LABEL.fullmatch(label) for label in moved.labels):
            return "Prometheus knows no such names"  # and would refuse all metrics for one of them
        bare = next((name.removesuffix(end) for end in _SUFFIXES if name.endswith(end)), name)
        if name in _RESERVED or bare in _RESERVED:
            return "taxiway's own metrics have this name"
        if self._kinds.get(name, kind) is not kind:
            return f"it is a {self._kinds[name].value} elsewhere in the model"
        if len(self._series) >= MAX_SERIES:
            return f"a model may have {MAX_SERIES} series of its own"
        return None
