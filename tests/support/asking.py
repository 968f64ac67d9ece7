"""One question over both protocols, asked by Triton's own clients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]
_DATATYPES = {"float32": "FP32", "float64": "FP64", "int64": "INT64", "object": "BYTES"}


def ask_both(http: str, grpc: str, model: str, inputs: Arrays) -> dict[str, NDArray[Any]]:
    """What both protocols answer, which is the same to the last bit; addresses are `host:port`. Texts are str."""
    answers = [_ask(client, address, model, inputs) for client, address in ((triton_http, http), (triton_grpc, grpc))]
    assert answers[0].keys() == answers[1].keys()
    for name, array in answers[0].items():
        np.testing.assert_array_equal(array, answers[1][name])
    return {name: _text(array) if array.dtype == object else array for name, array in answers[0].items()}


def _ask(client_of: Any, address: str, model: str, inputs: Arrays) -> dict[str, NDArray[Any]]:
    given = []
    for name, array in inputs.items():
        given.append(client_of.InferInput(name, list(array.shape), _DATATYPES[str(array.dtype)]))
        given[-1].set_data_from_numpy(array)
    with client_of.InferenceServerClient(address) as client:
        result = client.infer(model, given)
    told = result.get_response()
    told = told["outputs"] if isinstance(told, dict) else [{"name": one.name} for one in told.outputs]
    return {one["name"]: result.as_numpy(one["name"]) for one in told}


def _text(array: NDArray[Any]) -> NDArray[Any]:
    return np.array([value.decode() for value in array.ravel()]).reshape(array.shape)


def assert_close(got: NDArray[Any], expected: Any, *, scale: float = 0.0) -> None:
    """The same shape, and each number within a relative 1e-5; an error is never measured against less than `scale`."""
    expected = np.asarray(expected)
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5 * scale)
