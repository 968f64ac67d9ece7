"""A recorded workload as runs to take the time of: the shapes and the contents that production asks with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taxiway.core.errors import InvalidWorkload
from taxiway.core.tensors import TensorSpec
from taxiway.optimize.data.samples import Group, Samples
from taxiway.profile.requests import Request
from taxiway.profile.workload import read_workload

MOST = 256


def racing_samples(path: Path, inputs: Sequence[TensorSpec]) -> Samples:
    """Whole calls, grouped by their shapes; at most `MOST`, spread over the file.

    Raises:
        InvalidWorkload: it cannot be read, or a request's tensors are not the model's, or have no content.
    """
    requests = read_workload(path).requests
    places = sorted({int(at) for at in np.linspace(0, len(requests) - 1, min(MOST, len(requests)))}) if requests else []
    by_shape: dict[tuple[Any, ...], list[dict[str, NDArray[Any]]]] = {}
    for at in places:
        call = _call(path, at + 1, requests[at], inputs)
        by_shape.setdefault(tuple(array.shape for array in call.values()), []).append(call)
    if not by_shape:
        raise InvalidWorkload(f"workload: {path} holds no requests", hint="`taxiway record` makes one", path=str(path))
    groups = [
        Group({spec.name: np.stack([call[spec.name] for call in calls]) for spec in inputs}, None, whole=True)
        for calls in by_shape.values()
    ]
    return Samples(tuple(groups))


def _call(path: Path, number: int, request: Request, inputs: Sequence[TensorSpec]) -> dict[str, NDArray[Any]]:
    given = {str(tensor.get("name")): tensor for tensor in request.inputs or ()}
    call = {}
    for spec in inputs:
        tensor = given.get(spec.name)
        if tensor is None or "data" not in tensor:
            raise InvalidWorkload(
                f"workload: request {number} of {path} has no content for the input {spec.name!r}",
                hint="record with --with-inputs, or leave --workload out: the data's own rows are timed then",
                path=str(path),
            )
        call[spec.name] = _array(path, number, tensor, spec)
    return call


def _array(path: Path, number: int, tensor: dict[str, Any], spec: TensorSpec) -> NDArray[Any]:
    dtype = np.dtype(spec.datatype.numpy_dtype)
    try:
        if dtype.kind == "O":
            flat = np.array([str(one).encode() for one in np.asarray(tensor["data"]).reshape(-1)], dtype=object)
            array = flat.reshape(tensor["shape"])
        else:
            array = np.asarray(tensor["data"], dtype=dtype).reshape(tensor["shape"])
    except (TypeError, ValueError) as problem:
        raise InvalidWorkload(
            f"workload: request {number} of {path}: {spec.name}: {problem}",
            hint=f"the model takes {spec.datatype.wire_name}{list(spec.shape)}",
            path=str(path),
        ) from problem
    if not spec.accepts(array.shape):
        raise InvalidWorkload(
            f"workload: request {number} of {path}: {spec.name} is {list(array.shape)}, not {list(spec.shape)}",
            hint="record it from a server of this model",
            path=str(path),
        )
    return array
