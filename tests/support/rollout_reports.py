"""A data plane that counts as the real one does, in virtual time: what its processes would report of one rollout."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from taxiway.config.rollout_plan import RolloutPlan
from taxiway.core.traffic import ArmCounts, ArmState, Report
from taxiway.rollout.analysis import judge
from taxiway.rollout.evidence import Gathered, Rules, evidence_of, gather
from taxiway.rollout.nouns import BASELINE, CANDIDATE, CONTROL, Outcome, Verdict
from taxiway.stats.log_buckets import bucket_of

NOW_NS = 1_790_000_000_000_000_000
S_NS = 1_000_000_000
SPLIT = {CANDIDATE: 0.1, BASELINE: 0.1, CONTROL: 0.8}


@dataclass
class Behaviour:
    """How the version of an arm answers.

    Attributes:
        failing: the share of requests that fail.
        typical_ms: the median of its latencies, which spread over a factor of about two.
        row_ms: time in the model for a row.
    """

    failing: float = 0.0
    typical_ms: float = 20.0
    row_ms: float = 5.0


@dataclass
class Process:
    """One data-plane process since it started."""

    boot: str
    pid: int
    counts: dict[tuple[str, int], ArmCounts] = field(default_factory=dict)
    latency: dict[tuple[str, int], dict[int, int]] = field(default_factory=dict)

    def of(self, arm: str, segment: int) -> ArmCounts:
        return self.counts.setdefault((arm, segment), ArmCounts(arm, segment))


class Plane:
    """Processes that share the requests of one service evenly.

    Args:
        processes: how many.
        weights: of the arms.
        rate: requests a second in all.
    """

    def __init__(
        self, processes: int = 2, weights: Mapping[str, float] | None = None, rate: float = 200.0, seed: int = 1
    ) -> None:
        self.weights = dict(weights or SPLIT)
        self.rate = rate
        self.arms: dict[str, Behaviour] = {arm: Behaviour() for arm in self.weights}
        self.processes = [Process(f"boot-{number}", 100 + number) for number in range(processes)]
        self.segment, self.generation = 1, 5
        self.now_ns = NOW_NS
        self._chance = random.Random(seed)  # noqa: S311 - a simulation

    def shift(self, weights: Mapping[str, float]) -> None:
        """Other weights, in a segment of their own."""
        self.weights = dict(weights)
        self.segment, self.generation = self.segment + 1, self.generation + 1

    def start(self, boot: str) -> None:
        """One more process, which counts from zero."""
        self.processes.append(Process(boot, 100 + len(self.processes)))

    def serve(self, seconds: float = 1.0) -> None:
        """Answer requests for so long."""
        self.now_ns += round(seconds * S_NS)
        names, shares = list(self.weights), list(self.weights.values())
        for arm in self._chance.choices(names, shares, k=round(self.rate * seconds)):
            process = self._chance.choice(self.processes)
            latency = process.latency.setdefault((arm, self.segment), {})
            self._one(process.of(arm, self.segment), latency, self.arms[arm])

    def wait(self, seconds: float) -> None:
        """Nobody asks anything for so long."""
        self.now_ns += round(seconds * S_NS)

    def _one(self, counts: ArmCounts, latency: dict[int, int], how: Behaviour) -> None:
        counts.assigned += 1
        counts.last_ns = self.now_ns
        counts.inferred += 1
        counts.infer_ns += round(how.row_ms * 1e6 * self._chance.lognormvariate(0.0, 0.1))
        if self._chance.random() < how.failing:
            counts.failed += 1
            return
        counts.answered += 1
        bucket = bucket_of(how.typical_ms * 1e6 * self._chance.lognormvariate(0.0, 0.3))
        latency[bucket] = latency.get(bucket, 0) + 1

    def reports(self) -> list[Report]:
        """What its processes say now; later requests do not change it."""
        return [
            Report(
                one.boot,
                one.pid,
                "pay",
                "r-1",
                self.generation,
                [
                    msgspec.structs.replace(counts, latency=sorted(one.latency[key].items()))
                    for key, counts in one.counts.items()
                ],
                [ArmState(arm, ready=True, in_flight=0) for arm in self.weights],
                [],
                [],
            )
            for one in self.processes
        ]

    def rules(self, settle_s: float = 5.0) -> Rules:
        """As the controller makes them of the rollout."""
        answering = tuple(arm for arm, weight in self.weights.items() if weight > 0)
        baseline = BASELINE if self.weights.get(BASELINE) else CONTROL
        return Rules("r-1", self.generation, self.segment, self.weights, baseline, answering, settle_s)


@dataclass
class Look:
    """What came of one look at the evidence."""

    verdict: Verdict
    evidence_s: float
    degraded: str

    def goes_on(self, least_s: float) -> bool:
        """Whether the machine would take the next step."""
        passed = self.verdict.outcome is Outcome.PASS and not self.verdict.mismatch
        return passed and not self.degraded and self.evidence_s >= least_s


class Watcher:
    """Looks at a plane as the controller does; every so often its state goes through JSON, as at a restart."""

    def __init__(self, **plan: object) -> None:
        self.plan = RolloutPlan.model_validate({"to": "7", **plan}).model_dump(mode="json")
        self.gathered = Gathered()
        self.looks = 0

    def take(self, reports: list[Report], rules: Rules, now_ns: int) -> str:
        """Gather, without judging."""
        degraded = gather(self.gathered, reports, rules, now_ns)
        self.looks += 1
        if self.looks % 7 == 0:
            self.gathered = msgspec.json.decode(msgspec.json.encode(self.gathered), type=Gathered)
        return degraded

    def look(self, plane: Plane, reports: list[Report] | None = None, now_ns: int = 0) -> Look:
        """Gather and judge."""
        told = plane.reports() if reports is None else reports
        degraded = self.take(told, plane.rules(self.plan["settle_s"]), now_ns or plane.now_ns)
        return Look(self.judge(), self.gathered.evidence_s, degraded)

    def judge(self) -> Verdict:
        """What the evidence says now."""
        return judge(evidence_of(self.gathered), self.plan, [CANDIDATE])
