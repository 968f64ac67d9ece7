"""What a request is answered with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from taxiway.runtimes.hosted.batch import Annotated, Answer, Request
from taxiway.runtimes.hosted.frames import Learn
from taxiway.runtimes.hosted.triton.parameters import checked, printed
from taxiway.runtimes.hosted.triton.problems import TritonError
from taxiway.runtimes.hosted.triton.tensors import Tensor


class InferenceResponse:
    """Outputs, or an error."""

    __slots__ = ("_error", "_parameters", "_tensors")

    def __init__(
        self,
        output_tensors: Sequence[Tensor] = (),
        error: TritonError | None = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> None:
        for tensor in output_tensors:
            if not isinstance(tensor, Tensor):
                raise TypeError(f"InferenceResponse(...) takes a list of Tensor, not of {type(tensor).__name__}")
        if error is not None and not isinstance(error, TritonError):
            raise TypeError(f"InferenceResponse(...) takes a TritonError for an error, not {type(error).__name__}")
        self._tensors = list(output_tensors)
        self._error = error
        self._parameters = checked(parameters) if parameters else None

    def output_tensors(self) -> list[Tensor]:
        """Its outputs."""
        return self._tensors

    def has_error(self) -> bool:
        """Whether it is an error."""
        return self._error is not None

    def error(self) -> TritonError | None:
        """The error."""
        return self._error

    def parameters(self) -> str:
        """Its parameters, as JSON."""
        return printed(self._parameters, spaces=True)

    def answer(self, usual: Usual, request: Request) -> Answer:
        """As it goes to the data plane, in answer to `request`."""
        if self._error is not None:
            return self._error.told()
        arrays = {tensor._name: tensor.words() for tensor in self._tensors}
        order = usual.order(arrays, request)
        if order is None and self._parameters is None:
            return arrays
        return Annotated(arrays, order, self._parameters)


class Usual:
    """What answers of a model are like: all outputs in their order, with as many rows as were sent."""

    def __init__(self, names: Learn) -> None:
        self._names = [spec.name for spec in names.outputs]
        self._places = {name: place for place, name in enumerate(self._names)}
        self._batches = names.batches

    def order(self, arrays: Mapping[str, NDArray[Any]], request: Request) -> tuple[int, ...] | None:
        """The places of the outputs as they were given; None if they are as usual."""
        names = list(arrays)
        if names == self._names:
            if not self._batches:
                return None
            rows = request.rows
            if all(array.ndim > 0 and len(array) == rows for array in arrays.values()):
                return None
        return tuple([self._places[name] for name in names if name in self._places])
