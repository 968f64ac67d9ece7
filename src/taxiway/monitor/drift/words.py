"""Drift reports as a terminal shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

_SHOWN: Final = 15


def summary_lines(watches: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for each watched version."""
    if not watches:
        return ["Nothing is watched yet: a version is once it was asked something."]
    head = ("MODEL", "STATE", "ROWS", "EVIDENCE", "BLOCKS", "ALARM AT")
    lines = [
        (
            f"{one['model']}:{one['version']}",
            one["state"],
            str(one["rows"]) if "reference" in one else f"{one['learned']['rows']} of {one['learned']['of']} learned",
            _power(one["evidence"]),
            _power(one["block_evidence"]),
            _power(one["threshold"]),
        )
        for one in watches
    ]
    return _table([head, *lines])


def report_lines(report: Mapping[str, Any]) -> list[str]:
    """All that is known of one version."""
    name = f"{report['model']}:{report['version']}"
    if "reference" not in report:
        learned = report["learned"]
        return [f"{name} is learning: {learned['rows']} of its first {learned['of']} rows in service are its reference"]
    reference = report["reference"]
    evidence = f"{_power(report['evidence'])} of {_power(report['threshold'])} (rows)"
    blocks = f"{_power(report['block_evidence'])} (blocks)"
    return [
        f"{name}: {_verdict(report)}",
        f"reference   {reference['kind']} ({reference['rows']} rows, {_time(reference['made_ns'])})",
        f"rows        {report['rows']} held against it; of {report['requests']} requests {report['dropped']} dropped",
        f"evidence    {evidence}, {blocks}; a false alarm in one of {1 / report['promise']:.0f} versions' lives",
        "",
        *_features(report["features"]),
    ]


def _verdict(report: Mapping[str, Any]) -> str:
    if report["block_alarm"]:
        return f"DRIFT of blocks since {_time(report['block_alarmed_ns'])}"
    if report["alarm"]:
        return f"DRIFT of rows since {_time(report['alarmed_ns'])}"
    return "no drift"


def _features(features: Sequence[Mapping[str, Any]]) -> list[str]:
    head = ("FEATURE", "SIDE", "EVIDENCE", "SINCE ROW", "PSI", "JS", "KS", "WASSERSTEIN")
    lines = [
        (
            one["name"],
            one["side"],
            _power(one["evidence"]),
            "" if one["since_row"] is None else str(one["since_row"]),
            *(_size(one.get(size)) for size in ("psi", "js", "ks", "wasserstein")),
        )
        for one in features[:_SHOWN]
    ]
    more = len(features) - _SHOWN
    return [*_table([head, *lines]), *([f"and {more} more, with less evidence"] if more > 0 else [])]


def _power(log10: float) -> str:
    return f"10^{log10:.1f}"


def _size(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _time(at_ns: int) -> str:
    return datetime.fromtimestamp(at_ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
