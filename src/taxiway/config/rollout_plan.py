"""What a rollout is to do, as a manifest's `rollouts:` block, the command line and the HTTP API say it.

Typed and checked, every problem at once; `taxiway.rollout.plan` makes what is followed of it.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from taxiway.config.sections import Count, FileName, Section, broken_rule

Percent = Annotated[float, Field(ge=0, le=100)]
Share = Annotated[float, Field(gt=0, lt=1)]
Margin = Annotated[float, Field(ge=0, le=10)]
DurationS = Annotated[float, Field(ge=0, le=90 * 86400)]
ArmName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,31}$")]
Header = Annotated[str, Field(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}$")]

Strategy = Literal["canary", "ab", "shadow", "blue-green", "rolling"]
MetricName = Literal[
    "errors", "timeouts", "refusals", "invalid-output", "slow-slots", "latency", "cost", "quality", "agreement"
]


class GuardSettings(Section):
    """One guard: what is compared between the arms, and how much worse the candidate may be."""

    metric: MetricName
    """What is counted."""

    margin: Margin = 0.0
    """How much worse is still well: as a share of the baseline's (0.1: a tenth more errors, or time); of quality and
    agreement as a difference of scores from 0 to 1."""

    allowance: Annotated[float, Field(ge=0, lt=1)] = 0.002
    """Of metrics that count bad events: that the next step would cost at most so many more of them, as a share of all
    requests of the service, is well too, whatever the margin. Without it a service that hardly ever fails could never
    show that its candidate is no worse. 0: none."""

    quantile: Annotated[float, Field(gt=0, lt=1)] = 0.99
    """Of `latency`: which quantile is compared. Of `slow-slots`: what is slow, by the baseline's last minute."""

    required: bool = True
    """Whether the rollout goes on only once this guard has passed; if not, it can only stop it."""

    weight: Annotated[float, Field(gt=0, le=100)] = 1.0
    """Its share of guards.alpha, among the others."""

    exploratory: bool = False
    """Whether it is only shown: it neither stops a rollout nor lets it go on."""


DEFAULT_GUARDS = (
    GuardSettings(metric="errors", margin=0.1),
    GuardSettings(metric="timeouts", margin=0.1, required=False),
    GuardSettings(metric="refusals", margin=0.1, required=False),
    GuardSettings(metric="invalid-output", margin=0.0, required=False),
    GuardSettings(metric="slow-slots", margin=0.1, quantile=0.9, required=False),
    GuardSettings(metric="latency", margin=0.1, quantile=0.5),
)


class GuardsSettings(Section):
    """When a candidate is worse, and when it is known not to be."""

    alpha: Share = 0.05
    """How likely a candidate that is no worse may be rolled back, over all guards together and however often they are
    looked at."""

    beta: Share = 0.05
    """How likely a candidate that is worse than a guard's margin may pass that guard."""

    metrics: tuple[GuardSettings, ...] = DEFAULT_GUARDS
    """The guards. Metrics that are not named are not looked at."""

    min_requests: Count = 100
    """Requests that the candidate must have answered in all before anything passes."""

    @field_validator("metrics")
    @classmethod
    def _each_once(cls, value: tuple[GuardSettings, ...]) -> tuple[GuardSettings, ...]:
        seen = [(guard.metric, guard.quantile if guard.metric == "latency" else None) for guard in value]
        twice = {metric for metric in seen if seen.count(metric) > 1}
        if twice:
            raise broken_rule("", f"names {min(twice)[0]} twice; a metric is guarded once (latency once per quantile)")
        return value


class ShadowSettings(Section):
    """Copies of requests for the candidate, before it answers anybody."""

    percent: Annotated[float, Field(gt=0, le=100)] = 20.0
    """Of the requests that are copied."""

    pairs: Count = 500
    """Pairs of answers to compare before the next step."""

    compare: Literal["auto", "numeric", "labels", "boxes", "embeddings", "text"] = "auto"
    """How two answers are compared. auto: as boxes if an output is called so, else numbers within `tolerance`, texts
    and labels for equality. labels: the best of each row's scores. boxes: of detectors, by class and overlap, and
    nothing else of the answer. embeddings: by the cosine of rows. text: by words, whatever their spaces and case."""

    tolerance: Annotated[float, Field(ge=0, le=1)] = 1e-3
    """Of `numeric`: relative, and absolute below 1."""

    top_k: Annotated[int, Field(ge=1, le=1000)] = 1
    """Of `labels`: how many of the best are compared."""


