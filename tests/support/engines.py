"""What stands behind a served version, for tests that look at it."""

from __future__ import annotations

from taxiway.server.models.engine import BatchEngine
from taxiway.server.models.served import ServedModel


def batch_engine(served: ServedModel) -> BatchEngine:
    """The engine of a version that runs batches."""
    assert isinstance(served.engine, BatchEngine)
    return served.engine
