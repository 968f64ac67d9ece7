"""Prometheus' protobuf form of a scrape, the only one that has native histograms.

Each family is an `io.prometheus.client.MetricFamily` behind its length as a varint. The messages are few and flat,
so they are written here field by field. A native histogram has its classic buckets beside it: Prometheus takes both
where its job says `scrape_classic_histograms`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Final

from taxiway.telemetry.family import Family, MetricKind
from taxiway.telemetry.histogram import LOWEST, SCHEMA, ZERO_THRESHOLD, Distribution
from taxiway.telemetry.render import MAX_SERIES, Labels, Point, Value, families_of

CONTENT_TYPE: Final = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
_TYPES: Final = {MetricKind.COUNTER: 0, MetricKind.GAUGE: 1, MetricKind.HISTOGRAM: 4}
_VALUE_FIELDS: Final = {MetricKind.GAUGE: 2, MetricKind.COUNTER: 3}
_HISTOGRAM_FIELD: Final = 7
_DOUBLE: Final = struct.Struct("<d")
_VARINT, _FIXED, _BYTES = 0, 1, 2
"""Wire types."""
_INFINITE: Final = float("inf")


def render_protobuf(points: Iterable[Point], *, max_series: int = MAX_SERIES) -> bytes:
    """The body of a scrape: each family once, in the catalogue's order, its series by their labels."""
    written: list[bytes] = []
    for family, series in families_of(points, max_series):
        message = _head(family)
        message += b"".join(_bytes(4, _labels(labels) + _value(family, series[labels])) for labels in sorted(series))
        written += (_varint(len(message)), message)
    return b"".join(written)


def _head(family: Family) -> bytes:
    return _text(1, family.name) + _text(2, family.help) + _key(3, _VARINT) + _varint(_TYPES[family.kind])


@lru_cache(maxsize=16_384)
def _labels(labels: Labels) -> bytes:
    return b"".join(_bytes(1, _text(1, name) + _text(2, value)) for name, value in zip(*labels, strict=True))


def _value(family: Family, value: Value) -> bytes:
    if isinstance(value, Distribution):
        return _bytes(_HISTOGRAM_FIELD, _histogram(value))
    return _bytes(_VALUE_FIELDS[family.kind], _double(1, value))


def _histogram(shown: Distribution) -> bytes:
    bounds = _bounds(shown.le)
    cumulative = list(accumulate(shown.counts))
    parts = [b"\x08", _varint(cumulative[-1]), _double(2, shown.total)]
    for bound, below in zip(bounds, cumulative, strict=True):
        count = _varint(below)
        parts += (_BUCKET_HEADS[len(count)], count, bound)
    if shown.fine is not None:
        parts.append(_native(shown.fine))
    return b"".join(parts)


@lru_cache(maxsize=256)
def _bounds(le: tuple[str, ...]) -> tuple[bytes, ...]:
    return tuple(_double(2, bound) for bound in (*map(float, le), _INFINITE))


def _native(fine: Sequence[tuple[int, int]]) -> bytes:
    """Runs of neighbouring buckets, each with its distance from the one before, and each count less the last one."""
    zero = sum(count for index, count in fine if index <= LOWEST)
    head = _key(5, _VARINT) + _varint(_zigzag(SCHEMA)) + _double(6, ZERO_THRESHOLD) + _key(7, _VARINT) + _varint(zero)
    spans: list[list[int]] = []
    deltas: list[bytes] = []
    after, before = 0, 0
    for index, count in fine:
        if index <= LOWEST:
            continue
        if spans and index == after:
            spans[-1][1] += 1
        else:
            spans.append([index - after, 1])
        deltas.append(_varint(_zigzag(count - before)))
        after, before = index + 1, count
    runs = (_bytes(12, b"\x08" + _varint(_zigzag(offset)) + b"\x10" + _varint(length)) for offset, length in spans)
    return b"".join([head, *runs, _bytes(13, b"".join(deltas)) if deltas else b""])


def _zigzag(number: int) -> int:
    return number << 1 if number >= 0 else (-number << 1) - 1


def _varint(number: int) -> bytes:
    if number < 0x80:
        return _SMALL[number]
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


_SMALL: Final = tuple(bytes((number,)) for number in range(0x80))


def _key(field: int, wire: int) -> bytes:
    return _SMALL[field << 3 | wire]


def _bytes(field: int, content: bytes) -> bytes:
    return _key(field, _BYTES) + _varint(len(content)) + content


def _text(field: int, text: str) -> bytes:
    return _bytes(field, text.encode("utf-8", "replace"))


_BUCKET_HEADS: Final = tuple(_bytes(3, b"\x08" + bytes(size + 9))[:3] for size in range(11))
"""What stands before a bucket whose count takes so many bytes, beside the nine of its bound."""


def _double(field: int, value: float) -> bytes:
    return _key(field, _FIXED) + _DOUBLE.pack(value)
