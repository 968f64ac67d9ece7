"""What stands behind a served version, for tests that look at it."""

from __future__ import annotations

from collections.abc import Callable

from taxiway.core.errors import ModelNotFound
from taxiway.core.ports import InnerAnswer, InnerCall
from taxiway.server.batching.loop import Batcher
from taxiway.server.models.engine import ModelEngine
from taxiway.server.models.served import ServedModel


def engine_of(served: ServedModel) -> ModelEngine:
    """The engine of a version whose model is loaded."""
    assert isinstance(served.engine, ModelEngine)
    return served.engine


def batcher_of(served: ServedModel) -> Batcher:
    """The queue of one that runs batches."""
    queue = engine_of(served).queue
    assert isinstance(queue, Batcher)
    return queue


class NoModels:
    """An `InnerCaller` where there are no models to ask."""

    def call(self, call: InnerCall, answer: Callable[[InnerAnswer], None]) -> Callable[[], None]:
        """Say so."""
        answer(InnerAnswer((), ModelNotFound(f"there is no model '{call.model}'")))
        return lambda: None
