"""Gates open and shut with the plans, and leave no trace of themselves."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from typing import cast

import pytest

from taxiway.config.model_spec import ModelSpec
from taxiway.core.clock import SystemClock
from taxiway.core.errors import InvalidArgument
from taxiway.core.requests import BatchResult, InferRequest
from taxiway.server.tracing.gates import TraceGates
from taxiway.server.tracing.plan import Mode, TracePlans
from taxiway.server.tracing.trace import NOWHERE, Origin, Trace
from taxiway.telemetry.render import Point


class _Kept:
    """Keeps what is put."""

    heeds_callers = False

    def __init__(self) -> None:
        self.traces: list[Trace] = []
        self.closed = False

    def wanted(self, origin: Origin) -> None:
        """Nothing is said."""

    def put(self, trace: Trace) -> None:
        self.traces.append(trace)

    def points(self) -> Iterator[Point]:
        return iter(())

    def close(self, timeout_s: float) -> None:
        self.closed = True


class _Waiter:
    """Whoever waits for an answer."""

    def resolve(self, request: InferRequest, result: BatchResult, start: int, stop: int) -> None:
        """It came."""

    def reject(self, request: InferRequest, error: Exception) -> None:
        """It will not come."""


class _Spec:
    """What a gate reads of a model's configuration."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.inputs = self.outputs = ()
        self.max_batch_size = 0


def _spec(name: str) -> ModelSpec:
    return cast("ModelSpec", _Spec(name))


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    one = asyncio.new_event_loop()
    yield one
    one.close()


def _gates(loop: asyncio.AbstractEventLoop, made: dict[Mode, _Kept]) -> TraceGates:
    def make(mode: Mode) -> _Kept:
        assert mode not in made
        return made.setdefault(mode, _Kept())

    plans = TracePlans(file="t.json")
    return TraceGates(
        plans, SystemClock(), loop, {"triton": lambda: make("triton"), "opentelemetry": lambda: make("opentelemetry")}
    )


ON = {"trace_level": ["TIMESTAMPS"], "trace_rate": ["1"]}


def test_a_gate_tells_its_followers_only_what_changed(loop: asyncio.AbstractEventLoop) -> None:
    gates = _gates(loop, {})
    gate, told = gates.gate(_spec("a"), 1), list[bool]()
    gate.follow(told.append)

    gates.change(None, {"trace_rate": ["3"]})
    gates.change(None, ON)
    gates.change(None, {"trace_rate": ["5"]})
    gates.change("a", {"trace_level": ["OFF"]})
    late = list[bool]()
    gates.gate(_spec("b"), 1).follow(late.append)

    assert (told, late) == ([True, False], [True])


def test_nothing_is_made_before_something_is_traced(loop: asyncio.AbstractEventLoop) -> None:
    made: dict[Mode, _Kept] = {}
    gates = _gates(loop, made)
    gates.change(None, {"trace_mode": ["opentelemetry"], "trace_rate": ["1"]})
    assert not made

    gates.change(None, ON)
    gates.change(None, {"trace_level": ["OFF"]})
    gates.change(None, ON)
    gates.close(1.0)

    assert list(made) == ["opentelemetry"]
    assert made["opentelemetry"].closed


def test_a_change_that_is_refused_opens_nothing(loop: asyncio.AbstractEventLoop) -> None:
    gates, told = _gates(loop, {}), list[bool]()
    gates.gate(_spec("a"), 1).follow(told.append)

    with pytest.raises(InvalidArgument):
        gates.change(None, {**ON, "trace_count": ["x"]})

    assert not told


def test_models_without_settings_of_their_own_share_one_count(loop: asyncio.AbstractEventLoop) -> None:
    gates = _gates(loop, {})
    specs = [gates.gate(_spec(name), 1) for name in "ab"]
    gates.change(None, {**ON, "trace_count": ["3"]})
    requests = [InferRequest((), 1, _Waiter(), 0) for _ in range(6)]

    chosen = [specs[index % 2].begin(request, lambda _: NOWHERE) is not None for index, request in enumerate(requests)]

    assert chosen == [True] * 3 + [False] * 3
    assert gates.words(None)["trace_count"] == "0"


def test_a_count_that_is_set_again_begins_anew(loop: asyncio.AbstractEventLoop) -> None:
    gates = _gates(loop, {})
    gate = gates.gate(_spec("a"), 1)
    chosen = []
    for scope in (None, None, "a", "a"):
        gates.change(scope, {**ON, "trace_count": ["1"]})
        chosen += [gate.begin(InferRequest((), 1, _Waiter(), 0), lambda _: NOWHERE) is not None for _ in range(2)]

    assert chosen == [True, False] * 4


def test_a_trace_is_put_once_after_its_run_was_told(loop: asyncio.AbstractEventLoop) -> None:
    made: dict[Mode, _Kept] = {}
    gates = _gates(loop, made)
    gate = gates.gate(_spec("a"), 4)
    gates.change(None, ON)
    request = InferRequest((), 1, _Waiter(), 0)
    trace = gate.begin(request, lambda _: NOWHERE)
    assert trace is not None

    request.responder.resolve(request, BatchResult((), (), 1), 0, 1)
    assert not made["triton"].traces
    trace.cancel()
    loop.call_soon(loop.stop)
    loop.run_forever()

    assert [(one.model, one.version, one.is_cancelled) for one in made["triton"].traces] == [("a", 4, False)]


def test_gates_go_with_their_versions(loop: asyncio.AbstractEventLoop) -> None:
    gates, told = _gates(loop, {}), list[bool]()
    gate = gates.gate(_spec("a"), 1)
    gate.follow(told.append)
    del gate
    gc.collect()

    gates.change(None, ON)

    assert not told
