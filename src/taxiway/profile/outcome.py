"""What came of a run, and whether it may be believed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from taxiway.profile.phases import Phases
from taxiway.profile.resources import Usage
from taxiway.stats.hdr_histogram import HdrHistogram

SHOWN: Final = (50.0, 90.0, 95.0, 99.0, 99.9)


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Of one histogram, in milliseconds."""

    p50_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    p99_9_ms: float
    max_ms: float
    mean_ms: float

    @classmethod
    def of(cls, histogram: HdrHistogram) -> Percentiles:
        """Read them off a histogram of nanoseconds."""
        p50, p90, p95, p99, p99_9 = (histogram.percentile(one) / 1e6 for one in SHOWN)
        return cls(p50, p90, p95, p99, p99_9, histogram.greatest / 1e6, histogram.mean / 1e6)


@dataclass(frozen=True, slots=True)
class Interval:
    """Where the true p99 lies with this confidence; `high_ms` is infinite where there are too few requests to say.

    `effective` is how many independent requests the run was worth: fewer than it had where slow ones come together.
    """

    low_ms: float
    high_ms: float
    confidence: float
    effective: float


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a model that answers token by token did.

    Attributes:
        first: milliseconds from the intended start to the first token (TTFT).
        between: milliseconds between one token and the next (ITL).
        per_output: mean milliseconds per token after the first, of each request (TPOT).
        first_ns, per_output_ns: all of `first` and `per_output`, in nanoseconds.
        per_s: output tokens per second, of the answers that were complete while it counted.
        total: output tokens of the requests that were due while it counted, however long they took.
    """

    first: Percentiles
    between: Percentiles
    per_output: Percentiles
    per_s: float
    total: int
    first_ns: HdrHistogram
    per_output_ns: HdrHistogram


@dataclass(frozen=True, slots=True)
class Window:
    """One slice of the run; `at_s` is its beginning, the warm-up included."""

    at_s: float
    answered: int
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class Profile:
    """One run. Latencies run from when a request was due (`latency`) and from when it was sent (`service`).

    Attributes:
        target: what was measured, in words.
        latency: response time from the intended start, in nanoseconds; who timed out counts with what was waited.
        service: time from sending to the answer, in nanoseconds: what a closed loop would tell.
        lag: how late requests were sent, in nanoseconds: the generator's own failing.
        percentiles: of `latency`.
        service_percentiles, lag_percentiles: likewise.
        p99_interval: of `latency`.
        requests: that were due while it counted.
        answered: of these, with success.
        offered_per_s: how many were due per second.
        sent_per_s: how many were sent per second in that time.
        achieved_per_s: how many were answered per second, with success.
        errors: of the others, by kind.
        valid: whether the generator kept its schedule.
        reasons: why not.
        stable: whether the latency was the same all along; no matter of validity, but of what the numbers mean.
        notes: what else a reader should know.
        warm_up_s: left out at the beginning, as planned or longer.
        seconds: that counted.
        queries: that were due while it counted: a request each, or several that were sent together.
        whole: of `latency`, the queries all of whose requests were answered with success.
    """

    target: str
    latency: HdrHistogram
    service: HdrHistogram
    lag: HdrHistogram
    percentiles: Percentiles
    service_percentiles: Percentiles
    lag_percentiles: Percentiles
    p99_interval: Interval
    requests: int
    answered: int
    offered_per_s: float
    sent_per_s: float
    achieved_per_s: float
    errors: Mapping[str, int]
    valid: bool
    reasons: tuple[str, ...]
    stable: bool
    notes: tuple[str, ...]
    warm_up_s: float
    seconds: float
    queries: int
    whole: HdrHistogram
    windows: tuple[Window, ...] = ()
    examples: Mapping[str, str] = field(default_factory=dict)
    tokens: Tokens | None = None
    phases: Phases | None = None
    usage: Usage | None = None

    @property
    def p99_ms(self) -> float:
        """Of the latency from the intended start."""
        return self.percentiles.p99_ms

    @property
    def error_share(self) -> float:
        """Errors among the requests."""
        return sum(self.errors.values()) / self.requests if self.requests else 0.0
