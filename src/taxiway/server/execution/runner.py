"""One batch, from requests to a result: merge, run, check. Blocking and thread-safe: it keeps no state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import monotonic_ns
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taxiway.core.errors import ModelFailed
from taxiway.core.ports import BatchOutcome, LoadedModel
from taxiway.core.requests import BatchResult, InferRequest
from taxiway.core.tensors import Datatype, Shape, TensorSpec


class BatchRunner:
    """Knows one model's signature and runs batches of requests for it.

    Args:
        batches: whether the first axis of every tensor counts rows.
        reshapes: tensor name -> the shape (per row, if it batches) that the model itself takes or gives, where that
            is not the one clients see.
        fixed_rows: give every run exactly this many rows (larger batches are cut, the last run is padded by repeating
            the last row), so that the last bits of floats do not depend on who else was in the batch; 0 for no matter.
    """

    def __init__(
        self,
        model: LoadedModel,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        *,
        batches: bool,
        reshapes: Mapping[str, Shape] = MappingProxyType({}),
        fixed_rows: int = 0,
    ) -> None:
        self._model = model
        self._reshaped_inputs = {spec.name: reshapes[spec.name] for spec in inputs if spec.name in reshapes}
        self._reshaped_outputs = {spec.name: spec.shape for spec in outputs if spec.name in reshapes}
        self._inputs = [
            (index, spec.name, np.dtype(spec.datatype.numpy_dtype), spec.datatype is Datatype.BYTES)
            for index, spec in enumerate(inputs)
        ]
        self._output_names = [spec.name for spec in outputs]
        self._batches = batches
        self._fixed_rows = fixed_rows

    def run(self, batch: list[InferRequest]) -> BatchOutcome:
        """Run `batch` as one call; if that fails, run its halves, so that a poisoned request fails alone.

        One bad request among n costs about 2 log2(n) more runs, where one by one would cost n.
        """
        started = monotonic_ns()
        try:
            return self._run_together(batch, started)
        except Exception as problem:  # noqa: BLE001 - the boundary: whatever a model raises becomes an outcome
            if len(batch) == 1:
                return BatchOutcome(started_ns=started, finished_ns=monotonic_ns(), error=problem)
        middle = len(batch) // 2
        parts = [part for half in (batch[:middle], batch[middle:]) for part in _parts(half, self.run(half))]
        return BatchOutcome(started_ns=started, finished_ns=monotonic_ns(), parts=parts)

    def _run_together(self, batch: list[InferRequest], started: int) -> BatchOutcome:
        rows = batch[0].rows if len(batch) == 1 else sum([request.rows for request in batch])
        feeds = {}
        for index, name, dtype, is_bytes in self._inputs:
            array = _merge_bytes(batch, index) if is_bytes else _merge(batch, index, dtype, rows)
            if array is not None:
                feeds[name] = array
        for name, row in self._reshaped_inputs.items():
            feeds[name] = self._reshaped(feeds[name], row)
        merged = monotonic_ns()
        wanted = self._wanted_outputs(batch)
        names = self._output_names if wanted is None else [self._output_names[index] for index in wanted]
        if self._fixed_rows:
            arrays = self._run_fixed(feeds, names, rows)
            ran = monotonic_ns()
        else:
            arrays = self._model.run(feeds, names)
            ran = monotonic_ns()
            if self._batches:
                _check_rows(names, arrays, rows)
        if self._reshaped_outputs:
            arrays = [
                self._reshaped(array, self._reshaped_outputs[name]) if name in self._reshaped_outputs else array
                for name, array in zip(names, arrays, strict=True)
            ]
        result = BatchResult(self._output_names, _spread(arrays, wanted, len(self._output_names)), rows)
        outcome = BatchOutcome(started_ns=started, finished_ns=monotonic_ns(), result=result)
        outcome.input_ns = merged - started
        outcome.infer_ns = ran - merged
        return outcome

    def _reshaped(self, array: NDArray[Any], row: Shape) -> NDArray[Any]:
        return array.reshape((array.shape[0], *row) if self._batches else row)

    def _run_fixed(self, feeds: Mapping[str, NDArray[Any]], names: list[str], rows: int) -> list[NDArray[Any]]:
        """The outputs of `rows` rows, computed in runs of exactly so many rows as the model is to have."""
        fixed = self._fixed_rows
        runs = []
        for start in range(0, rows, fixed):
            cut = {name: _padded(array[start : start + fixed], fixed) for name, array in feeds.items()}
            arrays = self._model.run(cut, names)
            _check_rows(names, arrays, fixed)
            runs.append(arrays)
        whole = runs[0] if len(runs) == 1 else [np.concatenate(pieces) for pieces in zip(*runs, strict=True)]
        return [array[:rows] for array in whole]

    def _wanted_outputs(self, batch: list[InferRequest]) -> list[int] | None:
        """The outputs that somebody in the batch asked for; None for all."""
        if batch[0].outputs is None:
            return None
        wanted: set[int] = set()
        for request in batch:
            if request.outputs is None:
                return None
            wanted.update(request.outputs)
        return sorted(wanted)


class WholeRunner(BatchRunner):
    """Runs a batch as one call, once: the steps of sequences are not tried again in another company."""

    def run(self, batch: list[InferRequest]) -> BatchOutcome:
        """Run `batch`; if that fails, all of it has failed."""
        started = monotonic_ns()
        try:
            return self._run_together(batch, started)
        except Exception as problem:  # noqa: BLE001 - the boundary, as in BatchRunner
            return BatchOutcome(started_ns=started, finished_ns=monotonic_ns(), error=problem)


def _parts(batch: list[InferRequest], outcome: BatchOutcome) -> Sequence[BatchOutcome]:
    """What `outcome` says of each request of its batch; parts of one run share its times."""
    if len(batch) == 1:
        return [outcome]
    result = outcome.result
    if result is None:
        return outcome.parts or ()
    parts = []
    start = 0
    for request in batch:
        rows = _rows_of(result.arrays, start, start + request.rows)
        mine = BatchResult(result.names, rows, request.rows)
        part = BatchOutcome(started_ns=outcome.started_ns, finished_ns=outcome.finished_ns, result=mine)
        part.input_ns, part.infer_ns = outcome.input_ns, outcome.infer_ns
        parts.append(part)
        start += request.rows
    return parts


def _rows_of(arrays: Sequence[Any], start: int, stop: int) -> list[Any]:
    """Rows [start, stop) of each; a place that nobody asked for stays empty."""
    return [None if array is None else array[start:stop] for array in arrays]


def _check_rows(names: list[str], arrays: list[NDArray[Any]], rows: int) -> None:
    """A run's outputs must have a row for each row that went in, or rows would reach the wrong caller."""
    for place, array in enumerate(arrays):
        if array.ndim == 0 or array.shape[0] != rows:
            name = names[place]
            raise ModelFailed(
                f"output {name!r} has shape {list(array.shape)} for a batch of {rows} rows; "
                "a model that batches gives one row for each",
                hint="set max_batch_size: 0 in config.pbtxt if the first dimension is not a batch",
                output=name,
            )


