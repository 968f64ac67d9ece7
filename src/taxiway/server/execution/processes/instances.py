"""The places for the processes of one version, and what each of them has to do."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from taxiway.core.requests import NEVER_NS, InferRequest
from taxiway.server.execution.processes.calls import Calls
from taxiway.server.execution.processes.machine import Life, State
from taxiway.server.execution.processes.process import ModelProcess
from taxiway.server.execution.threads import Done


class Waiting(NamedTuple):
    """A batch that no process has yet."""

    batch: list[InferRequest]
    done: Done
    since_ns: int


@dataclass(eq=False, slots=True)
class Run:
    """A batch that a process has."""

    batch: list[InferRequest]
    done: Done
    flags: list[int]
    """One of each request, and the run's own, its mark."""
    began_ns: int
    is_pinned: bool


@dataclass(eq=False, slots=True)
class Instance:
    """One place for a process, and whichever is there now."""

    index: int
    process: ModelProcess | None
    life: Life = field(default_factory=lambda: Life(State.READY))
    runs: dict[int, Run] = field(default_factory=dict)
    calls: Calls | None = None
    """What the process asks of other models, from its first call on."""
    pinned: deque[Waiting] = field(default_factory=deque)
    """What waits for this one and no other."""

    def can_take(self, streams: int) -> bool:
        """Whether it is alive and has less than enough to do."""
        return self.process is not None and len(self.runs) < streams

    def busy_since_ns(self) -> int:
        """When the oldest began of what it has, or what waits for it came."""
        run = next(iter(self.runs.values()), None)  # they came in this order
        since_ns = NEVER_NS if run is None else run.began_ns
        return min(since_ns, self.pinned[0].since_ns) if self.pinned else since_ns
