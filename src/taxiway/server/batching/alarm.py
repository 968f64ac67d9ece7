"""When to look again: one timer for the soonest of many moments."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from taxiway.core.requests import NEVER_NS


class Alarm:
    """Has `ring` called at the soonest moment that it was set for, once.

    It may ring early, since loops round to milliseconds: whoever hears it looks at the clock, and sets it anew.

    Attributes:
        at_ns: the moment, on the monotonic clock; NEVER_NS if it is not set.
    """

    __slots__ = ("_handle", "_loop", "_ring", "at_ns")

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> None:
        self._loop = loop
        self._ring = ring
        self._handle: asyncio.TimerHandle | None = None
        self.at_ns = NEVER_NS

    def set(self, when_ns: int, now_ns: int) -> None:
        """Ring at `when_ns`, unless it rings before."""
        if when_ns >= self.at_ns:
            return
        if self._handle is not None:
            self._handle.cancel()
        self.at_ns = when_ns
        self._handle = self._loop.call_later(max(0, when_ns - now_ns) / 1e9, self._rings)

    def clear(self) -> None:
        """Nobody waits any more: a far moment would keep whoever set it in memory until then."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle, self.at_ns = None, NEVER_NS

    def _rings(self) -> None:
        self._handle, self.at_ns = None, NEVER_NS
        self._ring()