class QualitySettings(Section):
    """Where the scores of the guard `quality` come from."""

    metric: Annotated[str, Field(max_length=256)] = "rating"
    """`rating`: the feedback is the score, 0 to 1. `match`: 1 if the feedback's label is the answer's. Else a Python
    function as FILE.py:NAME, which takes an answer and the feedback for it and gives a score from 0 to 1."""

    judge: Annotated[str, Field(max_length=256)] = ""
    """A Python function as FILE.py:NAME that scores answers by itself, without feedback; empty: none."""

    judged_percent: Percent = 5.0
    """Of answers that are sent to the judge."""

    wait_s: DurationS = 7 * 86400
    """How long after its answer a label may come."""


class ArmSettings(Section):
    """One arm of an A/B/n test, beside the version that is served now."""

    name: ArmName
    """How it is called in reports."""

    to: Annotated[str, Field(max_length=256)]
    """Its version: a number, or an alias."""

    percent: Annotated[float, Field(gt=0, lt=100)]
    """Its share of the requests."""


class RouteSettings(Section):
    """Requests that are sent to an arm whatever its weight, as of testers; they are no evidence."""

    header: Header
    """The header that they bring."""

    value: Annotated[str, Field(min_length=1, max_length=256)]
    """What it says."""

    arm: ArmName = "candidate"
    """Who answers them."""


