"""How many requests may be in one step at a time (`max_inflight_requests`); the others wait, in the order they came."""

from __future__ import annotations

from collections.abc import Callable, Hashable


class Slots:
    """The places of one step. `limit` of 0: as many as there are requests."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._is_filling = False
        self.taken = 0
        self._waiting: dict[Hashable, Callable[[], None]] = {}

    @property
    def waiting(self) -> int:
        """Requests that wait for a place."""
        return len(self._waiting)

    def enter(self, who: Hashable, go: Callable[[], None]) -> None:
        """Call `go` once there is a place, which is then taken until `leave`; perhaps before this returns."""
        if self._limit and (self._waiting or self.taken >= self._limit):
            self._waiting[who] = go
            return
        self.taken += 1
        go()

    def leave(self, who: Hashable) -> None:
        """`who` has a place, or waits for one, and needs it no more."""
        if self._waiting.pop(who, None) is not None:
            return
        self.taken -= 1
        if not self._is_filling:
            self._fill()

    def _fill(self) -> None:
        """One after the other: whoever is through at once must not let the next one in from within itself."""
        self._is_filling = True
        try:
            while self._waiting and self.taken < self._limit:
                self.taken += 1
                self._waiting.pop(next(iter(self._waiting)))()
        finally:
            self._is_filling = False
