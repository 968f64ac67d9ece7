"""From samples to a profile: percentiles from the intended start, and whether they may be believed. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from taxiway.profile.outcome import Interval, Percentiles, Profile, Tokens, Window
from taxiway.profile.plan import Plan
from taxiway.profile.samples import NOT_SENT, OK, TIMED_OUT, Samples, ending_words
from taxiway.stats.hdr_histogram import HdrHistogram
from taxiway.stats.quantile_interval import quantile_interval
from taxiway.stats.steady_state import settled_after, trend_of

LAG_SHARE: Final = 0.05
"""The p99 of the lag may be so much of the latency's p99."""
RATE_SHARE: Final = 0.01
"""So much of the offered rate may be missed."""
CONFIDENCE: Final = 0.95
_WINDOWS: Final = 60
_LEAST_WINDOW_S: Final = 0.25
_CLEAR: Final = 100
"""Fewer requests than this have no p99 to speak of."""


@dataclass(frozen=True, slots=True)
class _Times:
    """Of the requests that count, seconds by due time; who timed out counts with what was waited."""

    due: NDArray[np.float64]
    latency: NDArray[np.float64]
    service: NDArray[np.float64]
    lag: NDArray[np.float64]


def judge(name: str, plan: Plan, samples: Samples, examples: Mapping[str, str] | None = None) -> Profile:
    """The profile of a run of `plan`, whose samples include its warm-up."""
    counted = samples.after(plan.warm_up_s)
    times = _times_of(counted, plan.query_samples)
    latency, service, lag = (HdrHistogram(one * 1e9) for one in (times.latency, times.service, times.lag))
    percentiles, lag_percentiles = Percentiles.of(latency), Percentiles.of(lag)
    seconds = _seconds(plan, counted)
    windows = tuple(_windows(times, plan.warm_up_s, plan.duration_s))
    queries, whole = _whole(counted, plan.query_samples)
    sent = float(np.count_nonzero(counted.sent < plan.warm_up_s + plan.duration_s)) / seconds
    offered = len(counted.rows) / seconds
    reasons = tuple(_reasons(plan, counted, percentiles, lag_percentiles, (offered, sent)))
    notes = tuple(_notes(counted, windows))
    return Profile(
        target=name,
        latency=latency,
        service=service,
        lag=lag,
        percentiles=percentiles,
        service_percentiles=Percentiles.of(service),
        lag_percentiles=lag_percentiles,
        p99_interval=_interval(times.latency),
        requests=len(counted.rows),
        answered=int(np.count_nonzero(counted.ending == OK)),
        offered_per_s=offered,
        sent_per_s=sent,
        achieved_per_s=_achieved(plan, samples, seconds),
        errors=_errors(counted),
        valid=not reasons,
        reasons=reasons,
        stable=not any(note.startswith("not stable") for note in notes),
        notes=notes,
        warm_up_s=plan.warm_up_s,
        seconds=seconds,
        queries=queries,
        whole=whole,
        windows=windows,
        examples=dict(examples or {}),
        tokens=_tokens(counted, _tokens_done(plan, samples) / seconds),
    )


def _times_of(samples: Samples, query: int) -> _Times:
    ending = samples.ending
    waited = (ending == OK) | (ending == TIMED_OUT) | (ending == NOT_SENT)
    due, done, sent = samples.due[waited], samples.done[waited], samples.sent[waited]
    if query > 1 and len(due):  # a query is done when its last request is
        starts = _starts(due)
        due, done, sent = due[starts], np.maximum.reduceat(done, starts), np.fmin.reduceat(sent, starts)
    all_sent = samples.sent[~np.isnan(samples.sent)]
    was_sent = ~np.isnan(sent)
    lag = np.maximum(all_sent - samples.due[~np.isnan(samples.sent)], 0.0)
    return _Times(due, done - due, (done - sent)[was_sent], lag)


def _whole(counted: Samples, query: int) -> tuple[int, HdrHistogram]:
    """How many queries there were, and how many nanoseconds each took whose requests were all answered."""
    due, done, good = counted.due, counted.done, counted.ending == OK
    if query > 1 and len(due):
        starts = _starts(due)
        due, done, good = due[starts], np.maximum.reduceat(done, starts), np.logical_and.reduceat(good, starts)
    return len(due), HdrHistogram((done - due)[good] * 1e9)


def _starts(due: NDArray[np.float64]) -> NDArray[np.intp]:
    """Where each query begins among its requests, which are due at the same moment."""
    return np.flatnonzero(np.diff(due, prepend=-np.inf) > 0)


