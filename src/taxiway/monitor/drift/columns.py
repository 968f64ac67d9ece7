"""What is watched of a row: numbers and words that are made of its tensors.

An element of a small tensor is a column of its own. A picture is told by its brightness and the like, a long vector
(an embedding) by projections of it, scores of classes by the best of them as well. Which columns there are depends on
names, datatypes and shapes alone.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from taxiway.core.samples import SampledRows, SampledTensor
from taxiway.core.tensors import Datatype
from taxiway.stats.traits import is_picture, picture_numbers, projections, script_of, text_numbers

Side = Literal["input", "prediction"]
MAX_COLUMNS: Final = 64
"""Elements of a row that are watched one by one; a longer one is projected."""
_SUMS_TO_ONE: Final = 0.01


@dataclass(frozen=True, slots=True)
class Column:
    """One feature of all rows.

    Attributes:
        name: as `age`, `x[3]`, `probabilities.confidence`.
        values: numbers [N], NaN where missing; or a list of N words.
    """

    name: str
    side: Side
    values: NDArray[Any] | list[bytes]

    @property
    def is_numeric(self) -> bool:
        """Whether it holds numbers."""
        return isinstance(self.values, np.ndarray)

    def __len__(self) -> int:
        return len(self.values)


Names = Mapping[str, Sequence[str]]
"""What the elements of a tensor are called, by the tensor's name."""


def columns_of(rows: SampledRows, names: Names) -> list[Column]:
    """Everything that is watched of these rows, inputs first."""
    return [
        *(column for name, one in rows.inputs.items() for column in _columns("input", name, one, names)),
        *(column for name, one in rows.outputs.items() for column in _columns("prediction", name, one, names)),
    ]


def array_of(tensor: SampledTensor) -> NDArray[Any] | list[bytes]:
    """Its elements: an array of its shape, of BF16 as FP32; of BYTES a flat list."""
    if tensor.datatype == "BYTES":
        return list(_texts(tensor.data))
    datatype = Datatype.by_name(tensor.datatype)
    assert datatype is not None  # noqa: S101 - the data plane names no others
    array = np.frombuffer(tensor.data, datatype.numpy_dtype)
    if datatype is Datatype.BF16:
        array = (array.astype(np.uint32) << 16).view(np.float32)
    return array.reshape(tensor.shape)


def _columns(side: Side, name: str, tensor: SampledTensor, names: Names) -> Iterator[Column]:
    elements = math.prod(tensor.shape[1:])
    values = array_of(tensor)
    if not elements:
        return
    if isinstance(values, list):
        for place in range(min(elements, MAX_COLUMNS)):
            yield Column(_called(name, place, elements, names), side, values[place::elements])
        return
    yield from _numbers(side, name, values, names)


def _numbers(side: Side, name: str, values: NDArray[Any], names: Names) -> Iterator[Column]:
    flat = values.reshape(len(values), -1)
    elements = flat.shape[1]
    if elements > MAX_COLUMNS:
        yield from _wide(side, name, values)
        return
    for place in range(elements):
        yield Column(_called(name, place, elements, names), side, flat[:, place])
    if side == "prediction" and elements > 1 and values.dtype.kind == "f":
        yield from _scores(name, flat)


def _scores(name: str, flat: NDArray[Any]) -> Iterator[Column]:
    """Of scores of classes: which is best, and how sure that is."""
    yield Column(f"{name}.label", "prediction", flat.argmax(axis=1).astype(np.float32))
    if are_shares(flat):
        yield Column(f"{name}.confidence", "prediction", flat.max(axis=1))


def are_shares(scores: NDArray[Any]) -> bool:
    """Whether these are probabilities of classes, row by row."""
    sums = scores.sum(axis=1)
    return bool(scores.min() >= 0 and np.abs(sums - 1).max() <= _SUMS_TO_ONE)


def _wide(side: Side, name: str, values: NDArray[Any]) -> Iterator[Column]:
    """Of a row that is too long to be watched element by element."""
    with np.errstate(invalid="ignore", over="ignore"):
        told = picture_numbers(values) if is_picture(values.shape[1:]) else projections(values)
    for trait, numbers in told.items():
        yield Column(f"{name}.{trait}", side, numbers.astype(np.float32))


def expanded(columns: Sequence[Column], texts: Collection[str]) -> list[Column]:
    """The same, with those of texts told by what can be counted of them."""
    told: list[Column] = []
    for column in columns:
        if column.name in texts and isinstance(column.values, list):
            numbers = text_numbers(column.values)
            told += [Column(f"{column.name}.{trait}", column.side, one) for trait, one in numbers.items()]
            scripts = [script_of(value).encode() for value in column.values]
            told.append(Column(f"{column.name}.script", column.side, scripts))
        else:
            told.append(column)
    return told


def _called(name: str, place: int, elements: int, names: Names) -> str:
    given = names.get(name, ())
    if place < len(given):
        return given[place]
    return name if elements == 1 else f"{name}[{place}]"


def _texts(data: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "little")
        yield data[at + 4 : at + 4 + size]
        at += 4 + size