def _padded(array: NDArray[Any], rows: int) -> NDArray[Any]:
    missing = rows - array.shape[0]
    return np.concatenate([array, np.repeat(array[-1:], missing, axis=0)]) if missing else array


def _merge(batch: list[InferRequest], index: int, dtype: np.dtype[Any], rows: int) -> NDArray[Any] | None:
    """The input as one array: the request's own memory if it is alone, else one copy of all."""
    first = batch[0].inputs[index]
    if first is None:
        return None
    if len(batch) == 1:
        array: NDArray[Any] = np.ndarray(first.shape, dtype, first.data)
        return array if array.flags.aligned else array.copy()
    joined = b"".join([request.inputs[index].data for request in batch])  # type: ignore[union-attr]  # one bucket: all have it
    return np.ndarray((rows, *first.shape[1:]), dtype, joined)


def _merge_bytes(batch: list[InferRequest], index: int) -> NDArray[Any] | None:
    first = batch[0].inputs[index]
    if first is None:
        return None
    items = [item for request in batch for item in request.inputs[index].data]  # type: ignore[union-attr]
    made = np.empty(len(items), dtype=object)
    made[:] = items
    return made.reshape(first.shape if len(batch) == 1 else (-1, *first.shape[1:]))


def _spread(arrays: list[NDArray[Any]], wanted: list[int] | None, count: int) -> Sequence[NDArray[Any]]:
    """Put the computed arrays at their outputs' places; places nobody asked for stay empty."""
    if wanted is None:
        return arrays
    spread: list[Any] = [None] * count
    for index, array in zip(wanted, arrays, strict=True):
        spread[index] = array
    return spread
