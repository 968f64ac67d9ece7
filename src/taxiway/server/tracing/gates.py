"""The switch: each model version has a gate, which is shut while nothing of it is traced.

Edges and models follow their gate: it tells them when it opens and shuts, and they change what they call. So a
request costs nothing more while nothing is traced, and one decision while something is.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import count
from weakref import WeakSet

from taxiway.config.model_spec import ModelSpec
from taxiway.core.clock import Clock
from taxiway.core.requests import InferRequest
from taxiway.server.tracing.plan import Mode, TracePlans, Words
from taxiway.server.tracing.trace import NOWHERE, Sink, Trace
from taxiway.server.tracing.tracer import Ground, Originate, Tracer
from taxiway.telemetry.render import Point

Listener = Callable[[bool], None]
"""Told whether a gate is open now."""
Tap = Callable[[InferRequest, ModelSpec], None]
"""Shown each request that is about to be handed over, traced or not; it never waits, and never raises."""


class TraceGate:
    """The gate of one model version; shut until somebody opens it."""

    def __init__(self, spec: ModelSpec, version: int) -> None:
        self.spec = spec
        self.version = version
        self.exemplify: Callable[[int, int], None] | None = None
        """Told the ids of traces, and how long their requests took."""
        self._tracer: Tracer | None = None
        self._tap: Tap | None = None
        self._listeners: list[Listener] = []
        self._told = False
        """What the listeners know: whether it is open."""

    def follow(self, listener: Listener) -> None:
        """Tell `listener` each time the gate opens or shuts, and now if it is open."""
        self._listeners.append(listener)
        if self._told:
            listener(True)

    def set(self, tracer: Tracer | None) -> None:
        """Open it for what `tracer` chooses, or shut it."""
        self._tracer = tracer
        self._tell(tracer is not None or self._tap is not None)

    def tap(self, tap: Tap | None) -> None:
        """Show every request to `tap` from now on, or to nobody."""
        self._tap = tap
        self._tell(self._tracer is not None or tap is not None)

    def spawn(self, request: InferRequest, parent: Trace) -> Trace:
        """Follow a request that is made for one that is followed, whatever is chosen here; from then on it is open."""
        self._tell(True)
        return parent.follower.follow(request, self.spec, self.version, NOWHERE, parent)

    def _tell(self, is_open: bool) -> None:
        if is_open != self._told:
            self._told = is_open
            for listener in self._listeners:
                listener(is_open)

    def begin(self, request: InferRequest, originate: Originate) -> Trace | None:
        """Follow a request that is about to be handed over, if it is chosen."""
        if self._tap is not None:
            self._tap(request, self.spec)
        if self._tracer is None:
            return None
        trace = self._tracer.begin(request, originate, self.spec, self.version)
        if trace is not None:
            trace.exemplify = self.exemplify
        return trace


class TraceGates:
    """Every gate of one process, and what opens them. Gates are made on the thread that loads models.

    Args:
        plans: what is traced at first.
        sinks: makes where the traces of a mode go, once something is traced in it.
    """

    def __init__(
        self,
        plans: TracePlans,
        clock: Clock,
        loop: asyncio.AbstractEventLoop,
        sinks: Mapping[Mode, Callable[[], Sink]],
    ) -> None:
        self._plans = plans
        self._make_sink = sinks
        self._ground = Ground(clock, loop, count(1))
        self._sinks: dict[Mode, Sink] = {}
        self._gates: WeakSet[TraceGate] = WeakSet()
        """Versions that were unloaded take theirs with them."""
        self._tracers: dict[str | None, Tracer] = {}
        """By model, for those with changes of their own; None: all others share one."""
        self._taps: dict[str, Tap] = {}
        """By model."""
        self._lock = threading.Lock()
        """No gate is made while all others are opened or shut."""
        self._apply(plans)

    def gate(self, spec: ModelSpec, version: int) -> TraceGate:
        """The gate of a new version."""
        gate = TraceGate(spec, version)
        with self._lock:
            self._gates.add(gate)
            gate.set(self._tracer(spec.name))
            if spec.name in self._taps:
                gate.tap(self._taps[spec.name])
        return gate

    def tap(self, model: str, tap: Tap | None) -> None:
        """Show every request for a model to `tap` from now on, those of versions to come too; or to nobody."""
        with self._lock:
            self._taps.pop(model, None)
            if tap is not None:
                self._taps[model] = tap
            for gate in tuple(self._gates):
                if gate.spec.name == model:
                    gate.tap(tap)

    def words(self, model: str | None) -> dict[str, str | list[str]]:
        """What holds for a model, or (None) for those without changes of their own, in Triton's words."""
        tracer = self._tracers.get(model if model in self._plans.by_model else None)
        return self._plans.to_words(model, None if tracer is None else tracer.sampler.left)

    def change(self, model: str | None, words: Words) -> None:
        """Change what is traced from the next request on; all of `words` or nothing.

        Raises:
            InvalidArgument, Unsupported: as `TracePlans.changed`.
            FailedPrecondition: a mode whose packages are not installed.
        """
        self.replace(model, self.changes_after(model, words))

    def changes_after(self, model: str | None, words: Words) -> dict[str, list[str]]:
        """All that would be changed for a model, or (None) for all others, after this change.

        Raises:
            InvalidArgument, Unsupported: as `TracePlans.changed`.
        """
        return self._plans.changed(model, words).changes(model)

    def replace(self, model: str | None, words: Words) -> None:
        """Have `words`, and nothing else, changed for a model, or (None) for all others; their count begins anew.

        Raises:
            InvalidArgument, Unsupported, FailedPrecondition: as `change`.
        """
        self._apply(self._plans.replaced(model, words), anew={model})

    def points(self) -> Iterator[Point]:
        """What was written and dropped so far."""
        for sink in self._sinks.values():
            yield from sink.points()

    def close(self, timeout_s: float) -> None:
        """Write what is left, within that time. Blocks."""
        for sink in self._sinks.values():
            sink.close(timeout_s)

    def _apply(self, plans: TracePlans, anew: Collection[str | None] = ()) -> None:
        tracers: dict[str | None, Tracer] = {}
        for scope in (None, *plans.by_model):
            plan, old = plans.plan(scope), self._tracers.get(scope)
            if plan.is_on and old is not None and old.plan == plan and scope not in anew:
                tracers[scope] = old
            elif plan.is_on:
                tracers[scope] = Tracer(plan, self._sink(plan.mode), self._ground)
        with self._lock:
            self._plans, self._tracers = plans, tracers
            for gate in tuple(self._gates):
                gate.set(self._tracer(gate.spec.name))

    def _tracer(self, model: str) -> Tracer | None:
        return self._tracers.get(model if model in self._plans.by_model else None)

    def _sink(self, mode: Mode) -> Sink:
        if mode not in self._sinks:
            self._sinks[mode] = self._make_sink[mode]()
        return self._sinks[mode]
