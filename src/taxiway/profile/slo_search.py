"""The highest rate at which a target keeps its SLO, found with few and short runs. Pure: it asks, and is told.

The SLO is a quantile of the latency: "the p99 is at most 50 ms" is "at most 1 % of requests take longer". So each run
counts requests beyond the limit, and a rate is judged by the exact interval of that share (Clopper and Pearson 1934). A
rate is measured in stages, each as long as all before it, and left as soon as the interval lies on one side: a group
sequential test, its error divided among the looks (Bonferroni). Far from the answer that takes an eighth of a full run.

Rates are doubled at a glance, one short stage each, until one looks lost. From there they are judged: halved or doubled
until one keeps the SLO and one does not, and then bisected. Latency grows with the rate,
which is what makes that right; a hiccup of the machine does not, so the lost end is measured once more at the end, and
the search goes on upwards if it keeps the SLO after all.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from scipy.special import betaincinv

from taxiway.core.errors import InvalidArgument
from taxiway.profile.slo_fit import Point, crossing, independent

_FIRST: Final = 1 / 8
"""Of a full run: then again an eighth, a quarter, a half."""
_STRIDE: Final = 2.0
_MAX_REOPENED: Final = 3
_NEAR: Final = 1.25
"""Rates within this factor of the answer help to say where it is."""


@dataclass(frozen=True, slots=True)
class SloPlan:
    """What is sought.

    Attributes:
        start_rate_per_s: where to begin; anything within a factor of thirty is as good.
        run_s: seconds that one rate is measured at most.
        quantile: of the latency that the SLO is about.
        resolution: how far apart, relatively, the rate that keeps it and the one that does not may be in the end.
        least_per_s, most_per_s: rates beyond are not tried.
        confidence: of one rate's judgement.
        first_s: seconds of the shortest stage, where beginning one costs time.
        confirms: whether the rate that lost is measured once more at the end.

    Raises:
        InvalidArgument: a value breaks a rule.
    """

    start_rate_per_s: float
    run_s: float
    quantile: float = 0.99
    resolution: float = 0.05
    least_per_s: float = 0.01
    most_per_s: float = 1e6
    confidence: float = 0.95
    first_s: float = 0.0
    confirms: bool = True

    def __post_init__(self) -> None:
        rules = (
            ("run_s", self.run_s > 0, "above 0"),
            ("quantile", 0 < self.quantile < 1, "between 0 and 1"),
            ("resolution", 0.001 <= self.resolution <= 1, "within 0.001 and 1"),
            ("confidence", 0.5 <= self.confidence < 1, "at least 0.5 and below 1"),
            ("start_rate_per_s", 0 < self.least_per_s <= self.start_rate_per_s <= self.most_per_s, "within the bounds"),
        )
        for name, holds, rule in rules:
            if not holds:
                raise InvalidArgument(f"{name} is {getattr(self, name):g} and must be {rule}", hint="correct it")

    def stages_s(self) -> list[float]:
        """Seconds of each stage of one rate."""
        stages = [min(max(self.run_s * _FIRST, self.first_s), self.run_s)]
        while (left := self.run_s - sum(stages)) > 1e-9 * self.run_s:
            stages.append(left if left < 2 * sum(stages) else sum(stages))
        return stages


@dataclass(frozen=True, slots=True)
class Ask:
    """Measure this rate for these seconds that count; what was measured of it before is kept."""

    rate_per_s: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Sample:
    """What came of one stage.

    Attributes:
        requests: that were due.
        beyond: of these, that took longer than the limit, or failed.
        effective: how many independent requests they are worth: slow ones come together, and say less than they are.
        hopeless: the target did not keep up with the rate at all.
    """

    requests: int
    beyond: int
    effective: float
    hopeless: bool = False

    @classmethod
    def of(cls, latency: Sequence[float], limit: float, *, hopeless: bool = False) -> Sample:
        """Of latencies in the order of time, in the unit of `limit`; infinite where the request failed."""
        return cls(len(latency), sum(one > limit for one in latency), independent(latency, limit), hopeless)

    def plus(self, other: Sample) -> Sample:
        """Both together."""
        return Sample(
            self.requests + other.requests,
            self.beyond + other.beyond,
            self.effective + other.effective,
            self.hopeless or other.hopeless,
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """What one rate was judged to be.

    Attributes:
        kept: whether it keeps the SLO; None: too close to say.
        share: of requests beyond the limit.
        low, high: where that share lies.
        effective: independent requests that this is known from.
        seconds: that it took.
        cut: whether it was clear before the whole time was up.
    """

    rate_per_s: float
    kept: bool | None
    share: float
    low: float
    high: float
    effective: float
    seconds: float
    cut: bool

    def leans(self, allowed: float) -> bool:
        """Kept, or more likely so where it is too close to say."""
        return self.share <= allowed if self.kept is None else self.kept


@dataclass(frozen=True, slots=True)
class Found:
    """How the search ended.

    Attributes:
        rate_per_s: where the SLO is just kept, by all that was measured nearby; None: not even the least rate keeps it.
        kept_per_s: the highest rate that was measured and kept it, or more likely so.
        lost_per_s: the lowest that does not, or more likely so; None: even the most keeps it.
        answers: of every rate, in the order they were asked.
    """

    rate_per_s: float | None
    kept_per_s: float | None
    lost_per_s: float | None
    answers: tuple[Answer, ...] = field(default=())

    @property
    def seconds(self) -> float:
        """That were measured altogether."""
        return sum(answer.seconds for answer in self.answers)

    @property
    def unproven(self) -> tuple[float, ...]:
        """Which of `kept_per_s` and `lost_per_s` were too close to say, however often they were measured."""
        shown = {(answer.rate_per_s, answer.kept) for answer in self.answers}
        ends = ((self.kept_per_s, True), (self.lost_per_s, False))
        return tuple(rate for rate, kept in ends if rate is not None and (rate, kept) not in shown)


Steps = Generator[Ask, Sample, Found]


def search_rate(plan: SloPlan) -> Steps:
    """The search as a dialogue: it yields what to measure, is sent what came of it, and returns what it found."""
    search = _Search(plan)
    yield from search.bracket((yield from search.climb()))
    yield from search.bisect()
    for _ in range(_MAX_REOPENED):
        if not plan.confirms or search.lost is None or search.kept is None:
            break
        if not (yield from search.reopen()):
            break
        yield from search.bisect()
    return Found(search.estimate(), search.kept, search.lost, tuple(search.answers))


def run_search(plan: SloPlan, measure: Callable[[Ask], Sample]) -> Found:
    """Have a function measure."""
    steps = search_rate(plan)
    try:
        ask = next(steps)
        while True:
            ask = steps.send(measure(ask))
    except StopIteration as end:
        found: Found = end.value
        return found


async def run_search_async(plan: SloPlan, measure: Callable[[Ask], Awaitable[Sample]]) -> Found:
    """Have a coroutine measure."""
    steps = search_rate(plan)
    try:
        ask = next(steps)
        while True:
            ask = steps.send(await measure(ask))
    except StopIteration as end:
        found: Found = end.value
        return found


def judge(sample: Sample, allowed: float, confidence: float) -> tuple[bool | None, float, float]:
    """Whether the share beyond the limit is at most `allowed`, and where it lies with this confidence.

    Clopper and Pearson's interval, with as many requests as these are worth.
    """
    count = max(sample.effective, 1e-9)
    beyond = count * sample.beyond / max(sample.requests, 1)
    tail = (1 - confidence) / 2
    low = float(betaincinv(beyond, count - beyond + 1, tail)) if beyond > 0 else 0.0
    high = float(betaincinv(beyond + 1, count - beyond, 1 - tail)) if beyond < count else 1.0
    if sample.hopeless:
        return False, low, 1.0
    if high <= allowed:
        return True, low, high
    return (False if low > allowed else None), low, high


class _Search:
    """The bracket: `kept` keeps the SLO and `lost` does not, as far as is known."""

    def __init__(self, plan: SloPlan) -> None:
        self._plan = plan
        self._allowed = 1 - plan.quantile
        self.answers: list[Answer] = []
        self.kept: float | None = None
        self.lost: float | None = None

    def climb(self) -> Generator[Ask, Sample, float]:
        """Double until a glance looks lost; half of that, which is where to begin."""
        plan = self._plan
        rate, stage_s = plan.start_rate_per_s, plan.stages_s()[0]
        while rate < plan.most_per_s:
            sample = yield Ask(rate, stage_s)
            kept, low, high = judge(sample, self._allowed, plan.confidence)
            share = sample.beyond / max(sample.requests, 1)
            lost = False if kept is False else None  # that it is kept is not for a glance to say
            self.answers.append(Answer(rate, lost, share, low, high, sample.effective, stage_s, cut=True))
            if kept is False or share > self._allowed:
                break
            rate = min(rate * _STRIDE, plan.most_per_s)
        return max(rate / _STRIDE, plan.least_per_s)

    def bracket(self, rate: float) -> Generator[Ask, Sample, None]:
        """Double while it is kept, halve while it is not."""
        while self.kept is None or self.lost is None:
            kept = yield from self._try(rate)
            following = rate * _STRIDE if kept else rate / _STRIDE
            following = min(max(following, self._plan.least_per_s), self._plan.most_per_s)
            if following == rate:
                return
            rate = following

    def bisect(self) -> Generator[Ask, Sample, None]:
        """Halve the bracket, on a scale of ratios, until it is as narrow as is wanted."""
        while self.kept is not None and self.lost is not None and self.lost > self.kept * (1 + self._plan.resolution):
            yield from self._try(math.sqrt(self.kept * self.lost))

    def reopen(self) -> Generator[Ask, Sample, bool]:
        """Measure the lost end again; True if it was a hiccup: then the end is the next rate that was lost."""
        doubted = self.lost
        assert doubted is not None  # noqa: S101 - the caller's loop says so
        kept = yield from self._try(doubted)
        if not kept:
            return False
        above = [one.rate_per_s for one in self.answers if one.rate_per_s > doubted and not one.leans(self._allowed)]
        self.lost = min(above, default=None)
        if self.lost is None:
            yield from self._climb(doubted)
        return True

    def estimate(self) -> float | None:
        """Between the ends of the bracket, or a little beyond: they were judged with noise."""
        if self.kept is None or self.lost is None:
            return self.kept
        middle = math.sqrt(self.kept * self.lost)
        near = [
            Point(one.rate_per_s, one.share, one.effective)
            for one in self.answers
            if middle / _NEAR <= one.rate_per_s <= middle * _NEAR and one.effective > 0
        ]
        found = crossing(near, self._allowed, middle)
        beyond = 1 + self._plan.resolution
        return self.kept if found is None else min(max(found, self.kept / beyond), self.lost * beyond)

    def _climb(self, rate: float) -> Generator[Ask, Sample, None]:
        """Look for a lost end above, in strides that grow: it is most likely near."""
        stride = 1 + 2 * self._plan.resolution
        while self.lost is None and rate < self._plan.most_per_s:
            rate = min(rate * stride, self._plan.most_per_s)
            stride = min(stride**2, _STRIDE)
            yield from self._try(rate)

    def _try(self, rate: float) -> Generator[Ask, Sample, bool]:
        """Judge a rate, and move the bracket's end to it."""
        answer = yield from self._judge(rate)
        self.answers.append(answer)
        kept = answer.leans(self._allowed)
        if kept:
            self.kept = rate if self.kept is None else max(self.kept, rate)
        else:
            self.lost = rate if self.lost is None else min(self.lost, rate)
        return kept

    def _judge(self, rate: float) -> Generator[Ask, Sample, Answer]:
        """Stage after stage, until it is clear or the time is up."""
        stages_s = self._plan.stages_s()
        confidence = 1 - (1 - self._plan.confidence) / len(stages_s)
        whole, spent_s = Sample(0, 0, 0.0), 0.0
        answer: Answer | None = None
        for seconds in stages_s:
            whole = whole.plus((yield Ask(rate, seconds)))
            spent_s += seconds
            kept, low, high = judge(whole, self._allowed, confidence)
            share = whole.beyond / max(whole.requests, 1)
            answer = Answer(rate, kept, share, low, high, whole.effective, spent_s, cut=kept is not None)
            if kept is not None:
                break
        assert answer is not None  # noqa: S101 - there is at least one look
        return replace(answer, cut=spent_s < self._plan.run_s * (1 - 1e-9))
