"""The shell of an ensemble in virtual time: every request is answered once, whatever its models and its callers do."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.server.composing.graphs import Made, evaluate, graphs

from taxiway.config.model_spec import ModelSpec, VersionPolicy
from taxiway.core.errors import (
    DeadlineExceeded,
    InternalError,
    ModelFailed,
    ModelNotFound,
    Overloaded,
    TaxiwayError,
    Unavailable,
    WrongShape,
)
from taxiway.core.ports import BatchOutcome, InnerAnswer, InnerCall, InnerTensor
from taxiway.core.requests import NEVER_NS, NO_MORE, BatchResult, InferRequest, InputTensor, SequenceStep
from taxiway.core.tensors import Datatype, TensorSpec
from taxiway.server.composing.front import EnsembleFront
from taxiway.testing import VirtualClock, run_virtual

MS = 1_000_000
FAILURES: tuple[TaxiwayError, ...] = (
    ModelFailed("it broke"),
    ModelNotFound("Request for unknown model: 'm' is not found"),
    Overloaded("full", key="queue.max_requests"),
    WrongShape("no such shape"),
)


class FakeModels:
    """An `InnerCaller`: each model answers as its step's function says, at a time of its own, or fails."""

    def __init__(self, made: Made, order: random.Random, *, failures: float = 0.0) -> None:
        self.made = made
        self.calls: list[InnerCall] = []
        self.taken_back = 0
        self.running = 0
        self.most: dict[str, int] = {}
        self._inside: dict[str, int] = {}
        self._order = order
        self._failures = failures

    def call(self, call: InnerCall, answer: Callable[[InnerAnswer], None]) -> Callable[[], None]:
        self.calls.append(call)
        self.running += 1
        inside = self._inside[call.model] = self._inside.get(call.model, 0) + 1
        self.most[call.model] = max(inside, self.most.get(call.model, 0))
        over = False
        number = int(call.model[1:])
        inputs = {tensor.name: tensor.array.reshape(-1)[0].decode() for tensor in call.inputs}
        answers = [self._answer(call, part) for part in self.made.parts(number, inputs)]
        if self.made.plan.steps[number].decoupled:
            answers = [told._replace(final=False) for told in answers] + [InnerAnswer(())]
        if self._order.random() < self._failures:
            answers[self._order.randrange(len(answers)) :] = [InnerAnswer((), self._order.choice(FAILURES))]

        def end() -> None:
            nonlocal over
            over = True
            self.running -= 1
            self._inside[call.model] -= 1

        def tell() -> None:
            if over:
                return
            told = answers.pop(0)
            if told.final:
                end()
            answer(told)
            if not over:
                wait()

        def wait() -> None:
            if self._order.random() < 0.2:
                tell()  # at once, before `call` returns
            else:
                asyncio.get_running_loop().call_later(self._order.randrange(1, 20) / 1000, tell)

        def take_back() -> None:
            if not over:
                self.taken_back += 1
                end()

        wait()
        return take_back

    def _answer(self, call: InnerCall, part: dict[str, str]) -> InnerAnswer:
        assert call.outputs is not None
        return InnerAnswer([text(name, part[name]) for name in call.outputs])


def chance(seed: int) -> random.Random:
    """The same each time."""
    return random.Random(seed)  # noqa: S311 - a test's


def text(name: str, content: str) -> InnerTensor:
    """A tensor of one row that holds one text."""
    array = np.empty((1, 1), dtype=object)
    array[0, 0] = content.encode()
    return InnerTensor(name, Datatype.BYTES, array)


@dataclass
class Caller:
    """Keeps the answers to one request; one after the last is an error of the front."""

    parts: list[dict[str, str]] = field(default_factory=list)
    error: TaxiwayError | None = None
    is_over: bool = False
    took_back: bool = False

    def part(self, request: InferRequest, answer: BatchResult | TaxiwayError) -> None:
        assert not self.is_over
        assert isinstance(answer, BatchResult)
        self._keep(answer)

    def resolve(self, request: InferRequest, result: BatchResult, start: int, stop: int) -> None:
        assert not self.is_over
        assert not self.took_back
        self.is_over = True
        if result is not NO_MORE:
            assert (start, stop) == (0, 1)
            self._keep(result)

    def reject(self, request: InferRequest, error: TaxiwayError) -> None:
        assert not self.is_over
        assert not self.took_back
        self.is_over = True
        self.error = error

    def _keep(self, result: BatchResult) -> None:
        arrays: list[Any] = list(result.arrays)
        pairs = zip(result.names, arrays, strict=True)
        self.parts.append({name: array[0, 0].decode() for name, array in pairs if array is not None})


