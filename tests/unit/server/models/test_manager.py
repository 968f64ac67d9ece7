"""The life of models in virtual time: what is loaded, kept, switched to, drained and closed, and what is told of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import pytest
from tests.unit.server.batching.fakes import MS, RecordingResponder, make_request
from tests.unit.server.models.fakes import FakeFiles, FakeLoading

from taxiway.config.settings import ModelsSettings
from taxiway.core.errors import (
    FailedPrecondition,
    InvalidArgument,
    InvalidConfig,
    InvalidModel,
    RepositoryModelNotFound,
)
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
        self.responder = RecordingResponder()
        self.manager = ModelManager(
            self.loading, ModelsSettings.model_validate({"control": "explicit", **settings}), clock, self._keep
        )

    def _keep(self, routes: Mapping[str, ModelRoutes]) -> None:
        self.routes = routes

    def served(self, name: str) -> dict[int, ServedModel]:
        return dict(self.routes[name].served)

    def contents(self, name: str) -> dict[int, str]:
        return {number: served.model.content for number, served in self.served(name).items()}  # type: ignore[attr-defined]

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
