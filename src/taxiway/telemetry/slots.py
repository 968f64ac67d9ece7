"""Metric points in memory that two processes share: one writes snapshots, the other reads the last whole one.

The writer alternates between two regions and notes each snapshot in a record of its own, with a checksum: while one
is written the other stays whole, so a writer that is stuck or killed in the middle costs the newest snapshot only.
"""

from __future__ import annotations

import math
import mmap
import os
import struct
import zlib
from collections.abc import Iterable
from typing import Any

import orjson

from taxiway.telemetry.catalogue import CATALOGUE
from taxiway.telemetry.family import Family, MetricKind
from taxiway.telemetry.histogram import FIRST_RESPONSE, LATENCY, ROWS, Distribution, Exemplar
from taxiway.telemetry.logs import Log
from taxiway.telemetry.render import Point, Value

_log = Log("taxiway.server")
_RECORD = struct.Struct("<QQQII")
"""Number of the snapshot (0: none yet), offset and length of its bytes, their checksum, and this record's own."""
_PAGE = 4096
_FIRST_REGION = 64 << 10
MAX_BYTES = 64 << 20
"""Of one slot; a snapshot that does not fit is not published."""
_ATTEMPTS = 5
_FAMILIES = {family.name: family for family in CATALOGUE}
_BOUNDS = (LATENCY.le, FIRST_RESPONSE.le, ROWS.le)
"""Told as their place here, and not bound by bound."""
_PLACES = {le: place for place, le in enumerate(_BOUNDS)}


def make_slot() -> int:
    """A new slot: the file descriptor of memory that has no name."""
    slot = os.memfd_create("taxiway-metrics")
    os.ftruncate(slot, _PAGE)
    return slot


class SlotWriter:
    """The one process that writes to a slot."""

    def __init__(self, slot: int) -> None:
        self._slot = slot
        self._map = mmap.mmap(slot, os.fstat(slot).st_size)
        self._number = 0
        self._regions = [(0, 0), (0, 0)]
        self._told = False

    def publish(self, points: Iterable[Point]) -> bool:
        """Write a snapshot; False if it is too large, and the one before stays."""
        content = encode_points(points)
        turn = (self._number + 1) % 2
        if len(content) > self._regions[turn][1] and not self._grow(turn, len(content)):
            return False
        offset = self._regions[turn][0]
        self._map[offset : offset + len(content)] = content
        self._number += 1
        self._note(turn, (self._number, offset, len(content), zlib.crc32(content)))
        return True

    def _note(self, turn: int, fields: tuple[int, int, int, int]) -> None:
        record = _RECORD.pack(*fields, 0)[:-4]
        start = turn * _RECORD.size
        self._map[start : start + _RECORD.size] = record + struct.pack("<I", zlib.crc32(record))

    def _grow(self, turn: int, size: int) -> bool:
        """A larger region at the end; the old one is never used again, as somebody may be reading it."""
        room = max(_FIRST_REGION, 2 * size)
        end = len(self._map)
        if end + room > MAX_BYTES:
            if not self._told:
                _log.error("metrics_too_large", nbytes=size, limit=MAX_BYTES)
            self._told = True
            return False
        os.ftruncate(self._slot, end + room)
        self._map.close()
        self._map = mmap.mmap(self._slot, end + room)
        self._regions[turn] = (end, room)
        return True


class SlotReader:
    """The process that reads a slot, whatever its writer does meanwhile."""

    def __init__(self, slot: int) -> None:
        self._slot = slot

    def read(self) -> list[Point]:
        """The last whole snapshot; nothing before the first."""
        for _ in range(_ATTEMPTS):
            for content in self._candidates():
                return decode_points(content)
        return []

    def close(self) -> None:
        """Give the memory back."""
        os.close(self._slot)

    def _candidates(self) -> Iterable[bytes]:
        """Whole snapshots, newest first."""
        head = os.pread(self._slot, 2 * _RECORD.size, 0)
        records = []
        for start in (0, _RECORD.size):
            number, offset, size, checksum, own = _RECORD.unpack_from(head, start)
            if number and zlib.crc32(head[start : start + _RECORD.size - 4]) == own:
                records.append((number, offset, size, checksum))
        for _, offset, size, checksum in sorted(records, reverse=True):
            content = os.pread(self._slot, size, offset)
            if zlib.crc32(content) == checksum:
                yield content


def encode_points(points: Iterable[Point]) -> bytes:
    """Points as bytes; families are named, so that both sides need the same catalogue. A model's own are described."""
    return orjson.dumps([_told(point) for point in points])


def _told(point: Point) -> list[Any]:
    family = point.family
    value: Any = point.value
    if isinstance(value, Distribution):
        exemplars = [tuple(one) for one in value.exemplars]
        value = [_PLACES.get(value.le, value.le), value.counts, value.total, value.fine, exemplars]
    told: list[Any] = [family.name, point.labels, value]
    if family.name not in _FAMILIES:
        told.append([family.kind.value, family.help, family.labels])
    return told


def decode_points(content: bytes) -> list[Point]:
    """The points again; a family that is not known here is left out."""
    points = []
    for name, labels, value, *described in orjson.loads(content):
        family = _FAMILIES.get(name)
        if family is None:
            if not described:
                continue
            kind, text, own = described[0]
            family = Family(name, MetricKind(kind), text, tuple(own))
        points.append(Point(family, tuple(labels), _value(value)))
    return points


def _value(told: Any) -> Value:  # noqa: ANN401 - JSON
    if isinstance(told, list):
        le, counts, total, fine, exemplars = told
        bounds = _BOUNDS[le] if isinstance(le, int) else tuple(le)
        native = None if fine is None else tuple(map(tuple, fine))
        return Distribution(bounds, tuple(counts), total, native, tuple(Exemplar(*one) for one in exemplars))
    return math.nan if told is None else told  # JSON has no NaN
