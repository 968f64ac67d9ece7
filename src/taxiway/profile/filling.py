"""Content for tensors of which only the shape is known: normal numbers, small integers, short texts. Pure.

A model whose work depends on its input (a language model, a detector) is not profiled by made-up content: record with
`--with-inputs` for those.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from taxiway.core.errors import InvalidArgument
from taxiway.core.tensors import Datatype, count_elements

_MAX_ELEMENTS: Final = 1 << 28
_WORDS: Final = ("time", "person", "year", "way", "day", "thing", "world", "life", "hand", "part")


def fill_inputs(inputs: Sequence[dict[str, Any]], rng: np.random.Generator) -> list[dict[str, Any]]:
    """The same tensors, each with data: flat, as the Open Inference Protocol has it in JSON.

    Raises:
        InvalidArgument: a datatype is not known, or a shape has 2^28 elements or more.
    """
    return [tensor if tensor.get("data") is not None else {**tensor, "data": _filled(tensor, rng)} for tensor in inputs]


def _filled(tensor: dict[str, Any], rng: np.random.Generator) -> list[Any]:
    datatype = Datatype.by_name(tensor["datatype"])
    elements = count_elements(tuple(tensor["shape"]))
    if datatype is None or elements >= _MAX_ELEMENTS:
        raise InvalidArgument(
            f"input {tensor['name']!r}, {tensor['datatype']!r} of shape {tensor['shape']}, cannot be made up",
            hint="give its data in the workload",
        )
    if datatype is Datatype.BYTES:
        return [" ".join(words) for words in rng.choice(_WORDS, (elements, 8)).tolist()]
    drawn: NDArray[Any] = _draw(datatype, elements, rng)
    listed: list[Any] = drawn.tolist()
    return listed


def _draw(datatype: Datatype, elements: int, rng: np.random.Generator) -> NDArray[Any]:
    if datatype is Datatype.BOOL:
        return rng.random(elements) < 0.5
    if datatype in (Datatype.FP16, Datatype.FP32, Datatype.FP64, Datatype.BF16):
        return rng.standard_normal(elements, np.float32).round(4)
    return rng.integers(0, 100, elements)  # within every integer type, and within most vocabularies
