"""Where the server says that the time went: what its statistics gained while the load lasted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

_PHASES: Final = ("queue", "compute_input", "compute_infer", "compute_output")


@dataclass(frozen=True, slots=True)
class Counters:
    """Of a model since the server started: requests, runs, and nanoseconds by phase."""

    requests: int
    executions: int
    success_ns: int
    phase_ns: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Phases:
    """Milliseconds per request, in the mean, as the server counts.

    Attributes:
        server_ms: within the server, from a request's head to its answer.
        outside_ms: what the client saw beyond that: network, HTTP, waiting for a connection, the generator.
        by_phase: parts of `server_ms`.
        requests: that the server counted.
        batch: requests per run of the model.
    """

    server_ms: float
    outside_ms: float
    by_phase: Mapping[str, float]
    requests: int
    batch: float


def counters_of(statistics: Mapping[str, Any]) -> Counters:
    """Sum the `model_stats` of GET /v2/models/NAME/stats, in Triton's words, over the versions in it."""
    requests = executions = success = 0
    phases = dict.fromkeys(_PHASES, 0)
    for one in statistics.get("model_stats", ()):
        inference = one.get("inference_stats", {})
        requests += _count(inference, "success")
        success += _ns(inference, "success")
        executions += int(one.get("execution_count", 0))
        for phase in _PHASES:
            phases[phase] += _ns(inference, phase)
    return Counters(requests, executions, success, phases)


def phases_between(before: Counters, after: Counters, mean_latency_ms: float) -> Phases | None:
    """What was gained; None where the server counted nothing."""
    requests = after.requests - before.requests
    if requests <= 0:
        return None
    server = (after.success_ns - before.success_ns) / requests / 1e6
    spent = {name: (ns - before.phase_ns.get(name, 0)) / requests / 1e6 for name, ns in after.phase_ns.items()}
    executions = after.executions - before.executions
    batch = requests / executions if executions > 0 else 1.0
    return Phases(server, max(mean_latency_ms - server, 0.0), spent, requests, batch)


def _count(inference: Mapping[str, Any], phase: str) -> int:
    return int(inference.get(phase, {}).get("count", 0))


def _ns(inference: Mapping[str, Any], phase: str) -> int:
    return int(inference.get(phase, {}).get("ns", 0))
