"""OpenMetrics 1.0, from the same points as the text format.

Its counters are called `name_total` and declared as `name`. Triton's counters have no such ending, and to declare them
as counters makes a whole scrape a parse error; they are declared `unknown`, which Prometheus stores all the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from taxiway.telemetry.family import Family, MetricKind
from taxiway.telemetry.histogram import Distribution
from taxiway.telemetry.render import MAX_SERIES, Point, families_of, label_text, render_series

CONTENT_TYPE: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"
_TOTAL: Final = "_total"
_HELP_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


def render_openmetrics(points: Iterable[Point], *, max_series: int = MAX_SERIES) -> bytes:
    """The body of a scrape: each family once, in the catalogue's order, its series by their labels."""
    lines: list[str] = []
    taken: set[str] = set()
    for family, series in families_of(points, max_series):
        name, kind = declared_as(family)
        if name in taken:  # a model's own code counts both `seen` and `seen_total`
            name, kind = family.name, "unknown"
        taken.add(name)
        lines.append(f"# TYPE {name} {kind}")
        lines.append(f"# HELP {name} {family.help.translate(_HELP_ESCAPES)}")
        for labels in sorted(series):
            value = series[labels]
            render_series(lines, family.name, label_text(labels), value)
            if isinstance(value, Distribution) and value.exemplars:
                lines[-1] = _with_exemplars(lines[-1], value)
    lines += ["# EOF", ""]
    return "\n".join(lines).encode("utf-8", "replace")


def _with_exemplars(text: str, shown: Distribution) -> str:
    """The lines of a histogram, of which the first are its buckets'."""
    lines = text.split("\n")
    for exemplar in shown.exemplars:
        lines[exemplar.bucket] += f' # {{trace_id="{exemplar.trace_id}"}} {exemplar.value!r} {exemplar.at_s:.3f}'
    return "\n".join(lines)


def declared_as(family: Family) -> tuple[str, str]:
    """The family's name and type in OpenMetrics."""
    if family.kind is not MetricKind.COUNTER:
        return family.name, family.kind.value
    if family.name.endswith(_TOTAL):
        return family.name.removesuffix(_TOTAL), "counter"
    return family.name, "unknown"
