"""Warm-up: requests run before a version is ready, as `model_warmup` in its configuration asks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taxiway.config.model_spec import ModelSpec, WarmupData, WarmupInput, WarmupRequest
from taxiway.core.errors import InvalidModel, TaxiwayError
from taxiway.core.ports import LoadedModel
from taxiway.core.tensors import Datatype, Shape, count_elements
from taxiway.server.models.measure import sample_feeds

_SEED = 20_26
_RANDOM_TEXT_CHARS = 8
_PREFIX_BYTES = 4


def warm_up(model: LoadedModel, spec: ModelSpec, default_runs: int) -> None:
    """Run the configured requests, or zeros if there are none.

    Raises:
        InvalidModel: a configured request fails; the version must not become ready.
    """
    names = [output.name for output in spec.outputs]
    for request in spec.warmup:
        feeds = {name: _feed(given, name, request, spec) for name, given in request.inputs.items()}
        unsaid = [one for one in spec.inputs if one.name not in feeds and not one.optional]  # a stateful model's own
        feeds |= sample_feeds(unsaid, {}, request.rows if spec.max_batch_size else 0, 1)
        _run(model, feeds, names, request)
    if not spec.warmup:
        _run_default(model, spec, names, default_runs)


def _run(model: LoadedModel, feeds: Mapping[str, NDArray[Any]], names: list[str], request: WarmupRequest) -> None:
    try:
        for _ in range(request.runs):
            model.run(feeds, names)
    except TaxiwayError as error:
        raise InvalidModel(
            f"warm-up request {request.name!r} failed: {error.message}",
            hint="correct model_warmup in config.pbtxt: its inputs must be ones the model takes",
        ) from error


def _run_default(model: LoadedModel, spec: ModelSpec, names: list[str], runs: int) -> None:
    feeds = sample_feeds(spec.inputs, spec.reshapes, 1 if spec.max_batch_size else 0, 32)
    for _ in range(runs):
        try:
            model.run(feeds, names)
        except TaxiwayError:
            return  # zeros of a guessed shape say nothing about the model


def _feed(given: WarmupInput, name: str, request: WarmupRequest, spec: ModelSpec) -> NDArray[Any]:
    """The input as the file takes it: reshaped, and the one row that was configured as often as there are rows."""
    array = _content(given)
    own = spec.reshapes.get(name)
    if own is not None:
        try:
            array = array.reshape(own)
        except ValueError as problem:
            raise InvalidModel(
                f"warm-up request {request.name!r}: {name!r} has dims {list(given.shape)}, which do not reshape to "
                f"{list(own)}",
                hint="correct model_warmup in config.pbtxt: its dims must be the input's",
            ) from problem
    return np.repeat(array[np.newaxis], request.rows, axis=0) if spec.max_batch_size else array


def _content(given: WarmupInput) -> NDArray[Any]:
    """The configured shape, filled."""
    if given.datatype is Datatype.BYTES:
        return _texts(given)
    dtype = np.dtype(given.datatype.numpy_dtype)
    if given.data is WarmupData.RANDOM:
        return np.random.default_rng(_SEED).random(given.shape).astype(dtype)
    if given.data is WarmupData.FILE and given.file is not None:
        raw = given.file.read_bytes()
        needed = count_elements(given.shape) * dtype.itemsize
        if len(raw) != needed:
            raise InvalidModel(
                f"warm-up file {given.file} has {len(raw)} bytes; its shape {list(given.shape)} needs {needed}",
                hint="write the elements of one row, little-endian; they are repeated for every row of the batch",
            )
        return np.frombuffer(raw, dtype).reshape(given.shape)
    return np.zeros(given.shape, dtype)


def _texts(given: WarmupInput) -> NDArray[Any]:
    count = count_elements(given.shape)
    items = [b""] * count
    if given.data is WarmupData.RANDOM:
        letters = np.random.default_rng(_SEED).integers(ord("a"), ord("z") + 1, (count, _RANDOM_TEXT_CHARS), np.uint8)
        items = [row.tobytes() for row in letters]
    elif given.data is WarmupData.FILE and given.file is not None:
        items = _split(given.file.read_bytes(), given.file, given.shape)
    return _objects(items, given.shape)


def _objects(items: list[bytes], shape: Shape) -> NDArray[Any]:
    made = np.empty(len(items), dtype=object)
    made[:] = items
    return made.reshape(shape)


def _split(raw: bytes, file: Path, shape: Shape) -> list[bytes]:
    """Elements as Triton writes them: each after its length in four bytes, little-endian."""
    items: list[bytes] = []
    at = 0
    while at + _PREFIX_BYTES <= len(raw):
        start = at + _PREFIX_BYTES
        at = start + int.from_bytes(raw[at:start], "little")
        items.append(raw[start:at])
    if at != len(raw) or len(items) != count_elements(shape):
        raise InvalidModel(
            f"warm-up file {file} holds {len(items)} elements in {len(raw)} bytes; its shape {list(shape)} needs "
            f"{count_elements(shape)}, and nothing after them",
            hint="write each element after its length in 4 bytes, little-endian (tritonclient's serialize_byte_tensor)",
        )
    return items
