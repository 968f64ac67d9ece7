"""Inputs made up from what a model says that it takes: for a first look, where there is no workload yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from taxiway.core.errors import InvalidArgument
from taxiway.core.tensors import Datatype

DIFFERENT: Final = 16
"""So many different requests, lest a cache answer."""

Shapes = Mapping[str, tuple[int, ...]]


def made_up(metadata: Mapping[str, Any], shapes: Shapes, seed: int = 0) -> list[list[dict[str, Any]]]:
    """The inputs of DIFFERENT requests, in OIP's JSON; a size that is free is 1 unless `shapes` says otherwise.

    Raises:
        InvalidArgument: a datatype without a form in JSON, or a shape for an input that there is not.
    """
    declared = metadata.get("inputs", [])
    unknown = sorted(set(shapes) - {one.get("name") for one in declared})
    if unknown:
        known = ", ".join(str(one.get("name")) for one in declared)
        raise InvalidArgument(f"there is no input {unknown[0]!r}", hint=f"inputs are {known}")
    rng = np.random.default_rng(seed)
    return [[_tensor(one, shapes, rng) for one in declared] for _ in range(DIFFERENT)]


def _tensor(declared: Mapping[str, Any], shapes: Shapes, rng: np.random.Generator) -> dict[str, Any]:
    name = str(declared["name"])
    free: Sequence[int] = declared.get("shape", [1])
    shape = list(shapes.get(name, [max(int(size), 1) for size in free]))
    datatype = Datatype.by_name(str(declared.get("datatype")))
    if datatype is None or datatype is Datatype.BF16:
        raise InvalidArgument(
            f"input {name!r} is {declared.get('datatype')}, for which no values can be made up",
            hint="give a workload: --workload requests.jsonl",
        )
    return {"name": name, "shape": shape, "datatype": datatype.wire_name, "data": _values(datatype, shape, rng)}


def _values(datatype: Datatype, shape: Sequence[int], rng: np.random.Generator) -> list[Any]:
    size = int(np.prod(shape))
    if datatype is Datatype.BYTES:
        return [f"text {number}" for number in rng.integers(0, 1000, size)]
    if datatype is Datatype.BOOL:
        return [bool(one) for one in rng.integers(0, 2, size)]
    if datatype.wire_name.startswith("FP"):
        return [float(one) for one in np.round(rng.standard_normal(size), 4)]
    return [int(one) for one in rng.integers(0, 2, size)]  # an index into anything that has two rows
