"""Prometheus' text format 0.0.4, from points that others collected. Same points, same bytes.

A scrape never fails for what is in it: a series told twice, or one too many of its family, is left out and
counted in `taxiway_metrics_dropped_series`, because Prometheus throws away the whole scrape for one bad line.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache
from itertools import accumulate
from typing import NamedTuple

from taxiway.telemetry.catalogue import CATALOGUE, DROPPED_SERIES
from taxiway.telemetry.family import Family
from taxiway.telemetry.histogram import Distribution

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
MAX_SERIES = 2000
"""Of one family. Each of Triton's own labels is bounded by the models loaded; this bounds our mistakes."""

_KEPT = 16_384
"""Series whose text is kept from one scrape to the next; only their numbers are new."""
_RANK = {family.name: rank for rank, family in enumerate(CATALOGUE)}
_LABEL_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
_HELP_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n"})

Value = int | float | Distribution
Labels = tuple[tuple[str, ...], tuple[str, ...]]
"""Names and values: the series of one family may have other names, where it is a model's own code that counts."""


class Point(NamedTuple):
    """One series' value now. `labels` are the values of the family's labels, in its order."""

    family: Family
    labels: tuple[str, ...]
    value: Value


Series = dict[Labels, Value]


def render_metrics(points: Iterable[Point], *, max_series: int = MAX_SERIES) -> bytes:
    """The body of a scrape: each family once, in the catalogue's order, its series by their labels."""
    lines: list[str] = []
    for family, series in families_of(points, max_series):
        lines.append(f"# HELP {family.name} {family.help.translate(_HELP_ESCAPES)}")
        lines.append(f"# TYPE {family.name} {family.kind.value}")
        for labels in sorted(series):
            render_series(lines, family.name, label_text(labels), series[labels])
    lines.append("")
    return "\n".join(lines).encode("utf-8", "replace")


def families_of(points: Iterable[Point], max_series: int = MAX_SERIES) -> list[tuple[Family, Series]]:
    """Each family once with its series, in the catalogue's order; how many series were left out is one of them."""
    families, dropped = _group(points, max_series)
    families[DROPPED_SERIES.name] = (DROPPED_SERIES, {((), ()): dropped})
    return [families[name] for name in sorted(families, key=lambda name: (_RANK.get(name, len(_RANK)), name))]


@lru_cache(maxsize=_KEPT)
def label_text(labels: Labels) -> str:
    """What stands between the braces."""
    return ",".join(f'{name}="{value.translate(_LABEL_ESCAPES)}"' for name, value in zip(*labels, strict=True))


def _group(points: Iterable[Point], max_series: int) -> tuple[dict[str, tuple[Family, Series]], int]:
    families: dict[str, tuple[Family, Series]] = {}
    dropped = 0
    for family, values, value in points:
        if family.name not in families:
            families[family.name] = (family, {})
        known, series = families[family.name]
        labels = (family.labels, values)
        if labels in series or len(series) >= max_series or known.kind is not family.kind:
            dropped += 1
        else:
            series[labels] = value
    return families, dropped


def render_series(lines: list[str], name: str, labels: str, value: Value) -> None:
    """The lines of one series, whose labels are given as text."""
    if isinstance(value, Distribution):
        _render_distribution(lines, name, labels, value)
    else:
        lines.append(f"{name}{f'{{{labels}}}' if labels else ''} {_format(value)}")


def _render_distribution(lines: list[str], name: str, labels: str, shown: Distribution) -> None:
    """Buckets are cumulative in this format, and the last of them is the count."""
    cumulative = list(accumulate(shown.counts))
    template = _distribution_template(name, labels, shown.le)
    lines.append(template % (*cumulative, _format(shown.total), cumulative[-1]))


@lru_cache(maxsize=_KEPT)
def _distribution_template(name: str, labels: str, le: tuple[str, ...]) -> str:
    """The lines of one histogram, with places for its counts, its sum and its count."""
    head = f'{name}_bucket{{{labels}{"," if labels else ""}le="'
    tail = f"{{{labels}}}" if labels else ""
    lines = [f'{head}{bound}"}} ' for bound in (*le, "+Inf")]
    return "\n".join(f"{line.replace('%', '%%')}%s" for line in [*lines, f"{name}_sum{tail} ", f"{name}_count{tail} "])


def _format(value: float) -> str:
    if value == math.inf:
        return "+Inf"
    if value == -math.inf:
        return "-Inf"
    return "NaN" if value != value else repr(value)  # noqa: PLR0124 - the one number unequal to itself