class Counted:
    """An observer that keeps how each request ended."""

    def __init__(self) -> None:
        self.ended: dict[int, str] = {}

    def batch_done(self, batch: list[InferRequest], outcome: BatchOutcome, dispatched_ns: int, gone: Any) -> None:
        (request,) = batch
        self._end(request, "answered" if outcome.result is not None else "failed")
        assert dispatched_ns == outcome.started_ns <= outcome.finished_ns

    def rejected(self, request: InferRequest, reason: str) -> None:
        self._end(request, reason)

    def cancelled(self, request: InferRequest) -> None:
        self._end(request, "cancelled")

    def _end(self, request: InferRequest, how: str) -> None:
        assert id(request) not in self.ended, f"counted twice: {self.ended[id(request)]}, {how}"
        self.ended[id(request)] = how


class Bench:
    """A front over fake models."""

    def __init__(self, made: Made, order: random.Random, *, failures: float = 0.0, expire: bool = True) -> None:
        self.made = made
        self.models = FakeModels(made, order, failures=failures)
        self.counted = Counted()
        self.clock = VirtualClock()
        loop = asyncio.get_running_loop()
        self.front = EnsembleFront(
            spec_of(made), made.plan, self.models, self.clock, loop, self.counted, expire_running=expire
        )
        self.requests: list[tuple[InferRequest, Caller]] = []

    def submit(self, outputs: list[str] | None = None, **more: Any) -> Caller:
        caller = Caller()
        name = f"r{len(self.requests)}"
        inputs = [InputTensor([f"<{name}.{tensor}>".encode()], (1, 1)) for tensor in self.made.inputs]
        asked = None if outputs is None else tuple(self.made.outputs.index(output) for output in outputs)
        request = InferRequest(inputs, 1, caller, self.clock.monotonic_ns(), outputs=asked, id=name, **more)
        self.requests.append((request, caller))
        self.front.submit(request)
        return caller

    def expected(self, index: int, outputs: list[str] | None = None) -> list[dict[str, str]]:
        inputs = {tensor: f"<r{index}.{tensor}>" for tensor in self.made.inputs}
        return evaluate(self.made, inputs, outputs or self.made.outputs)


def spec_of(made: Made) -> ModelSpec:
    return ModelSpec(
        name="e",
        platform="ensemble",
        backend="",
        inputs=tuple(TensorSpec(name, Datatype.BYTES, (1,)) for name in made.inputs),
        outputs=tuple(TensorSpec(name, Datatype.BYTES, (1,)) for name in made.outputs),
        max_batch_size=8,
        dynamic_batching=None,
        instance_count=1,
        version_policy=VersionPolicy(latest=1),
        default_model_filename="",
        reshapes=MappingProxyType({}),
        parameters=MappingProxyType({}),
        warmup=(),
        decoupled=made.plan.decoupled,
        response_cache=False,
        ignored=(),
    )


# --- whatever happens ----------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(graphs(), st.randoms(use_true_random=False), st.integers(0, 3), st.data())
def test_every_request_is_answered_once_whatever_happens(
    made: Made, order: random.Random, max_inflight: int, data: st.DataObject
) -> None:
    made = made.limited(max_inflight)
    failures = data.draw(st.sampled_from([0.0, 0.0, 0.1]))

    async def run() -> None:
        bench = Bench(made, order, failures=failures)
        for _ in range(data.draw(st.integers(1, 5))):
            deadline_ns = NEVER_NS
            if order.random() < 0.3:
                deadline_ns = bench.clock.monotonic_ns() + order.randrange(40) * MS
            bench.submit(deadline_ns=deadline_ns)
            await asyncio.sleep(order.randrange(3) / 1000)
        for request, caller in bench.requests:
            if order.random() < 0.2 and not caller.is_over:
                caller.took_back = True
                bench.front.cancel(request)
        await bench.front.settle()
        await asyncio.sleep(1)
        assert bench.models.running == 0, "a step runs for nobody"
        assert bench.front.running() == 0
        assert bench.front.depth() == (0, 0, 0)
        assert all(slots.taken == 0 for slots in bench.front._works.slots)
        assert all(most <= max_inflight for most in bench.models.most.values()) or not max_inflight
        assert len(bench.counted.ended) == len(bench.requests)
        for index, (request, caller) in enumerate(bench.requests):
            assert caller.is_over != caller.took_back
            expected = bench.expected(index)
            how = bench.counted.ended[id(request)]
            if how == "answered":
                assert caller.parts == expected
            else:
                assert caller.parts == expected[: len(caller.parts)]
            assert (how == "cancelled") == caller.took_back

    run_virtual(run)


