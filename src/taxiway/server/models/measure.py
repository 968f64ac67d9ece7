"""What a model costs by rows, measured once at load: the choice of executor and of the best batch rests on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import perf_counter_ns
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taxiway.core.errors import TaxiwayError
from taxiway.core.ports import LoadedModel
from taxiway.core.tensors import Datatype, Shape, TensorSpec

FREE_DIMENSIONS = (32, 224, 1)
"""Sizes tried, in this order, for dimensions that the model leaves free."""
_MIN_RUNS = 3
_MAX_RUNS = 50
_LONG_ENOUGH_NS = 10_000_000
_SAME = 0.97
"""Two sizes in a row that give less than this share of the best rate so far end the climb."""


def measure_model(
    model: LoadedModel, inputs: Sequence[TensorSpec], reshapes: Mapping[str, Shape], *, max_rows: int, budget_s: float
) -> list[tuple[int, int]]:
    """Nanoseconds of a run by rows: 1, 2, 4 ... until `max_rows`, `budget_s`, or larger batches stop paying.

    Inputs are zeros of the declared shapes, so that no index is out of range. A model that takes none of the sizes
    tried for its free dimensions gives an empty list: then nothing is known but what traffic will teach.

    `max_rows` is 0 if the model does not batch; then it is run as it is. The clock is looked at after every run: a
    model whose first run takes longer than the budget is run once.
    """
    names = [spec.name for spec in model.outputs]
    begun_ns = perf_counter_ns()
    for free in FREE_DIMENSIONS:
        try:
            return _curve(model, names, inputs, reshapes, free, max_rows, (begun_ns, budget_s))
        except TaxiwayError:
            continue
    return []


def _curve(
    model: LoadedModel,
    names: Sequence[str],
    inputs: Sequence[TensorSpec],
    reshapes: Mapping[str, Shape],
    free: int,
    max_rows: int,
    budget: tuple[int, float],
) -> list[tuple[int, int]]:
    """Climb through the sizes with half of the budget; then go over them again and keep the faster time of each.

    A neighbour on the machine disturbs for a while: it would make one size look dear, were it measured only once.
    """
    begun_ns, budget_s = budget
    half, end = (begun_ns + int(budget_s * share) for share in (5e8, 1e9))
    best: dict[int, int] = {}
    rates: list[float] = []
    rows = 1
    while rows <= max(1, max_rows) and not _has_peaked(rates):
        feeds = sample_feeds(inputs, reshapes, rows if max_rows else 0, free)
        best[rows] = _time(model, feeds, names, half)
        rates.append(rows / max(best[rows], 1))
        # The next size is thought to cost twice as much, run after run.
        if not max_rows or perf_counter_ns() + 2 * best[rows] * (1 + _MIN_RUNS) > half:
            break
        rows *= 2
    for again, took in best.items():
        if perf_counter_ns() + _MIN_RUNS * took < end:
            feeds = sample_feeds(inputs, reshapes, again if max_rows else 0, free)
            best[again] = min(took, _time(model, feeds, names, end))
    return list(best.items())


def _has_peaked(rates: Sequence[float]) -> bool:
    """Whether the last two sizes gave clearly less than the best before them."""
    return len(rates) > 2 and max(rates[-2:]) < _SAME * max(rates[:-2])


def _time(model: LoadedModel, feeds: Mapping[str, NDArray[Any]], names: Sequence[str], until_ns: int) -> int:
    """The fastest of several runs: whatever disturbs a run, as being the first does, only makes it slower."""
    best = 1 << 62
    spent = 0
    for run in range(1 + _MAX_RUNS):
        start = perf_counter_ns()
        model.run(feeds, names)
        end = perf_counter_ns()
        best = min(best, end - start)
        spent += end - start if run else 0
        if end >= until_ns or (run >= _MIN_RUNS and spent >= _LONG_ENOUGH_NS):
            break
    return best


def sample_feeds(
    inputs: Sequence[TensorSpec], reshapes: Mapping[str, Shape], rows: int, free: int
) -> dict[str, NDArray[Any]]:
    """Zeros (empty texts for BYTES) of the shapes a model takes; without a batch dimension if `rows` is 0."""
    feeds: dict[str, NDArray[Any]] = {}
    for spec in inputs:
        row = tuple(free if dim == -1 else dim for dim in reshapes.get(spec.name, spec.shape))
        shape = (rows, *row) if rows else row
        if spec.datatype is Datatype.BYTES:
            feeds[spec.name] = np.full(shape, b"", dtype=object)
        else:
            feeds[spec.name] = np.zeros(shape, np.dtype(spec.datatype.numpy_dtype))
    return feeds
