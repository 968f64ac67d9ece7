"""From what a server kept of its requests to a workload. Pure."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taxiway.core.tensors import Datatype
from taxiway.profile.requests import Request


def recorded_requests(told: Iterable[Mapping[str, Any]]) -> list[Request]:
    """Requests as `/v2/models/{model}/recording/fetch` tells them, by time, the first at 0 s.

    A tensor with what JSON has no number for (NaN, infinities), or text that is not UTF-8, is left without its data.
    """
    ordered = sorted(told, key=lambda request: int(request["arrived_ns"]))
    if not ordered:
        return []
    start_ns = int(ordered[0]["arrived_ns"])
    return [
        Request(round((int(one["arrived_ns"]) - start_ns) / 1e9, 6), [_tensor(tensor) for tensor in one["inputs"]])
        for one in ordered
    ]


def _tensor(told: Mapping[str, Any]) -> dict[str, Any]:
    tensor = {name: value for name, value in told.items() if name != "raw"}
    datatype = Datatype.by_name(tensor["datatype"])
    if "raw" not in told or datatype is None:
        return tensor
    data = _texts(told["raw"]) if datatype is Datatype.BYTES else _elements(base64.b64decode(told["raw"]), datatype)
    return tensor if data is None else {**tensor, "data": data}


def _texts(raw: Iterable[str]) -> list[str] | None:
    try:
        return [base64.b64decode(item).decode() for item in raw]
    except UnicodeDecodeError:
        return None


def _elements(raw: bytes, datatype: Datatype) -> list[Any] | None:
    array: NDArray[Any] = np.frombuffer(raw, datatype.numpy_dtype)
    if datatype is Datatype.BF16:
        array = (array.astype(np.uint32) << 16).view(np.float32)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        return None
    listed: list[Any] = array.tolist()
    return listed
