"""Warm-up: requests run before a version is ready, as `model_warmup` in its configuration asks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taxiway.config.model_spec import ModelSpec, WarmupData, WarmupInput, WarmupRequest
from taxiway.core.errors import InvalidModel, TaxiwayError
from taxiway.core.ports import LoadedModel
from taxiway.core.tensors import Datatype, count_elements
from taxiway.server.models.measure import sample_feeds

_SEED = 20_26


def warm_up(model: LoadedModel, spec: ModelSpec, default_runs: int) -> None:
    """Run the configured requests, or zeros if there are none.

    Raises:
        InvalidModel: a configured request fails; the version must not become ready.
    """
    names = [output.name for output in spec.outputs]
    for request in spec.warmup:
        feeds = {name: _content(given, request, spec.max_batch_size > 0) for name, given in request.inputs.items()}
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


def _content(given: WarmupInput, request: WarmupRequest, batches: bool) -> NDArray[Any]:
    shape = (request.rows, *given.shape) if batches else given.shape
    dtype = np.dtype(given.datatype.numpy_dtype)
    if given.datatype is Datatype.BYTES:
        return np.full(shape, b"", dtype=object)
    if given.data is WarmupData.RANDOM:
        random = np.random.default_rng(_SEED)
        return random.random(shape).astype(dtype)
    if given.data is WarmupData.FILE and given.file is not None:
        raw = given.file.read_bytes()
        needed = count_elements(shape) * dtype.itemsize
        if len(raw) != needed:
            raise InvalidModel(f"warm-up file {given.file} has {len(raw)} bytes; its shape needs {needed}")
        return np.frombuffer(raw, dtype).reshape(shape)
    return np.zeros(shape, dtype)
