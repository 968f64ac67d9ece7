"""The same counts under the names that others' dashboards ask for, worked out at the scrape from our own.

Triton's histograms are those that were proposed to it (server#8675); KServe's have the buckets and the one label of its
Python server, which calls merging inputs `preprocess` and splitting outputs `postprocess`, as near as ours comes to it.
There is no `request_explain_seconds`, as nothing explains here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import accumulate
from typing import Final

from taxiway.telemetry import catalogue as names
from taxiway.telemetry.adding import Totals
from taxiway.telemetry.family import Dialect, Family
from taxiway.telemetry.histogram import LATENCY, Distribution
from taxiway.telemetry.render import Point

_TRITONS: Final = {
    names.REQUEST_S.name: names.NV_REQUEST_HISTOGRAM_US,
    names.QUEUE_S.name: names.NV_QUEUE_HISTOGRAM_US,
    names.INPUT_S.name: names.NV_INPUT_HISTOGRAM_US,
    names.INFER_S.name: names.NV_INFER_HISTOGRAM_US,
    names.OUTPUT_S.name: names.NV_OUTPUT_HISTOGRAM_US,
}
_KSERVES: Final = {
    names.INPUT_S.name: names.PREPROCESS_S,
    names.INFER_S.name: names.PREDICT_S,
    names.OUTPUT_S.name: names.POSTPROCESS_S,
}
_MICROSECOND: Final = 1_000
_KEPT_US: Final = [place for place, bound in enumerate(LATENCY.bounds) if str(bound).rstrip("0") in {"1", "25", "5"}]
"""1, 2.5 and 5 of each decade."""
_KSERVE_MS: Final = (5, 10, 25, 50, 75, 100, 250, 500, 750, 1000, 2500, 5000, 7500, 10_000)
_KEPT_KSERVE: Final = [LATENCY.bounds.index(ms * 1_000_000) for ms in _KSERVE_MS]
LE_US: Final = tuple(repr(LATENCY.bounds[place] / _MICROSECOND) for place in _KEPT_US)
LE_KSERVE: Final = tuple(LATENCY.le[place] for place in _KEPT_KSERVE)


def in_dialects(points: Iterable[Point], dialects: Collection[Dialect]) -> Iterator[Point]:
    """These points under the names of `dialects`; what a model's own code counts is told in any case."""
    kserve = Totals()
    for point in points:
        if _is_told(point.family, dialects):
            yield point
        if point.family.name not in _TRITONS or not isinstance(point.value, Distribution):
            continue
        if "triton" in dialects:
            shown = _coarser(point.value, LE_US, _KEPT_US, point.value.total * 1_000_000)
            yield Point(_TRITONS[point.family.name], point.labels, shown)
        if "kserve" in dialects and point.family.name in _KSERVES:
            shown = _coarser(point.value, LE_KSERVE, _KEPT_KSERVE, point.value.total)
            kserve.add([Point(_KSERVES[point.family.name], point.labels[:1], shown)])
    yield from kserve.points()


def _is_told(family: Family, dialects: Collection[Dialect]) -> bool:
    if family.name.startswith("taxiway_"):
        return "native" in dialects
    return "triton" in dialects or not family.name.startswith("nv_")


def _coarser(shown: Distribution, le: tuple[str, ...], kept: list[int], total: float) -> Distribution:
    """The same in fewer buckets: those that end at the places `kept`."""
    cumulative = list(accumulate(shown.counts))
    ends = [*(cumulative[place] for place in kept), cumulative[-1]]
    counts = tuple(end - before for end, before in zip(ends, (0, *ends), strict=False))
    return Distribution(le, counts, total)
