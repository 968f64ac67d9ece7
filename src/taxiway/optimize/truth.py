"""Whether labels are what a metric can hold an output against: else every model is as good as every other. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from taxiway.core.errors import InvalidData
from taxiway.core.tensors import Datatype, TensorSpec
from taxiway.optimize.data.samples import Samples

Labels = NDArray[Any]

_TEXT: Final = "OUS"
_CLASSES: Final = "a class for each sample: the number of its column, or the text that the model answers"


def are_measured(samples: Samples, output: TensorSpec) -> bool:
    """Whether labels are measured numbers rather than classes, as far as their form tells."""
    return all(
        bool(_as_classes(labels, output))
        and not _as_numbers(labels, output)
        and (labels.dtype.kind == "f" or _size(labels) == 1)  # several whole numbers may be one class in another form
        for labels in _labels(samples)
    )


def check_truth(metric: str, samples: Samples, output: TensorSpec) -> None:
    """Refuse labels that this metric cannot compare.

    Args:
        metric: a name; of a function of the user's nothing is known.
        samples: with labels.
        output: what they are compared with.

    Raises:
        InvalidData: what is wrong with them, and what the metric takes.
    """
    for labels in _labels(samples):
        if labels.dtype.kind == "f" and not np.isfinite(labels).all():
            wrong = int((~np.isfinite(labels)).sum())
            raise InvalidData(
                f"data: {wrong} labels are NaN or infinite", hint="leave these samples out: nothing can be said of them"
            )
        problem, takes = _problem(metric, labels, output)
        if problem:
            raise InvalidData(
                f"data: labels for --metric {metric} of output {output.name!r}: {problem}", hint=takes, metric=metric
            )


def check_baseline(metric: str, scores: NDArray[np.float64], classes: Labels | None, output: str) -> None:
    """Refuse a promise about classes of which the model as it is names none right: it could only be kept.

    Args:
        metric: a name.
        scores: of the baseline, [samples].
        classes: the true ones, where the scores are classes too.
        output: for the words.

    Raises:
        InvalidData: it is right about no sample.
    """
    right = {"accuracy": scores, "f1": scores == classes}.get(metric)
    if right is not None and not np.any(right):
        raise InvalidData(
            f"data: the model as it is names the label of none of {len(scores)} samples in output {output!r}",
            hint=f"labels are {_CLASSES}; for numbers that are measured say --metric rmse",
            metric=metric,
        )


def _labels(samples: Samples) -> Iterator[Labels]:
    return (np.asarray(group.labels) for group in samples.groups if group.labels is not None)


def _problem(metric: str, labels: Labels, output: TensorSpec) -> tuple[str, str]:
    """What is wrong, and what would be right; empty: nothing."""
    if metric == "accuracy":
        return _as_classes(labels, output), _CLASSES
    if metric == "f1":
        text = "they are text" if labels.dtype.kind in _TEXT else ""
        return text or _as_classes(labels, output), "a class for each sample: the number of its column"
    if metric == "rmse":
        return _as_numbers(labels, output), "as many numbers for each sample as the output has"
    if metric == "perplexity":
        whole = labels.dtype.kind in "biu" or _is_whole(labels)
        return "" if whole else "they are no whole numbers", "the number of the next token at each position"
    return "", ""


def _as_classes(labels: Labels, output: TensorSpec) -> str:
    size = _size(labels)
    if size != 1:
        return f"each is of {size} values, not one class" + " (one-hot: argmax(axis=1))" * (size > 1)
    if labels.dtype.kind in _TEXT:
        is_text = output.datatype is Datatype.BYTES
        return "" if is_text else f"they are text, and it is {output.datatype.wire_name}"
    if output.datatype is Datatype.BYTES:
        return ""
    if not _is_whole(labels):
        return "they are no whole numbers"
    width = _width(output) if np.dtype(output.datatype.numpy_dtype).kind == "f" else None
    if width is None:
        return ""
    least, most = (float(one) for one in (labels.min(), labels.max()))
    inside = least >= 0 and most < max(width, 2)
    return "" if inside else f"they go from {least:g} to {most:g}, and it names classes from 0 to {max(width, 2) - 1}"


def _as_numbers(labels: Labels, output: TensorSpec) -> str:
    if labels.dtype.kind not in "biuf":
        return "they are no numbers"
    size, width = _size(labels), _width(output)
    return f"each is of {size} values, and a sample's output of {width}" if width not in (None, size) else ""


def _size(labels: Labels) -> int:
    return math.prod(labels.shape[1:])


def _width(output: TensorSpec) -> int | None:
    """Values of one sample; None: it depends."""
    sizes = output.shape[1:]
    return None if -1 in sizes else math.prod(sizes)


def _is_whole(labels: Labels) -> bool:
    return labels.dtype.kind in "biu" or bool(labels.dtype.kind == "f" and (labels == np.round(labels)).all())