def line(*, decoupled: bool = False, length: int = 2, max_inflight: int = 0) -> Made:
    """One step after the other."""
    tensors = ["IN", *(f"t{number}" for number in range(1, length)), "OUT"]
    steps = [({"x": tensors[n]}, [tensors[n + 1]], decoupled and not n) for n in range(length)]
    return Made.of(steps, ["IN"], ["OUT"], max_inflight)


def virtual(test: Callable[[], Any]) -> Callable[[], None]:
    """Run a test in virtual time."""

    def run() -> None:
        run_virtual(test)

    run.__name__ = test.__name__
    return run


# --- what its models are told --------------------------------------------------------------------------


@virtual
async def test_steps_are_asked_in_the_name_of_the_request() -> None:
    bench = Bench(line(), chance(1))
    deadline_ns = bench.clock.monotonic_ns() + 900 * MS
    sequence = SequenceStep(5, starts=True)
    bench.submit(priority=2, deadline_ns=deadline_ns, parameters={"a": 1})
    bench.requests[0][0].sequence = sequence
    await bench.front.settle()
    request, _ = bench.requests[0]
    for call in bench.models.calls:
        assert (call.id, call.priority, call.deadline_ns, call.parameters) == ("r0", 2, deadline_ns, {"a": 1})
        assert call.parent is request
    assert bench.models.calls[-1].sequence == sequence


@virtual
async def test_independent_steps_run_at_the_same_time() -> None:
    made = Made.of([({"x": "IN"}, ["A"], False), ({"x": "IN"}, ["B"], False)], ["IN"], ["A", "B"])
    bench = Bench(made, chance(3))
    caller = bench.submit()
    assert [call.model for call in bench.models.calls] == ["m0", "m1"]
    await bench.front.settle()
    assert caller.parts == bench.expected(0)


@virtual
async def test_a_long_line_of_steps_that_answer_at_once_nests_nothing() -> None:
    bench = Bench(line(length=2000), chance(1))
    bench.models._order = AtOnce()
    caller = bench.submit()
    assert caller.is_over
    assert bench.counted.ended


@virtual
async def test_a_long_queue_before_a_step_that_answers_at_once_nests_nothing() -> None:
    bench = Bench(line(length=1, max_inflight=1), Later())
    callers = [bench.submit() for _ in range(1000)]
    assert bench.front.depth()[0] == 999
    bench.models._order = AtOnce()
    await bench.front.settle()
    assert [caller.parts for caller in callers] == [bench.expected(index) for index in range(1000)]
    assert bench.models.most == {"m0": 1}


class AtOnce(random.Random):
    """Everything is answered at once."""

    def random(self) -> float:
        return 0.0


class Later(random.Random):
    """Nothing is answered at once."""

    def random(self) -> float:
        return 0.9


# --- how it ends otherwise -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "kind", "counted"),
    [
        (ModelFailed("it broke"), ModelFailed, "failed"),
        (WrongShape("no such shape"), WrongShape, "failed"),
        (ModelNotFound("m1 is not found"), Unavailable, "unavailable"),
        (Overloaded("full", key="queue.max_rows", limit=3), Overloaded, "queue_rows_full"),
        (DeadlineExceeded("late"), DeadlineExceeded, "timeout"),
    ],
)
def test_an_error_names_the_step_and_stops_the_others(
    told: TaxiwayError, kind: type[TaxiwayError], counted: str
) -> None:
    async def run() -> None:
        made = Made.of([({"x": "IN"}, ["A"], False), ({"x": "IN"}, ["B"], False)], ["IN"], ["A", "B"])
        bench = Bench(made, chance(3))
        answers: list[Callable[[InnerAnswer], None]] = []
        inner = bench.models.call

        def call(call: InnerCall, answer: Callable[[InnerAnswer], None]) -> Callable[[], None]:
            if call.model == "m0":
                return inner(call, answer)
            answers.append(answer)
            return lambda: None

        bench.models.call = call  # type: ignore[method-assign]
        caller = bench.submit()
        answers[0](InnerAnswer((), told))
        assert type(caller.error) is kind
        assert caller.error.message == f"in ensemble 'e', step 1 (model 'm1'): {told.message}"
        assert caller.error.facts.get("limit") == told.facts.get("limit")
        assert bench.models.taken_back == 1
        assert list(bench.counted.ended.values()) == [counted]

    run_virtual(run)


