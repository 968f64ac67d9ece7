"""Frames of the event stream: everything at first, then what changed. Pure; bytes are made once for all who read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, Final

import orjson

from taxiway.monitor.history.rows import CELLS, Cells, Key, Row, quantile

FIELDS: Final = (
    "rps",
    "eps",
    "ips",
    "rows",
    "runs",
    "pending",
    "ready",
    *(f"{stage}{percent}" for stage in "pqi" for percent in ("50", "90", "99")),
)
"""Of each version, in this order."""
_HOST: Final = (
    "cpu",
    "memory_used",
    "memory_total",
    "workers_bytes",
    "models_bytes",
    "models_limit_bytes",
    "control_bytes",
)
_GPU: Final = (
    "utilization",
    "memory_used",
    "memory_total",
    "power_w",
    "temperature_c",
    "tensor_activity",
    "sm_activity",
    "memory_bandwidth",
    "throttled",
    "xid",
)
_DIGITS: Final = 6


@dataclass(frozen=True, slots=True)
class Moment:
    """All that is told of one second.

    Attributes:
        rows: the last second of every series that is there.
        stale: the data plane did not answer: these are the rows of a second before.
        parts: by name, what is told whole once it changed: server, rollouts, alerts.
    """

    at_ms: int
    rows: Mapping[Key, Row]
    stale: bool = False
    parts: Mapping[str, Any] = field(default_factory=dict)


class Frames:
    """Remembers what was told last.

    Args:
        epoch: tells this life of the control process from others.
    """

    def __init__(self, epoch: str) -> None:
        self._epoch = epoch
        self._seq = 0
        self._keys: list[Key] = []
        self._told: list[list[float | None]] = []
        self._parts: dict[str, Any] = {}
        self._head: dict[str, Any] = {}

    def next(self, moment: Moment) -> bytes | None:
        """The frame that tells what changed since the one before; None: other versions are there, tell everything."""
        keys = sorted(key for key in moment.rows if key[0] == "version")
        same = keys == self._keys
        told = [values_of(moment.rows[key]) for key in keys]
        parts = {**moment.parts, "gpus": _gpus(moment.rows), "drift": _drift(moment.rows)}
        changed: dict[str, Any] = {name: one for name, one in parts.items() if one != self._parts.get(name)}
        changes = {str(at): now for at, now in enumerate(told) if same and now != self._told[at]}
        self._keys, self._told, self._parts = keys, told, parts
        self._seq += 1
        self._head = {
            "seq": self._seq,
            "at_ms": moment.at_ms,
            "stale": moment.stale,
            "total": _total(keys, moment.rows),
            "host": _host(moment.rows),
        }
        return frame("delta", {**self._head, "v": changes, **changed}) if same else None

    def full(self, spark: Mapping[str, Any]) -> bytes:
        """Everything, as of the last moment.

        Args:
            spark: the last minute by model.
        """
        versions = [
            {"model": model, "version": version_of(version), "v": values}
            for (_, model, version), values in zip(self._keys, self._told, strict=True)
        ]
        empty: dict[str, Any] = {name: [] for name in ("rollouts", "drift", "alerts")}
        content = {"epoch": self._epoch, "fields": FIELDS, "versions": versions, "spark": spark}
        return frame("full", {**self._head, **content, **empty, **self._parts})


def values_of(row: Row) -> list[float | None]:
    """The fields of a version."""
    return [_rounded(row.value(name)) for name in FIELDS]


def version_of(text: str) -> int | str:
    """A number, where it is one."""
    return int(text) if text.isascii() and text.isdigit() else text


def frame(kind: str, content: Mapping[str, Any]) -> bytes:
    """As an event stream has it. JSON has no line breaks."""
    return b"event: " + kind.encode() + b"\ndata: " + orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n\n"


def _rounded(value: float) -> float | None:
    """Six digits that count: more is noise on the line."""
    return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None


def _total(keys: Sequence[Key], rows: Mapping[Key, Row]) -> dict[str, Any]:
    cells: Cells | None = None
    sums = dict.fromkeys(("rps", "eps", "pending"), 0.0)
    for key in keys:
        row = rows[key]
        for name in sums:
            sums[name] += row.value(name)
        one = row.buckets.get("request")
        if one is not None and len(one) == CELLS:
            cells = one if cells is None else cells + one
    host = rows.get(("host", "host"), Row())
    total = {name: _rounded(value) for name, value in sums.items()}
    p99 = None if cells is None else _rounded(quantile(cells, 0.99))
    return {**total, "p99": p99, "in_flight": host.value("in_flight"), "connections": host.value("connections")}


def _host(rows: Mapping[Key, Row]) -> dict[str, Any]:
    host = rows.get(("host", "host"), Row())
    told = {name: _rounded(host.value(name)) for name in _HOST}
    return {**told, "workers": host.value("workers"), "workers_ready": host.value("workers.ready")}


def _gpus(rows: Mapping[Key, Row]) -> list[dict[str, Any]]:
    """Those that can be read; all of them are lost once the driver is."""
    lost = rows.get(("host", "host"), Row()).values.get("gpu_up", 1.0) < 1
    found = sorted(((key, row) for key, row in rows.items() if key[0] == "gpu"), key=itemgetter(0))
    return [
        {"gpu": key[2], "uuid": key[1], "lost": lost}
        | {name: _rounded(row.values.get(name, math.nan)) for name in _GPU}
        for key, row in found
    ]


def _drift(rows: Mapping[Key, Row]) -> list[dict[str, Any]]:
    """Watched versions that are held against a reference: those that still learn one have no evidence yet."""
    told = []
    for (_, model, version), row in sorted(
        ((key, row) for key, row in rows.items() if key[0] == "drift"), key=itemgetter(0)
    ):
        alarm, blocks = row.value("alarm.rows") > 0, row.value("alarm.blocks") > 0
        known = "evidence" in row.values
        state = "learning" if not known else "drifted" if alarm or blocks else "steady"
        told.append(
            {
                "model": model,
                "version": version_of(version),
                "state": state,
                "evidence": _rounded(row.values.get("evidence", math.nan)),
                "block_evidence": _rounded(row.values.get("block_evidence", math.nan)),
                "threshold": _rounded(row.values.get("threshold", math.nan)),
                "alarm": alarm,
                "block_alarm": blocks,
            }
        )
    return told
