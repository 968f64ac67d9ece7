"""What of an answer is kept until feedback for it comes, which may be days later: as little as scores it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np

from taxiway.core.tensors import Datatype

MAX_KEPT_BYTES: Final = 64 << 10
"""Of an answer that waits for feedback, for a metric that is a function."""


def label_of(outputs: Sequence[Mapping[str, Any]]) -> int | str | None:
    """What an answer says, of one row: its label, or the place of the best of its scores; None: neither can be told.

    An integer or text output is the label; else the first output of floating point numbers is one score for each class.
    """
    for tensor in outputs:
        if tensor["datatype"] == "BYTES" and _elements(tensor["shape"]) == 1:
            return bytes(tensor["data"][4:]).decode("utf-8", "replace")
        if tensor["datatype"].startswith(("INT", "UINT")) and _elements(tensor["shape"]) == 1:
            return int(numbers_of(tensor["datatype"], tensor["data"])[0])
    for tensor in outputs:
        if tensor["datatype"] in ("FP32", "FP64") and _elements(tensor["shape"]) == tensor["shape"][-1] > 1:
            return int(numbers_of(tensor["datatype"], tensor["data"]).argmax())
    return None


def kept_outputs(outputs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]] | None:
    """Outputs as JSON holds them, for a function that is asked later; None: there are none, or they are too large."""
    if not outputs or sum(len(tensor["data"]) for tensor in outputs) > MAX_KEPT_BYTES:
        return None
    kept: list[dict[str, Any]] = msgspec.to_builtins(list(outputs))
    return kept


def unpacked(outputs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What `kept_outputs` made, as it was."""
    return [{**tensor, "data": msgspec.convert(tensor["data"], bytes)} for tensor in outputs]


def numbers_of(datatype: str, data: bytes) -> Any:  # noqa: ANN401 - an array of any type
    """The numbers of a tensor that is not of texts, without its shape; of BF16, which NumPy does not know, as FP32."""
    found = Datatype.by_name(datatype)
    assert found is not None  # noqa: S101 - the data plane names no others
    numbers = np.frombuffer(data, found.numpy_dtype)
    return (numbers.astype(np.uint32) << 16).view(np.float32) if found is Datatype.BF16 else numbers


def _elements(shape: Sequence[int]) -> int:
    return int(np.prod(shape)) if len(shape) else 0