@virtual
async def test_a_deadline_ends_it_and_its_steps() -> None:
    bench = Bench(line(), chance(3))
    never = lambda call, answer: lambda: None  # noqa: E731
    bench.models.call = never  # type: ignore[method-assign]
    caller = bench.submit(deadline_ns=bench.clock.monotonic_ns() + 50 * MS)
    await bench.front.settle()
    assert isinstance(caller.error, DeadlineExceeded)
    assert "50 ms ran out while its steps ran" in caller.error.message
    assert list(bench.counted.ended.values()) == ["timeout"]


@virtual
async def test_who_waits_for_a_slot_leaves_it_to_others() -> None:
    bench = Bench(line(length=1, max_inflight=1), chance(3))
    callers = [bench.submit() for _ in range(3)]
    assert bench.front.depth()[0] == sum(not caller.is_over for caller in callers) - 1
    waiting, caller = bench.requests[1]
    caller.took_back = True
    bench.front.cancel(waiting)
    await bench.front.settle()
    assert [caller.is_over for caller in callers] == [True, False, True]
    assert bench.models.most == {"m0": 1}


@virtual
async def test_a_closed_ensemble_takes_nothing_and_answers_what_it_took() -> None:
    bench = Bench(line(), chance(3))
    caller = bench.submit()
    bench.front.close()
    with pytest.raises(Unavailable):
        bench.submit()
    await bench.front.settle()
    assert caller.parts == bench.expected(0)


@virtual
async def test_a_model_that_leaves_a_tensor_out_is_told_of() -> None:
    bench = Bench(line(length=1), chance(3))
    bench.models._answer = lambda call, part: InnerAnswer([text("OTHER", "o")])  # type: ignore[method-assign]
    caller = bench.submit()
    await bench.front.settle()
    assert isinstance(caller.error, ModelFailed)
    assert "its models gave no 'OUT'" in caller.error.message


@virtual
async def test_what_is_broken_in_a_caller_costs_nobody_else() -> None:
    bench = Bench(line(), chance(3))
    first, second = bench.submit(), bench.submit()
    first.resolve = lambda *_: 1 / 0  # type: ignore[method-assign,assignment]
    told: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["message"]))
    await bench.front.settle()
    assert second.parts == bench.expected(1)
    assert told == ["composing: a responder failed"]


@virtual
async def test_an_answer_that_nobody_understands_is_an_error_of_its_request_alone() -> None:
    bench = Bench(line(length=1, max_inflight=1), chance(3))
    understood = bench.models._answer
    bench.models._answer = lambda *_: InnerAnswer([object()])  # type: ignore[method-assign,list-item]
    first, second = bench.submit(), bench.submit()
    bench.models._answer = understood  # type: ignore[method-assign]
    await bench.front.settle()
    assert isinstance(first.error, InternalError)
    assert second.parts == bench.expected(1)


# --- tensors -------------------------------------------------------------------------------------------


@virtual
async def test_no_tensor_is_copied() -> None:
    made = Made.of([({"x": "IN"}, ["mid"], False), ({"x": "mid", "y": "IN"}, ["OUT"], False)], ["IN"], ["OUT"])
    spec = spec_of(made)
    floats = tuple(TensorSpec(tensor.name, Datatype.FP32, (-1,)) for tensor in (*spec.inputs, *spec.outputs))
    models = Passing()
    spec = replace(spec, inputs=floats[:1], outputs=floats[1:])
    loop = asyncio.get_running_loop()
    front = EnsembleFront(spec, made.plan, models, VirtualClock(), loop, Counted(), expire_running=True)
    whole = np.arange(12, dtype=np.float32)
    results: list[BatchResult] = []
    caller = Caller()
    caller.resolve = lambda request, result, start, stop: results.append(result)  # type: ignore[method-assign]
    front.submit(InferRequest([InputTensor(whole.data.cast("B"), (3, 4))], 3, caller, 0))
    assert all(np.shares_memory(tensor.array, whole) for call in models.calls for tensor in call.inputs)
    assert np.shares_memory(results[0].arrays[0], whole)
    assert results[0].rows == 3


class Passing:
    """Models that give what they get."""

    def __init__(self) -> None:
        self.calls: list[InnerCall] = []

    def call(self, call: InnerCall, answer: Callable[[InnerAnswer], None]) -> Callable[[], None]:
        self.calls.append(call)
        assert call.outputs is not None
        answer(InnerAnswer([InnerTensor(name, Datatype.FP32, call.inputs[0].array) for name in call.outputs]))
        return lambda: None
