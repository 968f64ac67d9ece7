"""What a request is answered with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from taxiway.runtimes.hosted.batch import Annotated, Answer
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

    def answer(self) -> Answer:
        """As it goes to the data plane."""
        if self._error is not None:
            return self._error.told()
        arrays = {tensor._name: tensor.words() for tensor in self._tensors}
        return arrays if self._parameters is None else Annotated(arrays, self._parameters)
