"""Moments as UTC nanoseconds."""

from __future__ import annotations

import datetime as dt
from typing import Final

_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND: Final = dt.timedelta(microseconds=1)


def utc_ns(when: dt.datetime) -> int:
    """Nanoseconds since 1970, exact."""
    return (when - _EPOCH) // _MICROSECOND * 1000


def utc_time(ns: int) -> dt.datetime:
    """The moment, to the microsecond before it."""
    return _EPOCH + dt.timedelta(microseconds=ns // 1000)
