"""MLPerf's four scenarios: how each loads, what it measures, and how much it takes to prove that.

Server is an open loop of Poisson arrivals under a latency bound; SingleStream and MultiStream send a query (of 1 and 8
samples) when the one before is answered; Offline sends everything at once and measures throughput. A percentile is only
claimed if enough queries prove it at 99 % (stats/early_stopping.py). MLPerf asks for 600 s at least; so do we where the
result is to be called MLPerf's, and a shorter run says that it is not.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from taxiway.profile.arrivals import Poisson
from taxiway.profile.outcome import Profile
from taxiway.profile.plan import Plan
from taxiway.profile.slos import Slo, broken_terms
from taxiway.stats.early_stopping import least_under, proven_percentile, proves_bound

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
    latencies = np.repeat(*_values(profile))
    if slo is not None and scenario is Scenario.OFFLINE:
        slo = Slo(errors=slo.errors)  # nobody waits for one answer
    broken = tuple(broken_terms(slo, profile)) if slo is not None else ()
    unproven = list(profile.reasons)
    if scenario is Scenario.OFFLINE:
        result = f"{profile.achieved_per_s:.2f} samples/s"
    elif scenario is Scenario.SERVER:
        result = f"{profile.offered_per_s:.2f} queries/s"
        unproven += _server(latencies, slo)
    else:
        proven = proven_percentile(latencies, scenario.percentile)
        result = f"p{scenario.percentile * 100:g} of {proven:.3f} ms"
        if not np.isfinite(proven):
            result = "nothing"
            unproven.append(f"{len(latencies)} queries are too few: {least_under(0, scenario.percentile)} are needed")
    passed = not broken and not unproven
    return Claim(scenario.word, result, passed, broken, tuple(unproven), tuple(_notes(scenario, profile)))


def _server(latencies: NDArray[np.float64], slo: Slo | None) -> list[str]:
    """Whether so many queries were within the bound that 99 % of all are."""
    if slo is None or not slo.latency_ms:
        return []
    over = int(np.count_nonzero(latencies > slo.latency_ms))
    if proves_bound(len(latencies), over, Scenario.SERVER.percentile):
        return []
    needed = least_under(over, Scenario.SERVER.percentile) + over
    told = f"{over} of {len(latencies)} queries took more than {slo.latency_ms:g} ms"
    return [f"{told}: that 99 % take less would be proven by {needed} with so many over it"]


def _values(profile: Profile) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Latencies in milliseconds, to three digits, and how often each came."""
    pairs = profile.latency.to_sparse()
    return np.array([value / 1e6 for value, _ in pairs]), np.array([count for _, count in pairs], np.int64)


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
