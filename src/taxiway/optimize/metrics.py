"""What "as good" means: one number for each sample, and how numbers are compared. Pure.

A score is higher for better, unless its metric says that it is a loss. Where there is no truth, the baseline's own
answer stands for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from taxiway.core.errors import InvalidArgument, InvalidData

Arrays = Mapping[str, NDArray[Any]]
Floats = NDArray[np.float64]


class Kind(StrEnum):
    """How scores become a drop."""

    POINTS = "points"
    """The mean falls by so many points: accuracy, agreement, cosine, a function's scores."""
    ROOT = "root"
    """Scores are squared errors; their root mean rises by such a share of itself."""
    LOG = "log"
    """Scores are negative log likelihoods; their exponential rises by such a share of itself."""
    CLASSES = "classes"
    """Scores are class numbers, judged together: macro F1."""


@dataclass(frozen=True, slots=True)
class Call:
    """What one run said, beside what the baseline said to the same inputs.

    Attributes:
        labels: [samples, ...]; None: unknown.
        samples: in this run.
    """

    outputs: Arrays
    baseline: Arrays
    labels: NDArray[Any] | None
    inputs: Arrays
    samples: int


Scorer = Callable[[Call, str], Floats]


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric with a name.

    Attributes:
        needs_labels: without the truth it says nothing.
        score: [samples] for one run, looking at one output.
    """

    name: str
    kind: Kind
    needs_labels: bool
    score: Scorer


def _rows(values: NDArray[Any], samples: int) -> NDArray[Any]:
    return values.reshape(samples, -1)


def predicted(values: NDArray[Any], samples: int) -> NDArray[Any]:
    """The class that an output names: the largest of several columns, a side of one half for one, else the value."""
    rows = _rows(values, samples)
    if rows.dtype.kind != "f":
        return rows[:, 0]
    if rows.shape[1] == 1:
        return np.asarray(rows[:, 0] > 0.5, dtype=np.int64)
    return np.asarray(rows.argmax(axis=1))


def _same(one: NDArray[Any], other: NDArray[Any]) -> Floats:
    if one.dtype.kind in "OUS" or other.dtype.kind in "OUS":
        return np.array([_text(a) == _text(b) for a, b in zip(one, other, strict=True)], dtype=np.float64)
    return np.asarray(one == other, dtype=np.float64)


def _text(value: Any) -> str:  # noqa: ANN401 - an element of any array
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _labels(call: Call) -> NDArray[Any]:
    assert call.labels is not None  # noqa: S101 - `check` refused such data for such a metric
    return call.labels


def _accuracy(call: Call, output: str) -> Floats:
    return _same(predicted(call.outputs[output], call.samples), _labels(call).reshape(call.samples, -1)[:, 0])


def _agreement(call: Call, output: str) -> Floats:
    mine, theirs = (_classes(arrays[output], call.samples) for arrays in (call.outputs, call.baseline))
    return np.asarray((mine == theirs).mean(axis=1), dtype=np.float64)


def _classes(values: NDArray[Any], samples: int) -> NDArray[Any]:
    """Of each position, where an output has several: [samples, positions]."""
    if values.dtype.kind == "f" and values.ndim > 2 and values.shape[-1] > 1:
        return _rows(values.argmax(axis=-1), samples)
    return predicted(values, samples).reshape(samples, 1)


def cosine(one: NDArray[Any], other: NDArray[Any], samples: int) -> Floats:
    """Of each sample's whole output, as one vector; 1 for two vectors of zeros."""
    a, b = (_rows(values, samples).astype(np.float64) for values in (one, other))
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    products = (a * b).sum(axis=1)
    alike: Floats = np.where(lengths > 0, products / np.where(lengths > 0, lengths, 1.0), (a == b).all(axis=1))
    return np.nan_to_num(alike, nan=-1.0)


def _cosine(call: Call, output: str) -> Floats:
    return cosine(call.outputs[output], call.baseline[output], call.samples)


def _squared_error(call: Call, output: str) -> Floats:
    said, true = _rows(call.outputs[output], call.samples), _rows(_labels(call), call.samples)
    if said.shape != true.shape:
        raise InvalidData(
            f"data: output {output!r} has {said.shape[1]} values for each sample, and its label {true.shape[1]}",
            hint="rmse compares each value with its own: give labels of the output's shape",
            output=output,
        )
    error = said - true
    return np.asarray((error.astype(np.float64) ** 2).mean(axis=1))


def _class_number(call: Call, output: str) -> Floats:
    return predicted(call.outputs[output], call.samples).astype(np.float64)


def _surprise(call: Call, output: str) -> Floats:
    """Mean negative log likelihood of the labels; negative labels are left out. Outputs are logits [..., classes]."""
    logits = call.outputs[output].astype(np.float64)
    labels = _labels(call).astype(np.int64).reshape(call.samples, -1)
    if labels.max(initial=0) >= logits.shape[-1] or math.prod(logits.shape[:-1]) != labels.size:
        raise InvalidData(
            f"data: {labels.size} labels up to {labels.max(initial=0)} for output {output!r} of {list(logits.shape)}",
            hint="perplexity takes logits [..., classes] and a class's number for each; negative ones are left out",
            output=output,
        )
    logits = logits.reshape(call.samples, labels.shape[1], -1)
    logits -= logits.max(axis=-1, keepdims=True)
    logs = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    seen = labels >= 0
    taken = np.take_along_axis(logs, np.maximum(labels, 0)[..., None], axis=-1)[..., 0]
    said: Floats = -(taken * seen).sum(axis=1) / np.maximum(seen.sum(axis=1), 1)
    return said


METRICS: Final[Mapping[str, Metric]] = {
    metric.name: metric
    for metric in (
        Metric("accuracy", Kind.POINTS, needs_labels=True, score=_accuracy),
        Metric("agreement", Kind.POINTS, needs_labels=False, score=_agreement),
        Metric("cosine", Kind.POINTS, needs_labels=False, score=_cosine),
        Metric("f1", Kind.CLASSES, needs_labels=True, score=_class_number),
        Metric("rmse", Kind.ROOT, needs_labels=True, score=_squared_error),
        Metric("perplexity", Kind.LOG, needs_labels=True, score=_surprise),
    )
}


def from_function(name: str, function: Callable[..., Any]) -> Metric:
    """A metric of the user's: `function(outputs, labels, inputs)` gives a score for each sample, higher for better.

    `outputs` and `inputs` are arrays by name as one run had them, `labels` those of its samples.
    """

    def score(call: Call, _output: str) -> Floats:
        given = np.asarray(function(dict(call.outputs), call.labels, dict(call.inputs)), dtype=np.float64).reshape(-1)
        if given.shape != (call.samples,) or not np.isfinite(given).all():
            raise InvalidData(
                f"metric: {name} gave {given.size} scores for {call.samples} samples, or some that are no numbers",
                hint="return one finite score for each sample, higher for better",
                metric=name,
            )
        return given

    return Metric(name, Kind.POINTS, needs_labels=False, score=score)


def check(metric: Metric, *, labelled: bool) -> None:
    """Refuse a metric that the data cannot feed.

    Raises:
        InvalidArgument: it needs labels and there are none.
    """
    if metric.needs_labels and not labelled:
        raise InvalidArgument(
            f"metric: {metric.name!r} compares with the truth, and the data have no array called label",
            hint="add an array 'label' to the data, or choose agreement or cosine, which compare with the baseline",
            value=metric.name,
        )