def _seconds(plan: Plan, counted: Samples) -> float:
    """What the rates are reckoned by: where all is due at once, the time until the last is done."""
    if plan.all_at_once and len(counted.rows):
        return max(float(counted.done.max()) - plan.warm_up_s, 1e-9)
    return plan.duration_s


def _achieved(plan: Plan, samples: Samples, seconds: float) -> float:
    """Successful answers per second that came while it counted."""
    return float(np.count_nonzero(_done_in_time(plan, samples))) / seconds


def _tokens_done(plan: Plan, samples: Samples) -> int:
    """The tokens of these answers."""
    return int(samples.tokens[_done_in_time(plan, samples)].sum())


def _done_in_time(plan: Plan, samples: Samples) -> NDArray[np.bool_]:
    """Which requests were answered with success while it counted, whenever they were due."""
    end = np.inf if plan.all_at_once else plan.warm_up_s + plan.duration_s
    found: NDArray[np.bool_] = (samples.ending == OK) & (samples.done >= plan.warm_up_s) & (samples.done < end)
    return found


def _errors(samples: Samples) -> dict[str, int]:
    counted = Counter(ending_words(int(one)) for one in samples.ending if one != OK)
    return dict(counted.most_common())


def _interval(latency: NDArray[np.float64]) -> Interval:
    if not len(latency):
        return Interval(0.0, float("inf"), CONFIDENCE, 0.0)
    low, high, effective = quantile_interval(latency, 0.99, CONFIDENCE)
    return Interval(low * 1e3, high * 1e3, CONFIDENCE, effective)


def _windows(times: _Times, warm_up_s: float, duration_s: float) -> Iterator[Window]:
    if not len(times.due):
        return
    width = max(duration_s / _WINDOWS, _LEAST_WINDOW_S)
    number = ((times.due - warm_up_s) / width).astype(np.int64)
    edges = np.flatnonzero(np.diff(number, prepend=-1, append=number[-1] + 1))
    for start, end in pairwise(edges):
        part = times.latency[start:end] * 1e3
        p50, p99 = np.percentile(part, (50, 99), method="inverted_cdf")
        yield Window(warm_up_s + float(number[start]) * width, len(part), float(p50), float(p99))


def _reasons(
    plan: Plan, counted: Samples, latency: Percentiles, lag: Percentiles, rates: tuple[float, float]
) -> Iterator[str]:
    """Why the numbers are the generator's and not the server's."""
    if not np.any(counted.ending == OK):
        yield "no request was answered with success"
        return
    never = int(np.count_nonzero(counted.ending == NOT_SENT))
    if never:
        yield f"{never} requests were never sent: all {plan.connections} connections were busy; raise --connections"
    if plan.concurrency is not None or plan.all_at_once:
        return
    if lag.p99_ms > LAG_SHARE * latency.p99_ms:
        yield (
            f"the generator was late: schedule lag p99 {lag.p99_ms:.3f} ms is more than {LAG_SHARE:.0%} of the "
            f"latency's {latency.p99_ms:.3f} ms; give it a core of its own, more --processes or a lower --rate"
        )
    offered, sent = rates
    if sent < (1 - RATE_SHARE) * offered:
        yield f"{offered:.1f}/s were due and only {sent:.1f}/s were sent in time; use more --processes"


def _notes(counted: Samples, windows: tuple[Window, ...]) -> Iterator[str]:
    """What is true of the numbers though they are valid."""
    if len(counted.rows) < _CLEAR:
        yield f"{len(counted.rows)} requests are too few for a p99: it is the slowest of them"
    medians = [one.p50_ms for one in windows]
    slow = settled_after(medians)
    if slow:
        yield f"not stable: the first {windows[slow].at_s - windows[0].at_s:.1f} s were slower; raise --warm-up"
    trend = trend_of(medians[slow:])
    if trend.is_real():
        word = "rose" if trend.change > 0 else "fell"
        yield f"not stable: the median {word} by {abs(trend.change):.0%} during the run"


def _tokens(counted: Samples, per_s: float) -> Tokens | None:
    answered = (counted.ending == OK) & ~np.isnan(counted.first)
    if not answered.any():
        return None
    first = counted.first[answered] - counted.due[answered]
    count = counted.tokens[answered]
    several = count > 1
    spent = counted.done[answered] - counted.first[answered]
    per_output = spent[several] / (count[several] - 1)
    firsts, between, each = (HdrHistogram(one * 1e9) for one in (first, counted.between, per_output))
    return Tokens(
        first=Percentiles.of(firsts),
        between=Percentiles.of(between),
        per_output=Percentiles.of(each),
        per_s=per_s,
        total=int(count.sum()),
        first_ns=firsts,
        per_output_ns=each,
    )
