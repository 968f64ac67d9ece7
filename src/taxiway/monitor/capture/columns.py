"""What is written of sampled rows: one column for each tensor, or for each element that has a name."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from taxiway.config.monitoring_capture import CaptureSettings
from taxiway.core.samples import SampledRows, SampledTensor
from taxiway.monitor.drift.columns import array_of

FIXED: Final = ("model", "version", "arm", "request_id", "request_row", "answered_at")
"""Columns of every file."""
MAX_SPLIT: Final = 1024
"""Elements of a row that can be told apart by name; a longer tensor is kept, dropped or hashed as a whole."""
_HASH_BYTES: Final = 16
_BESIDE_BYTES: Final = 60
"""About what a text takes beside its characters."""
_TYPES: Final = {
    "bool": "BOOLEAN",
    "uint8": "UTINYINT",
    "uint16": "USMALLINT",
    "uint32": "UINTEGER",
    "uint64": "UBIGINT",
    "int8": "TINYINT",
    "int16": "SMALLINT",
    "int32": "INTEGER",
    "int64": "BIGINT",
    "float32": "FLOAT",
    "float64": "DOUBLE",
}

Values = NDArray[Any] | list[Any]


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a file.

    Attributes:
        type: as SQL has it; of a list `FLOAT[]`.
        values: numbers [rows] or [rows, elements]; or a list of a text or None, or of texts, for each row.
    """

    name: str
    type: str
    values: Values

    @property
    def nbytes(self) -> int:
        """About what it takes in memory."""
        if isinstance(self.values, np.ndarray):
            return self.values.nbytes
        return sum(_size_of(value) for value in self.values)

    def cells(self) -> list[Any]:
        """A value for each row, as Python has it."""
        return self.values.tolist() if isinstance(self.values, np.ndarray) else self.values


@dataclass(frozen=True, slots=True)
class Redaction:
    """What is kept, and how.

    Args:
        settings: say which names are kept, dropped and hashed.
        key: of the hashes; empty if none is made.
        features: what the elements of tensors are called, by the tensor's name.
    """

    settings: CaptureSettings
    key: bytes
    features: Mapping[str, Sequence[str]]

    def columns(self, rows: SampledRows, chosen: NDArray[np.bool_]) -> list[Column]:
        """What is written of the chosen requests; `chosen` has a place for each request."""
        of_rows = np.repeat(chosen, rows.counts)
        taken = set(FIXED)
        told = [*self._fixed(rows, chosen)]
        for side, tensors in (("input", rows.inputs), ("output", rows.outputs)):
            for name, tensor in tensors.items():
                shown = name if name not in taken else f"{name}_{side}"
                taken.add(shown)
                told += self._of_tensor(name, shown, _chosen(tensor, of_rows), math.prod(tensor.shape[1:]))
        return list({column.name: column for column in told}.values())

    def _fixed(self, rows: SampledRows, chosen: NDArray[np.bool_]) -> Iterator[Column]:
        counts = [count for count, one in zip(rows.counts, chosen, strict=True) if one]
        total = sum(counts)
        repeated = np.repeat(np.flatnonzero(chosen), counts).tolist()
        yield Column("model", "VARCHAR", [rows.model] * total)
        yield Column("version", "INTEGER", np.full(total, rows.version, np.int32))
        yield Column("arm", "VARCHAR", [rows.arm or None] * total)
        yield from self._ids([rows.ids[at] or None for at in repeated])
        yield Column("request_row", "INTEGER", np.array([at for count in counts for at in range(count)], np.int32))
        times = np.array(rows.times_ns, np.int64) // 1000
        yield Column("answered_at", "TIMESTAMP", times[repeated].view("datetime64[us]"))

    def _ids(self, ids: list[str | None]) -> Iterator[Column]:
        mode = self.settings.redact.get("request_id")
        yield Column("request_id", "VARCHAR", ids if mode is None else [None] * len(ids))
        if mode == "hash":
            hashed = [None if one is None else self._hash(one.encode()) for one in ids]
            yield Column("request_id_hash", "VARCHAR", hashed)

    def _of_tensor(self, name: str, shown: str, values: Values, elements: int) -> Iterator[Column]:
        mode = self.settings.redact.get(name)
        names = self._names(name, elements)
        if mode is None and names and self._is_split(name, names):
            kept = not self.settings.keep or name in self.settings.keep
            for at, own in enumerate(names):
                if kept or own in self.settings.keep:
                    yield from self._written(_free(own, shown, at), _element(values, at), self.settings.redact.get(own))
            return
        if self.settings.keep and name not in self.settings.keep:
            return
        yield from self._written(shown, values, mode or self._whole(name))

    def _names(self, name: str, elements: int) -> list[str]:
        """Of the elements of a row; none if they cannot be told apart."""
        if not 0 < elements <= MAX_SPLIT:
            return []
        given = self.features.get(name, ())
        return [given[at] if at < len(given) else f"{name}[{at}]" for at in range(elements)]

    def _is_split(self, name: str, names: list[str]) -> bool:
        said = {*self.settings.redact, *self.settings.keep}
        return bool(self.features.get(name)) or any(own in said for own in names)

    def _whole(self, name: str) -> str | None:
        """Where one element must not be written and cannot be told apart, none is."""
        begins, named = f"{name}[", self.features.get(name, ())
        modes = {mode for own, mode in self.settings.redact.items() if own.startswith(begins) or own in named}
        return "drop" if "drop" in modes else next(iter(modes), None)

    def _written(self, name: str, values: Values, mode: str | None) -> Iterator[Column]:
        if mode == "hash":
            yield Column(f"{name}_hash", "VARCHAR", [self._hash(one) for one in _bytes(values)])
        elif mode is None:
            yield _plain(name, values)

    def _hash(self, content: bytes) -> str:
        return blake2b(content, digest_size=_HASH_BYTES, key=self.key).hexdigest()


