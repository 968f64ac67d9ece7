"""An objective as numbers and queries: which events count, and which of them are bad."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from taxiway.config.monitoring_slos import ModelSlos

ALL: Final = "*"
"""Stands for every model that has no objectives of its own."""
_REQUESTS: Final = "taxiway_inference_request_seconds"
_FAILURES: Final = "taxiway_inference_failures_total"
_NOT_OURS: Final = 'reason!="cancelled"'
"""A caller that went away takes nothing from the budget."""


@dataclass(frozen=True, slots=True)
class Objective:
    """One objective of one model, or of all others.

    Attributes:
        model: a name, or `*`.
        name: as Sloth calls it: `availability`, `latency-100ms`.
        ratio: the share of good events, 0 to 1.
        le: the bound of a latency objective, as its label has it; empty for availability.
        others: models with objectives of their own, that `*` leaves out.
    """

    model: str
    name: str
    ratio: float
    window_days: int
    min_bad: int
    le: str = ""
    owner: str = ""
    others: tuple[str, ...] = ()

    @property
    def budget(self) -> float:
        """The share of bad events that the objective allows."""
        return round(1 - self.ratio, 12)

    @property
    def id(self) -> str:
        """Sloth's id, unique among all objectives."""
        return f"taxiway-{'all' if self.model == ALL else self.model}-{self.name}"

    @property
    def labels(self) -> dict[str, str]:
        """Sloth's labels."""
        service = "taxiway" if self.model == ALL else self.model
        return {"sloth_id": self.id, "sloth_service": service, "sloth_slo": self.name}

    @property
    def models(self) -> str:
        """The matcher of its models."""
        if self.model != ALL:
            return f'model="{_quoted(self.model)}"'
        return f'model!~"{"|".join(_quoted(_literal(one)) for one in self.others)}"' if self.others else ""

    def bad(self, change: str, window: str) -> str:
        """How many bad events there were in a window, or a second: `change` is increase or rate."""
        if not self.le:
            return self._sum(change, _FAILURES, window, _NOT_OURS)
        late = self._sum(change, f"{_REQUESTS}_bucket", window, f'le="{self.le}"')
        return f"{self._sum(change, f'{_REQUESTS}_count', window)} - {late}"

    def total(self, change: str, window: str) -> str:
        """How many events there were altogether."""
        answered = self._sum(change, f"{_REQUESTS}_count", window)
        if self.le:
            return answered
        return f"{answered} + {self._sum(change, _FAILURES, window, _NOT_OURS)}"

    def known(self) -> str:
        """A series of 1 for each of its models that is there."""
        return f"group by (model) ({_REQUESTS}_count{{{self.models}}})"

    def _sum(self, change: str, metric: str, window: str, *matchers: str) -> str:
        matched = ",".join(filter(None, (self.models, *matchers)))
        return f"sum by (model) ({change}({metric}{{{matched}}}[{window}]))"


def objectives_of(slos: Mapping[str, ModelSlos]) -> list[Objective]:
    """All objectives, by model."""
    others = tuple(sorted(name for name in slos if name != ALL))
    return [one for model, promised in sorted(slos.items()) for one in _objectives(model, promised, others)]


def _objectives(model: str, promised: ModelSlos, others: tuple[str, ...]) -> Iterable[Objective]:
    rest = {
        "model": model,
        "window_days": promised.window_days,
        "min_bad": promised.min_bad_requests,
        "owner": promised.owner,
        "others": others if model == ALL else (),
    }
    if promised.availability_percent is not None:
        yield Objective(name="availability", ratio=_ratio(promised.availability_percent), **rest)  # type: ignore[arg-type]
    for one in promised.latency:
        name = f"latency-{one.under_ms:g}ms"
        yield Objective(name=name, ratio=_ratio(one.percent), le=one.le, **rest)  # type: ignore[arg-type]


def _ratio(percent: float) -> float:
    return round(percent / 100, 12)


def _literal(text: str) -> str:
    """As a regular expression of RE2 that matches this text alone."""
    return "".join(one if one.isalnum() or one in "_-" else f"\\{one}" for one in text)


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
