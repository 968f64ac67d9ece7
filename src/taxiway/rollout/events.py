"""What happens to a rollout, beside the commands of people: told by the controller, who saw it.

The controller says again, at each look, what is still so: what is no news changes nothing, and what was said while
nothing may move is not lost.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from taxiway.rollout.commands import Abort, Advance, Approve, Command, Extend, Pause, Promote, Resume
from taxiway.rollout.nouns import Verdict


class Happening(Struct, frozen=True, tag=True, tag_field="type"):
    """What all of them have: nothing."""


class Begun(Happening, frozen=True):
    """Its turn has come: nothing else of its service goes on.

    Attributes:
        baseline, baseline_key, baseline_path: what answers now, where that has changed while it waited; 0: it has not.
    """

    baseline: int = 0
    baseline_key: str = ""
    baseline_path: str = ""


class Admitted(Happening, frozen=True):
    """Its candidates exist, are whole, and may be tried."""


class Staged(Happening, frozen=True):
    """Everything that it needs is loaded, measured and warm in every process."""


class Failed(Happening, frozen=True):
    """What was to be done for it failed.

    Attributes:
        reason: a sentence.
        blame: whether the candidate is to blame (it is no model, its first answers were wrong), and not memory, disk,
            network or a process that died, which say nothing of it.
    """

    reason: str
    blame: bool = False


class Applied(Happening, frozen=True):
    """Every process follows the weights of this generation."""

    generation: int


class Looked(Happening, frozen=True):
    """The evidence was looked at.

    Attributes:
        evidence_s: seconds of evidence since the weights are as they are; cumulative: a look that is lost changes
            nothing.
        degraded: why evidence is missing now; empty if it is not.
        digest: of the evidence that the verdict follows from.
        segment: the one that `evidence_s` is of; of another than the rollout's it proves harm, and nothing else. -1:
            the rollout's.
    """

    verdict: Verdict
    evidence_s: float
    degraded: str = ""
    digest: str = ""
    segment: int = -1


class FuseBlew(Happening, frozen=True):
    """The data plane has turned an arm off by itself, in traffic of this generation."""

    arm: str
    generation: int
    reason: str


class Replaced(Happening, frozen=True):
    """A newer rollout of its service takes its place."""

    by: str


Event = (
    Begun | Admitted | Staged | Failed | Applied | Looked | FuseBlew | Replaced
    | Pause | Resume | Advance | Promote | Abort | Extend | Approve
)  # fmt: skip
"""All that can happen."""


def to_payload(event: Event | Command) -> dict[str, Any]:
    """An event as JSON. That has no infinity, which becomes the largest number, and no NaN, which becomes 0."""
    plain: dict[str, Any] = _finite(msgspec.to_builtins(event))
    return plain


def from_payload(payload: Mapping[str, Any]) -> Event:
    """What `to_payload` made."""
    event: Event = msgspec.convert(payload, Event)
    return event


def _finite(value: Any) -> Any:  # noqa: ANN401 - plain data
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return 0.0 if math.isnan(value) else math.copysign(sys.float_info.max, value)
    return value
