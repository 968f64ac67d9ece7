"""Models that ask models: real ones, loaded here; each call is answered as the port says, and no tensor is copied."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support import onnx_models
from tests.support.engines import NoModels

from taxiway.config.settings import Settings
from taxiway.core.clock import SystemClock
from taxiway.core.errors import (
    ColdModel,
    DeadlineExceeded,
    ModelFailed,
    ModelNotFound,
    TaxiwayError,
    UnknownTensor,
    WrongDatatype,
    WrongShape,
)
from taxiway.core.ports import InnerAnswer, InnerCall, InnerTensor
from taxiway.core.requests import NO_MORE, BatchResult, InferRequest
from taxiway.core.tensors import Datatype
from taxiway.server.admission import Admission
from taxiway.server.inner import InnerCalls
from taxiway.server.models.cold import ColdStarts
from taxiway.server.models.host import Host
from taxiway.server.models.loading import ModelLoader
from taxiway.server.models.machine import Chapter, ModelState
from taxiway.server.models.repository import find_models
from taxiway.server.models.roster import ModelRoutes
from taxiway.server.models.served import ServedModel
from taxiway.server.routing import Snapshot, snapshot_of
from taxiway.server.signature import WireLimits
from taxiway.server.totals import LifecycleStatistics

FP32 = Datatype.FP32


class Bench:
    """A loop, models on it, and who asks them."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.clock = SystemClock()
        self.snapshot = Snapshot()
        self.routes: dict[str, ModelRoutes] = {}
        self.brought: list[str] = []
        self.comes_back: ServedModel | None = None
        self.routed = asyncio.Event()
        self.admission = Admission(0, 1 << 20)
        cold = ColdStarts(8, self.admission, self.clock, self._bring_back, LifecycleStatistics())
        self.calls = InnerCalls(lambda: self.snapshot, lambda: cold, WireLimits(1 << 20, 10), self.clock)

    def load(self, path: Path, **settings: Any) -> ServedModel:
        (found,) = find_models([path])
        chosen = {"batching": {"measure": False}, "execution": {"mode": "inline"}} | settings
        loader = ModelLoader(Settings.model_validate(chosen), Host(self.loop, self.clock, 1, NoModels()))
        served = loader.load(loader.prepare(found), 1, {})
        self.route(served)
        return served

    def route(self, served: ServedModel) -> None:
        self.routes[served.name] = ModelRoutes({served.version: served}, {}, False)
        self.snapshot = snapshot_of(self.routes)
        self.routed.set()

    def make_cold(self, served: ServedModel) -> None:
        gone = Chapter(ModelState.GONE, "unloaded to make room", 0)
        self.routes[served.name] = ModelRoutes({}, {served.version: gone}, True)
        self.routed.clear()
        self.snapshot = snapshot_of(self.routes)
        self.comes_back = served

    async def _bring_back(self, name: str) -> None:
        self.brought.append(name)
        await asyncio.sleep(0)
        if self.comes_back is None:
            raise ModelNotFound(f"{name} is gone")
        self.route(self.comes_back)

    def ask(self, call: InnerCall) -> list[InnerAnswer]:
        """Every answer to the call."""
        answers: list[InnerAnswer] = []

        async def run() -> None:
            done = asyncio.Event()

            def answer(told: InnerAnswer) -> None:
                assert not (answers and answers[-1].final), "answered after the last answer"
                answers.append(told)
                if told.final:
                    done.set()

            self.calls.call(call, answer)
            await asyncio.wait_for(done.wait(), 10)

        self.loop.run_until_complete(run())
        return answers

    def error(self, call: InnerCall) -> TaxiwayError:
        (answer,) = self.ask(call)
        assert answer.error is not None
        assert not answer.outputs
        return answer.error


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    for routes in made.routes.values():
        for served in routes.served.values():
            served.front.close()
            served.engine.close()
    made.loop.close()


def call(model: str, *tensors: tuple[str, Any], **more: Any) -> InnerCall:
    inputs = [InnerTensor(name, FP32, np.asarray(array, np.float32)) for name, array in tensors]
    return InnerCall(model, None, inputs, **more)


# --- answers -------------------------------------------------------------------------------------------


def test_a_model_answers_a_model(tmp_path: Path, bench: Bench) -> None:
    bench.load(onnx_models.two_outputs(tmp_path / "sums" / "1" / "model.onnx").parent.parent)
    (answer,) = bench.ask(call("sums", ("a", [[3, 4]]), ("b", [[1, 1]]), id="7"))
    told = {tensor.name: (tensor.datatype, tensor.array.tolist()) for tensor in answer.outputs}
    assert told == {"SUM": (FP32, [[4, 5]]), "DIFFERENCE": (FP32, [[2, 3]])}
    assert (answer.error, answer.final) == (None, True)


