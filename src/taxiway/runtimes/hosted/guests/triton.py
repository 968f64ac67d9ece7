"""Triton's Python backend: a `model.py` with a class TritonPythonModel, unchanged."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from time import monotonic_ns
from typing import Any

from taxiway.core.errors import InvalidModel, ModelFailed
from taxiway.runtimes.hosted import pb_utils
from taxiway.runtimes.hosted.batch import Answer, Batch, Settled
from taxiway.runtimes.hosted.code import load_code
from taxiway.runtimes.hosted.frames import Learn, Opened, Ran
from taxiway.runtimes.hosted.guest import Source
from taxiway.runtimes.hosted.lines import Lines


class TritonGuest:
    """Runs a TritonPythonModel."""

    def __init__(self, model: Any, lines: Lines, opened: Opened) -> None:  # noqa: ANN401 - the user's class
        self._model = model
        self._lines = lines
        self.opened = opened

    def learn(self, names: Learn) -> None:
        """Runs come next."""
        self._names = names
        self._settled = Settled(names, self._lines.outbox)
        self._every = tuple(spec.name for spec in names.outputs)

    def run(self, batches: Sequence[Batch]) -> None:
        """Execute each of them."""
        for batch in batches:
            self._run(batch)

    def close(self) -> None:
        """Have the model finalize."""
        if hasattr(self._model, "finalize"):
            self._model.finalize()

    def _run(self, batch: Batch) -> None:
        started = monotonic_ns()
        requests = [pb_utils.InferenceRequest.of(request, self._every) for request in batch.requests]
        merged = monotonic_ns()
        answers: Sequence[Answer]
        try:
            answers = _answers(self._model.execute(requests), len(requests))
        except Exception as problem:  # noqa: BLE001 - the boundary: whatever a model raises becomes an answer
            answers = [problem] * len(requests)
        computed = monotonic_ns()
        block, whole, parts = self._settled.each(answers)
        self._lines.mailbox.send(Ran(batch.id, block, started, merged, computed, monotonic_ns(), whole, parts))


def _answers(responses: Any, count: int) -> list[Answer]:  # noqa: ANN401 - whatever the model returned
    if not isinstance(responses, list | tuple) or len(responses) != count:
        told = len(responses) if isinstance(responses, list | tuple) else type(responses).__name__
        raise ModelFailed(f"execute returned {told} for {count} requests; it must return a response for each, in order")
    return [response.answer() for response in responses]


def open_model(source: Source, lines: Lines) -> TritonGuest:
    """Load `model.py` and initialize its model."""
    sys.modules["triton_python_backend_utils"] = pb_utils
    module = load_code(source.file, "model")
    factory = getattr(module, "TritonPythonModel", None)
    if factory is None:
        raise InvalidModel(f"{source.file} holds no class TritonPythonModel")
    model = factory()
    if hasattr(model, "initialize"):
        model.initialize(_arguments(source))
    return TritonGuest(model, lines, Opened())


def _arguments(source: Source) -> dict[str, str]:
    """What `initialize` is given, as Triton gives it."""
    return {
        "model_config": json.dumps(json.loads(source.config)),
        "model_instance_kind": source.kind,
        "model_instance_name": source.instance,
        "model_instance_device_id": str(source.device),
        "model_repository": str(source.directory),
        "model_version": str(source.version),
        "model_name": source.name,
    }
