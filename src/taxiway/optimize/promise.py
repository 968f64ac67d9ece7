"""The promise: a metric drops by no more than was allowed. Kept, broken, or not enough data to say. Pure."""

from __future__ import annotations

import math
from enum import StrEnum

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from taxiway.optimize.metrics import Kind
from taxiway.stats.paired import lower_of_mean, samples_needed, upper_of_mean

Floats = NDArray[np.float64]

BOOTSTRAPS = 2000
FEW_DISCORDANT = 10
"""Samples on which two models differ, below which a bootstrap is not to be trusted."""
_SEED = 20240229


class Answer(StrEnum):
    """Of the paired test."""

    KEPT = "kept"
    BROKEN = "broken"
    NOT_ENOUGH_DATA = "not enough data"


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """On one candidate.

    Attributes:
        drop: as estimated: points where the metric has points, a share of the baseline's value otherwise.
        upper, lower: one-sided ends for the drop at level `1 - alpha` each.
        baseline, candidate: the metric's values.
        more: samples that are missing for a yes, if they are like those that were seen; None: more would not help.
    """

    answer: Answer
    drop: float
    lower: float
    upper: float
    baseline: float
    candidate: float
    samples: int
    alpha: float
    more: int | None = None


def judge(
    kind: Kind, baseline: Floats, candidate: Floats, labels: Floats | None, max_drop: float, alpha: float
) -> Verdict:
    """Whether the metric drops by at most `max_drop`, by scores of the same samples in the same order.

    Args:
        kind: how the metric makes a number of scores.
        baseline: scores [samples].
        candidate: scores of the same samples.
        labels: the true classes, for Kind.CLASSES.
        max_drop: points, or a share of the baseline's value where the metric has no scale of its own.
        alpha: the chance of a wrong "kept", and of a wrong "broken".
    """
    if kind is Kind.CLASSES:
        return _judge_f1(baseline, candidate, _known(labels), max_drop, alpha)
    losses, margin = _losses(kind, baseline, candidate, max_drop)
    values = [_value(kind, scores) for scores in (baseline, candidate)]
    lower, upper = lower_of_mean(losses, alpha), upper_of_mean(losses, alpha)
    answer = _answer(lower, upper, margin)
    needed = samples_needed(losses, margin, alpha) if answer is Answer.NOT_ENOUGH_DATA else None
    told = [_as_drop(kind, loss, values[0], max_drop) for loss in (float(np.mean(losses)), lower, upper)]
    return Verdict(
        answer=answer,
        drop=told[0],
        lower=told[1],
        upper=told[2],
        baseline=values[0],
        candidate=values[1],
        samples=len(losses),
        alpha=alpha,
        more=None if needed is None else max(1, needed - len(losses)),
    )


def _known(labels: Floats | None) -> Floats:
    assert labels is not None  # noqa: S101 - a metric that needs them is refused without
    return labels


def _losses(kind: Kind, baseline: Floats, candidate: Floats, max_drop: float) -> tuple[Floats, float]:
    """Numbers whose mean is at most the margin exactly when the promise is kept.

    RMSE' <= (1 + d) RMSE is mean(e'^2 - (1 + d)^2 e^2) <= 0, and exp(mean nll') <= (1 + d) exp(mean nll) is
    mean(nll' - nll) <= log(1 + d).
    """
    if kind is Kind.ROOT:
        return candidate - (1.0 + max_drop) ** 2 * baseline, 0.0
    if kind is Kind.LOG:
        return candidate - baseline, math.log1p(max_drop)
    return baseline - candidate, max_drop


def _value(kind: Kind, scores: Floats) -> float:
    mean = float(np.mean(scores))
    return math.sqrt(mean) if kind is Kind.ROOT else math.exp(mean) if kind is Kind.LOG else mean


def _as_drop(kind: Kind, loss: float, baseline: float, max_drop: float) -> float:
    if kind is Kind.ROOT:
        square = max(loss + ((1.0 + max_drop) * baseline) ** 2, 0.0)
        return math.sqrt(square) / baseline - 1.0 if baseline > 0 else math.inf if square > 0 else 0.0
    return math.expm1(loss) if kind is Kind.LOG else loss


def _answer(lower: float, upper: float, margin: float) -> Answer:
    if upper <= margin:
        return Answer.KEPT
    return Answer.BROKEN if lower > margin else Answer.NOT_ENOUGH_DATA


def _judge_f1(baseline: Floats, candidate: Floats, labels: Floats, max_drop: float, alpha: float) -> Verdict:
    """By the bootstrap of whole samples (Efron 1979): F1 is no mean of anything."""
    rng = np.random.default_rng(_SEED)
    classes = np.unique(labels)
    values = [macro_f1(one, labels, classes) for one in (baseline, candidate)]
    n = len(labels)
    drops = np.empty(BOOTSTRAPS)
    for at in range(BOOTSTRAPS):
        drawn = rng.integers(0, n, n)
        drops[at] = macro_f1(baseline[drawn], labels[drawn], classes) - macro_f1(
            candidate[drawn], labels[drawn], classes
        )
    lower, upper = (float(np.quantile(drops, q)) for q in (alpha, 1 - alpha))
    upper = max(upper, _unseen(int((baseline != candidate).sum()), n, alpha))
    drop = values[0] - values[1]
    answer = _answer(lower, upper, max_drop)
    more = None
    if answer is Answer.NOT_ENOUGH_DATA and drop < max_drop:
        more = max(1, math.ceil(n * ((upper - drop) / (max_drop - drop)) ** 2) - n)
    return Verdict(
        answer=answer,
        drop=drop,
        lower=lower,
        upper=upper,
        baseline=values[0],
        candidate=values[1],
        samples=n,
        alpha=alpha,
        more=more,
    )


def _unseen(discordant: int, n: int, alpha: float) -> float:
    """What a bootstrap cannot know: it draws no sample that differs where none was seen, and few where few were.

    The share of samples that may differ all the same, at its upper end (Clopper and Pearson 1934), taken as lost.
    """
    return float(betaincinv(discordant + 1, n - discordant, 1 - alpha)) if discordant < FEW_DISCORDANT else -math.inf


def macro_f1(predicted: Floats, labels: Floats, classes: Floats) -> float:
    """The mean over classes of the harmonic mean of precision and recall; 0 for a class that is never met."""
    scores = []
    for one in classes:
        right = float(((predicted == one) & (labels == one)).sum())
        met = float((predicted == one).sum() + (labels == one).sum())
        scores.append(2.0 * right / met if met else 0.0)
    return float(np.mean(scores))


def estimated_drop(kind: Kind, baseline: Floats, candidate: Floats, labels: Floats | None) -> tuple[float, float]:
    """The drop and its standard error, for choosing, not for proving."""
    if kind is Kind.CLASSES:
        known = _known(labels)
        classes = np.unique(known)
        drop = macro_f1(baseline, known, classes) - macro_f1(candidate, known, classes)
        wrong = (baseline != candidate).astype(np.float64)
        return drop, float(np.sqrt(max(wrong.mean(), 1.0 / len(wrong)) / len(wrong)))
    losses, _ = _losses(kind, baseline, candidate, 0.0)
    value = _value(kind, baseline)
    error = float(np.std(losses, ddof=1) / math.sqrt(len(losses))) if len(losses) > 1 else math.inf
    scale = 1.0 / (2.0 * value * value) if kind is Kind.ROOT and value > 0 else 1.0
    return _as_drop(kind, float(np.mean(losses)), value, 0.0), error * scale
