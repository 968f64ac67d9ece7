"""What stands behind a served version, for tests that look at it."""

from __future__ import annotations

from collections.abc import Callable

from taxiway.core.errors import ModelNotFound
from taxiway.core.ports import InnerAnswer, InnerCall
from taxiway.server.models.engine import BatchEngine
from taxiway.server.models.served import ServedModel


def batch_engine(served: ServedModel) -> BatchEngine:
    """The engine of a version that runs batches."""
    assert isinstance(served.engine, BatchEngine)
    return served.engine


class NoModels:
    """An `InnerCaller` where there are no models to ask."""

    def call(self, call: InnerCall, answer: Callable[[InnerAnswer], None]) -> Callable[[], None]:
        """Say so."""
        answer(InnerAnswer((), ModelNotFound(f"there is no model '{call.model}'")))
        return lambda: None
