"""A reference made of data: rows from a file, and what the model answers to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from taxiway.core.errors import InvalidData, NotFound
from taxiway.core.samples import SampledRows, SampledTensor
from taxiway.core.tensors import Datatype

Arrays = Mapping[str, NDArray[Any]]
MAX_ROWS: Final = 50_000
"""Of more rows so many are drawn by chance: cells need no more."""
_AT_ONCE: Final = 256


def read_arrays(path: Path, inputs: Sequence[Mapping[str, Any]], *, seed: int = 0) -> dict[str, NDArray[Any]]:
    """The arrays of an .npz that a model's inputs are called by, rows first, in the datatypes that it takes.

    Args:
        path: of the file.
        inputs: as the model's metadata names them: name, datatype, shape.
        seed: of the draw, where there are more rows than are wanted.

    Raises:
        NotFound: there is no such file.
        InvalidData: it is no .npz, or its arrays are not the model's inputs.
    """
    wanted = {one["name"]: one["datatype"] for one in inputs}
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in wanted if name in archive.files}
            others = [name for name in archive.files if name not in wanted]
    except FileNotFoundError:
        raise NotFound(f"there is no file {path}", hint="name an .npz with an array for each input") from None
    except (OSError, ValueError) as problem:
        raise InvalidData(f"{path} is no .npz of plain arrays: {problem}", hint="numpy.savez writes one") from None
    if missing := [name for name in wanted if name not in arrays]:
        raise InvalidData(
            f"{path} has no array {missing[0]!r}; it has {', '.join(others) or 'none'}",
            hint=f"the model takes {', '.join(wanted)}: call the arrays so",
        )
    rows = {len(array) if array.ndim else 0 for array in arrays.values()}
    if len(rows) != 1:
        raise InvalidData(f"the arrays of {path} have {sorted(rows)} rows", hint="give each input the same number")
    chosen = _chosen(rows.pop(), seed)
    return {name: _typed(array[chosen], wanted[name], name) for name, array in arrays.items()}


def rows_of(model: str, version: int, inputs: Arrays, outputs: Arrays) -> SampledRows:
    """Arrays as rows that were sampled."""
    rows = len(next(iter([*inputs.values(), *outputs.values()])))
    return SampledRows(
        model=model,
        version=version,
        arm="",
        seen=rows,
        dropped=0,
        began_ns=0,
        ended_ns=0,
        ids=("",),
        times_ns=(0,),
        counts=(rows,),
        inputs={name: _tensor(array) for name, array in inputs.items()},
        outputs={name: _tensor(array) for name, array in outputs.items()},
    )


def answers_of(
    infer: Callable[[list[dict[str, Any]]], list[dict[str, Any]]], inputs: Arrays, types: Mapping[str, str]
) -> dict[str, NDArray[Any]]:
    """What a model answers to these rows, a few hundred at a time.

    Args:
        infer: asks it: tensors of the Open Inference Protocol in JSON, in and out.
        inputs: the rows.
        types: datatypes of the inputs, by name.
    """
    parts: dict[str, list[NDArray[Any]]] = {}
    for slice_of in _slices(len(next(iter(inputs.values())))):
        asked = [_json(name, array[slice_of], types[name]) for name, array in inputs.items()]
        for told in infer(asked):
            parts.setdefault(told["name"], []).append(_read(told))
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}


def _chosen(rows: int, seed: int) -> NDArray[np.intp]:
    if rows <= MAX_ROWS:
        return np.arange(rows)
    return np.sort(np.random.default_rng(seed).choice(rows, MAX_ROWS, replace=False))


def _slices(rows: int) -> Iterator[slice]:
    return (slice(start, start + _AT_ONCE) for start in range(0, rows, _AT_ONCE))


def _typed(array: NDArray[Any], datatype: str, name: str) -> NDArray[Any]:
    if datatype == "BYTES":
        return np.array([str(item).encode() for item in array.reshape(-1)], dtype=object).reshape(array.shape)
    found = Datatype.by_name(datatype)
    if found is None or found is Datatype.BF16 or array.dtype.kind not in "biuf":
        raise InvalidData(f"array {name!r} is of {array.dtype}; the model takes {datatype}", hint="give it numbers")
    return np.asarray(array, found.numpy_dtype)


def _tensor(array: NDArray[Any]) -> SampledTensor:
    if array.dtype == object:
        data = b"".join(len(item).to_bytes(4, "little") + item for item in array.reshape(-1))
        return SampledTensor("BYTES", array.shape, data)
    datatype = next(one for one in Datatype if one is not Datatype.BYTES and np.dtype(one.numpy_dtype) == array.dtype)
    return SampledTensor(datatype.wire_name, array.shape, np.ascontiguousarray(array).tobytes())


def _json(name: str, array: NDArray[Any], datatype: str) -> dict[str, Any]:
    flat = array.reshape(-1)
    data = [item.decode("utf-8", "replace") for item in flat] if datatype == "BYTES" else flat.tolist()
    return {"name": name, "datatype": datatype, "shape": list(array.shape), "data": data}


def _read(told: Mapping[str, Any]) -> NDArray[Any]:
    if told["datatype"] == "BYTES":
        return np.array([str(item).encode() for item in told["data"]], dtype=object).reshape(told["shape"])
    found = Datatype.by_name(told["datatype"])
    dtype = np.dtype(np.float32) if found is None or found is Datatype.BF16 else np.dtype(found.numpy_dtype)
    return np.array(told["data"], dtype=dtype).reshape(told["shape"])
