"""Metric points of several processes as those of one: each family says how its values are put together."""

from __future__ import annotations

from collections.abc import Iterable
from operator import add

from taxiway.telemetry.family import Merge, MetricKind
from taxiway.telemetry.histogram import Distribution, Exemplar
from taxiway.telemetry.render import Point, Value


class Totals:
    """Points added up by family and labels."""

    def __init__(self) -> None:
        self._points: dict[tuple[str, tuple[str, ...], tuple[str, ...]], Point] = {}

    def add(self, points: Iterable[Point]) -> None:
        """Count these in."""
        for point in points:
            key = (point.family.name, point.family.labels, point.labels)
            before = self._points.get(key)
            self._points[key] = point if before is None else before._replace(value=_merged(before, point.value))

    def points(self) -> list[Point]:
        """One point per family and labels."""
        return list(self._points.values())


def lasting(points: Iterable[Point]) -> list[Point]:
    """Those that count what happened, which stays true when the process that counted has ended."""
    return [point for point in points if point.family.kind is not MetricKind.GAUGE]


def _merged(before: Point, value: Value) -> Value:
    if isinstance(before.value, Distribution) or isinstance(value, Distribution):
        return _joined(before.value, value)
    match before.family.merge:
        case Merge.MAX:
            return max(before.value, value)
        case Merge.MIN:
            return min(before.value, value)
    return before.value + value


def _joined(one: Value, other: Value) -> Value:
    """Buckets are fixed for good, so they add up; a process of another make has others, and is left out."""
    if not isinstance(one, Distribution) or not isinstance(other, Distribution) or one.le != other.le:
        return one
    counts = tuple(map(add, one.counts, other.counts))
    fine, exemplars = _joined_fine(one.fine, other.fine), _newest(one.exemplars, other.exemplars)
    return Distribution(one.le, counts, one.total + other.total, fine, exemplars)


def _newest(one: tuple[Exemplar, ...], other: tuple[Exemplar, ...]) -> tuple[Exemplar, ...]:
    """Of each bucket the newest."""
    if not one or not other:
        return one or other
    newest = {exemplar.bucket: exemplar for exemplar in sorted((*one, *other), key=lambda exemplar: exemplar.at_s)}
    return tuple(newest[bucket] for bucket in sorted(newest))


def _joined_fine(
    one: tuple[tuple[int, int], ...] | None, other: tuple[tuple[int, int], ...] | None
) -> tuple[tuple[int, int], ...] | None:
    """Both have to have kept them, or they would tell less than the other buckets do."""
    if one is None or other is None:
        return None
    counts = dict(one)
    for index, count in other:
        counts[index] = counts.get(index, 0) + count
    return tuple(sorted(counts.items()))
