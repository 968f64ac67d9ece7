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
        fixed_rows: pad every batch to this many rows (repeating the last one), so that the last bits of floats
            do not depend on who else was in the batch; 0 for no padding.
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
        """Run `batch` as one call; if that fails and it holds several requests, run each alone."""
        started = monotonic_ns()
        try:
            outcome = self._run_together(batch, started)
        except Exception as problem:  # noqa: BLE001 - the boundary: whatever a model raises becomes an outcome
            if len(batch) > 1:
                parts = [self.run([request]) for request in batch]
                return BatchOutcome(started_ns=started, finished_ns=monotonic_ns(), parts=parts)
            return BatchOutcome(started_ns=started, finished_ns=monotonic_ns(), error=problem)
        return outcome

    def _run_together(self, batch: list[InferRequest], started: int) -> BatchOutcome:
        rows = batch[0].rows if len(batch) == 1 else sum([request.rows for request in batch])
        feeds = {}
        for index, name, dtype, is_bytes in self._inputs:
            array = _merge_bytes(batch, index) if is_bytes else _merge(batch, index, dtype, rows)
            if array is not None:
                feeds[name] = self._padded(array, rows) if self._fixed_rows > rows else array
        for name, row in self._reshaped_inputs.items():
            feeds[name] = self._reshaped(feeds[name], row)
        merged = monotonic_ns()
        wanted = self._wanted_outputs(batch)
        names = self._output_names if wanted is None else [self._output_names[index] for index in wanted]
        arrays = self._model.run(feeds, names)
        ran = monotonic_ns()
        if self._batches:
            arrays = self._check_rows(names, arrays, rows)
        for name in self._reshaped_outputs.keys() & set(names):
            place = names.index(name)
            arrays[place] = self._reshaped(arrays[place], self._reshaped_outputs[name])
        result = BatchResult(self._output_names, _spread(arrays, wanted, len(self._output_names)), rows)
        outcome = BatchOutcome(started_ns=started, finished_ns=monotonic_ns(), result=result)
        outcome.input_ns = merged - started
        outcome.infer_ns = ran - merged
        return outcome

    def _reshaped(self, array: NDArray[Any], row: Shape) -> NDArray[Any]:
        return array.reshape((array.shape[0], *row) if self._batches else row)

    def _padded(self, array: NDArray[Any], rows: int) -> NDArray[Any]:
        return np.concatenate([array, np.repeat(array[-1:], self._fixed_rows - rows, axis=0)])

    def _wanted_outputs(self, batch: list[InferRequest]) -> list[int] | None:
        """The outputs that somebody in the batch asked for; None for all."""
        wanted: set[int] = set()
        for request in batch:
            if request.outputs is None:
                return None
            wanted.update(request.outputs)
        return sorted(wanted)

    def _check_rows(self, names: list[str], arrays: list[NDArray[Any]], rows: int) -> list[NDArray[Any]]:
        """A batch's outputs must have a row for each row that went in, or rows would reach the wrong caller."""
        ran = max(rows, self._fixed_rows)
        for name, array in zip(names, arrays, strict=True):
            if array.ndim == 0 or array.shape[0] != ran:
                raise ModelFailed(
                    f"output {name!r} has shape {list(array.shape)} for a batch of {ran} rows; "
                    "a model that batches gives one row for each",
                    hint="set max_batch_size: 0 in config.pbtxt if the first dimension is not a batch",
                    output=name,
                )
        return arrays if ran == rows else [array[:rows] for array in arrays]


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
