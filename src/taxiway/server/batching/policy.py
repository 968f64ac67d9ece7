"""When a batch starts and how many rows it gets: pure choices, the clock passed in.

Batching is natural by default: whatever queued while the model was busy runs together, and nothing waits for
company while a slot is idle. Waiting is chosen only by a plan that asks for it, and only where it can pay.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate

from taxiway.core.requests import NEVER_NS, InferRequest
from taxiway.server.batching.plan import BatchingPlan
from taxiway.stats.latency import LatencyCurve

WORTH_WAITING = 0.95
"""A bigger batch must cost at most this share per row, or waiting for it does not pay."""
P99 = 0.99


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Start a batch of the bucket now, with at most `rows` rows; a larger first request runs alone."""

    rows: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Start nothing; look again at `until_ns`, or when something arrives or a slot falls idle."""

    until_ns: int


class BucketView:
    """What the policy may know of a bucket: the requests that would lead its next batch, in order.

    Attributes:
        rows: rows waiting in the whole bucket.
        sums: running totals of the leading requests' rows; a batch can have exactly these sizes.
        oldest_ns: arrival of the one among them that has waited longest.
        deadline_ns: the earliest deadline among them.
    """

    __slots__ = ("deadline_ns", "oldest_ns", "rows", "sums")

    def __init__(self, rows: int, leading: list[InferRequest]) -> None:
        self.rows = rows
        self.sums = list(accumulate(request.rows for request in leading))
        self.oldest_ns = min(request.arrived_ns for request in leading)
        self.deadline_ns = min(request.deadline_ns for request in leading)


class ArrivalRate:
    """Mean time between rows that arrive, an exponentially weighted mean over about 16 requests."""

    __slots__ = ("_last_ns", "_mean_ns")

    _GAIN = 1 / 16

    def __init__(self) -> None:
        self._last_ns: int | None = None
        self._mean_ns: float | None = None

    def observe(self, now_ns: int, rows: int) -> None:
        """`rows` rows arrived at `now_ns`."""
        if self._last_ns is not None:
            gap_ns = max(0, now_ns - self._last_ns) / rows
            mean_ns = self._mean_ns
            self._mean_ns = gap_ns if mean_ns is None else mean_ns + self._GAIN * (gap_ns - mean_ns)
        self._last_ns = now_ns

    def ns_per_row(self, now_ns: int) -> float | None:
        """Time between rows; a silence longer than the mean counts instead of it. None: not known yet."""
        if self._mean_ns is None or self._last_ns is None:
            return None
        return max(self._mean_ns, float(now_ns - self._last_ns), 1.0)


def decide_batch(
    view: BucketView,
    now_ns: int,
    idle_slots: int,
    curve: LatencyCurve,
    plan: BatchingPlan,
    ns_per_row: float | None = None,
) -> Dispatch | Wait:
    """Whether the bucket's next batch starts now, and with how many rows, or what to wait for.

    Args:
        view: the bucket; at least one request waits in it.
        now_ns: monotonic time.
        idle_slots: batches that could start now.
        curve: what a batch costs.
        plan: what is wanted.
        ns_per_row: time between arriving rows, if known; without it a p99 objective never waits.
    """
    if idle_slots <= 0:
        return Wait(NEVER_NS)
    cap = _rows_in_time(view, now_ns, curve, plan) if plan.objective_p99_ns else plan.merge_cap
    preferred = _largest_preferred(view, cap, plan)
    if preferred:
        return Dispatch(preferred)
    # Full, or the next request in order does not fit: this batch cannot grow, whatever arrives.
    if view.rows >= cap:
        return Dispatch(cap)
    until_ns = min(
        _patience_ns(view, now_ns, curve, plan, ns_per_row),
        # A deadline cuts the wait short while the batch can still be done in time.
        view.deadline_ns - curve.expected_ns(view.rows) if view.deadline_ns != NEVER_NS else NEVER_NS,
    )
    return Wait(until_ns) if until_ns > now_ns else Dispatch(cap)


def predict_wait_ns(
    rows_ahead: int, rows: int, idle_slots: int, slots: int, curve: LatencyCurve, plan: BatchingPlan
) -> int:
    """How long a request of `rows` rows that arrives now will wait behind `rows_ahead` rows before it starts."""
    cap = plan.merge_cap
    batches, rest = divmod(rows_ahead, cap)
    if rest + rows <= cap:
        rest = 0  # it joins the last batch ahead of it
    if batches + bool(rest) < idle_slots:
        return 0
    # What runs already is half done, on average.
    full = batches + (slots - idle_slots) / 2
    last_ns = curve.expected_ns(rest) if rest else 0
    return round((full * curve.expected_ns(cap) + last_ns) / slots)


def _rows_in_time(view: BucketView, now_ns: int, curve: LatencyCurve, plan: BatchingPlan) -> int:
    """Up to how many rows a batch that starts now keeps the objective of the one that has waited longest.

    Where not even the first request can be in time, small batches would make all the others late too.
    """
    cap = plan.merge_cap
    left_ns = plan.objective_p99_ns - (now_ns - view.oldest_ns)
    sums = view.sums[: bisect_right(view.sums, cap)]
    if not sums or curve.quantile_ns(sums[-1], P99) <= left_ns:
        return cap
    in_time = bisect_right(sums, left_ns, key=lambda rows: curve.quantile_ns(rows, P99))
    return sums[in_time - 1] if in_time else cap


def _largest_preferred(view: BucketView, cap: int, plan: BatchingPlan) -> int:
    """The largest preferred size that the leading requests make exactly; 0 if none."""
    if not plan.preferred_rows:
        return 0
    sizes = set(view.sums)
    return max((rows for rows in plan.preferred_rows if rows <= cap and rows in sizes), default=0)


def _patience_ns(
    view: BucketView, now_ns: int, curve: LatencyCurve, plan: BatchingPlan, ns_per_row: float | None
) -> int:
    """Until when the plan lets this batch wait for company; a moment that has passed if it must not."""
    if plan.objective_p99_ns:
        return _objective_patience_ns(view, now_ns, curve, plan, ns_per_row)
    return view.oldest_ns + plan.max_delay_ns


def _objective_patience_ns(
    view: BucketView, now_ns: int, curve: LatencyCurve, plan: BatchingPlan, ns_per_row: float | None
) -> int:
    if ns_per_row is None:
        return now_ns
    # Judged for the full batch, the slowest that could come of waiting.
    cap = plan.merge_cap
    latest_ns = view.oldest_ns + plan.objective_p99_ns - curve.quantile_ns(cap, P99)
    coming = min(cap - view.rows, int((latest_ns - now_ns) / ns_per_row))
    if coming < 1:
        return now_ns
    target = view.rows + coming
    if curve.expected_ns(target) * view.rows > WORTH_WAITING * curve.expected_ns(view.rows) * target:
        return now_ns
    # No longer than those rows need: if they do not come, the rate has changed, and so may the answer.
    return min(latest_ns, now_ns + int(coming * ns_per_row))
