"""One pass over the calibration data: a histogram of every tensor that some recipe may quantize."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from taxiway.optimize.calibrate.histogram import Histogram
from taxiway.runtimes.onnx import OnnxModel, OnnxOptions, OnnxRuntime

Feeds = Mapping[str, NDArray[Any]]

TENSORS_AT_ONCE = 64
"""Outputs asked for in one run: what bounds the memory of a calibration, together with the batch."""

MOST_ELEMENTS = 1_000_000_000
"""Values looked at, over all tensors: a picture has as many as a hundred sentences. At about 7 ns each."""

FEWEST_CALLS = 4

_PROBE_LENGTHS = (7, 11, 13, 5)
"""Odd lengths that no axis but the sequence's has, mostly."""


@dataclass(frozen=True, slots=True)
class Mask:
    """The input that says which positions are padding, and which axes of each tensor count positions."""

    name: str
    axes: Mapping[str, tuple[int, ...]]


def collect(model: onnx.ModelProto, folder: Path, calls: Iterable[Feeds]) -> dict[str, Histogram]:
    """Histograms by tensor, over all float tensors between the nodes, and the model's own float inputs and outputs.

    Positions that a 0/1 mask input calls padding are left out: what stands there was never looked at.

    Args:
        model: whose values are looked at; with the shapes of its tensors inferred where they can be.
        folder: for the model with all of its tensors as outputs.
        calls: inputs of one run each; the shapes may differ from call to call.
    """
    tensors = _float_tensors(model)
    path = folder / "observed.onnx"
    inputs = {one.name for one in model.graph.input}
    _with_outputs(model, [name for name in tensors if name not in inputs], path)
    session = OnnxRuntime().load(path, OnnxOptions())
    histograms = {name: Histogram() for name in tensors}
    mask: Mask | None = None
    looked = False
    for at, feeds in enumerate(calls):
        if at >= FEWEST_CALLS and sum(one.total for one in histograms.values()) > MOST_ELEMENTS:
            break
        if not looked:
            mask, looked = _find_mask(session, tensors, inputs, feeds), True
        for name, values in _observe(session, tensors, inputs, feeds):
            histograms[name].add(_seen(values, name, mask, feeds))
    path.unlink(missing_ok=True)
    return histograms


def _observe(
    session: OnnxModel, tensors: Sequence[str], inputs: set[str], feeds: Feeds
) -> Iterator[tuple[str, NDArray[Any]]]:
    yield from ((name, feeds[name]) for name in tensors if name in inputs)
    inner = [name for name in tensors if name not in inputs]
    for start in range(0, len(inner), _at_once(len(inner))):
        names = inner[start : start + _at_once(len(inner))]
        yield from zip(names, session.run(dict(feeds), names), strict=True)


def _at_once(tensors: int) -> int:
    """A model of few tensors is run once a call; asking in parts costs as many runs."""
    return max(tensors, 1) if tensors <= 4 * TENSORS_AT_ONCE else TENSORS_AT_ONCE


def _float_tensors(model: onnx.ModelProto) -> list[str]:
    graph = model.graph
    known = {one.name: one.type.tensor_type.elem_type for one in (*graph.value_info, *graph.input, *graph.output)}
    constants = {one.name for one in graph.initializer}
    constants |= {name for node in graph.node if node.op_type == "Constant" for name in node.output}
    produced = [one.name for one in graph.input] + [name for node in graph.node for name in node.output if name]
    return [
        name for name in dict.fromkeys(produced) if name not in constants and known.get(name) == onnx.TensorProto.FLOAT
    ]


def _with_outputs(model: onnx.ModelProto, names: Sequence[str], path: Path) -> None:
    observed = onnx.ModelProto()
    observed.CopyFrom(model)
    there = {one.name for one in observed.graph.output}
    kinds = {one.name: one for one in observed.graph.value_info}
    observed.graph.output.extend(kinds[name] for name in names if name not in there)
    onnx.save(observed, path)


def _find_mask(session: OnnxModel, tensors: Sequence[str], inputs: set[str], feeds: Feeds) -> Mask | None:
    """Cut the inputs to an odd length and see which axes follow."""
    name = next((one for one, values in feeds.items() if "mask" in one.lower() and _is_mask(values)), None)
    if name is None:
        return None
    rows, length = feeds[name].shape
    taken = {size for array in feeds.values() for size in array.shape}
    probe = next((one for one in _PROBE_LENGTHS if one < length and one != rows and one not in taken), None)
    if probe is None:
        return None
    cut = {key: _cut(array, length, probe) for key, array in feeds.items()}
    try:
        seen = list(_observe(session, tensors, inputs, cut))
    except Exception:  # noqa: BLE001 - a model of one fixed length: every position counts, padding too
        return None
    axes = {key: tuple(at for at, size in enumerate(array.shape) if size == probe) for key, array in seen}
    return Mask(name, axes)


def _is_mask(values: NDArray[Any]) -> bool:
    return values.ndim == 2 and values.shape[1] > 1 and bool(np.isin(values, (0, 1)).all())


def _cut(array: NDArray[Any], length: int, to: int) -> NDArray[Any]:
    for axis in (at for at in range(1, array.ndim) if array.shape[at] == length):
        array = np.take(array, np.arange(to), axis=axis)
    return array


def _seen(values: NDArray[Any], name: str, mask: Mask | None, feeds: Feeds) -> NDArray[Any]:
    """The values at positions that are not padding."""
    axes = mask.axes.get(name, ()) if mask is not None else ()
    if mask is None or not axes:
        return values
    real = feeds[mask.name].astype(bool)
    if real.all() or values.shape[0] != real.shape[0]:
        return values
    keep = np.ones(values.shape[: max(axes) + 1], dtype=bool)
    for axis in axes:
        shape = [1] * keep.ndim
        shape[0], shape[axis] = real.shape
        keep &= real.reshape(shape)
    seen: NDArray[Any] = values[keep]
    return seen
