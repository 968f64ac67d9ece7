"""What a Triton `model.py` imports as `triton_python_backend_utils`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taxiway.core.errors import ModelFailed
from taxiway.core.tensors import Datatype
from taxiway.runtimes.hosted.batch import Answer, Request


class TritonModelException(Exception):
    """What models raise."""


class TritonError:
    """Why a response has no outputs."""

    def __init__(self, message: str) -> None:
        self._message = message

    def message(self) -> str:
        """What went wrong."""
        return self._message


class Tensor:
    """A named array."""

    __slots__ = ("_array", "_name")

    def __init__(self, name: str, array: NDArray[Any]) -> None:
        self._name = name
        self._array = array

    def name(self) -> str:
        """Its name."""
        return self._name

    def as_numpy(self) -> NDArray[Any]:
        """The array where it lies; nothing is copied."""
        return self._array


class InferenceRequest:
    """One request."""

    _request: Request
    _inputs: list[Tensor]
    _every: Sequence[str]

    @classmethod
    def of(cls, request: Request, every: Sequence[str]) -> InferenceRequest:
        """One that came."""
        made = cls.__new__(cls)
        made._request = request
        made._inputs = [Tensor(name, array) for name, array in request.arrays().items()]
        made._every = every
        return made

    def inputs(self) -> list[Tensor]:
        """Its tensors."""
        return self._inputs

    def requested_output_names(self) -> list[str]:
        """The outputs that are wanted."""
        wanted = self._request.asked.outputs
        return list(self._every if wanted is None else wanted)

    def request_id(self) -> str:
        """The caller's id; empty if it gave none."""
        return self._request.asked.id or ""

    def parameters(self) -> str:
        """The caller's own parameters, as JSON."""
        return json.dumps(self._request.asked.parameters or {})

    def is_cancelled(self) -> bool:
        """Whether nobody waits for it any more."""
        return self._request.is_cancelled()


class InferenceResponse:
    """Outputs, or an error."""

    __slots__ = ("_error", "_tensors")

    def __init__(self, output_tensors: Sequence[Tensor] = (), error: TritonError | None = None) -> None:
        self._tensors = list(output_tensors)
        self._error = error

    def output_tensors(self) -> list[Tensor]:
        """Its outputs."""
        return self._tensors

    def has_error(self) -> bool:
        """Whether it is an error."""
        return self._error is not None

    def error(self) -> TritonError | None:
        """The error."""
        return self._error

    def answer(self) -> Answer:
        """As it goes to the data plane."""
        if self._error is not None:
            return ModelFailed(self._error.message())
        return {tensor.name(): tensor.as_numpy() for tensor in self._tensors}


def get_input_tensor_by_name(request: InferenceRequest, name: str) -> Tensor | None:
    """The request's tensor of this name; None if it has none."""
    return next((tensor for tensor in request.inputs() if tensor.name() == name), None)


def get_output_tensor_by_name(response: InferenceResponse, name: str) -> Tensor | None:
    """The response's tensor of this name; None if it has none."""
    return next((tensor for tensor in response.output_tensors() if tensor.name() == name), None)


def get_input_config_by_name(model_config: dict[str, Any], name: str) -> dict[str, Any] | None:
    """The declared input of this name; None if there is none."""
    return next((one for one in model_config.get("input", ()) if one["name"] == name), None)


def get_output_config_by_name(model_config: dict[str, Any], name: str) -> dict[str, Any] | None:
    """The declared output of this name; None if there is none."""
    return next((one for one in model_config.get("output", ()) if one["name"] == name), None)


def triton_string_to_numpy(name: str) -> Any:  # noqa: ANN401 - a numpy type, as Triton returns it
    """Numpy's type of a TYPE_ name of the configuration; None if there is none."""
    if name == "TYPE_STRING":
        return np.object_
    datatype = Datatype.by_name(name.removeprefix("TYPE_"))
    if datatype is None or datatype is Datatype.BF16:
        return None
    return np.dtype(datatype.numpy_dtype).type if datatype is not Datatype.BOOL else bool
