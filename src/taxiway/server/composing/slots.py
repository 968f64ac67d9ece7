"""How many requests may be in one step at a time (`max_inflight_requests`); the others wait, in the order they came."""

from __future__ import annotations

from collections.abc import Callable, Hashable


class Slots:
    """The places of one step. `limit` of 0: as many as there are requests."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.taken = 0
        self._waiting: dict[Hashable, Callable[[], None]] = {}

    @property
    def waiting(self) -> int:
        """Requests that wait for a place."""
        return len(self._waiting)

    def enter(self, who: Hashable, go: Callable[[], None]) -> None:
        """Call `go` once there is a place, which is then taken until `leave`; perhaps before this returns."""
        if self._limit and self.taken >= self._limit:
            self._waiting[who] = go
            return
        self.taken += 1
        go()

    def leave(self, who: Hashable) -> None:
        """`who` has a place, or waits for one, and needs it no more."""
        if self._waiting.pop(who, None) is not None:
            return
        if not self._waiting:
            self.taken -= 1
            return
        first = next(iter(self._waiting))
        self._waiting.pop(first)()
