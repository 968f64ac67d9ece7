"""Which promise is made: the metric, the output it looks at, what it may lose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from taxiway.core.errors import InvalidArgument
from taxiway.core.tensors import TensorSpec
from taxiway.optimize.data.samples import Samples
from taxiway.optimize.data.splitting import Split
from taxiway.optimize.metrics import METRICS, Kind, check
from taxiway.optimize.outcome import Wanted
from taxiway.optimize.truth import are_measured, check_truth
from taxiway.optimize.trying import Promise


def promise_of(wanted: Wanted, parts: Split, outputs: Sequence[TensorSpec]) -> Promise:
    """The promise that was asked for, with what was left open filled in.

    Raises:
        InvalidArgument: an output, a metric or a drop that cannot be.
        InvalidData: labels that the metric cannot compare.
    """
    names = [spec.name for spec in outputs]
    output = wanted.output or names[0]
    if output not in names:
        raise InvalidArgument(
            f"output: {output!r} is none of {', '.join(names)}", hint="name one of them", value=output
        )
    if not 0.0 < wanted.max_drop < 1.0:
        raise InvalidArgument(
            f"max_drop: {wanted.max_drop:g} is not between 0 and 1",
            hint="write --max-drop 0.5% or 0.005; nothing can be proven to lose nothing at all",
            value=wanted.max_drop,
        )
    labelled = parts.choosing.labelled and parts.proving.labelled
    looked_at = next(spec for spec in outputs if spec.name == output)
    metric = wanted.metric or _default_metric(looked_at, parts, labelled=labelled)
    if metric in METRICS:
        check(METRICS[metric], labelled=labelled)
        for part in (parts.choosing, parts.proving) if METRICS[metric].needs_labels else ():
            check_truth(metric, part, looked_at)
        return Promise(metric, METRICS[metric].kind, output, wanted.max_drop)
    if ":" not in metric:
        raise InvalidArgument(
            f"metric: {metric!r} is none of {', '.join(METRICS)}",
            hint="choose one of them, or name a function: module:function or file.py:function",
            value=metric,
        )
    return Promise(metric, Kind.POINTS, output, wanted.max_drop)


_MOST_CLASSES: Final = 10_000


def _default_metric(output: TensorSpec, parts: Split, *, labelled: bool) -> str:
    if labelled:
        return "rmse" if all(are_measured(part, output) for part in (parts.choosing, parts.proving)) else "accuracy"
    classes = output.shape[-1] if len(output.shape) == 2 else 0
    return "agreement" if output.datatype.numpy_dtype[1:] not in ("f4", "f2", "f8") or 1 < classes <= 64 else "cosine"


def true_classes(samples: Samples) -> NDArray[Any] | None:
    """One number for each sample; None where labels are none."""
    labels = samples.labels()
    if not labels:
        return None
    first = np.asarray(labels[0])
    if first.size != 1 or first.dtype.kind not in "biuf":
        return None
    return np.asarray([np.asarray(one).reshape(-1)[0] for one in labels], dtype=np.float64)
