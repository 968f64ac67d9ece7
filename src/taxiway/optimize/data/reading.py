"""Reads data and holds each array against the model's inputs: names, datatypes, shapes, numbers that are numbers."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taxiway.core.errors import InvalidArgument, InvalidData, NotFound
from taxiway.core.tensors import TensorSpec
from taxiway.optimize.data.samples import Group, Samples

LABELS = ("label", "labels", "y", "target", "targets")
"""Names of arrays that hold the truth, unless the model has an input of that name."""

MOST_BYTES = 4 << 30
_SHOWN = 5


def read_samples(source: str, inputs: Sequence[TensorSpec], *, field: str = "data") -> Samples:
    """Samples for a model with these inputs.

    Args:
        source: an `.npz` with an array for each input, and `label` for the truth if it is known; a directory of such
            files, whose shapes may differ; or `module:function` or `file.py:function`, called without arguments, that
            gives such mappings. An array of the input's own rank holds rows; of one axis more, whole calls. Rows of a
            model that takes one at a time are calls.
        inputs: what the model asks for.
        field: how errors call the source.

    Raises:
        InvalidData: every problem found, with the array, its value and the rule.
        NotFound: there is no such file.
    """
    pieces = list(_pieces(source, field))
    if not pieces:
        raise InvalidData(f"{field}: {source} holds no data", hint="give at least one .npz with the model's inputs")
    problems: list[str] = []
    groups = [_group(arrays, name, inputs, problems) for name, arrays in pieces]
    if problems:
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise InvalidData(
            f"{field}: {'; '.join(problems[:_SHOWN])}{more}",
            hint="the model takes " + ", ".join(map(_in_words, inputs)),
            source=source,
        )
    found = [group for group in groups if group is not None and len(group)]
    if len({group.labels is None for group in found}) > 1:
        raise InvalidData(
            f"{field}: some files have labels and some have none", hint="give all of them labels, or none"
        )
    return Samples(tuple(found))


def _pieces(source: str, field: str) -> Iterable[tuple[str, Mapping[str, NDArray[Any]]]]:
    path = Path(source)
    if path.is_dir():
        yield from ((one.name, _read_npz(one, field)) for one in sorted(path.glob("*.npz")))
    elif path.suffix == ".npz":
        if not path.is_file():
            raise NotFound(f"{field}: there is no file {source}", hint="check the path", value=source)
        yield path.name, _read_npz(path, field)
    elif ":" in source:
        yield from _called(source, field)
    else:
        raise InvalidArgument(
            f"{field}: {source!r} is neither an .npz, nor a directory of them, nor module:function",
            hint="numpy.savez(PATH, **{input name: array, ..., 'label': array}) writes one",
            value=source,
        )


def _read_npz(path: Path, field: str) -> dict[str, NDArray[Any]]:
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(one.file_size for one in archive.infolist())
        if size > MOST_BYTES:
            raise InvalidData(
                f"{field}: {path} unpacks to {size} bytes, more than {MOST_BYTES}", hint="give fewer samples"
            )
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (OSError, ValueError, zipfile.BadZipFile) as problem:
        raise InvalidData(
            f"{field}: {path} cannot be read: {problem}",
            hint="numpy.savez(PATH, **arrays) writes one; text is an array of dtype str, never of objects",
            path=str(path),
        ) from problem


def _called(source: str, field: str) -> Iterable[tuple[str, Mapping[str, NDArray[Any]]]]:
    given = find_function(source, field)()
    pieces = [given] if isinstance(given, Mapping) else list(given)
    for at, piece in enumerate(pieces):
        if not isinstance(piece, Mapping):
            raise InvalidData(
                f"{field}: {source} gave a {type(piece).__name__} as its item {at}, not a mapping of arrays",
                hint="return {input name: array} or an iterable of such",
            )
        yield f"{source}[{at}]", {str(name): np.asarray(array) for name, array in piece.items()}


def find_function(source: str, field: str) -> Callable[..., Any]:
    """The function that `module:function` or `file.py:function` names; the user's own code, which runs here.

    Raises:
        NotFound: there is none.
    """
    place, _, name = source.rpartition(":")
    try:
        module = _load_file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
        function = getattr(module, name)
    except (ImportError, OSError, AttributeError) as problem:
        raise NotFound(
            f"{field}: there is no function {source!r}: {problem}",
            hint="write module:function, importable from here, or path/to/file.py:function",
            value=source,
        ) from problem
    if not callable(function):
        raise InvalidArgument(f"{field}: {source!r} is no function", hint="name a function", value=source)
    found: Callable[..., Any] = function
    return found


def _load_file(path: Path) -> Any:  # noqa: ANN401 - a module of the user's
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    spec = importlib.util.spec_from_file_location(f"taxiway_user_{path.stem}", path)
    assert spec is not None  # noqa: S101 - its ending is .py
    assert spec.loader is not None  # noqa: S101 - likewise
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _group(
    arrays: Mapping[str, NDArray[Any]], name: str, inputs: Sequence[TensorSpec], problems: list[str]
) -> Group | None:
    """The samples of one piece, or None with the reasons added to `problems`."""
    wanted = {spec.name: spec for spec in inputs}
    before = len(problems)
    label = next((one for one in LABELS if one in arrays and one not in wanted), None)
    missing = [one for one in wanted if one not in arrays]
    unknown = [one for one in arrays if one not in wanted and one != label]
    if missing:
        problems.append(f"{name}: no array for the input{'s' * (len(missing) > 1)} {', '.join(missing)}")
    if unknown:
        problems.append(f"{name}: {', '.join(unknown)}: the model has no such input")
    if missing or unknown:
        return None
    whole = any(arrays[spec.name].ndim == len(spec.shape) + 1 for spec in inputs)
    taken = {spec.name: _checked(arrays[spec.name], spec, name, problems, whole=whole) for spec in inputs}
    labels = arrays[label] if label is not None else None
    counts = {one: len(array) for one, array in taken.items() if array is not None}
    if label is not None and labels is not None:
        counts[label] = len(labels) if labels.ndim else 0
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{one} has {count}" for one, count in counts.items())
        problems.append(f"{name}: arrays of different numbers of samples: {told}")
    fixed = {spec.name: spec.shape[0] for spec in inputs if spec.shape and spec.shape[0] != -1}
    if not whole and any(size != 1 for size in fixed.values()):
        told = ", ".join(f"{one} takes {size} rows" for one, size in fixed.items())
        problems.append(f"{name}: {told} at a time, no more and no less: give whole calls, with an axis of calls first")
    if len(problems) > before:
        return None
    arrays = {one: array for one, array in taken.items() if array is not None}
    if fixed and not whole:  # a row at a time is a call at a time
        return Group({one: array[:, None] for one, array in arrays.items()}, labels, whole=True)
    return Group(arrays, labels, whole)


def _checked(
    array: NDArray[Any], spec: TensorSpec, name: str, problems: list[str], *, whole: bool
) -> NDArray[Any] | None:
    shape = (-1, *spec.shape) if whole else (-1, *spec.shape[1:])
    if array.ndim != len(shape) or any(want not in (-1, got) for want, got in zip(shape, array.shape, strict=False)):
        problems.append(
            f"{name}: {spec.name} is {list(array.shape)}, not {list(shape)} (-1: any; a leading axis of samples)"
        )
        return None
    dtype = np.dtype(spec.datatype.numpy_dtype)
    if dtype.kind == "O":
        return array.astype(object)
    if array.dtype.kind not in "biuf" or not np.can_cast(array.dtype, dtype, "same_kind"):
        problems.append(f"{name}: {spec.name} is of dtype {array.dtype}, not {dtype}")
        return None
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        first = int(np.flatnonzero(~np.isfinite(array.reshape(len(array), -1)).all(axis=1))[0])
        count = int((~np.isfinite(array)).sum())
        problems.append(f"{name}: {spec.name} holds {count} values that are NaN or infinite, first in sample {first}")
        return None
    return np.ascontiguousarray(array, dtype=dtype)


def _in_words(spec: TensorSpec) -> str:
    return f"{spec.name}: {spec.datatype.wire_name}{list(spec.shape)}"
