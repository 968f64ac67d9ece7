"""What happens to a rollout, in the past tense; with the commands of commands.py all that machine.py can be told.

Whoever watches says again, at each look, what is still so (`Staged`, `WeightsApplied`, `Drained`, and what the evidence
says): what is no news changes nothing, and what was said while nothing may move is not lost.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from taxiway.rollout.commands import (
    Abort,
    Advance,
    Approve,
    Command,
    Extend,
    Pause,
    Promote,
    Resume,
    Start,
    Undo,
)
from taxiway.rollout.nouns import Candidate, Verdict


class _Event(Struct, frozen=True, tag_field="verb", forbid_unknown_fields=True):
    """Tagged as commands are, so that a journal's payload says which it was."""


class Started(_Event, frozen=True, tag="started"):
    """Somebody began a rollout, and nothing forbids it: the first event of each.

    Attributes:
        queued: another one goes on, and this one waits for it.
        plan, plan_digest and the rest: as `Rollout` has them.
    """

    id: str
    service: str
    plan: dict[str, Any]
    plan_digest: str
    baseline: int
    baseline_key: str
    candidates: tuple[Candidate, ...]
    actor: str
    reason: str = ""
    forced: str = ""
    queued: bool = False
    by_hand: bool = False
    supersedes: str = ""
    baseline_path: str = ""
    baseline_shared: bool = False


class Dequeued(_Event, frozen=True, tag="dequeued"):
    """What it waited for is over. What is served may be another version by now, so that the plan was made anew."""

    plan_digest: str
    baseline: int
    baseline_key: str
    candidates: tuple[Candidate, ...]
    baseline_path: str = ""
    baseline_shared: bool = False


class Admitted(_Event, frozen=True, tag="admitted"):
    """Its candidates may be loaded: they fit the service, and there is room."""


class AdmissionRefused(_Event, frozen=True, tag="admission-refused"):
    """They may not, which is theirs and nobody else's fault.

    Attributes:
        reason: a sentence.
    """

    reason: str


class Staged(_Event, frozen=True, tag="staged"):
    """All of `desired_companions` are loaded and warm in every process."""


class StagingFailed(_Event, frozen=True, tag="staging-failed"):
    """A version could not be loaded, or exchanged for another.

    Attributes:
        reason: a sentence.
        blame: whether the candidate is to blame (it is no model, its first answers were wrong), and not memory, disk,
            network or a process that died.
    """

    reason: str
    blame: bool = False


class WeightsApplied(_Event, frozen=True, tag="weights-applied"):
    """Every process splits requests as `desired_traffic` of this generation says.

    Attributes:
        generation: of the traffic that was set.
    """

    generation: int


class EvidenceLooked(_Event, frozen=True, tag="evidence-looked"):
    """Somebody looked at the evidence.

    Attributes:
        verdict: of all evidence so far; in SHADOW, of those guards that copies can tell of.
        segment: the one that `evidence_s` is of. Of another than the rollout's it proves harm, and nothing else.
        evidence_s: seconds of evidence in this segment so far, without settling and without gaps. Cumulative, so that
            a look which is lost changes nothing.
        digest: of the evidence.
        pairs: of answers that were compared, so far.
        degraded: why evidence is missing (a process does not report, a clock jumped, nothing came); empty if none is.
    """

    verdict: Verdict
    segment: int
    evidence_s: float
    digest: str
    pairs: int = 0
    degraded: str = ""


class FuseBlew(_Event, frozen=True, tag="fuse-blew"):
    """The data plane sent an arm's weight to zero by itself.

    Attributes:
        generation: of the traffic in which it did.
        digest: of the evidence at that time; empty: nobody had any.
    """

    arm: str
    reason: str
    generation: int
    digest: str = ""


class BaselineLost(_Event, frozen=True, tag="baseline-lost"):
    """What the candidate is compared with, or would go back to, is not ready. The next good look ends that."""

    reason: str


class Drained(_Event, frozen=True, tag="drained"):
    """Who gets nothing any more has answered what it took."""


class TimePassed(_Event, frozen=True, tag="time-passed"):
    """It is later now.

    Attributes:
        digest: of the last evidence; empty: there is none.
    """

    digest: str = ""


class Superseded(_Event, frozen=True, tag="superseded"):
    """A newer rollout of the service takes its place.

    Attributes:
        by: the newer one's id.
        actor: who began that.
    """

    by: str
    actor: str


Event = (
    Started
    | Dequeued
    | Admitted
    | AdmissionRefused
    | Staged
    | StagingFailed
    | WeightsApplied
    | EvidenceLooked
    | FuseBlew
    | BaselineLost
    | Drained
    | TimePassed
    | Superseded
    | Start
    | Pause
    | Resume
    | Advance
    | Promote
    | Abort
    | Undo
    | Extend
    | Approve
)


def to_payload(event: Event | Command) -> dict[str, Any]:
    """An event as JSON. That has no infinity, which becomes the largest number, and no NaN, which becomes 0."""
    plain: dict[str, Any] = _finite(msgspec.to_builtins(event))
    return plain


def _finite(value: Any) -> Any:  # noqa: ANN401 - plain data
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return 0.0 if math.isnan(value) else math.copysign(sys.float_info.max, value)
    return value


def from_payload(payload: Mapping[str, Any]) -> Event:
    """What `to_payload` made."""
    event: Event = msgspec.convert(payload, Event)
    return event
