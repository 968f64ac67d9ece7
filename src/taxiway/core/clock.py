"""Time, passed in: nothing that decides ever asks the wall what time it is."""

from __future__ import annotations

import datetime
import time
from typing import Protocol


class Clock(Protocol):
    """Monotonic nanoseconds for durations, UTC for what people read."""

    def monotonic_ns(self) -> int:
        """Nanoseconds since an arbitrary start; never goes back."""

    def now_utc(self) -> datetime.datetime:
        """The time of day, with zone."""


class SystemClock:
    """The machine's clocks."""

    def __init__(self) -> None:
        self.monotonic_ns = time.monotonic_ns
        """Bound directly: the hot path calls it several times a request."""

    def now_utc(self) -> datetime.datetime:
        """The time of day in UTC."""
        return datetime.datetime.now(datetime.UTC)