def test_only_the_outputs_that_are_asked_for_are_told(tmp_path: Path, bench: Bench) -> None:
    bench.load(onnx_models.two_outputs(tmp_path / "sums" / "1" / "model.onnx").parent.parent)
    (answer,) = bench.ask(call("sums", ("a", [[3, 4]]), ("b", [[1, 1]]), outputs=["DIFFERENCE"]))
    assert [tensor.name for tensor in answer.outputs] == ["DIFFERENCE"]


def test_texts_go_in_and_out_as_bytes(tmp_path: Path, bench: Bench) -> None:
    bench.load(onnx_models.echo_texts(tmp_path / "echo" / "1" / "model.onnx").parent.parent)
    words = np.array([[b"one"], [b""]], dtype=object)
    (answer,) = bench.ask(InnerCall("echo", None, [InnerTensor("x", Datatype.BYTES, words)]))
    (tensor,) = answer.outputs
    assert tensor.array.tolist() == words.tolist()


def test_calls_made_together_share_a_run_and_get_their_own_rows_of_it(tmp_path: Path, bench: Bench) -> None:
    served = bench.load(onnx_models.doubler(tmp_path / "doubler" / "1" / "model.onnx").parent.parent)
    answers: list[InnerAnswer] = []

    async def run() -> None:
        for number in range(4):
            bench.calls.call(call("doubler", ("x", [[number, number]])), answers.append)
        await served.engine.settle()

    bench.loop.run_until_complete(run())
    arrays = [answer.outputs[0].array for answer in answers]
    assert [array.tolist() for array in arrays] == [[[2.0 * number] * 2] for number in range(4)]
    assert served.statistics.execution_count == 1
    assert all(array.base is arrays[0].base for array in arrays), "rows of one result were copied"


@pytest.mark.parametrize("layout", ["plain", "a scalar", "a view of rows", "every other row", "no row by row order"])
def test_tensors_go_in_as_they_lie_in_memory(tmp_path: Path, bench: Bench, layout: str) -> None:
    served = bench.load(onnx_models.doubler(tmp_path / "doubler" / "1" / "model.onnx").parent.parent)
    whole = np.arange(8, dtype=np.float32).reshape(4, 2)
    array = {
        "plain": whole,
        "a scalar": whole[0:1],
        "a view of rows": whole[1:3],
        "every other row": whole[::2],
        "no row by row order": np.asfortranarray(whole),
    }[layout]
    seen: list[InferRequest] = []
    submit = served.front.submit
    served.front.submit = lambda request: (seen.append(request), submit(request))[1]  # type: ignore[method-assign,func-returns-value]
    (answer,) = bench.ask(InnerCall("doubler", None, [InnerTensor("x", FP32, array)]))
    assert answer.outputs[0].array.tolist() == (array * 2).tolist()
    (tensor,) = seen[0].inputs
    assert tensor is not None
    assert np.shares_memory(tensor.data, whole) == (layout not in ("every other row", "no row by row order"))
    assert memoryview(tensor.data).nbytes == seen[0].nbytes == array.nbytes


# --- refusals ------------------------------------------------------------------------------------------


def test_what_is_wrong_is_answered_and_counted(tmp_path: Path, bench: Bench) -> None:
    served = bench.load(onnx_models.doubler(tmp_path / "doubler" / "1" / "model.onnx").parent.parent)
    assert isinstance(bench.error(call("nobody")), ModelNotFound)
    assert isinstance(bench.error(InnerCall("doubler", "7", [])), ModelNotFound)
    assert isinstance(bench.error(call("doubler", ("z", [[1, 2]]))), UnknownTensor)
    assert isinstance(bench.error(call("doubler", ("x", [[1, 2]]), ("x", [[1, 2]]))), UnknownTensor)
    assert isinstance(bench.error(call("doubler", ("x", [[1, 2]]), outputs=["z"])), UnknownTensor)
    assert isinstance(bench.error(call("doubler", ("x", [[1, 2, 3]]))), WrongShape)
    halves = InnerTensor("x", Datatype.FP16, np.zeros((1, 2), np.float16))
    assert isinstance(bench.error(InnerCall("doubler", None, [halves])), WrongDatatype)
    liar = InnerTensor("x", FP32, np.zeros((1, 2), np.float64))
    assert "float64" in str(bench.error(InnerCall("doubler", None, [liar])))
    assert served.statistics._invalid == {"unknown-tensor": 3, "wrong-shape": 1, "wrong-datatype": 2}


def test_a_model_that_fails_says_so(tmp_path: Path, bench: Bench) -> None:
    bench.load(onnx_models.poisonable(tmp_path / "table" / "1" / "model.onnx").parent.parent)
    poison = InnerTensor("x", Datatype.INT64, np.array([[99]]))
    assert isinstance(bench.error(InnerCall("table", None, [poison])), ModelFailed)


