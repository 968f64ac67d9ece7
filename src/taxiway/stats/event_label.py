"""Whether bad events come from one arm more often than its share of the requests explains.

Requests are split at random, the candidate getting a share w. Given that a request went badly, it was the candidate's
with probability w r / (w r + 1 - w), where r is the ratio of the two rates: the baseline's own rate cancels out, and so
does whatever drifts in both. The likelihood ratio of a mixture of alternatives against the boundary of the hypothesis
is an e-process: by Ville's inequality it exceeds 1/alpha with probability at most alpha, however often it is looked at
(M. Lindon, A. Malek, "Anytime-valid inference for multinomial count data", 2022, arXiv:2011.03567, for w fixed and
known; each event's own w here, so that evidence goes on over changes of w).

Nothing is imported that is not in the standard library: the data plane's fuses use it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final, Literal

Direction = Literal["harm", "safe"]
"""`harm` refutes that the ratio is at most 1 + margin; `safe` refutes that it is at least that."""
Segment = tuple[float, int, int]
"""The candidate's share of the requests of both, its bad events, and the other's."""

_COUNT: Final = 24
INFINITE: Final = math.inf


def _geometric(first: float, last: float, count: int) -> list[float]:
    step = (last / first) ** (1 / (count - 1))
    return [first * step**number for number in range(count)]


_WORSE: Final = tuple(_geometric(1.1, 32.0, _COUNT))
_BETTER: Final = tuple(_geometric(0.05, 0.95, _COUNT))


def log_sum_exp(values: Sequence[float]) -> float:
    """log(sum(exp(value))), without overflow."""
    top = max(values)
    if top == -INFINITE:
        return top
    return top + math.log(sum(math.exp(value - top) for value in values))


def alternatives(direction: Direction, margin: float) -> list[float]:
    """The ratios that share the capital of a test."""
    return [(1.0 + margin) * ratio for ratio in (_WORSE if direction == "harm" else _BETTER)]


class EventLabelTest:
    """The e-process: add events as they come, in any order, and look whenever you like.

    Args:
        direction: which hypothesis may be refuted.
        margin: the ratio of the hypothesis is 1 + margin.
    """

    __slots__ = ("_logs", "_ratios", "null_ratio")

    def __init__(self, direction: Direction, margin: float = 0.0) -> None:
        self.null_ratio = 1.0 + margin
        self._ratios = alternatives(direction, margin)
        self._logs = [0.0] * _COUNT

    def add(self, weight: float, candidate: int, baseline: int) -> None:
        """Bad events that came while the candidate's share of both arms' requests was `weight`, 0 < weight < 1."""
        if not (candidate or baseline):
            return
        null = share_of_events(weight, self.null_ratio)
        for place, ratio in enumerate(self._ratios):
            other = share_of_events(weight, ratio)
            gain = candidate * math.log(other / null) + baseline * math.log((1 - other) / (1 - null))
            self._logs[place] += gain

    @property
    def log_e(self) -> float:
        """The evidence so far against the hypothesis, as a natural logarithm."""
        return log_sum_exp(self._logs) - math.log(_COUNT)


def share_of_events(weight: float, ratio: float) -> float:
    """The probability that a bad event is the candidate's."""
    return weight * ratio / (weight * ratio + 1 - weight)


def log_e(segments: Iterable[Segment], margin: float, direction: Direction) -> float:
    """The e-process of whole segments, in nats."""
    test = EventLabelTest(direction, margin)
    for weight, candidate, baseline in segments:
        test.add(weight, candidate, baseline)
    return test.log_e


def bad_events_needed(weight: float, ratio: float, log_threshold: float, margin: float = 0.0) -> int | None:
    """About how many bad events in all make the evidence of harm cross, if the ratio is `ratio`; None: none would."""
    return more_events([], weight, ratio, log_threshold, margin, "harm")


def more_events(
    segments: Sequence[Segment], weight: float, ratio: float, log_threshold: float, margin: float, direction: Direction
) -> int | None:
    """About how many further bad events cross the threshold, if they come at `ratio` and `weight`; None: they never do.

    The answer is of the expected path: half of all walks take longer.
    """
    share = share_of_events(weight, ratio)

    def after(events: int) -> float:
        test = EventLabelTest(direction, margin)
        for segment in segments:
            test.add(*segment)
        _add_expected(test, weight, share, events)
        return test.log_e

    if after(0) >= log_threshold:
        return 0
    most = 1
    while after(most) < log_threshold:
        most *= 2
        if most > 1 << 30:
            return None
    least = most // 2
    while most - least > 1:
        middle = (least + most) // 2
        least, most = (middle, most) if after(middle) < log_threshold else (least, middle)
    return most


def _add_expected(test: EventLabelTest, weight: float, share: float, events: int) -> None:
    """Events split as expected; the counts are real numbers here."""
    test.add(weight, events * share, events * (1 - share))  # type: ignore[arg-type]


def ratio_interval(segments: Sequence[Segment], alpha: float) -> tuple[float, float]:
    """An anytime-valid interval of the ratio: those values that a two-sided mixture does not refute at 1/alpha.

    The mixture lies over ratios from 1/64 to 64 and does not depend on the value in question, so that for each value it
    is an e-process of that value alone; the values that survive are the interval.
    """
    candidate, baseline = sum(part[1] for part in segments), sum(part[2] for part in segments)
    if not (candidate or baseline):
        return 0.0, INFINITE
    mixture = log_sum_exp([_log_likelihood(segments, ratio) for ratio in _SPREAD]) - math.log(len(_SPREAD))
    bound = mixture - math.log(1 / alpha)
    best = _maximum(segments)
    low = 0.0 if _log_likelihood(segments, _LEAST) >= bound else _crossing(segments, bound, _LEAST, best)
    high = INFINITE if _log_likelihood(segments, _MOST) >= bound else _crossing(segments, bound, _MOST, best)
    return low, high


_SPREAD: Final = tuple(_geometric(1 / 64, 64.0, 121))
_LEAST: Final = 1e-6
_MOST: Final = 1e6


def _log_likelihood(segments: Sequence[Segment], ratio: float) -> float:
    total = 0.0
    for weight, candidate, baseline in segments:
        share = share_of_events(weight, ratio)
        total += candidate * math.log(share) + baseline * math.log1p(-share)
    return total


def estimated_ratio(segments: Sequence[Segment]) -> float | None:
    """The most likely ratio; None before any event."""
    candidate, baseline = sum(part[1] for part in segments), sum(part[2] for part in segments)
    if not (candidate or baseline):
        return None
    if not candidate:
        return 0.0
    return INFINITE if not baseline else _maximum(segments)


def _maximum(segments: Sequence[Segment]) -> float:
    """Where the likelihood, which is concave in the ratio's logarithm, is greatest."""
    low, high = math.log(_LEAST), math.log(_MOST)
    for _ in range(100):
        third = (high - low) / 3
        left, right = low + third, high - third
        if _log_likelihood(segments, math.exp(left)) < _log_likelihood(segments, math.exp(right)):
            low = left
        else:
            high = right
    return math.exp((low + high) / 2)


def _crossing(segments: Sequence[Segment], bound: float, outside: float, inside: float) -> float:
    """Where the likelihood passes `bound` between a ratio that is refuted and one that is not."""
    out, into = math.log(outside), math.log(inside)
    for _ in range(60):
        middle = (out + into) / 2
        if _log_likelihood(segments, math.exp(middle)) < bound:
            out = middle
        else:
            into = middle
    return math.exp(out)
