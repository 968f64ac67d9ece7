"""When an arm is to get nothing more, decided here and now from what it failed: pure, and with nobody to ask.

Only bad events are looked at, so that a good answer costs nothing but the end of a row of failures.
"""

from __future__ import annotations

from taxiway.core.traffic import Fuse
from taxiway.stats.event_label import EventLabelTest


class FuseWatch:
    """One fuse, for one segment of constant weights.

    Args:
        fuse: when it blows.
        weight, other: shares of the requests of the arm and of the one it is compared with.
        spent: requests that the arm failed before, in other segments of the same rollout.
    """

    def __init__(self, fuse: Fuse, weight: float, other: float, spent: int = 0) -> None:
        self.fuse = fuse
        self.in_a_row = 0
        self._bad = spent
        total = weight + other
        self._share = weight / total if total else 0.0
        self._test = EventLabelTest("harm", fuse.margin)

    def failed(self) -> str | None:
        """The arm failed a request; why the fuse blows, if it does."""
        self._bad += 1
        self.in_a_row += 1
        fuse = self.fuse
        if self.in_a_row >= fuse.failures_in_a_row:
            return f"{self.in_a_row} requests in a row failed"
        if fuse.bad_requests is not None and self._bad >= fuse.bad_requests:
            return f"{self._bad} requests failed, which is the whole exposure budget"
        if not 0 < self._share < 1:
            return None
        self._test.add(self._share, 1, 0)
        if self._test.log_e >= fuse.log_e:
            return f"it fails more often than {fuse.against}: log e {self._test.log_e:.2f} after {self._bad} failures"
        return None

    def other_failed(self) -> None:
        """The other arm failed a request."""
        if 0 < self._share < 1:
            self._test.add(self._share, 0, 1)