def test_a_deadline_holds_whoever_set_it(tmp_path: Path, bench: Bench) -> None:
    bench.load(onnx_models.doubler(tmp_path / "doubler" / "1" / "model.onnx").parent.parent)
    now_ns = bench.clock.monotonic_ns()
    assert isinstance(bench.error(call("doubler", ("x", [[1, 2]]), deadline_ns=now_ns)), DeadlineExceeded)
    parent = InferRequest((), 1, Nobody(), now_ns, deadline_ns=now_ns)
    assert isinstance(bench.error(call("doubler", ("x", [[1, 2]]), parent=parent)), DeadlineExceeded)


class Nobody:
    """Waits for no answer."""

    def resolve(self, request: InferRequest, result: BatchResult, start: int, stop: int) -> None:
        """Nothing."""

    def reject(self, request: InferRequest, error: TaxiwayError) -> None:
        """Nothing."""


def test_the_limits_of_the_doors_do_not_concern_it(tmp_path: Path, bench: Bench) -> None:
    bench.load(onnx_models.doubler(tmp_path / "doubler" / "1" / "model.onnx").parent.parent)
    assert not bench.admission.is_open()
    (answer,) = bench.ask(call("doubler", ("x", [[1, 2]])))
    assert answer.error is None
    assert bench.admission.requests == 0


# --- taken back ----------------------------------------------------------------------------------------


def test_a_call_taken_back_runs_nothing_and_is_not_answered(tmp_path: Path, bench: Bench) -> None:
    served = bench.load(onnx_models.doubler(tmp_path / "doubler" / "1" / "model.onnx").parent.parent)
    answers: list[InnerAnswer] = []

    async def run() -> None:
        take_back = bench.calls.call(call("doubler", ("x", [[1, 2]])), answers.append)
        take_back()
        take_back()
        await served.engine.settle()

    bench.loop.run_until_complete(run())
    assert answers == []
    assert served.statistics.execution_count == 0


def test_an_answered_call_can_be_taken_back_without_harm(tmp_path: Path, bench: Bench) -> None:
    served = bench.load(onnx_models.doubler(tmp_path / "doubler" / "1" / "model.onnx").parent.parent)
    answers: list[InnerAnswer] = []

    async def run() -> None:
        take_back = bench.calls.call(call("doubler", ("x", [[1, 2]])), answers.append)
        await served.engine.settle()
        take_back()

    bench.loop.run_until_complete(run())
    assert len(answers) == 1


# --- cold models ---------------------------------------------------------------------------------------


def test_a_cold_model_is_loaded_and_then_asked(tmp_path: Path, bench: Bench) -> None:
    served = bench.load(onnx_models.doubler(tmp_path / "doubler" / "1" / "model.onnx").parent.parent)
    bench.make_cold(served)
    (answer,) = bench.ask(call("doubler", ("x", [[1, 2]])))
    assert answer.outputs[0].array.tolist() == [[2, 4]]
    assert bench.brought == ["doubler"]


def test_a_cold_model_that_cannot_be_loaded_is_the_answer(tmp_path: Path, bench: Bench) -> None:
    served = bench.load(onnx_models.doubler(tmp_path / "doubler" / "1" / "model.onnx").parent.parent)
    bench.make_cold(served)
    bench.comes_back = None
    assert not isinstance(bench.error(call("doubler", ("x", [[1, 2]]))), ColdModel)
    bench.route(served)


def test_a_call_for_a_cold_model_can_be_taken_back(tmp_path: Path, bench: Bench) -> None:
    served = bench.load(onnx_models.doubler(tmp_path / "doubler" / "1" / "model.onnx").parent.parent)
    bench.make_cold(served)
    answers: list[InnerAnswer] = []

    async def run() -> None:
        bench.calls.call(call("doubler", ("x", [[1, 2]])), answers.append)()
        await bench.routed.wait()
        await served.engine.settle()

    bench.loop.run_until_complete(run())
    assert answers == []
    assert served.statistics.execution_count == 0


# --- several answers -----------------------------------------------------------------------------------


def test_a_model_may_answer_in_parts(tmp_path: Path, bench: Bench) -> None:
    served = bench.load(onnx_models.doubler(tmp_path / "doubler" / "1" / "model.onnx").parent.parent)

    def submit(request: InferRequest) -> None:
        part = BatchResult(["y"], [np.zeros((3, 2), np.float32)], 3)
        responder: Any = request.responder
        responder.part(request, part)
        responder.part(request, ModelFailed("not this one"))
        responder.resolve(request, NO_MORE, 0, 0)

    served.front.submit = submit  # type: ignore[method-assign]
    first, second, last = bench.ask(call("doubler", ("x", [[1, 2]])))
    assert (first.outputs[0].array.shape, first.final) == ((3, 2), False)
    assert (str(second.error), second.final) == ("not this one", False)
    assert last == InnerAnswer(())
