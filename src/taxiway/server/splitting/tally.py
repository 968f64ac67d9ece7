"""What became of the requests of one arm, counted where each of them ends."""

from __future__ import annotations

import time
from typing import Final

from taxiway.core.errors import ErrorKind, TaxiwayError
from taxiway.core.traffic import ArmCounts
from taxiway.stats.log_buckets import LogHistogram

_OUTCOMES: Final = {
    ErrorKind.DEADLINE_EXCEEDED: "timed_out",
    ErrorKind.RESOURCE_EXHAUSTED: "refused",
    ErrorKind.CANCELLED: "cancelled",
    ErrorKind.INVALID_ARGUMENT: "rejected",
    ErrorKind.UNAUTHENTICATED: "rejected",
    ErrorKind.PERMISSION_DENIED: "rejected",
}
"""All others are failures: of the model, or of what runs it."""


class ArmTally:
    """The counts of one arm in one segment."""

    __slots__ = (
        "answered", "arm", "assigned", "cancelled", "checked", "failed", "invalid", "last_ns", "latency", "refused",
        "rejected", "segment", "timed_out",
    )  # fmt: skip

    def __init__(self, arm: str, segment: int) -> None:
        self.arm = arm
        self.segment = segment
        self.assigned = self.answered = self.failed = self.timed_out = self.refused = self.rejected = 0
        self.cancelled = self.checked = self.invalid = self.last_ns = 0
        self.latency = LogHistogram()

    @property
    def in_flight(self) -> int:
        """Requests that were assigned, and have not ended."""
        ended = self.answered + self.failed + self.timed_out + self.refused + self.rejected + self.cancelled
        return self.assigned - ended

    @property
    def bad(self) -> int:
        """Requests that speak against the arm."""
        return self.failed + self.timed_out + self.invalid

    def ended_badly(self, error: TaxiwayError) -> bool:
        """A request ended in `error`; whether that speaks against the arm: a failure, or a deadline that passed."""
        outcome = _OUTCOMES.get(error.kind, "failed")
        setattr(self, outcome, getattr(self, outcome) + 1)
        return outcome in ("failed", "timed_out")

    def counts(self) -> ArmCounts:
        """As it is told to the control plane."""
        return ArmCounts(
            self.arm,
            self.segment,
            self.assigned,
            self.answered,
            self.failed,
            self.timed_out,
            self.refused,
            self.rejected,
            self.cancelled,
            self.checked,
            self.invalid,
            self.latency.to_sparse(),
            last_ns=time.time_ns() - (time.monotonic_ns() - self.last_ns) if self.last_ns else 0,
        )
