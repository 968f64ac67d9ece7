"""What is wanted of one stateful model's sequences: places, waits and limits. Values only."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

from taxiway.config.sequence_spec import DirectStrategy, OldestStrategy
from taxiway.server.batching.plan import QueueLimits


@dataclass(frozen=True, slots=True)
class SequencePlan:
    """How the sequences of one model version are run.

    Attributes:
        model: its name, for messages.
        strategy: how steps are put together.
        rows: of the model; 1 where it does not batch.
        merged_rows: that one run may have; fewer than `rows` for a model that answers each request in parts.
        instances: runs that may go on at the same time, each with sequences of its own.
        max_idle_ns: how long a sequence may be without a step that waits or runs; then its place is given to another.
        limits: what may wait in all.
        strict_timeouts: a step is given up at its deadline wherever it waits; otherwise, as in Triton, only while its
            sequence waits for a place.
        initial_shapes: of the states that a sequence begins with; equal for all sequences.
    """

    model: str
    strategy: DirectStrategy | OldestStrategy
    rows: int = 1
    merged_rows: int = 1
    instances: int = 1
    max_idle_ns: int = 1_000_000_000
    limits: QueueLimits = field(default_factory=QueueLimits)
    strict_timeouts: bool = True
    initial_shapes: Hashable = ()

    @property
    def places(self) -> int:
        """Sequences that one instance has at a time."""
        if isinstance(self.strategy, OldestStrategy):
            return self.strategy.max_candidates or self.rows
        return self.merged_rows
