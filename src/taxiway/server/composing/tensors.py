"""Tensors on their way through an ensemble: out of its request, into its steps, into its answer; none is copied."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from taxiway.config.model_spec import ModelSpec
from taxiway.core.errors import ModelFailed
from taxiway.core.ports import InnerTensor
from taxiway.core.requests import BatchResult, InferRequest, InputTensor
from taxiway.core.tensors import Datatype, Shape, TensorSpec
from taxiway.server.composing.plan import Step, fit_shape


class Value(NamedTuple):
    """A tensor of the graph; `rows` is how many its first dimension counts, 0 if its giver does not batch."""

    array: NDArray[Any]
    datatype: Datatype
    rows: int


class TensorCodec:
    """Reads the requests of one ensemble and makes its answers."""

    def __init__(self, spec: ModelSpec) -> None:
        self._inputs = spec.inputs
        self._outputs = spec.outputs
        self._names = tuple(output.name for output in spec.outputs)
        self._reshapes = spec.reshapes
        self._batches = spec.max_batch_size > 0

    def asked(self, request: InferRequest) -> list[str] | None:
        """The outputs that a request asks for; None: all."""
        return None if request.outputs is None else [self._names[index] for index in request.outputs]

    def read(self, request: InferRequest) -> dict[str, Value | None]:
        """The inputs of a request by name, in its own memory; None for one that it left out."""
        rows = request.rows if self._batches else 0
        pairs = zip(self._inputs, request.inputs, strict=True)
        return {
            spec.name: None if tensor is None else Value(self._array(spec, tensor, rows), spec.datatype, rows)
            for spec, tensor in pairs
        }

    def feed(self, step: Step, inputs: Mapping[str, Value]) -> Iterator[InnerTensor]:
        """What a step is asked with: its tensors in the shape that its model takes."""
        for name, value in inputs.items():
            array = _fitted(value, step.shapes[name], batches=step.batches)
            yield InnerTensor(name, value.datatype, array)

    def answer(self, request: InferRequest, outputs: Mapping[str, Value]) -> BatchResult:
        """The answer to a request; a place is empty (None) that nobody asked for, or that its step left out.

        Raises:
            ModelFailed: an output has not the rows of the request.
        """
        arrays: list[Any] = [None] * len(self._outputs)
        for index, spec in enumerate(self._outputs):
            value = outputs.get(spec.name)
            if value is not None:
                arrays[index] = self._told(spec, value)
        rows = request.rows
        if self._batches:
            rows = next((array.shape[0] for array in arrays if array is not None and array.ndim), request.rows)
            self._check_rows(arrays, rows)
        return BatchResult(self._names, arrays, rows)

    def _array(self, spec: TensorSpec, tensor: InputTensor, rows: int) -> NDArray[Any]:
        array: NDArray[Any]
        if spec.datatype is Datatype.BYTES:
            array = np.empty(len(tensor.data), dtype=object)
            array[:] = tensor.data
            array = array.reshape(tensor.shape)
        else:
            array = np.ndarray(tensor.shape, spec.datatype.numpy_dtype, tensor.data)
        own = self._reshapes.get(spec.name)
        return array if own is None else array.reshape((rows, *own) if rows else own)

    def _told(self, spec: TensorSpec, value: Value) -> NDArray[Any]:
        own = self._reshapes.get(spec.name)
        array = _fitted(value, spec.shape if own is None else own, batches=self._batches)
        if own is None:
            return array
        return array.reshape((array.shape[0], *spec.shape) if self._batches else spec.shape)

    def _check_rows(self, arrays: list[Any], rows: int) -> None:
        for spec, array in zip(self._outputs, arrays, strict=True):
            if array is not None and array.shape[:1] != (rows,):
                raise ModelFailed(
                    f"output {spec.name!r} has shape {list(array.shape)} for {rows} rows; "
                    "an ensemble that batches gives one row for each",
                    hint="set max_batch_size: 0 in its config.pbtxt if the first dimension is not a batch",
                    output=spec.name,
                )


def _fitted(value: Value, declared: Shape, *, batches: bool) -> NDArray[Any]:
    shape = fit_shape(declared, value.array.shape, value.rows, batches=batches)
    return value.array if shape == value.array.shape else value.array.reshape(shape)
