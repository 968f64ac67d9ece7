"""Slots of some seconds, in which an arm was slow or was not: what latency is judged by where requests hang together.

A stall of one process hits all the requests of that moment: counted one by one they would be many witnesses of one
thing. So that a process, an arm and a slot make one event. What is slow is decided by the slots before, never by the
one in question: the reference is the quantile of the last minute of the version served now. The candidate is slow if
more than twice as many of its answers as should are above the reference times 1 + margin; the version served now if so
many of its own are above the reference itself. So that a candidate that takes exactly 1 + margin times as long is slow
as often as the other.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from msgspec import Struct, field

from taxiway.core.traffic import ArmCounts
from taxiway.rollout.nouns import Moments
from taxiway.stats.log_buckets import PER_OCTAVE, LogHistogram

S_NS: Final = 1_000_000_000
SLOT_S: Final = 5.0
LONGEST_SLOT_S: Final = 60.0
"""What took longer was not looked at, or the clock jumped: it is no slot."""
MINUTE_SLOTS: Final = 12
"""Slots that the reference is taken from."""
LEAST_IN_MINUTE: Final = 50
"""Answers without which there is no reference."""
TOO_MANY: Final = 2.0
"""Times as many slow answers as there should be make a slot slow."""


class Slots(Struct):
    """Slots of one process: the one that is open, and latencies of the last ones, by arm.

    Attributes:
        began_ns: of the open one.
        counted: whether it is evidence: it began when everything had settled.
        at: by arm, what had been counted when it began.
        minute: by arm, histograms of the slots before, oldest first.
    """

    began_ns: int = 0
    segment: int = -1
    counted: bool = False
    at: dict[str, ArmCounts] = field(default_factory=dict)
    minute: dict[str, list[list[tuple[int, int]]]] = field(default_factory=dict)


class Closed(Struct):
    """What came of the slots of one arm in one segment.

    Attributes:
        cost: of each slot the logarithm of the time in the model for a row, over that of the arm compared with.
    """

    slots: int = 0
    slow: int = 0
    cost: Moments = field(default_factory=Moments)


class SlotTerms(Struct, frozen=True):
    """What is slow: above this quantile of the reference arms' last minute, times 1 + margin.

    Attributes:
        baseline: the arm that the others are compared with.
        old: arms of the version served now; if the baseline alone has too few answers, all of them are the reference.
    """

    baseline: str
    old: Sequence[str]
    quantile: float = 0.99
    margin: float = 0.1


def cut(
    slots: Slots, counts: Mapping[str, ArmCounts], segment: int, now_ns: int, terms: SlotTerms, *, counted: bool
) -> dict[str, Closed]:
    """Close the open slot if it is long enough, and open the next; by arm what came of it, if it is evidence.

    Args:
        slots: of one process; its minute is moved on.
        counts: of all arms in `segment`, now.
        segment: which the process follows.
        now_ns: UTC nanoseconds.
        terms: what is slow.
        counted: whether what is counted from now on is evidence.
    """
    age_s = (now_ns - slots.began_ns) / S_NS
    whole = slots.segment == segment and 0 <= age_s <= LONGEST_SLOT_S
    if whole and slots.counted == counted and age_s < SLOT_S:
        return {}
    found = _close(slots, counts, terms) if whole and age_s >= SLOT_S else {}
    is_evidence = slots.counted and counted
    slots.began_ns, slots.segment, slots.counted, slots.at = now_ns, segment, counted, dict(counts)
    return found if is_evidence else {}


def _close(slots: Slots, counts: Mapping[str, ArmCounts], terms: SlotTerms) -> dict[str, Closed]:
    bucket = _reference(slots, terms)
    costs = {arm: _cost(slots.at[arm], now) for arm, now in counts.items() if arm in slots.at}
    found = {}
    for arm, now in counts.items():
        if arm not in slots.at:
            continue
        latency = LogHistogram.from_sparse(now.latency).minus(LogHistogram.from_sparse(slots.at[arm].latency))
        closed = found[arm] = Closed()
        if bucket is not None and (answered := latency.count):
            shift = 0 if arm in terms.old else math.ceil(math.log2(1 + terms.margin) * PER_OCTAVE - 1e-9)
            above = sum(latency.counts[bucket + shift + 1 :])
            closed.slots, closed.slow = 1, int(above > TOO_MANY * (1 - terms.quantile) * answered)
        if arm != terms.baseline and (ratio := _log_ratio(costs[arm], costs.get(terms.baseline))) is not None:
            closed.cost = Moments(1, ratio, ratio**2)
        if arm in terms.old:
            slots.minute[arm] = [*slots.minute.get(arm, [])[1 - MINUTE_SLOTS :], latency.to_sparse()]
    return found


def _reference(slots: Slots, terms: SlotTerms) -> int | None:
    """The bucket in which the quantile of the last minute lies; None while too little is known."""
    alone = _sum(slots.minute.get(terms.baseline, []))
    if alone.count < LEAST_IN_MINUTE:
        alone = _sum(sparse for arm in terms.old for sparse in slots.minute.get(arm, []))
    if alone.count < LEAST_IN_MINUTE:
        return None
    left = terms.quantile * alone.count
    for bucket, count in enumerate(alone.counts):
        left -= count
        if count and left <= 0:
            return bucket
    return len(alone.counts) - 1


def _sum(histograms: Iterable[list[tuple[int, int]]]) -> LogHistogram:
    return LogHistogram.from_sparse(pair for sparse in histograms for pair in sparse)


def _cost(before: ArmCounts, now: ArmCounts) -> float | None:
    """Nanoseconds in the model for a row; None if none were run, or the process counts anew."""
    rows, took_ns = now.inferred - before.inferred, now.infer_ns - before.infer_ns
    return took_ns / rows if rows > 0 and took_ns > 0 else None


def _log_ratio(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else math.log(one / other)
