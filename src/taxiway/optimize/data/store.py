"""Samples as files, for the process that runs models over them: one `.npz` a group, text as str."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from taxiway.optimize.data.samples import Group, Samples

_INPUT: Final = "input:"
_LABELS, _WHOLE = "labels", "whole"


def write_samples(samples: Samples, folder: Path) -> None:
    """Into a folder of their own."""
    folder.mkdir(parents=True)
    for at, group in enumerate(samples.groups):
        arrays: dict[str, NDArray[Any]] = {_INPUT + name: _plain(values) for name, values in group.inputs.items()}
        if group.labels is not None:
            arrays[_LABELS] = _plain(group.labels)
        np.savez(folder / f"{at:06}.npz", allow_pickle=False, **arrays, **{_WHOLE: np.array(group.whole)})


def load_samples(folder: Path) -> Samples:
    """What `write_samples` wrote."""
    return Samples(tuple(_load(path) for path in sorted(folder.glob("*.npz"))))


def _load(path: Path) -> Group:
    with np.load(path, allow_pickle=False) as stored:
        inputs = {name.removeprefix(_INPUT): _own(stored[name]) for name in stored.files if name.startswith(_INPUT)}
        labels = stored[_LABELS] if _LABELS in stored.files else None
        return Group(inputs, labels, bool(stored[_WHOLE]))


def _plain(values: NDArray[Any]) -> NDArray[Any]:
    if values.dtype != object:
        return values
    flat = [item.decode() if isinstance(item, bytes) else str(item) for item in values.reshape(-1)]
    return np.array(flat, dtype=str).reshape(values.shape)


def _own(values: NDArray[Any]) -> NDArray[Any]:
    """Text goes into a model as bytes."""
    if values.dtype.kind != "U":
        return values
    made = np.empty(values.size, dtype=object)
    made[:] = [str(item).encode() for item in values.reshape(-1)]
    return made.reshape(values.shape)
