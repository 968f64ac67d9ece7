"""The life of models in virtual time: what is loaded, kept, switched to, drained and closed, and what is told of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.support.engines import engine_of
from tests.unit.server.batching.fakes import MS, RecordingResponder, make_request
from tests.unit.server.models.fakes import FakeFiles, FakeLoading

from taxiway.config.settings import ModelsSettings
from taxiway.core.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    InvalidConfig,
    InvalidModel,
    NoRoom,
    Overloaded,
    RepositoryModelNotFound,
    Unavailable,
)
from taxiway.server.admission import Admission
from taxiway.server.models.machine import ModelState
from taxiway.server.models.manager import ModelManager
from taxiway.server.models.roster import ModelRoutes
from taxiway.server.models.served import ServedModel
from taxiway.testing import VirtualClock, run_virtual


class Bench:
    """A manager over a fake disk, and the routes it gave last."""

    def __init__(self, disk: dict[str, FakeFiles], **settings: Any) -> None:
        clock = VirtualClock()
        self.disk = disk
        self.loading = FakeLoading(clock, disk)
        self.routes: Mapping[str, ModelRoutes] = {}
        self.heard: list[bool] = []
        """Whether all was ready, each time something had changed."""
        self.responder = RecordingResponder()
        self.admission = Admission(1000, 1 << 30)
        chosen = ModelsSettings.model_validate({"control": "explicit", **settings})
        self.manager = ModelManager(self.loading, chosen, clock, self.admission, self._keep)

    def _keep(self, routes: Mapping[str, ModelRoutes]) -> None:
        self.routes = routes
        self.heard.append(self.manager.is_ready())

    def served(self, name: str) -> dict[int, ServedModel]:
        return dict(self.routes[name].served)

    def contents(self, name: str) -> dict[int, str]:
        return {number: engine_of(served).model.content for number, served in self.served(name).items()}  # type: ignore[attr-defined]

    def submit(self, served: ServedModel, *names: str) -> None:
        for name in names:
            served.front.submit(make_request(name, self.responder))

    async def states(self, name: str) -> dict[int | None, tuple[ModelState | None, str]]:
        index = await self.manager.index()
        return {entry.version: (entry.state, entry.reason) for entry in index if entry.name == name}

    async def load(self, name: str) -> None:
        await self.manager.load(name, None, {})


def virtual(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """The test runs in virtual time."""

    def run() -> None:
        run_virtual(test)

    run.__name__ = test.__name__
    return run


# --- start ---------------------------------------------------------------------------------------------


@virtual
async def test_everything_enters_the_routes_at_once() -> None:
    bench = Bench({"a": FakeFiles({1: "one"}), "b": FakeFiles({1: "one"})}, control="none")
    starting = asyncio.ensure_future(bench.manager.start())
    await asyncio.sleep(1.5)
    assert not bench.routes
    assert not bench.manager.is_ready()
    assert (await bench.states("b"))[1][0] is ModelState.LOADING
    await starting
    assert set(bench.routes) == {"a", "b"}
    assert bench.manager.is_ready()


@virtual
async def test_all_that_is_wrong_is_told_and_nothing_stays_loaded() -> None:
    disk = {"a": FakeFiles({1: "one"}), "b": FakeFiles({1: "broken"}), "c": FakeFiles({1: "one"}, config="broken")}
    bench = Bench(disk, control="none")
    with pytest.raises(InvalidConfig, match=r"(?s)2 models.*b:1 is broken.*configuration of c is broken"):
        await bench.manager.start()
    assert bench.loading.closed == ["a:1"]
    assert not any(model.open for model in bench.loading.models)


@virtual
async def test_only_what_is_named_is_loaded_at_start() -> None:
    bench = Bench({"a": FakeFiles({1: "one"}), "b": FakeFiles({1: "one"})}, load=["b"])
    await bench.manager.start()
    assert bench.loading.loads == ["b:1"]
    assert await bench.states("a") == {None: (None, "")}


@virtual
async def test_a_name_that_is_not_there_is_refused_at_start() -> None:
    bench = Bench({"fraud": FakeFiles({1: "one"})}, load=["frued"])
    with pytest.raises(InvalidArgument, match=r"'frued'.*did you mean 'fraud'"):
        await bench.manager.start()


@virtual
async def test_overrides_of_a_model_that_is_not_served_are_refused() -> None:
    bench = Bench({"fraud": FakeFiles({1: "one"})}, control="none", overrides={"frued": {"queue": {"max_rows": 64}}})
    with pytest.raises(InvalidConfig, match=r"'frued'.*did you mean 'fraud'"):
        await bench.manager.start()
    assert not bench.loading.loads


# --- load, switch, unload ------------------------------------------------------------------------------


@virtual
async def test_a_new_version_is_loaded_and_one_that_did_not_change_is_kept() -> None:
    bench = Bench({"m": FakeFiles({1: "one"}, latest=2)})
    await bench.manager.start()
    first = bench.served("m")[1]
    bench.disk["m"].versions[2] = "two"
    await bench.load("m")
    assert bench.served("m")[1] is first
    assert bench.contents("m") == {1: "one", 2: "two"}
    assert bench.loading.loads == ["m:1", "m:2"]


@virtual
async def test_a_load_of_what_has_not_changed_loads_nothing() -> None:
    bench = Bench({"m": FakeFiles({1: "one"})})
    await bench.manager.start()
    first = bench.served("m")[1]
    await bench.load("m")
    assert bench.served("m")[1] is first
    assert bench.loading.loads == ["m:1"]


@virtual
async def test_the_old_version_answers_what_it_has_taken_and_only_then_is_closed() -> None:
    bench = Bench({"m": FakeFiles({1: "one"})})
    await bench.manager.start()
    old = bench.served("m")[1]
    bench.loading.run_ns = 5_000 * MS
    bench.disk["m"].versions[2] = "two"
    loading = asyncio.ensure_future(bench.load("m"))
    await asyncio.sleep(0.5)
    bench.submit(old, "running", "queued")
    await loading
    assert set(bench.served("m")) == {2}
    assert await bench.states("m") == {1: (ModelState.DRAINING, "unloaded"), 2: (ModelState.READY, "")}
    bench.submit(old, "routed-before-the-switch")  # nothing that was on its way is turned away
    assert not bench.loading.closed
    await asyncio.sleep(16)
    assert bench.responder.order == ["running", "queued", "routed-before-the-switch"]
    assert all(isinstance(answer, tuple) for answer in bench.responder.answers.values())
    assert bench.loading.closed == ["m:1"]
    assert (await bench.states("m"))[1] == (ModelState.GONE, "unloaded")


@virtual
async def test_a_changed_file_under_the_same_number_is_loaded_beside_the_old_one() -> None:
    bench = Bench({"m": FakeFiles({1: "one"})})
    await bench.manager.start()
    bench.disk["m"].versions[1] = "other"
    loading = asyncio.ensure_future(bench.load("m"))
    await asyncio.sleep(0.5)
    assert bench.contents("m") == {1: "one"}
    assert await bench.states("m") == {1: (ModelState.READY, "")}
    assert bench.manager.is_ready()
    await loading
    assert bench.contents("m") == {1: "other"}
    await asyncio.sleep(1)
    assert [model.open for model in bench.loading.models] == [False, True]


@virtual
async def test_a_load_that_fails_leaves_the_old_version_serving_and_the_index_says_why() -> None:
    bench = Bench({"m": FakeFiles({1: "one"}, latest=3)})
    await bench.manager.start()
    old = bench.served("m")[1]
    bench.disk["m"].versions.update({2: "two", 3: "broken"})
    with pytest.raises(InvalidModel, match=r"load failed for model 'm': m:3 is broken"):
        await bench.load("m")
    assert bench.served("m") == {1: old}
    assert bench.manager.is_ready()
    assert await bench.states("m") == {
        1: (ModelState.READY, "loading it again failed: m:3 is broken"),
        2: (ModelState.FAILED, "version 3 could not be loaded"),
        3: (ModelState.FAILED, "m:3 is broken"),
    }
    assert bench.loading.closed == ["m:2"]
    bench.disk["m"].versions[3] = "three"
    await bench.load("m")
    assert bench.contents("m") == {1: "one", 2: "two", 3: "three"}
    assert {reason for _, reason in (await bench.states("m")).values()} == {""}


@virtual
async def test_a_model_that_never_loaded_says_why_and_makes_nobody_unready() -> None:
    bench = Bench({"m": FakeFiles({1: "one"}, config="broken")}, load=[])
    await bench.manager.start()
    with pytest.raises(InvalidConfig, match="load failed for model 'm'"):
        await bench.load("m")
    assert await bench.states("m") == {None: (None, "the configuration of m is broken")}
    assert bench.manager.is_ready()


@virtual
async def test_an_unloaded_model_leaves_the_routes_at_once_and_comes_back() -> None:
    bench = Bench({"m": FakeFiles({1: "one"})})
    await bench.manager.start()
    bench.submit(bench.served("m")[1], "taken")
    await bench.manager.unload("m")
    assert not bench.served("m")
    assert bench.manager.is_ready()  # Triton says no while a model is unloading
    await asyncio.sleep(1)
    assert isinstance(bench.responder.answers["taken"], tuple)
    assert await bench.states("m") == {1: (ModelState.GONE, "unloaded")}
    await bench.load("m")
    assert bench.contents("m") == {1: "one"}


@virtual
async def test_unloading_what_is_not_known_is_no_error() -> None:
    bench = Bench({})
    await bench.manager.start()
    await bench.manager.unload("nobody")


@virtual
async def test_loading_what_is_not_there_is_refused() -> None:
    bench = Bench({})
    await bench.manager.start()
    with pytest.raises(RepositoryModelNotFound, match="failed to load 'nobody', failed to poll from model repository"):
        await bench.load("nobody")


@pytest.mark.parametrize(("control", "text"), [("none", "when the server starts"), ("poll", "if polling is enabled")])
def test_without_explicit_control_nobody_loads_or_unloads(control: str, text: str) -> None:
    async def test() -> None:
        bench = Bench({"m": FakeFiles({1: "one"})}, control=control)
        await bench.manager.start()
        with pytest.raises(FailedPrecondition, match=text):
            await bench.load("m")
        with pytest.raises(FailedPrecondition, match=text):
            await bench.manager.unload("m")
        await bench.manager.drain(1)

    run_virtual(test)


@virtual
async def test_two_loads_of_one_model_come_one_after_the_other() -> None:
    bench = Bench({"m": FakeFiles({1: "one"})}, load=[])
    await bench.manager.start()
    await asyncio.gather(bench.load("m"), bench.load("m"))
    assert bench.loading.loads == ["m:1"]


# --- what comes with the call --------------------------------------------------------------------------


@virtual
async def test_a_model_may_come_with_the_call_and_its_files_leave_with_it() -> None:
    bench = Bench({})
    await bench.manager.start()
    await bench.manager.load("m", "{}", {"1/model.onnx": b"one"})
    assert bench.contents("m") == {1: "one"}
    await bench.manager.load("m", "{}", {"2/model.onnx": b"two"})
    await asyncio.sleep(1)
    assert bench.contents("m") == {2: "two"}
    assert bench.loading.uploads == {"upload-1"}
    await bench.manager.unload("m")
    await asyncio.sleep(1)
    assert not bench.loading.uploads
    assert not await bench.manager.index()


@virtual
async def test_names_that_callers_make_up_leave_nothing_behind() -> None:
    bench = Bench({})
    await bench.manager.start()
    for index in range(10):
        with pytest.raises(RepositoryModelNotFound):
            await bench.load(f"nobody-{index}")
        await bench.manager.unload(f"nobody-{index}")
        with pytest.raises(InvalidModel):
            await bench.manager.load(f"broken-{index}", "{}", {"1/model.onnx": b"broken"})
        await bench.manager.load(f"brought-{index}", "{}", {"1/model.onnx": b"one"})
        await bench.manager.unload(f"brought-{index}")
    await asyncio.sleep(1)
    assert not await bench.manager.index()
    assert not bench.manager._roster.models
    assert not bench.manager._turns


@virtual
async def test_a_model_given_again_while_its_forerunner_leaves_is_served() -> None:
    bench = Bench({"other": FakeFiles({1: "one"})}, load=[])
    bench.loading.run_ns = 500 * MS
    await bench.manager.start()
    await bench.manager.load("given", "{}", {"1/model.onnx": b"first"})
    bench.submit(bench.served("given")[1], "r1")  # so that it is a while in leaving
    await bench.manager.unload("given")
    busy = asyncio.ensure_future(bench.load("other"))
    await asyncio.sleep(0.1)
    await bench.manager.load("given", "{}", {"1/model.onnx": b"second"})
    await busy
    assert bench.contents("given") == {1: "second"}
    assert bench.loading.closed == ["given:1"]


@virtual
async def test_files_that_cannot_be_loaded_leave_nothing_behind() -> None:
    bench = Bench({})
    await bench.manager.start()
    with pytest.raises(InvalidModel):
        await bench.manager.load("m", "{}", {"1/model.onnx": b"broken"})
    assert not bench.loading.uploads


@virtual
async def test_files_need_a_configuration() -> None:
    bench = Bench({})
    await bench.manager.start()
    with pytest.raises(InvalidArgument, match="no configuration"):
        await bench.manager.load("m", None, {"1/model.onnx": b"one"})


@virtual
async def test_another_configuration_is_another_version() -> None:
    bench = Bench({"m": FakeFiles({1: "one"})})
    await bench.manager.start()
    first = bench.served("m")[1]
    await bench.manager.load("m", '{"max_batch_size": 4}', {})
    assert bench.served("m")[1] is not first
    await bench.load("m")
    assert bench.loading.loads == ["m:1"] * 3


# --- the end -------------------------------------------------------------------------------------------


@virtual
async def test_the_end_waits_for_what_is_owed() -> None:
    bench = Bench({"m": FakeFiles({1: "one"})})
    await bench.manager.start()
    bench.submit(bench.served("m")[1], "a", "b")
    assert await bench.manager.drain(1)
    assert bench.responder.order == ["a", "b"]
    assert bench.loading.closed == ["m:1"]


@virtual
async def test_the_end_waits_no_longer_than_it_may() -> None:
    bench = Bench({"m": FakeFiles({1: "one"})})
    await bench.manager.start()
    bench.loading.run_ns = 60_000 * MS
    bench.submit(bench.served("m")[1], "runs", "waits")
    assert not await bench.manager.drain(1)
    assert list(bench.responder.answers) == ["waits"]
    assert not bench.loading.closed
    await asyncio.sleep(60)


# --- following the files -------------------------------------------------------------------------------


@virtual
async def test_polling_follows_what_stands_still() -> None:
    bench = Bench({"m": FakeFiles({1: "one"})}, control="poll", poll_s=10)
    await bench.manager.start()
    bench.disk["m"].versions[2] = "tw"
    bench.disk["new"] = FakeFiles({1: "one"})
    await asyncio.sleep(11)
    bench.disk["m"].versions[2] = "two"  # it was half copied
    await asyncio.sleep(11)
    assert bench.contents("m") == {1: "one"}
    assert bench.contents("new") == {1: "one"}
    await asyncio.sleep(12)
    assert bench.contents("m") == {2: "two"}
    del bench.disk["new"]
    await asyncio.sleep(22)
    assert not bench.served("new")
    assert await bench.states("new") == {1: (ModelState.GONE, "its files are gone")}
    assert bench.loading.loads == ["m:1", "new:1", "m:2"]
    await bench.manager.drain(1)


@virtual
async def test_polling_tries_a_broken_version_once_and_again_when_it_changes() -> None:
    bench = Bench({"m": FakeFiles({1: "one"})}, control="poll", poll_s=10)
    await bench.manager.start()
    bench.disk["m"].versions[2] = "broken"
    await asyncio.sleep(100)
    assert bench.loading.loads == ["m:1", "m:2"]
    assert bench.contents("m") == {1: "one"}
    assert bench.manager.is_ready()
    assert (await bench.states("m"))[2] == (ModelState.FAILED, "m:2 is broken")
    bench.disk["m"].versions[2] = "two"
    await asyncio.sleep(30)
    assert bench.contents("m") == {2: "two"}
    await bench.manager.drain(1)


@virtual
async def test_while_a_path_is_missing_nothing_is_unloaded() -> None:
    bench = Bench({"m": FakeFiles({1: "one"})}, control="poll", poll_s=10)
    await bench.manager.start()
    files = bench.disk.pop("m")
    bench.loading.missing.append(Path("disk"))
    await asyncio.sleep(100)
    assert bench.contents("m") == {1: "one"}
    bench.loading.missing.clear()
    bench.disk["m"] = files
    await asyncio.sleep(100)
    assert bench.loading.loads == ["m:1"]
    del bench.disk["m"]
    await asyncio.sleep(100)
    assert not bench.served("m")
    await bench.manager.drain(1)


# --- progress ------------------------------------------------------------------------------------------


@virtual
async def test_a_run_that_does_not_come_back_makes_its_version_unready_until_it_does() -> None:
    bench = Bench({"m": FakeFiles({1: "one"}), "other": FakeFiles({1: "one"})}, stall_timeout_s=10)
    await bench.manager.start()
    heard = bench.heard = []
    bench.loading.run_ns = 30_000 * MS
    bench.submit(bench.served("m")[1], "stuck")
    await asyncio.sleep(9)
    assert bench.manager.is_ready()
    await asyncio.sleep(4)
    assert heard == [False]  # told without being asked
    assert not bench.manager.is_version_ready("m", 1)
    assert bench.manager.is_version_ready("other", 1)
    assert set(bench.served("m")) == {1}  # it is still sent requests: whoever routes decides
    state, reason = (await bench.states("m"))[1]
    assert state is ModelState.STALLED
    assert "has not come back for 10 s" in reason
    await asyncio.sleep(20)
    assert heard == [False, True]
    assert bench.manager.is_ready()
    await bench.manager.drain(1)


# --- memory --------------------------------------------------------------------------------------------


def _three(**settings: Any) -> Bench:
    """Three models of 100 bytes where two fit."""
    disk = {name: FakeFiles({1: name}) for name in "abc"}
    return Bench(disk, memory_bytes=250, stall_timeout_s=10, **settings)


def _ask(bench: Bench, name: str, request: str) -> None:
    """What a front door does: submit, or hold until the model is back."""

    def resume(error: Any = None) -> None:
        if error is not None:
            bench.responder.reject(make_request(request, bench.responder), error)
        elif bench.routes[name].served:
            bench.submit(bench.served(name)[1], request)
        else:
            bench.manager.cold.hold(name, resume)

    resume()


@virtual
async def test_the_least_recently_used_makes_room_and_comes_back_when_it_is_asked_for() -> None:
    bench = _three(load=["a", "b"])
    await bench.manager.start()
    await asyncio.sleep(1)
    _ask(bench, "a", "keeps-a-warm")
    await asyncio.sleep(1)
    await bench.load("c")
    assert {name for name in "abc" if bench.routes[name].served} == {"a", "c"}
    state, reason = (await bench.states("b"))[1]
    assert state is ModelState.GONE
    assert reason.startswith("unloaded to make room for 'c'")
    assert bench.manager.is_ready()
    for index in range(5):
        _ask(bench, "b", f"cold-{index}")
    assert bench.admission.requests == 5
    await asyncio.sleep(2)
    assert {f"cold-{index}" for index in range(5)} < set(bench.responder.answers)
    assert all(isinstance(answer, tuple) for answer in bench.responder.answers.values())
    assert bench.loading.loads == ["a:1", "b:1", "c:1", "b:1"]
    assert bench.admission.requests == 0
    assert bench.manager.statistics.memory() == (200, 250)


@virtual
async def test_a_busy_model_answers_what_it_has_taken_before_it_makes_room() -> None:
    bench = _three(load=["a", "b"])
    await bench.manager.start()
    bench.loading.run_ns = 3_000 * MS
    for name in "ab":
        bench.submit(bench.served(name)[1], f"{name}-1", f"{name}-2")
    await bench.load("c")
    assert len(bench.responder.answers) >= 2
    await asyncio.sleep(10)
    assert all(isinstance(answer, tuple) for answer in bench.responder.answers.values())
    assert len(bench.responder.answers) == 4


@virtual
async def test_what_does_not_fit_at_start_is_loaded_when_it_is_asked_for() -> None:
    bench = _three(control="none")
    await bench.manager.start()
    assert bench.loading.loads == ["a:1", "b:1"]
    assert (await bench.states("c"))[1] == (
        ModelState.GONE,
        "not loaded, models.memory_bytes is used up; loaded when it is asked for",
    )
    assert bench.manager.is_ready()
    _ask(bench, "c", "cold")
    await asyncio.sleep(2)
    assert isinstance(bench.responder.answers["cold"], tuple)


@virtual
async def test_a_model_that_can_never_fit_is_refused() -> None:
    bench = _three(load=[])
    bench.disk["a"].nbytes = 251
    await bench.manager.start()
    with pytest.raises(NoRoom, match=r"'a' takes 251 bytes; models\.memory_bytes allows 250"):
        await bench.load("a")
    assert (await bench.states("a"))[None][1].startswith("model 'a' takes 251 bytes")


@virtual
async def test_everybody_who_waits_gets_an_answer_though_models_push_each_other_out() -> None:
    bench = _three(load=[])
    bench.disk["a"].nbytes = bench.disk["b"].nbytes = bench.disk["c"].nbytes = 250
    await bench.manager.start()
    for name in "abc":
        await bench.load(name)
    for index in range(10):
        for name in "abc":
            _ask(bench, name, f"{name}-{index}")
        await asyncio.sleep(0.7)
    await asyncio.sleep(60)
    assert len(bench.responder.answers) == 30
    assert all(isinstance(answer, tuple) for answer in bench.responder.answers.values())
    assert bench.admission.requests == 0


@virtual
async def test_only_so_many_wait_for_one_model() -> None:
    bench = _three(control="none", cold_requests=2)
    await bench.manager.start()
    _ask(bench, "c", "first")
    _ask(bench, "c", "second")
    with pytest.raises(Overloaded, match=r"models\.cold_requests allows 2"):
        _ask(bench, "c", "third")
    assert bench.manager.statistics.cold_refused == 1
    await asyncio.sleep(2)
    assert set(bench.responder.answers) == {"first", "second"}


@virtual
async def test_what_waits_may_run_out_of_time_or_go_away() -> None:
    bench = _three(control="none")
    await bench.manager.start()
    told: list[Any] = []
    cold = bench.manager.cold
    now_ns = VirtualClock().monotonic_ns()
    cold.hold("c", told.append, now_ns + 500 * MS)
    gone = cold.hold("c", told.append)
    cold.hold("c", told.append, now_ns + 5_000 * MS)
    cold.drop(gone)
    await asyncio.sleep(0.6)
    assert [type(error) for error in told] == [DeadlineExceeded]
    assert bench.admission.requests == 1
    await asyncio.sleep(5)
    assert told[1:] == [None]
    cold.drop(gone)
    assert bench.admission.requests == 0


@virtual
async def test_a_cold_model_that_cannot_be_loaded_tells_why_and_is_not_tried_by_every_request() -> None:
    bench = _three(control="none")
    await bench.manager.start()
    bench.disk["c"].versions[1] = "broken"
    _ask(bench, "c", "first")
    await asyncio.sleep(2)
    assert isinstance(bench.responder.answers["first"], InvalidModel)
    with pytest.raises(InvalidModel):
        _ask(bench, "c", "second")
    assert bench.loading.loads.count("c:1") == 1
    bench.disk["c"].versions[1] = "mended"
    await asyncio.sleep(5)
    _ask(bench, "c", "third")
    await asyncio.sleep(2)
    assert isinstance(bench.responder.answers["third"], tuple)


@virtual
async def test_whoever_can_await_waits_for_a_cold_model() -> None:
    bench = _three(control="none")
    await bench.manager.start()
    await bench.manager.cold.wait("c")
    assert bench.served("c")
    with pytest.raises(DeadlineExceeded):
        await bench.manager.cold.wait("a" if not bench.served("a") else "b", VirtualClock().monotonic_ns() + MS)
    await bench.manager.drain(1)


@virtual
async def test_what_waits_for_a_model_is_refused_when_the_server_stops() -> None:
    bench = _three(control="none")
    await bench.manager.start()
    _ask(bench, "c", "waits")
    await bench.manager.drain(1)
    assert isinstance(bench.responder.answers["waits"], Unavailable)
    assert bench.admission.requests == 0


@virtual
async def test_a_model_unloaded_on_demand_stays_away() -> None:
    bench = _three(load=["a", "b"])
    await bench.manager.start()
    await bench.load("c")
    (cold,) = [name for name in "abc" if bench.routes[name].cold]
    await bench.manager.unload(cold)
    assert not bench.routes[cold].cold
