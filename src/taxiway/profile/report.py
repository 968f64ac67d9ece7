"""What a person reads of a profile, and the same as plain data."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from taxiway.profile.outcome import Percentiles, Profile, Tokens
from taxiway.profile.phases import Phases
from taxiway.profile.resources import Usage
from taxiway.registry.report import size_words, table
from taxiway.stats.hdr_histogram import HdrHistogram

_LABEL_WIDTH: Final = 11
_HEAD: Final = ("", "P50", "P90", "P95", "P99", "P99.9", "MAX")


def format_profile(profile: Profile) -> list[str]:
    """One run."""
    return [
        f"{profile.target}  {'valid' if profile.valid else 'INVALID'}",
        *(_row("invalid" if not number else "", reason) for number, reason in enumerate(profile.reasons)),
        _row("requests", _requests(profile)),
        _row("rate", _rate(profile)),
        "",
        *table(_HEAD, _rows(profile)),
        "",
        _row("p99", _interval(profile)),
        *_errors(profile),
        *(_phases(profile.phases) if profile.phases else ()),
        *(_usage(profile.usage) if profile.usage else ()),
        *(_row("tokens", _tokens(profile.tokens)) for _ in range(profile.tokens is not None)),
        *(_row("note", note) for note in profile.notes),
    ]


def format_ramp(profiles: Sequence[Profile]) -> list[str]:
    """Runs at several rates, a line each."""
    head = ("OFFERED/S", "ACHIEVED/S", "P50 ms", "P90 ms", "P99 ms", "LAG P99 ms", "ERRORS", "")
    rows = [
        (
            f"{one.offered_per_s:.1f}",
            f"{one.achieved_per_s:.1f}",
            _ms(one.percentiles.p50_ms),
            _ms(one.percentiles.p90_ms),
            _ms(one.percentiles.p99_ms),
            _ms(one.lag_percentiles.p99_ms),
            f"{one.error_share:.2%}",
            "" if one.valid else f"INVALID: {one.reasons[0]}",
        )
        for one in profiles
    ]
    return table(head, rows)


def profile_data(profile: Profile) -> dict[str, Any]:
    """All of it as JSON can hold it: times in milliseconds, histograms as pairs of nanoseconds and counts."""
    interval = profile.p99_interval
    return {
        "target": profile.target,
        "valid": profile.valid,
        "reasons": list(profile.reasons),
        "stable": profile.stable,
        "notes": list(profile.notes),
        "warm_up_s": profile.warm_up_s,
        "seconds": profile.seconds,
        "requests": profile.requests,
        "queries": profile.queries,
        "answered": profile.answered,
        "offered_per_s": profile.offered_per_s,
        "sent_per_s": profile.sent_per_s,
        "achieved_per_s": profile.achieved_per_s,
        "errors": dict(profile.errors),
        "error_examples": dict(profile.examples),
        "latency_ms": _data(profile.percentiles),
        "service_ms": _data(profile.service_percentiles),
        "lag_ms": _data(profile.lag_percentiles),
        "p99_interval": {
            "low_ms": interval.low_ms,
            "high_ms": interval.high_ms if math.isfinite(interval.high_ms) else None,
            "confidence": interval.confidence,
            "effective_requests": interval.effective,
        },
        "tokens": _data(profile.tokens),
        "phases": _data(profile.phases),
        "usage": _data(profile.usage),
        "windows": [_data(one) for one in profile.windows],
        "histogram_ns": profile.latency.to_sparse(),
        "service_histogram_ns": profile.service.to_sparse(),
    }


def _data(value: object) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, HdrHistogram):
        return value.to_sparse()
    if hasattr(value, "__dataclass_fields__"):
        return {name: _data(getattr(value, name)) for name in value.__dataclass_fields__}
    if isinstance(value, Mapping):
        return {str(key): _data(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_data(one) for one in value]
    return value


def _row(label: str, text: str) -> str:
    return f"  {label:<{_LABEL_WIDTH}}{text}"


def _requests(profile: Profile) -> str:
    return (
        f"{profile.requests} in {profile.seconds:.1f} s, {profile.answered} answered"
        f" (after {profile.warm_up_s:g} s of warm-up)"
    )


def _rate(profile: Profile) -> str:
    rates = {"offered": profile.offered_per_s, "sent": profile.sent_per_s, "achieved": profile.achieved_per_s}
    return ", ".join(f"{name} {rate:.1f}/s" for name, rate in rates.items())


def _rows(profile: Profile) -> Iterator[tuple[str, ...]]:
    yield "  response ms", *_cells(profile.percentiles)
    yield "  service ms", *_cells(profile.service_percentiles)
    yield "  schedule lag ms", *_cells(profile.lag_percentiles)
    if profile.tokens is not None:
        yield "  first token ms", *_cells(profile.tokens.first)
        yield "  between tokens ms", *_cells(profile.tokens.between)
        yield "  per output token ms", *_cells(profile.tokens.per_output)


def _cells(one: Percentiles) -> tuple[str, ...]:
    return tuple(map(_ms, (one.p50_ms, one.p90_ms, one.p95_ms, one.p99_ms, one.p99_9_ms, one.max_ms)))


def _ms(value: float) -> str:
    return f"{value:.3f}" if value < 10 else f"{value:.1f}"


def _interval(profile: Profile) -> str:
    interval = profile.p99_interval
    effective = f"worth {interval.effective:.0f} independent requests"
    if not math.isfinite(interval.high_ms):
        return f"{_ms(interval.low_ms)} ms or more at {interval.confidence:.0%}: the run is too short ({effective})"
    return f"{_ms(interval.low_ms)} .. {_ms(interval.high_ms)} ms at {interval.confidence:.0%} ({effective})"


def _errors(profile: Profile) -> Iterator[str]:
    if profile.errors:
        counted = ", ".join(f"{count} {kind}" for kind, count in profile.errors.items())
        yield _row("errors", f"{counted} ({profile.error_share:.2%})")
    for kind, said in profile.examples.items():
        yield _row("", f"{kind}: {said}")


def _phases(phases: Phases) -> Iterator[str]:
    spent = ", ".join(f"{name.replace('_', ' ')} {_ms(ms)}" for name, ms in phases.by_phase.items())
    yield _row("server", f"{_ms(phases.server_ms)} ms of each request: {spent} (batches of {phases.batch:.1f})")
    yield _row("outside", f"{_ms(phases.outside_ms)} ms: network, HTTP and whatever the server does not count")


def _usage(usage: Usage) -> Iterator[str]:
    if usage.processes:
        words = f"{usage.cpus:.2f} CPUs, {size_words(usage.peak_bytes)} at most, {usage.processes} process(es)"
        yield _row("resources", words)
    for gpu in usage.gpus:
        yield _row(
            "gpu", f"{gpu.name}: {gpu.utilization:.0%}, {size_words(gpu.peak_bytes)}, {gpu.peak_w:.0f} W at most"
        )
    yield _row("generator", f"{usage.generator_cpus:.2f} CPUs")


def _tokens(tokens: Tokens | None) -> str:
    return "" if tokens is None else f"{tokens.total} at {tokens.per_s:.1f}/s"
