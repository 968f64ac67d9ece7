"""What the versions of one process run on, and how they ask each other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from taxiway.config.model_spec import ModelSpec
from taxiway.core.clock import Clock
from taxiway.core.ports import InnerCaller
from taxiway.server.sampling import RowSampler
from taxiway.server.tracing.gates import TraceGate


@dataclass(frozen=True, slots=True)
class Host:
    """What they run on.

    Attributes:
        inner: who asks its models.
        gate: makes the gates of traces.
        sampler: makes what copies some of a version's requests; None: nobody watches.
    """

    loop: asyncio.AbstractEventLoop
    clock: Clock
    cpus: int
    inner: InnerCaller
    gate: Callable[[ModelSpec, int], TraceGate] = TraceGate
    sampler: Callable[[ModelSpec, int], RowSampler] | None = None
