"""The section `monitoring.slos`: what was promised of each model, by which alerts and error budgets go."""

from __future__ import annotations

from bisect import bisect_left
from typing import Annotated, Final

from pydantic import Field, field_validator

from taxiway.config.sections import Count, Section, broken_rule
from taxiway.telemetry.histogram import LATENCY

ObjectivePercent = Annotated[float, Field(gt=0, lt=100)]
_NS_PER_MS: Final = 1_000_000


class LatencyObjective(Section):
    """That most answers come in time."""

    percent: ObjectivePercent = 99.0
    """Of the answers."""

    under_ms: Annotated[float, Field(gt=0, le=100_000)]
    """From the last byte of the request to the answer; one of the bounds that latency is counted by, so that the share
    is exact: 10 microseconds to 100 seconds, each decade at 1, 2, 2.5, 5 and 7.5."""

    @field_validator("under_ms")
    @classmethod
    def _is_a_bound(cls, value: float) -> float:
        bounds = LATENCY.bounds
        bound = round(value * _NS_PER_MS)
        if bound not in bounds:
            at = bisect_left(bounds, bound)
            near = [f"{one / _NS_PER_MS:g}" for one in bounds[max(0, at - 1) : at + 1]]
            raise broken_rule("", f"must be a bound of the latency histogram, as {' or '.join(near)}")
        return value

    @property
    def le(self) -> str:
        """The bound as the histogram's label has it."""
        return LATENCY.le[LATENCY.bounds.index(round(self.under_ms * _NS_PER_MS))]


class ModelSlos(Section):
    """The objectives of one model."""

    availability_percent: ObjectivePercent | None = None
    """Of the valid requests that are answered; those whose caller went away do not count."""

    latency: Annotated[tuple[LatencyObjective, ...], Field(max_length=5)] = ()
    """Shares of the answers that come in time."""

    window_days: Annotated[int, Field(ge=7, le=90)] = 30
    """Over which the error budget is counted."""

    min_bad_requests: Count = 10
    """Bad requests within an alert's long window without which it does not fire: of the one request of a quiet hour
    that failed nobody is woken."""

    owner: Annotated[str, Field(max_length=128)] = ""
    """Label `owner` of its alerts, by which Alertmanager routes them."""

    @field_validator("latency")
    @classmethod
    def _each_bound_once(cls, value: tuple[LatencyObjective, ...]) -> tuple[LatencyObjective, ...]:
        bounds = [one.under_ms for one in value]
        if len(set(bounds)) < len(bounds):
            raise broken_rule("", "names a bound twice; give each one share")
        return value
