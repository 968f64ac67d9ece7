"""What is known of a watched version, as plain data: for the console, a page, the command line and whoever is told."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from taxiway.monitor.drift.reference import Reference, WatchedFeature
from taxiway.monitor.drift.watch import Watch
from taxiway.stats.change import Counts
from taxiway.stats.drift_sizes import drift_sizes

_LN10: Final = math.log(10.0)
MAX_FEATURES: Final = 100
"""Features that are told one by one, those with the most evidence."""
_EVENLY: Final = 200
"""Looks that are told, evenly chosen."""


def summary_of(model: str, version: int, watch: Watch) -> dict[str, Any]:
    """The short form: one line of a list."""
    reference = watch.reference
    told: dict[str, Any] = {
        "model": model,
        "version": version,
        "state": _state(watch),
        "rows": watch.rows,
        "saved_rows": watch.saved_rows,
        "requests": watch.seen,
        "dropped": watch.dropped,
        "evidence": watch.log_e / _LN10,
        "block_evidence": watch.block_log_e / _LN10,
        "threshold": watch.plan.log_threshold / _LN10,
        "alarm": bool(watch.alarmed_ns),
        "alarmed_ns": watch.alarmed_ns or None,
        "block_alarm": bool(watch.block_alarmed_ns),
        "block_alarmed_ns": watch.block_alarmed_ns or None,
        "promise": watch.plan.promise,
    }
    if reference is None:
        told["learned"] = {"rows": watch.learning.rows, "of": watch.plan.reference_rows}
    else:
        told["reference"] = {"kind": reference.source, "rows": reference.rows, "made_ns": reference.made_ns}
    return told


def report_of(model: str, version: int, watch: Watch) -> dict[str, Any]:
    """All of it."""
    told = summary_of(model, version, watch)
    told["looks"] = [
        {"at_ns": look.at_ns, "rows": look.rows, "evidence": look.log_e / _LN10} for look in _evenly(list(watch.looks))
    ]
    told["blocks"] = {
        "block_s": watch.plan.block_s,
        "learned": watch.plan.reference_blocks,
        "evidence": watch.block_log_e / _LN10,
        "calendar": [{"began_ns": one.began_ns, "rows": one.rows, "p_value": one.p_value} for one in watch.blocks],
    }
    told["quality"] = watch.quality.told(unlike=watch.is_unlike)
    if watch.reference is not None:
        told["left_out"] = list(watch.reference.left_out)
        told["features"] = _features(watch, watch.reference)
    return told


def _state(watch: Watch) -> str:
    if watch.reference is None:
        return "learning"
    return "drifted" if watch.alarmed_ns or watch.block_alarmed_ns else "steady"


def _evenly(looks: list[Any]) -> list[Any]:
    if len(looks) <= _EVENLY:
        return looks
    places = np.unique(np.linspace(0, len(looks) - 1, _EVENLY).round().astype(int))
    return [looks[place] for place in places]


def _features(watch: Watch, reference: Reference) -> list[dict[str, Any]]:
    log_e, now = watch.evidence.log_e, watch.now()
    most = np.argsort(-log_e, kind="stable")[:MAX_FEATURES]
    return [_feature(reference.features[at], float(log_e[at]), now[at], watch.evidence.since(int(at))) for at in most]


def _feature(feature: WatchedFeature, log_e: float, now: Counts, since: int) -> dict[str, Any]:
    told: dict[str, Any] = {
        "name": feature.name,
        "side": feature.side,
        "kind": "number" if feature.order is not None else "word",
        "evidence": log_e / _LN10,
        "since_row": since if log_e > 0 else None,
        "cells": [
            {"name": name, "reference": int(was), "now": int(is_now)}
            for name, was, is_now in zip(feature.cells.names, feature.reference, now, strict=True)
            if was or is_now
        ],
    }
    if now.sum():
        sizes = drift_sizes(feature.reference, now, feature.order)
        told |= {"psi": sizes.psi, "js": sizes.js, "ks": _known(sizes.ks), "wasserstein": _known(sizes.wasserstein)}
    return told


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None
