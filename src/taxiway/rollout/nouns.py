"""What a rollout is made of: its phases, its state, the evidence that was gathered, the verdicts that follow from it.

Plain data, which JSON holds and gives back bit for bit; what happens to it is in machine.py and analysis.py.
"""

from __future__ import annotations

import enum
from typing import Any

from msgspec import Struct, field

CONTROL, BASELINE, CANDIDATE = "control", "baseline", "candidate"
"""Names of arms: the version served now; its twin, of the candidate's size; the version that is tried."""


class Phase(enum.Enum):
    """Where a rollout is. Time goes down the list, but for the exits, which any of the others may take."""

    QUEUED = "queued"
    ADMIT = "admit"
    STAGE = "stage"
    SHADOW = "shadow"
    STEP = "step"
    PROMOTE = "promote"
    GUARD = "guard"
    DRAIN = "drain"
    SUCCEEDED = "succeeded"
    ROLLING_BACK = "rolling-back"
    ROLLED_BACK = "rolled-back"
    SUPERSEDED = "superseded"
    FAILED_INFRA = "failed-infra"


TERMINAL = frozenset({Phase.SUCCEEDED, Phase.ROLLED_BACK, Phase.SUPERSEDED, Phase.FAILED_INFRA})
"""Phases that nothing leaves."""


class Candidate(Struct, frozen=True):
    """A version that is tried, as one arm.

    Attributes:
        arm: its name.
        version: its number.
        digest: of its manifest; what was rolled back is known by it. Empty for one that no registry knows.
        path: where it was laid out; empty for one that the server was told to serve.
        percent: its fixed share in an A/B/n test; 0 where steps give it.
    """

    arm: str
    version: int
    digest: str = ""
    path: str = ""
    percent: float = 0.0
    trusted: tuple[str, ...] = ()


class Pause(Struct, frozen=True):
    """Why nothing moves."""

    by: str
    reason: str
    at_ns: int


class Rollout(Struct, frozen=True):
    """One rollout at one moment. Times are UTC nanoseconds.

    Attributes:
        generation: grows by one with every transition; commands and the data plane are fenced by it.
        plan: as `config.rollout_plan.RolloutPlan` dumps it, every default filled in.
        baseline: the version that was served when it began, and that is gone back to.
        baseline_key: what answers for it (core.traffic.Arm.key).
        baseline_path: where it was laid out, if it has to be loaded again to go back.
        step: index into the plan's steps; -1 before the first.
        segment: grows with every change of weights; evidence is kept by segment.
        evidence_s: seconds of evidence in this step: time for which nothing came does not count.
        approval: what a person is asked; empty if nothing is.
        degraded: why evidence is missing; empty if it is not. Nothing moves forward then.
        reason: one sentence about how it came to where it is.
        quarantined: whether its candidate's digest may not be tried again without `force`.
        acknowledged: generations of fuses that were seen.
        winner: the arm that answers alone in the end; empty: the version that served before.
        dropped: arms of an A/B/n test that were turned off.
        by_hand: a person decided that everything goes to the winner: verdicts do not take it back, fuses do.
        baseline_shared: what answers for the baseline serves other versions too, so that it is never released.
        forced: why a version that was turned back before is tried again; empty if none is.
        outcomes: of an A/B/n test: what was decided of each arm (`Outcome`'s values).
        best: of an A/B/n test that was decided: the arm that did best; empty: none.
        overdue: its deadline passed, and it stays as it is until a person says more.
        exposure_s: seconds of evidence before this segment, times the candidates' share: what has been risked.
    """

    id: str
    service: str
    generation: int
    phase: Phase
    plan: dict[str, Any]
    plan_digest: str
    baseline: int
    baseline_key: str
    candidates: tuple[Candidate, ...]
    created_by: str
    created_at_ns: int
    phase_since_ns: int
    reason: str
    step: int = -1
    segment: int = 0
    evidence_s: float = 0.0
    step_since_ns: int = 0
    deadline_ns: int = 0
    paused: Pause | None = None
    approval: str = ""
    degraded: str = ""
    quarantined: bool = False
    acknowledged: int = 0
    supersedes: str = ""
    winner: str = ""
    dropped: tuple[str, ...] = ()
    by_hand: bool = False
    baseline_path: str = ""
    baseline_shared: bool = False
    forced: str = ""
    outcomes: dict[str, str] = {}
    best: str = ""
    overdue: bool = False
    exposure_s: float = 0.0


