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
        spent: of the exposure budget, in earlier segments of the same rollout.
    """

    def __init__(self, fuse: Fuse, weight: float, other: float, spent: float = 0.0) -> None:
        self.fuse = fuse
        self.in_a_row = 0
        self._failures = 0
        self._spent = spent
        self._expected = weight / other if other else 0.0
        """Failures of this arm for each of the other's, if it is no worse."""
        total = weight + other
        self._share = weight / total if total else 0.0
        self._test = EventLabelTest("harm", fuse.margin)

    def failed(self) -> str | None:
        """The arm failed a request; why the fuse blows, if it does."""
        self._failures += 1
        self._spent += 1
        self.in_a_row += 1
        fuse = self.fuse
        if self.in_a_row >= fuse.failures_in_a_row:
            return f"{self.in_a_row} requests in a row failed"
        if fuse.bad_requests is not None and self._spent >= fuse.bad_requests:
            return f"it cost {self._spent:.0f} requests more than {fuse.against}, which is the whole exposure budget"
        if not 0 < self._share < 1:
            return None
        self._test.add(self._share, 1, 0)
        if self._test.log_e >= fuse.log_e:
            return (
                f"it fails more often than {fuse.against}: log e {self._test.log_e:.2f} after {self._failures} failures"
            )
        return None

    def other_failed(self) -> None:
        """The other arm failed a request: of what fails both of them alike nothing is spent."""
        self._spent -= self._expected
        if 0 < self._share < 1:
            self._test.add(self._share, 0, 1)
