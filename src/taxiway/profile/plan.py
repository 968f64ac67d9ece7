"""What is wanted of a run: when requests come, for how long, and by what means they are sent."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

from taxiway.core.errors import InvalidArgument
from taxiway.profile.arrivals import MAX_REQUESTS, Arrivals, Replay

REQUESTS_PER_PROCESS: Final = 8_000.0
"""What one generator process is given per second at most, unless told otherwise: it can do more than twice that."""
CALLS_PER_PROCESS: Final = 1_500.0
"""The same of gRPC, whose client costs many times as much."""
_MAX_PROCESSES: Final = 1024


@dataclass(frozen=True, slots=True)
class Plan:
    """One run at one rate (open loop), or with so many requests under way at all times (closed loop).

    Attributes:
        arrivals: when requests come.
        rate_per_s: how many a second, in the mean; ignored by a closed loop.
        duration_s: seconds that count.
        warm_up_s: seconds before them, sent alike and left out.
        processes: of the generator; 0 chooses by the rate.
        timeout_s: how long an answer is waited for, from when it was sent.
        connections: at most, of all processes together; requests wait where all are busy, which makes a run invalid.
        concurrency: a closed loop with so many requests under way; None is an open loop.
        query_samples: requests that make one query: all sent at once, and the query takes as long as the slowest.
        seed: of the arrivals, and of the choice among weighted requests.
        all_at_once: everything is due at the beginning, and only the throughput counts.

    Raises:
        InvalidArgument: a value breaks a rule, or there would be more than 10,000,000 requests.
    """

    arrivals: Arrivals
    rate_per_s: float
    duration_s: float
    warm_up_s: float = 1.0
    processes: int = 0
    timeout_s: float = 30.0
    connections: int = 1024
    concurrency: int | None = None
    query_samples: int = 1
    seed: int = 20_240
    all_at_once: bool = False

    def __post_init__(self) -> None:
        least = (("rate_per_s", self.rate_per_s), ("duration_s", self.duration_s), ("timeout_s", self.timeout_s))
        for name, value in least:
            if not 0 < value < math.inf:
                rule = "must be above 0, and finite"
                raise InvalidArgument(f"{name} is {value:g} and {rule}", hint="give a positive number")
        if not 0 <= self.warm_up_s < math.inf:
            rule = "must not be below 0, and finite"
            raise InvalidArgument(f"warm_up_s is {self.warm_up_s:g} and {rule}", hint="0 drops nothing")
        self._check_counts()
        self._check_requests()

    def _check_counts(self) -> None:
        if self.seed < 0:
            raise InvalidArgument(f"seed is {self.seed} and must not be below 0", hint="give another whole number")
        if not 0 <= self.processes <= _MAX_PROCESSES:
            rule = f"must be within 0 and {_MAX_PROCESSES}"
            raise InvalidArgument(f"processes is {self.processes} and {rule}", hint="0 chooses by the rate")
        counts = (("connections", self.connections), ("concurrency", self.concurrency), ("samples", self.query_samples))
        for name, count in counts:
            if count is not None and count < 1:
                raise InvalidArgument(f"{name} is {count} and must be at least 1", hint="give a positive number")

    def _check_requests(self) -> None:
        lasts = self.warm_up_s + self.duration_s
        if self.concurrency is not None or isinstance(self.arrivals, Replay):  # which has those of its trace
            return
        if self.rate_per_s * lasts > MAX_REQUESTS:
            told = f"rate_per_s is {self.rate_per_s:g} for {lasts:g} s, {self.rate_per_s * lasts:.4g} requests"
            raise InvalidArgument(
                f"{told}; a run has at most {MAX_REQUESTS}", hint="give a lower rate or a shorter duration"
            )

    def at(self, rate_per_s: float) -> Plan:
        """The same at another rate."""
        return replace(self, rate_per_s=rate_per_s)
