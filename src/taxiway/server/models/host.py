"""What the versions of one process run on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from taxiway.config.model_spec import ModelSpec
from taxiway.core.clock import Clock
from taxiway.server.tracing.gates import TraceGate


@dataclass(frozen=True, slots=True)
class Host:
    """The loop, the clock and the processors of this process, and who makes the gates of traced requests."""

    loop: asyncio.AbstractEventLoop
    clock: Clock
    cpus: int
    gate: Callable[[ModelSpec, int], TraceGate] = TraceGate