class RolloutPlan(Section):
    """How one service gets from one version to another."""

    to: Annotated[str, Field(max_length=256)] = ""
    """The candidate: a version's number, or an alias. Arms of an A/B/n test stand in `arms` instead."""

    strategy: Strategy = "canary"
    """canary: by steps, while the guards allow it. ab: at fixed shares until it is decided or `max_duration_s` is over.
    shadow: copies only. blue-green: in one step, the old version kept loaded. rolling: replica by replica, a replica
    being a data-plane process (`workers`); with one of them, as canary."""

    steps: Annotated[tuple[Percent, ...], Field(min_length=1, max_length=50)] = (1, 5, 10, 25, 50, 100)
    """Shares of the candidate, ascending, ending with 100."""

    arms: tuple[ArmSettings, ...] = ()
    """Of an A/B/n test."""

    min_step_s: DurationS = 120.0
    """How long a step lasts at least, in time for which there is evidence."""

    settle_s: DurationS = 5.0
    """What is left out of the evidence after each change of weights."""

    max_duration_s: Annotated[DurationS, Field(gt=0)] = 7200.0
    """When it is to be decided at the latest; see `on_inconclusive`."""

    guard_for_s: DurationS = 1800.0
    """How long the old version stays loaded after the last step, for an instant rollback."""

    on_inconclusive: Literal["hold", "rollback", "approve"] = "hold"
    """What to do when `max_duration_s` is over and the guards have not decided: stay, go back, or ask a person."""

    on_superseded: Literal["reject", "queue", "replace"] = "reject"
    """What a newer rollout of the same service does while this one goes on: it is refused, waits, or replaces it."""

    twin: bool = True
    """Whether the candidate is compared with a second copy of the old version, of its own size and age, instead of the
    one that has served for long and is loaded more."""

    exclusive: bool = False
    """Both versions do not fit into memory: requests are held while one leaves and the other is loaded."""

    max_hold_s: Annotated[float, Field(gt=0, le=3600)] = 60.0
    """How long a request is held by an exclusive swap."""

    max_held: Count = 1000
    """Requests held at once by an exclusive swap; more are refused."""

    max_bad_requests: Annotated[int, Field(ge=1, le=1 << 40)] = 200
    """The exposure budget: bad requests that the candidate may cost, beyond those that the old version would have had
    of as many; then it gets no more."""

    guards: GuardsSettings = Field(default_factory=GuardsSettings)
    """What decides."""

    shadow: ShadowSettings | None = None
    """Whether it begins with copies of requests, and how many."""

    quality: QualitySettings = Field(default_factory=QualitySettings)
    """Where scores come from."""

    units: Annotated[tuple[Annotated[str, Field(max_length=80)], ...], Field(min_length=1, max_length=8)] = (
        "header:x-unit-id",
        "api-key",
        "request-id",
    )
    """On whose behalf a request comes, so that the same version answers again: the first of `header:NAME`,
    `cookie:NAME`, `api-key`, `request-id` that it has. `replica`, alone: each data-plane process answers by one
    version, and shares are of processes; strategy rolling says that by itself."""

    routes: Annotated[tuple[RouteSettings, ...], Field(max_length=32)] = ()
    """Requests that are sent to an arm whatever its weight."""

    alias: Annotated[str, Field(max_length=128)] = "stable"
    """The registry's alias that names what is served; moved when the rollout has succeeded. Empty: none."""

    @field_validator("steps")
    @classmethod
    def _ascending(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if list(value) != sorted(set(value)) or value[0] <= 0 or value[-1] != 100:
            raise broken_rule("", "must ascend from above 0 to 100, as [1, 5, 10, 25, 50, 100]")
        return value

    @field_validator("units")
    @classmethod
    def _known_units(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for unit in value:
            kind, _, name = unit.partition(":")
            if kind in ("header", "cookie") and name.strip():
                continue
            if unit == "replica" and len(value) > 1:
                raise broken_rule("", "has replica beside others; it must stand alone: every request has one")
            if unit not in ("api-key", "request-id", "replica"):
                rule = f"has {unit!r}; a unit is header:NAME, cookie:NAME, api-key or request-id, or replica alone"
                raise broken_rule("", rule)
        return value

    @model_validator(mode="after")
    def _strategy_fits(self) -> RolloutPlan:
        if self.arms and self.strategy != "ab":
            raise broken_rule("arms", f"are for strategy ab, not {self.strategy}")
        if self.arms and self.to:
            raise broken_rule("to", "must not be given beside arms: each arm has its own")
        names = [arm.name for arm in self.arms]
        if len(set(names)) < len(names) or set(names) & {"control", "baseline", "candidate"}:
            raise broken_rule("arms", "need names of their own, other than control, baseline and candidate")
        if sum(arm.percent for arm in self.arms) >= 100:
            raise broken_rule("arms", "must leave a share for the version that is served now: less than 100 in all")
        by_function = self.quality.judge or self.quality.metric not in ("rating", "match")
        if by_function and all(guard.metric != "quality" for guard in self.guards.metrics):
            raise broken_rule(
                "quality", "names a function, and no guard in guards.metrics is quality, which would use it"
            )
        if self.exclusive and self.strategy != "blue-green":
            rule = f"fits blue-green only: {self.strategy} needs both versions in memory at the same time"
            raise broken_rule("exclusive", rule)
        return self


class ControlSettings(Section):
    """The control process: rollouts, their HTTP API, and the judge."""

    enabled: bool = True
    """Whether it runs beside the data plane."""

    host: Annotated[str, Field(min_length=1, max_length=255)] = "127.0.0.1"
    """Address to listen on. Beyond loopback it needs `auth.keys_file`, `tls.client_ca` or `insecure: true`."""

    port: Annotated[int, Field(ge=0, le=65535)] = 8003
    """TCP port of the API; 0 lets the system choose one, which is printed."""

    allowed_hosts: tuple[Annotated[str, Field(max_length=255)], ...] = ()
    """Names by which callers may reach it, beside its address and localhost: a page elsewhere must not use a browser
    to reach it (DNS rebinding)."""

    journal: Annotated[str, Field(max_length=2048)] = ""
    """The rollouts' database: `sqlite:///PATH` or `postgresql://USER@HOST/DATABASE`; empty: `rollouts.db` beside the
    registry's SQLite file, or in `taxiway` in XDG_DATA_HOME."""

    standby: bool = True
    """Whether another one waits for its end, and takes its place within a tenth of a second; about 50 MB of memory."""

    look_every_s: Annotated[float, Field(ge=0.1, le=60)] = 1.0
    """How often the evidence is looked at."""

    python: FileName = ""
    """Directory of the Python files that judge quality; empty: the one that the server was started in. Whoever may
    start a rollout may have any function of a file below it run."""

    python_timeout_s: Annotated[float, Field(gt=0, le=3600)] = 30.0
    """How long one call of such a function may take; then its process is ended, and started again."""

    python_memory_bytes: Annotated[int, Field(ge=64 << 20)] = 4 << 30
    """Address space of such a process."""
