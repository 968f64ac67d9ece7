"""MLPerf's four scenarios: how each loads, what it measures, and how much it takes to prove that.

Server is an open loop of Poisson arrivals under a latency bound; SingleStream and MultiStream send a query (of 1 and 8
samples) when the one before is answered; Offline sends everything at once and measures throughput. A percentile is only
claimed if enough queries prove it at 99 % (stats/early_stopping.py); one that failed is beyond every bound. MLPerf asks
for 600 s at least; so do we where the result is to be called MLPerf's, and a shorter run says that it is not.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from taxiway.profile.arrivals import Poisson
from taxiway.profile.outcome import Profile
from taxiway.profile.plan import Plan
from taxiway.profile.slos import Slo, broken_terms
from taxiway.stats.early_stopping import least_under, proven_percentile, proves_bound
from taxiway.stats.hdr_histogram import HdrHistogram

MIN_DURATION_S: Final = 600.0
_MULTISTREAM_SAMPLES: Final = 8
_MULTISTREAM_QUERIES: Final = 662
_OFFLINE_SAMPLES: Final = 24_576


class Scenario(enum.Enum):
    """By MLPerf's names, in lower case; the number is the percentile that is claimed."""

    SINGLE_STREAM = ("single-stream", 0.90)
    MULTI_STREAM = ("multi-stream", 0.99)
    SERVER = ("server", 0.99)
    OFFLINE = ("offline", 0.0)

    def __init__(self, word: str, percentile: float) -> None:
        self.word = word
        self.percentile = percentile


@dataclass(frozen=True, slots=True)
class Claim:
    """What a scenario's run proves.

    Attributes:
        result: in words, with its unit.
        passed: whether the run was valid, long enough to prove something, and kept its SLO if it had one.
        broken: what of the SLO was not kept.
        unproven: why the run does not prove it, or is invalid.
        notes: what keeps it from being a result of MLPerf's own rules.
    """

    scenario: str
    result: str
    passed: bool
    broken: tuple[str, ...]
    unproven: tuple[str, ...]
    notes: tuple[str, ...]


def scenario_plan(scenario: Scenario, plan: Plan) -> Plan:
    """The plan that loads as the scenario does; rate, durations and means are those of `plan`."""
    if scenario is Scenario.SERVER:
        return replace(plan, arrivals=Poisson(), concurrency=None)
    if scenario is Scenario.OFFLINE:
        return replace(plan, concurrency=None, all_at_once=True, warm_up_s=0.0)
    samples = _MULTISTREAM_SAMPLES if scenario is Scenario.MULTI_STREAM else 1
    return replace(plan, concurrency=1, query_samples=samples, processes=1)


def claim(scenario: Scenario, profile: Profile, slo: Slo | None) -> Claim:
    """What this run of the scenario proves."""
    if slo is not None and scenario is Scenario.OFFLINE:
        slo = Slo(errors=slo.errors)  # nobody waits for one answer
    broken = tuple(broken_terms(slo, profile)) if slo is not None else ()
    unproven = list(profile.reasons)
    if slo is None and profile.errors:
        unproven.append(f"{profile.error_share:.2%} of the requests failed, and no SLO as errors<1% allows that")
    if scenario is Scenario.OFFLINE:
        result = f"{profile.achieved_per_s:.2f} samples/s"
    elif scenario is Scenario.SERVER:
        result = f"{profile.offered_per_s:.2f} queries/s"
        unproven += _server(profile, slo)
    else:
        latencies = _latencies(profile)
        proven = proven_percentile(latencies, scenario.percentile)
        result = f"p{scenario.percentile * 100:g} of {proven:.3f} ms"
        if not np.isfinite(proven):
            result = "nothing"
            unproven.append(_too_few(latencies, scenario.percentile))
    passed = not broken and not unproven
    return Claim(scenario.word, result, passed, broken, tuple(unproven), tuple(_notes(scenario, profile)))


def _latencies(profile: Profile) -> NDArray[np.float64]:
    """Milliseconds of each query, to three digits; infinite where it failed."""
    pairs = profile.whole.to_sparse()
    times = np.repeat([value / 1e6 for value, _ in pairs], np.array([count for _, count in pairs], np.int64))
    return np.concatenate([times, np.full(profile.queries - len(times), np.inf)])


def _too_few(latencies: NDArray[np.float64], p: float) -> str:
    """Why they prove no bound at all."""
    failed = int(np.count_nonzero(np.isinf(latencies)))
    among = f", {failed} of which failed," if failed else ""
    return f"{len(latencies)} queries{among} are too few: {least_under(failed, p) + failed} are needed"


def _server(profile: Profile, slo: Slo | None) -> Iterator[str]:
    """Of each bound that so many queries do not prove 99 % of all to be within."""
    for took, bound_ms, times, failed in _bounded(profile, slo) if slo is not None else ():
        count = times.count + failed
        over = failed + sum(many for value, many in times.to_sparse() if value > bound_ms * 1e6)
        if proves_bound(count, over, Scenario.SERVER.percentile):
            continue
        needed = least_under(over, Scenario.SERVER.percentile) + over
        told = f"{over} of {count} queries {took} than {bound_ms:g} ms{' or failed' if failed else ''}"
        yield f"{told}: that 99 % take less would be proven by {needed} with so many over it"


def _bounded(profile: Profile, slo: Slo) -> Iterator[tuple[str, float, HdrHistogram, int]]:
    """What is bounded in words, by how many milliseconds, the nanoseconds that were seen, and how many saw no end."""
    if slo.latency_ms:
        yield "took more", slo.latency_ms, profile.whole, profile.queries - profile.whole.count
    tokens = profile.tokens
    if tokens is None:  # what is promised of them is broken
        return
    failed = profile.requests - tokens.first_ns.count
    if slo.first_ms:
        yield "took more to the first token", slo.first_ms, tokens.first_ns, failed
    if slo.per_output_ms:
        yield "took more per output token", slo.per_output_ms, tokens.per_output_ns, failed


def _notes(scenario: Scenario, profile: Profile) -> list[str]:
    notes = []
    if profile.seconds < MIN_DURATION_S:
        notes.append(f"{profile.seconds:.0f} s are less than the {MIN_DURATION_S:g} s that MLPerf asks for")
    queries = profile.latency.count
    if scenario is Scenario.MULTI_STREAM and queries < _MULTISTREAM_QUERIES:
        notes.append(f"{queries} queries are fewer than the {_MULTISTREAM_QUERIES} that MLPerf asks for")
    if scenario is Scenario.OFFLINE and queries < _OFFLINE_SAMPLES:
        notes.append(f"{queries} samples are fewer than the {_OFFLINE_SAMPLES} that MLPerf asks for")
    return notes


def format_claim(one: Claim) -> list[str]:
    """Lines for a person."""
    lines = [f"{one.scenario}: {one.result}, {'passed' if one.passed else 'NOT passed'}"]
    lines += [f"  not passed {reason}" for reason in (*one.broken, *one.unproven)]
    return lines + [f"  note       {note}" for note in one.notes]
