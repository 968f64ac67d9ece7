"""A model's own metrics. The data plane adds them up and shows them; here is only what this process has counted."""

from __future__ import annotations

import enum
import re
import threading
import weakref
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from taxiway.runtimes.hosted import frames
from taxiway.runtimes.hosted.triton.problems import TritonModelException
from taxiway.runtimes.hosted.triton.session import here

_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*\Z")
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*\Z")


class MetricKind(enum.Enum):
    """What a metric counts."""

    COUNTER = 0
    GAUGE = 1
    HISTOGRAM = 2

    @property
    def triton_name(self) -> str:
        """As Triton's messages call it."""
        return f"TRITONSERVER_METRIC_KIND_{self.name}"


class MetricFamily:
    """All metrics of one name, told apart by their labels."""

    COUNTER: ClassVar = MetricKind.COUNTER
    GAUGE: ClassVar = MetricKind.GAUGE
    HISTOGRAM: ClassVar = MetricKind.HISTOGRAM

    def __init__(self, name: str, description: str, kind: MetricKind) -> None:
        if not _NAME.match(name):
            raise TritonModelException(_told("Error when creating MetricFamily", "Invalid metric name"))
        self.name = name
        self.description = description
        self.kind = MetricKind(kind)

    def Metric(  # noqa: N802 - Triton's name
        self, labels: Mapping[str, Any] | None = None, buckets: Sequence[float] | None = None
    ) -> Metric:
        """The metric with these labels; the same one if there is one.

        Raises:
            TritonModelException: labels or buckets cannot be.
        """
        given: dict[str, Any] = dict(labels or {})
        for label, value in given.items():
            if not isinstance(value, str):
                reason = "attempt to access JSON non-string as string"
                raise TritonModelException(_told("Error when creating Metric", reason))
            if not _LABEL.match(label):
                raise TritonModelException(_told("Error when creating Metric", f"Invalid label name {label!r}"))
        bounds = _bounds(self.kind, buckets)
        return Metric(_cell(self, given, bounds))


class Metric:
    """One metric: one family, and one value for each of its labels."""

    def __init__(self, cell: _Cell) -> None:
        self._cell = cell

    def increment(self, value: float) -> None:
        """Add to a counter or a gauge; a gauge may go down.

        Raises:
            TritonModelException: it cannot be incremented so.
        """
        kind = self._cell.family.kind
        what = "Failed to increment metric value"
        if kind is MetricKind.HISTOGRAM:
            raise TritonModelException(_told(what, f"{kind.triton_name} does not support Increment"))
        if kind is MetricKind.COUNTER and value < 0:
            reason = f"{kind.triton_name} can only be incremented monotonically by non-negative values."
            raise TritonModelException(_told(what, reason))
        self._cell.move("add", value)

    def set(self, value: float) -> None:
        """Set a gauge.

        Raises:
            TritonModelException: it is none.
        """
        kind = self._cell.family.kind
        if kind is not MetricKind.GAUGE:
            raise TritonModelException(_told("Failed to set metric value", f"{kind.triton_name} does not support Set"))
        self._cell.move("set", value)

    def observe(self, value: float) -> None:
        """Count a value in a histogram.

        Raises:
            TritonModelException: it is none.
        """
        kind = self._cell.family.kind
        if kind is not MetricKind.HISTOGRAM:
            reason = f"{kind.triton_name} does not support Observe"
            raise TritonModelException(_told("Failed to observe metric value", reason))
        self._cell.move("observe", value)

    def value(self) -> float:
        """What this process has counted; others of the same model count for themselves.

        Raises:
            TritonModelException: a histogram has no one value.
        """
        kind = self._cell.family.kind
        if kind is MetricKind.HISTOGRAM:
            reason = f"{kind.triton_name} does not support Value"
            raise TritonModelException(_told("Failed to get metric value", reason))
        return self._cell.value


class _Cell:
    """What all metrics of one family and the same labels share."""

    def __init__(self, family: MetricFamily, labels: dict[str, str], buckets: tuple[float, ...]) -> None:
        self.family = family
        self.value = 0.0
        self._labels = labels
        self._buckets = buckets
        self._lock = threading.Lock()
        self._session = here()
        self._session.orphans.watch()
        self.move("create", 0.0)

    def move(self, act: str, value: float) -> None:
        """Count it here, and tell the data plane."""
        with self._lock:
            self.value = value if act == "set" else self.value + value
            self._tell(act, value)

    def _tell(self, act: str, value: float) -> None:
        family = self.family
        self._session.lines.mailbox.send(
            frames.Metric(
                family.name,
                family.kind.name.lower(),
                family.description,
                self._labels,
                act,
                float(value),
                self._buckets,
            )
        )

    def removed(self) -> None:
        """Nobody counts with it any more."""
        self._tell("remove", 0.0)

    def __del__(self) -> None:
        self._session.orphans.leave(self.removed)


_cells: weakref.WeakValueDictionary[tuple[Any, ...], _Cell] = weakref.WeakValueDictionary()


def _cell(family: MetricFamily, labels: dict[str, str], buckets: tuple[float, ...]) -> _Cell:
    key = (family.name, family.kind, *sorted(labels.items()))
    cell = _cells.get(key)
    if cell is None:
        cell = _cells[key] = _Cell(family, labels, buckets)
    return cell


def _bounds(kind: MetricKind, buckets: Sequence[float] | None) -> tuple[float, ...]:
    if kind is not MetricKind.HISTOGRAM:
        if buckets is not None:
            raise TritonModelException("Failed to create metric. Unexpected buckets found.")
        return ()
    if buckets is None:
        raise TritonModelException("Failed to create metric. Missing required buckets.")
    bounds = tuple(float(bound) for bound in buckets)
    if list(bounds) != sorted(set(bounds)):
        raise TritonModelException(_told("Error when creating Metric", "buckets must rise"))
    return bounds


def _told(what: str, reason: str) -> str:
    return f"{what}: Failed to process the request for model '{here().source.instance}', message: {reason}"