class Moments(Struct):
    """Of one arm's cost: sums over slots, each slot one observation."""

    n: int = 0
    total: float = 0.0
    squares: float = 0.0


class Tally(Struct):
    """What is known of one arm in one segment, all processes together; the words of core.traffic.ArmCounts.

    Attributes:
        latency: pairs of bucket and count.
        slots, slow_slots: (process, 5 s) pairs in which it answered something; those in which it was slow (slots.py).
        cost: of slots, the logarithm of the time in the model for a row over that of the arm compared with.
    """

    assigned: int = 0
    answered: int = 0
    failed: int = 0
    timed_out: int = 0
    refused: int = 0
    rejected: int = 0
    cancelled: int = 0
    checked: int = 0
    invalid: int = 0
    latency: list[tuple[int, int]] = field(default_factory=list)
    slots: int = 0
    slow_slots: int = 0
    cost: Moments = field(default_factory=Moments)


class Segment(Struct):
    """A time of constant weights.

    Attributes:
        number: of the segment.
        weights: by arm, shares of all requests that are split.
        tallies: by arm.
        evidence_s: seconds in which all arms that had a share answered.
        missing: what was not counted, and why; empty if nothing was left out.
    """

    number: int
    weights: dict[str, float]
    tallies: dict[str, Tally]
    evidence_s: float = 0.0
    missing: str = ""


class Score(Struct, frozen=True):
    """The quality of an answer, or of several that are alike: their order does not matter.

    Attributes:
        source: `feedback`, `judge`, or `shadow`: then `score` and `other` are of one pair.
        weight: share of requests that the arm had when it answered.
        score, other: 0 to 1, to a thousandth; of a shadow's pair, the candidate's agreement with the baseline, and 1.
        segment: in which it was answered; -1: that is not known.
        count: how many answers.
    """

    arm: str
    source: str
    weight: float
    score: float
    other: float | None = None
    segment: int = -1
    count: int = 1


class Calls(Struct):
    """Of functions that score answers.

    Attributes:
        failed: those of `made` that gave no score because something was wrong.
        why: the last one did.
    """

    made: int = 0
    failed: int = 0
    why: str = ""


class Evidence(Struct):
    """All that a verdict follows from; a verdict of the same evidence and plan is the same, bit for bit.

    Attributes:
        segments: in the order of their numbers.
    """

    segments: list[Segment] = field(default_factory=list)
    scores: list[Score] = field(default_factory=list)


class Outcome(enum.Enum):
    """Four values: only `pass` lets a rollout go on, only `fail` turns it back."""

    PASS = "pass"  # noqa: S105 - a verdict
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    ERROR = "error"


class GuardVerdict(Struct, frozen=True):
    """What one guard says of one arm, and why.

    Attributes:
        effect: the estimate: a ratio to the baseline (1.2: a fifth more), or a difference of scores; None: unknown.
        low, high: its anytime-valid interval, at the guard's own alpha.
        log_e_harm, log_e_safe: evidence, as logarithms, that it is worse, and that it is not worse by the margin.
        harm_at, safe_at: what they have to reach.
        candidate, baseline: events on each side that it rests on.
        more_events: about how many more bad events decide it, at the present ratio; None: nobody can tell.
        more_s: the same in seconds, at the present rate.
        sentence: all that for a person.
    """

    arm: str
    metric: str
    outcome: Outcome
    effect: float | None
    low: float | None
    high: float | None
    log_e_harm: float
    log_e_safe: float
    harm_at: float
    safe_at: float
    candidate: int
    baseline: int
    more_events: int | None
    more_s: float | None
    required: bool
    sentence: str


class Verdict(Struct, frozen=True):
    """What the evidence says of a rollout.

    Attributes:
        outcome: fail if any guard fails; pass if all that are required pass; error if the evidence contradicts itself.
        arms: the outcome by arm, for A/B/n tests.
        mismatch: why the split itself is not to be believed (sample ratio); empty if it is.
        bad_requests: of the candidate, the exposure so far.
        excess: bad requests beyond those that the baseline would have had in its place, which is what the exposure
            budget is spent by; None: unknown, and every bad request counts, but turns nothing back.
    """

    outcome: Outcome
    arms: dict[str, Outcome]
    guards: tuple[GuardVerdict, ...]
    mismatch: str
    bad_requests: int
    sentence: str
    excess: float | None = None
