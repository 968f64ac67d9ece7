"""Whether a model computes each row by itself: what merging rests on, tried once at load.

A free first dimension in a file does not say that it counts rows: a softmax over the first axis and a time-major
network have one too. Two rows of made-up content, run together and apart, tell.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taxiway.core.errors import TaxiwayError
from taxiway.core.ports import LoadedModel
from taxiway.core.tensors import Datatype, Shape, TensorSpec, count_elements
from taxiway.server.models.measure import FREE_DIMENSIONS

_SEED = 20_26
_LEAST_INTEGERS = (1, 0)
"""Integers are this or one more: small enough to be an index almost everywhere; 0 and 1 where 2 is too large."""
_MOST_ELEMENTS = 1 << 25
"""In one row; four free dimensions of 224 would fill the memory with made-up numbers."""
_TOLERANCE = 0.01
"""Of an output's largest number. Last bits differ from batch to batch, and so does dynamic quantization."""


class Rows(enum.Enum):
    """What the trial said."""

    INDEPENDENT = "independent"
    MIXED = "mixed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class RowTrial:
    """The verdict, and why."""

    verdict: Rows
    reason: str


def try_rows(model: LoadedModel, inputs: Sequence[TensorSpec], reshapes: Mapping[str, Shape]) -> RowTrial:
    """Run two rows together and apart and compare; `inputs` as one row, for a model that seems to batch."""
    texts = [spec.name for spec in inputs if spec.datatype in (Datatype.BYTES, Datatype.BF16)]
    if texts:
        return RowTrial(Rows.UNKNOWN, f"no content was made up for input {texts[0]!r}")
    names = [spec.name for spec in model.outputs]
    refusal = "they would be too large"
    for free, least in product(FREE_DIMENSIONS, _LEAST_INTEGERS):
        if max(count_elements(_row(spec, reshapes, free)) for spec in inputs) > _MOST_ELEMENTS:
            continue
        feeds = _two_rows(inputs, reshapes, free, least)
        try:
            return _compare(model, feeds, names)
        except TaxiwayError as error:
            refusal = error.message
    return RowTrial(Rows.UNKNOWN, f"the model took none of the inputs tried: {refusal}")


def _row(spec: TensorSpec, reshapes: Mapping[str, Shape], free: int) -> Shape:
    return tuple(free if dim == -1 else dim for dim in reshapes.get(spec.name, spec.shape))


def _two_rows(
    inputs: Sequence[TensorSpec], reshapes: Mapping[str, Shape], free: int, least: int
) -> dict[str, NDArray[Any]]:
    """Two rows that differ in every element."""
    random = np.random.default_rng(_SEED)
    feeds: dict[str, NDArray[Any]] = {}
    for spec in inputs:
        row = _row(spec, reshapes, free)
        dtype = np.dtype(spec.datatype.numpy_dtype)
        if dtype.kind == "f":
            feeds[spec.name] = random.standard_normal((2, *row)).astype(dtype)
        else:
            bits = random.integers(0, 2, row)
            start = 0 if dtype.kind == "b" else least
            feeds[spec.name] = (np.stack([bits, 1 - bits]) + start).astype(dtype)
    return feeds


def _compare(model: LoadedModel, feeds: Mapping[str, NDArray[Any]], names: Sequence[str]) -> RowTrial:
    parts = [model.run({name: array[row : row + 1] for name, array in feeds.items()}, names) for row in (0, 1)]
    try:
        together = model.run(feeds, names)
    except TaxiwayError as error:
        return RowTrial(Rows.MIXED, f"it takes one row and then another, but not both at once: {error.message}")
    for name, whole, first, second in zip(names, together, *parts, strict=True):
        if not (_says_something(first) or _says_something(second)):
            return RowTrial(Rows.UNKNOWN, f"output {name!r} is not a finite number anywhere")
        difference = _difference(whole, first, second)
        if difference:
            if _differs(model.run(feeds, names), together):
                return RowTrial(Rows.UNKNOWN, "the same input gives another output each time")
            return RowTrial(Rows.MIXED, f"output {name!r} of two rows run together {difference}")
    return RowTrial(Rows.INDEPENDENT, "two rows gave the same together and apart")


def _difference(whole: NDArray[Any], first: NDArray[Any], second: NDArray[Any]) -> str:
    """How `whole` differs from `first` and `second` one after the other; nothing if it does not."""
    if not whole.ndim or whole.shape[0] != 2 or {first.shape, second.shape} != {(1, *whole.shape[1:])}:
        return f"has shape {list(whole.shape)}, and run apart {list(first.shape)} and {list(second.shape)}"
    return "" if _alike(whole, np.concatenate([first, second])) else "is not what each of them gives alone"


def _differs(again: Sequence[NDArray[Any]], before: Sequence[NDArray[Any]]) -> bool:
    return any(a.shape != b.shape or not _alike(a, b) for a, b in zip(again, before, strict=True))


def _says_something(array: NDArray[Any]) -> bool:
    """Nothing but NaN and infinity would look the same, whatever the rows did to each other."""
    return array.dtype.kind != "f" or not array.size or bool(np.isfinite(array).any())


def _alike(one: NDArray[Any], other: NDArray[Any]) -> bool:
    if one.dtype.kind != "f":
        return bool(np.array_equal(one, other))
    a, b = one.astype(np.float64), other.astype(np.float64)
    finite = np.abs(b[np.isfinite(b)])
    return bool(np.allclose(a, b, rtol=0, atol=_TOLERANCE * finite.max(initial=0), equal_nan=True))
