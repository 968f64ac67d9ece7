"""From metrics of one moment to what happened in the second before it: rates of counters, differences of buckets."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple

import numpy as np

from taxiway.monitor.history.rows import Key, Row
from taxiway.telemetry import catalogue as names
from taxiway.telemetry.family import Family, MetricKind
from taxiway.telemetry.histogram import LATENCY, Distribution
from taxiway.telemetry.render import Point

Named = Callable[[Mapping[str, str]], Key]


class _Want(NamedTuple):
    """What is made of a family.

    Attributes:
        key: the series that one of its points belongs to, by the point's labels.
        value: what it is called there.
        apart: a label whose values are told apart as well, as `error.timeout`.
        scale: by what it is multiplied.
        most: the most of several points, where it is not their sum.
    """

    key: Named
    value: str
    apart: tuple[str, str] = ("", "")
    scale: float = 1.0
    most: bool = False


def _version(labels: Mapping[str, str]) -> Key:
    return "version", labels["model"], labels["version"]


def _drift(labels: Mapping[str, str]) -> Key:
    return "drift", labels["model"], labels["version"]


def _host(_labels: Mapping[str, str]) -> Key:
    return "host", "host"


def _gpu(labels: Mapping[str, str]) -> Key:
    instance = labels.get("instance_id", "")
    return "gpu", labels["gpu_uuid"] + (f"/{instance}" if instance else ""), labels["gpu"]


_WANTED: Final[Mapping[str, _Want]] = {
    names.NV_SUCCESS.name: _Want(_version, "rps"),
    names.FAILURES.name: _Want(_version, "eps", ("error", "reason")),
    names.INVALID.name: _Want(_version, "ips", ("invalid", "code")),
    names.NV_COUNT.name: _Want(_version, "rows"),
    names.NV_EXEC_COUNT.name: _Want(_version, "runs"),
    names.NV_PENDING.name: _Want(_version, "pending"),
    names.VERSION_READY.name: _Want(_version, "ready"),
    names.REQUEST_S.name: _Want(_version, "request"),
    names.QUEUE_S.name: _Want(_version, "queue"),
    names.INFER_S.name: _Want(_version, "infer"),
    names.WORKER_MEMORY.name: _Want(_host, "workers_bytes"),
    names.MODELS_BYTES.name: _Want(_host, "models_bytes"),
    names.MODELS_LIMIT_BYTES.name: _Want(_host, "models_limit_bytes"),
    names.IN_FLIGHT.name: _Want(_host, "in_flight"),
    names.OPEN_CONNECTIONS.name: _Want(_host, "connections"),
    names.WORKERS.name: _Want(_host, "workers", ("workers", "state")),
    names.DRIFT_ROWS.name: _Want(_drift, "rows"),
    names.DRIFT_THRESHOLD.name: _Want(_drift, "threshold"),
    names.DRIFT_ALARM.name: _Want(_drift, "alarm", ("alarm", "kind"), most=True),
    "taxiway_gpu_up": _Want(_host, "gpu_up"),
    "taxiway_gpu_kernel_time_ratio": _Want(_gpu, "utilization"),
    "taxiway_gpu_memory_used_bytes": _Want(_gpu, "memory_used"),
    "taxiway_gpu_memory_total_bytes": _Want(_gpu, "memory_total"),
    "taxiway_gpu_power_watts": _Want(_gpu, "power_w"),
    "taxiway_gpu_temperature_celsius": _Want(_gpu, "temperature_c"),
    "taxiway_gpu_tensor_activity_ratio": _Want(_gpu, "tensor_activity"),
    "taxiway_gpu_sm_activity_ratio": _Want(_gpu, "sm_activity"),
    "taxiway_gpu_memory_bandwidth_ratio": _Want(_gpu, "memory_bandwidth"),
    "taxiway_gpu_throttled": _Want(_gpu, "throttled"),
    "taxiway_gpu_last_xid": _Want(_gpu, "xid"),
}
_EVIDENCE: Final = {"all": "evidence", "block": "block_evidence"}
FAMILIES: Final = frozenset((*_WANTED, names.DRIFT_EVIDENCE.name))
"""Names of what is looked at; nothing else need be sent."""
_MAX_KNOWN: Final = 50_000


class Differences:
    """Remembers the counters of the moment before."""

    def __init__(self) -> None:
        self._counted: dict[tuple[str, tuple[str, ...]], float | tuple[int, ...]] = {}
        self._keys: dict[tuple[str, tuple[str, ...]], Key] = {}
        self._at_s: float | None = None

    def take(self, points: Iterable[Point], at_s: float) -> dict[Key, Row]:
        """What happened since the time before, by series. Of the first time only what is so now is told.

        Args:
            points: all there are.
            at_s: when, by a clock that never goes back.
        """
        elapsed_s = None if self._at_s is None else max(at_s - self._at_s, 1e-3)
        self._at_s = at_s
        rows: dict[Key, Row] = {}
        counted: dict[tuple[str, tuple[str, ...]], float | tuple[int, ...]] = {}
        for point in points:
            family = point.family
            if family.name == names.DRIFT_EVIDENCE.name:
                _take_evidence(rows, point)
            elif want := _WANTED.get(family.name):
                row = _row_of(rows, self._key(want, point))
                if family.kind is MetricKind.GAUGE:
                    _add(row, want, family, point.labels, float(point.value))  # type: ignore[arg-type]
                else:
                    self._count(row, want, point, counted, elapsed_s)
        self._counted = counted
        return rows

    def _key(self, want: _Want, point: Point) -> Key:
        """Worked out once for each series: there are thousands every second."""
        series = (point.family.name, point.labels)
        key = self._keys.get(series)
        if key is None:
            if len(self._keys) >= _MAX_KNOWN:
                self._keys.clear()
            key = self._keys[series] = want.key(dict(zip(point.family.labels, point.labels, strict=False)))
        return key

    def _count(
        self,
        row: Row,
        want: _Want,
        point: Point,
        counted: dict[tuple[str, tuple[str, ...]], float | tuple[int, ...]],
        elapsed_s: float | None,
    ) -> None:
        key, value = (point.family.name, point.labels), point.value
        before = self._counted.get(key)
        if isinstance(value, Distribution):
            counted[key] = value.counts
            if elapsed_s is not None and value.le == LATENCY.le:
                _add_cells(row, want.value, value.counts, before)  # type: ignore[arg-type]
            return
        counted[key] = float(value)
        if elapsed_s is not None and value != before:
            was = before if isinstance(before, float) and before <= value else 0.0
            _add(row, want, point.family, point.labels, (value - was) / elapsed_s)


def _row_of(rows: dict[Key, Row], key: Key) -> Row:
    row = rows.get(key)
    if row is None:
        row = rows[key] = Row()
    return row


def _add(row: Row, want: _Want, family: Family, labels: tuple[str, ...], value: float) -> None:
    value = value * want.scale if math.isfinite(value) else 0.0
    values = row.values
    values[want.value] = max(values.get(want.value, value), value) if want.most else values.get(want.value, 0.0) + value
    prefix, label = want.apart
    if label and value:
        name = f"{prefix}.{labels[family.labels.index(label)]}"
        values[name] = values.get(name, 0.0) + value


def _add_cells(row: Row, stage: str, counts: tuple[int, ...], before: tuple[int, ...] | None) -> None:
    if counts == before:
        return
    cells = np.array(counts, np.int64)
    if before is not None:
        difference = cells - np.array(before, np.int64)
        cells = cells if (difference < 0).any() else difference  # a process began anew
    if cells.any():
        row.buckets[stage] = cells


def _take_evidence(rows: dict[Key, Row], point: Point) -> None:
    labels = dict(zip(point.family.labels, point.labels, strict=False))
    name = _EVIDENCE.get(labels["kind"])
    if name is not None:
        _row_of(rows, _drift(labels)).values[name] = float(point.value)  # type: ignore[arg-type]