def _chosen(tensor: SampledTensor, of_rows: NDArray[np.bool_]) -> Values:
    """Its chosen rows: numbers [rows] or [rows, elements], or lists of bytes."""
    array = array_of(tensor)
    rows = tensor.shape[0]
    if isinstance(array, list):
        width = len(array) // max(rows, 1)
        parted = [array[at * width : (at + 1) * width] for at in range(rows) if of_rows[at]]
        return [one[0] for one in parted] if len(tensor.shape) == 1 else parted
    flat = array if array.ndim == 1 else array.reshape(rows, -1)
    flat = flat[of_rows]
    return flat.astype(np.float32) if flat.dtype == np.float16 else flat


def _element(values: Values, at: int) -> Values:
    if isinstance(values, np.ndarray):
        return values if values.ndim == 1 else values[:, at]
    return [one if isinstance(one, bytes) else one[at] for one in values]


def _bytes(values: Values) -> Iterator[bytes]:
    """Of each row; texts of a list after their lengths, so that no two lists are alike by chance."""
    for one in values:
        if isinstance(one, list):
            yield b"".join(len(part).to_bytes(4, "little") + part for part in one)
        else:
            yield one if isinstance(one, bytes) else one.tobytes()


def _plain(name: str, values: Values) -> Column:
    if isinstance(values, np.ndarray):
        type_ = _TYPES[values.dtype.name]
        return Column(name, type_ if values.ndim == 1 else f"{type_}[]", np.ascontiguousarray(values))
    if values and isinstance(values[0], list):
        return Column(name, "VARCHAR[]", [[_text(part) for part in one] for one in values])
    return Column(name, "VARCHAR", [_text(one) for one in values])


def _text(content: bytes) -> str:
    return content.decode("utf-8", "backslashreplace")


def _free(name: str, shown: str, at: int) -> str:
    """A feature that is called as a column of every file is told by its place."""
    return f"{shown}[{at}]" if name in FIXED else name


def _size_of(value: object) -> int:
    if isinstance(value, list):
        return sum(_size_of(one) for one in value)
    return _BESIDE_BYTES + (len(value) if isinstance(value, str) else 0)
