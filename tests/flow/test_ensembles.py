"""Ensembles of real models over HTTP and gRPC: their answers, errors, statistics, traces, and how they come and go."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from grpc import StatusCode
from tests.flow.serving import Answer, Server, serve
from tests.support import ensembles, numbered_models, onnx_models, slow_models
from tests.support.ensembles import graph, step, tensor
from tests.support.grpc_calls import connected, infer_request, output_of, refused
from tests.support.raw_http import Raw, infer, wait_until

from taxiway.core.errors import InvalidConfig

SUMS = step("sums", {"a": "A", "b": "B"}, {"SUM": "sum", "DIFFERENCE": "difference"})
APART = graph(
    SUMS,
    step("doubler", {"x": "sum"}, {"y": "TWICE"}),
    step("doubler", {"x": "difference"}, {"y": "APART"}),
    declared="max_batch_size: 4\n"
    + "".join(tensor("input", name) for name in "AB")
    + "".join(tensor("output", name) for name in ("TWICE", "APART")),
)


def repository(root: Path) -> Path:
    """Two models, and an ensemble whose name comes before theirs."""
    onnx_models.two_outputs(root / "sums" / "1" / "model.onnx")
    onnx_models.doubler(root / "doubler" / "1" / "model.onnx")
    ensembles.write(root, "apart", APART)
    return root


def row(name: str, *values: float) -> dict[str, Any]:
    return {"name": name, "shape": [1, len(values)], "datatype": "FP32", "data": list(values)}


def adding(root: Path, *amounts: int, name: str = "all") -> Path:
    """Models that add, `add1` and so on, and an ensemble that asks one after the other."""
    tensors = ["x", *(f"t{n}" for n in range(1, len(amounts))), "y"]
    for amount in amounts:
        numbered_models.adder(numbered_models.version_file(root, f"add{amount}", 1), amount)
    steps = [step(f"add{amount}", {"x": tensors[n]}, {"y": tensors[n + 1]}) for n, amount in enumerate(amounts)]
    ensembles.write(root, name, graph(*steps))
    return root


def ask(server: Server, model: str, *inputs: dict[str, Any], **more: Any) -> Answer:
    return server.ask("POST", f"/v2/models/{model}/infer", {"inputs": list(inputs), **more})


def added(server: Server, model: str = "all") -> float:
    """What the ensemble adds to nothing."""
    answer = ask(server, model, row("x", 0))
    assert answer.status == 200, answer.body
    return float(answer.json()["outputs"][0]["data"][0])


def index(server: Server) -> dict[str, tuple[str, str]]:
    """The state of each model, and why."""
    lines = server.ask("POST", "/v2/repository/index").json()
    return {line["name"]: (line.get("state", ""), line.get("reason", "")) for line in lines}


def change(server: Server, verb: str, model: str, **parameters: Any) -> Answer:
    return server.ask("POST", f"/v2/repository/models/{model}/{verb}", {"parameters": parameters})


def is_ready(server: Server, model: str) -> bool:
    return server.ask("GET", f"/v2/models/{model}/ready").status == 200


@pytest.fixture(scope="module", params=["strict", "triton"])
def server(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Server]:
    with serve(repository(tmp_path_factory.mktemp("models")), compat=request.param) as running:
        yield running


INPUTS = (row("A", 5, 4), row("B", 1, 2))
ROWS = (("A", np.asarray([[5, 4]], np.float32)), ("B", np.asarray([[1, 2]], np.float32)))


# --- answers -------------------------------------------------------------------------------------------


def test_it_answers_as_its_models_do_one_after_the_other(server: Server) -> None:
    answer = ask(server, "apart", *INPUTS, id="7")
    assert answer.status == 200, answer.body
    told = answer.json()
    assert (told["id"], told["model_name"], told["model_version"]) == ("7", "apart", "1")
    assert {one["name"]: one["data"] for one in told["outputs"]} == {"TWICE": [12, 12], "APART": [8, 4]}


def test_it_answers_over_grpc(server: Server) -> None:
    with connected(server.grpc) as channel:
        for _ in range(3):
            answer = channel.call("ModelInfer", infer_request("apart", *ROWS, id="q"))
            assert (answer.id, answer.model_name) == ("q", "apart")
            assert output_of(answer, 0) == [[12, 12]]
            assert output_of(answer, 1) == [[8, 4]]


def test_only_what_is_asked_for_is_computed(server: Server) -> None:
    def executions() -> int:
        return int(server.ask("GET", "/v2/models/doubler/stats").json()["model_stats"][0]["inference_count"])

    before = executions()
    answer = ask(server, "apart", *INPUTS, outputs=[{"name": "APART"}])
    assert [one["name"] for one in answer.json()["outputs"]] == ["APART"]
    assert executions() == before + 1


def test_it_tells_of_itself_as_triton_does(server: Server) -> None:
    metadata = server.ask("GET", "/v2/models/apart").json()
    assert (metadata["platform"], metadata["versions"]) == ("ensemble", ["1"])
    assert metadata["inputs"][0] == {"name": "A", "datatype": "FP32", "shape": [-1, 2]}
    config = server.ask("GET", "/v2/models/apart/config").json()
    assert config["ensemble_scheduling"]["step"][0]["input_map"] == {"a": "A", "b": "B"}
    assert is_ready(server, "apart")


def test_many_at_once_each_get_their_own(server: Server) -> None:
    def one(turn: int) -> None:
        answer = ask(server, "apart", row("A", turn, 0), row("B", 1, 0), outputs=[{"name": "TWICE"}])
        assert answer.json()["outputs"][0]["data"] == [2.0 * (turn + 1), 0]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(100)))


def test_its_statistics_and_those_of_its_models(tmp_path: Path) -> None:
    with serve(repository(tmp_path)) as server:
        for _ in range(3):
            assert ask(server, "apart", *INPUTS).status == 200
        stats = {one["name"]: one for one in server.ask("GET", "/v2/models/stats").json()["model_stats"]}
        counts = {name: one["inference_stats"]["success"]["count"] for name, one in stats.items()}
        assert counts == {"apart": 3, "sums": 3, "doubler": 6}
        assert (stats["apart"]["inference_count"], stats["apart"]["execution_count"]) == (3, 3)
        assert 'nv_inference_request_success{model="apart",version="1"} 3' in server.scrape()


# --- errors --------------------------------------------------------------------------------------------


def test_what_is_wrong_with_a_request_is_told_before_anything_runs(server: Server) -> None:
    answer = ask(server, "apart", row("A", 5, 4))
    assert answer.status == 400
    assert "['B']" in answer.json()["error"]


def test_an_error_names_the_step(tmp_path: Path) -> None:
    onnx_models.poisonable(tmp_path / "poison" / "1" / "model.onnx")
    ensembles.write(tmp_path, "all", graph(step("poison", {"x": "IN"}, {"y": "OUT"})))
    with serve(tmp_path) as server, connected(server.grpc) as channel:
        poison = {"name": "IN", "shape": [1, 1], "datatype": "INT64", "data": [99]}
        answer = ask(server, "all", poison)
        assert answer.status == 500
        assert answer.json()["error"].startswith("in ensemble 'all', step 0 (model 'poison'): the model failed")
        with refused(StatusCode.INTERNAL) as refusal:
            channel.call("ModelInfer", infer_request("all", ("IN", np.asarray([[99]]))))
        assert "step 0 (model 'poison')" in refusal.details
        failed = server.ask("GET", "/v2/models/all/stats").json()["model_stats"][0]["inference_stats"]["fail"]
        assert failed["count"] == 2


def sleepy(root: Path) -> Path:
    """An ensemble of one slow model, twice."""
    slow_models.sleeper(root / "sleeper" / "1" / "model.onnx")
    steps = (step("sleeper", {"x": "x"}, {"y": "mid"}), step("sleeper", {"x": "mid"}, {"y": "y"}))
    ensembles.write(root, "all", graph(*steps))
    return root


def test_a_deadline_holds_for_all_steps(tmp_path: Path) -> None:
    with serve(sleepy(tmp_path), execution__mode="thread") as server:
        late = ask(server, "all", {**row("x", 4000), "datatype": "INT64", "data": [4000]}, parameters={"timeout": 1000})
        assert late.status == 504
        wait_until(lambda: "taxiway_http_requests_in_flight 0" in server.scrape(), "it is forgotten")
        assert server.ask("GET", "/v2/models/sleeper/stats").json()["model_stats"][0]["execution_count"] <= 1


def test_who_leaves_takes_the_steps_along(tmp_path: Path) -> None:
    with serve(sleepy(tmp_path), execution__mode="thread") as server:
        with Raw(server.address) as connection:
            connection.send(infer("all", [[4000]], "INT64"))
            running = "taxiway_http_requests_in_flight 1"
            wait_until(lambda: running in server.scrape(), "it is inside")
        wait_until(lambda: "taxiway_http_requests_in_flight 0" in server.scrape(), "it is forgotten")
        stats = server.ask("GET", "/v2/models/all/stats").json()["model_stats"][0]["inference_stats"]
        assert (stats["success"]["count"], stats["fail"]["count"]) == (0, 1)


# --- traces --------------------------------------------------------------------------------------------


def test_the_traces_of_steps_name_their_parent(tmp_path: Path) -> None:
    file = tmp_path / "trace.json"
    flags = {"trace__level": '["TIMESTAMPS"]', "trace__rate": 1, "trace__file": str(file)}
    with serve(repository(tmp_path / "models"), **flags) as server:
        assert ask(server, "apart", *INPUTS, id="7").status == 200
    told = {one["id"]: one for one in json.loads(file.read_text()) if "model_name" in one}
    (parent,) = [one for one in told.values() if one["model_name"] == "apart"]
    children = [one for one in told.values() if one is not parent]
    assert "parent_id" not in parent
    assert sorted(one["model_name"] for one in children) == ["doubler", "doubler", "sums"]
    assert {one["parent_id"] for one in children} == {parent["id"]}
    assert {one["request_id"] for one in told.values()} == {"7"}
    named = [one["timestamps"][0]["name"] for one in json.loads(file.read_text()) if "timestamps" in one]
    assert named.count("COMPUTE_START") == 3


def test_steps_are_traced_for_an_ensemble_that_is_traced_alone(tmp_path: Path) -> None:
    file = tmp_path / "trace.json"
    with serve(repository(tmp_path / "models"), trace__file=str(file)) as server:
        settings = {"trace_level": ["TIMESTAMPS"], "trace_rate": "1"}
        assert server.ask("POST", "/v2/models/apart/trace/setting", settings).status == 200
        assert ask(server, "apart", *INPUTS).status == 200
        assert ask(server, "doubler", row("x", 1, 2)).status == 200
    told = json.loads(file.read_text())
    assert sorted(one["model_name"] for one in told if "model_name" in one) == ["apart", "doubler", "doubler", "sums"]
    assert sum(one["timestamps"][0]["name"] == "COMPUTE_START" for one in told if "timestamps" in one) == 3


# --- the response cache --------------------------------------------------------------------------------


def test_its_answers_are_kept(tmp_path: Path) -> None:
    adding(tmp_path, 1, 2)
    config = tmp_path / "all" / "config.pbtxt"
    config.write_text(config.read_text() + "response_cache { enable: true }\n")
    with serve(tmp_path, cache__max_bytes=1 << 20) as server:
        assert [added(server) for _ in range(3)] == [3.0] * 3
        stats = server.ask("GET", "/v2/models/all/stats").json()["model_stats"][0]
        assert stats["inference_stats"]["cache_hit"]["count"] == 2
        assert server.ask("GET", "/v2/models/add1/stats").json()["model_stats"][0]["execution_count"] == 1


def test_kept_answers_of_its_models_are_its_own_at_once(tmp_path: Path) -> None:
    adding(tmp_path, 1, 2)
    for name in ("add1", "add2", "all"):
        config = tmp_path / name / "config.pbtxt"
        text = config.read_text() if config.exists() else "max_batch_size: 8\n"
        config.write_text(text + "response_cache { enable: true }\n")
    with serve(tmp_path, cache__max_bytes=1 << 20, models__control="explicit") as server:
        for name in ("add1", "add2"):
            assert server.ask("POST", f"/v2/repository/models/{name}/load").status == 200
        assert added(server, "add1") == 1
        assert ask(server, "add2", {"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [1]}).status == 200
        assert server.ask("POST", "/v2/repository/models/all/load").status == 200
        assert added(server) == 3.0, "both steps are answered before anything is run"


# --- coming and going ----------------------------------------------------------------------------------


def test_an_ensemble_may_ask_ensembles(tmp_path: Path) -> None:
    adding(tmp_path, 1, 2, name="zoo")
    ensembles.write(
        tmp_path, "above", graph(step("zoo", {"x": "x"}, {"y": "mid"}), step("add1", {"x": "mid"}, {"y": "y"}))
    )
    with serve(tmp_path) as server:
        assert added(server, "above") == 4.0


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        ({"one": "two", "two": "one"}, "circular dependency between ensembles: one -> two -> one"),
        ({"one": "one"}, "circular dependency between ensembles: one -> one"),
        ({"one": "gone"}, "step[0].model_name = 'gone': is not served"),
    ],
)
def test_what_cannot_be_asked_is_refused_at_start(tmp_path: Path, steps: dict[str, str], reason: str) -> None:
    for name, asked in steps.items():
        ensembles.write(tmp_path, name, graph(step(asked, {"x": "x"}, {"y": "y"})))
    with pytest.raises(InvalidConfig) as caught, serve(tmp_path):
        pass
    assert reason in str(caught.value)


def test_loading_an_ensemble_loads_what_it_asks_and_unloading_may_take_it_along(tmp_path: Path) -> None:
    adding(tmp_path, 1, 2, 3)
    with serve(tmp_path, models__control="explicit", models__load='["add2"]') as server:
        assert change(server, "load", "all").status == 200
        assert added(server) == 6.0
        assert change(server, "unload", "all", unload_dependents=True).status == 200
        wait_until(lambda: index(server)["add1"][0] == "UNAVAILABLE", "what was only loaded for it has gone")
        assert {name: is_ready(server, name) for name in ("add1", "add2", "add3")} == {
            "add1": False,
            "add2": True,
            "add3": False,
        }


def test_what_is_loaded_for_its_own_sake_stays(tmp_path: Path) -> None:
    adding(tmp_path, 1, 2)
    with serve(tmp_path, models__control="explicit", models__load='["all"]') as server:
        assert added(server) == 3.0
        assert change(server, "load", "add1").status == 200
        assert change(server, "unload", "all", unload_dependents=True).status == 200
        wait_until(lambda: not is_ready(server, "add2"), "what was only loaded for it has gone")
        assert is_ready(server, "add1")


def test_without_one_of_its_models_it_is_not_ready_and_says_why(tmp_path: Path) -> None:
    adding(tmp_path, 1, 2)
    with serve(tmp_path, models__control="explicit") as server:
        assert change(server, "unload", "add2").status == 200
        assert not is_ready(server, "all")
        assert index(server)["all"] == ("UNAVAILABLE", "it asks 'add2', which is not ready")
        answer = ask(server, "all", row("x", 0))
        assert answer.status == 503
        assert answer.json()["error"].startswith("in ensemble 'all', step 1 (model 'add2'): ")
        assert server.ask("GET", "/v2/health/ready").status == 200
        assert change(server, "load", "add2").status == 200
        assert is_ready(server, "all")
        assert added(server) == 3.0


def test_it_follows_its_models_to_new_versions(tmp_path: Path) -> None:
    adding(tmp_path, 1, 2)
    with serve(tmp_path, models__control="explicit") as server:
        numbered_models.adder(numbered_models.version_file(tmp_path, "add2", 2), 20)
        assert change(server, "load", "add2").status == 200
        assert added(server) == 21.0


def test_it_is_planned_anew_when_a_model_changes_its_tensors(tmp_path: Path) -> None:
    onnx_models.doubler(tmp_path / "double" / "1" / "model.onnx", width=2)
    ensembles.write(tmp_path, "all", graph(step("double", {"x": "x"}, {"y": "y"})))
    with serve(tmp_path, models__control="explicit") as server:
        onnx_models.doubler(tmp_path / "double" / "2" / "model.onnx", width=3)
        assert change(server, "load", "double").status == 200
        assert server.ask("GET", "/v2/models/all").json()["inputs"][0]["shape"] == [-1, 3]
        assert ask(server, "all", row("x", 1, 2, 3)).json()["outputs"][0]["data"] == [2, 4, 6]


def test_a_load_that_cannot_be_says_everything(tmp_path: Path) -> None:
    adding(tmp_path, 1)
    with serve(tmp_path, models__control="explicit") as server:
        steps = (step("add1", {"z": "x"}, {"y": "y"}), step("gone", {"x": "y"}, {"y": "z"}))
        ensembles.write(tmp_path, "bad", graph(*steps))
        answer = change(server, "load", "bad")
        assert answer.status == 400
        told = answer.json()["error"]
        assert told.startswith("load failed for model 'bad'")
        assert "'gone': is not served" in told
        assert "model add1 has no such input" in told


def test_two_that_would_ask_each_other_are_loaded_one_of_them(tmp_path: Path) -> None:
    """At once, and each with a configuration that came with the call: neither knows of the other's before."""
    for name in ("add1", "add2"):
        numbered_models.adder(numbered_models.version_file(tmp_path, name, 1), 1)

    def load(server: Server, name: str, asked: str) -> int:
        maps = {"input_map": {"x": "x"}, "output_map": {"y": "y"}}
        scheduling = {"step": [{"model_name": asked, "model_version": -1, **maps}]}
        config = json.dumps({"platform": "ensemble", "ensemble_scheduling": scheduling})
        return server.ask("POST", f"/v2/repository/models/{name}/load", {"parameters": {"config": config}}).status

    with serve(tmp_path, models__control="explicit", models__load=[]) as running, ThreadPoolExecutor(2) as callers:
        loads = [callers.submit(load, running, *names) for names in (("add1", "add2"), ("add2", "add1"))]
        assert sorted(one.result() for one in loads) == [200, 400]


def test_files_that_come_one_by_one_are_followed(tmp_path: Path) -> None:
    numbered_models.numbered(tmp_path, "other", 1)
    with serve(tmp_path, models__control="poll", models__poll_s=0.05) as server:
        ensembles.write(tmp_path, "all", graph(step("add5", {"x": "x"}, {"y": "y"})))
        wait_until(lambda: "is not served" in index(server).get("all", ("", ""))[1], "it lacks its model")
        numbered_models.adder(numbered_models.version_file(tmp_path, "add5", 1), 5)
        wait_until(lambda: is_ready(server, "all"), "it has what it asks")
        assert added(server) == 5.0


def test_models_that_are_not_all_there_at_once(tmp_path: Path) -> None:
    for amount in (1, 2):
        numbered_models.adder(numbered_models.version_file(tmp_path, f"add{amount}", 1), amount, padding=100_000)
    steps = (step("add1", {"x": "x"}, {"y": "mid"}), step("add2", {"x": "mid"}, {"y": "y"}))
    ensembles.write(tmp_path, "all", graph(*steps))
    with serve(tmp_path, models__memory_bytes=150_000) as server:
        assert [added(server) for _ in range(3)] == [3.0] * 3
        assert is_ready(server, "all")


def test_an_ensemble_that_came_with_a_call(tmp_path: Path) -> None:
    adding(tmp_path, 1)
    with serve(tmp_path, models__control="explicit") as server:
        asked = {"model_name": "add1", "input_map": {"x": "x"}, "output_map": {"y": "y"}}
        config = {"ensemble_scheduling": {"step": [asked]}}
        answer = change(server, "load", "brought", config=json.dumps(config), **{"file:1/empty": ""})
        assert answer.status == 200, answer.body
        assert added(server, "brought") == 1.0


# --- pipelines of the settings -------------------------------------------------------------------------


def test_a_chain_in_the_settings_is_served_as_a_model(tmp_path: Path) -> None:
    onnx_models.two_outputs(tmp_path / "sums.onnx")
    onnx_models.doubler(tmp_path / "doubler.onnx")
    chain = {"steps": [{"model": "sums"}, {"model": "doubler", "inputs": {"x": "SUM"}, "outputs": {"y": "TWICE"}}]}
    with serve(tmp_path, pipelines=json.dumps({"chain": chain})) as server:
        answer = ask(server, "chain", row("a", 5, 4), row("b", 1, 2))
        assert answer.status == 200, answer.body
        told = {one["name"]: one["data"] for one in answer.json()["outputs"]}
        assert told == {"TWICE": [12, 12], "DIFFERENCE": [4, 2]}
        assert server.ask("GET", "/v2/models/chain").json()["platform"] == "ensemble"


def test_a_pipeline_comes_and_goes_on_demand(tmp_path: Path) -> None:
    numbered_models.adder(numbered_models.version_file(tmp_path, "add1", 1), 1)
    flags = {"models__control": "explicit", "models__load": "[]"}
    with serve(tmp_path, pipelines='{"chain": {"steps": [{"model": "add1"}]}}', **flags) as server:
        assert set(index(server)) == {"add1", "chain"}
        assert change(server, "load", "chain").status == 200
        assert added(server, "chain") == 1.0
        assert change(server, "unload", "chain", unload_dependents=True).status == 200
        wait_until(lambda: not is_ready(server, "add1"), "what was only loaded for it has gone")


@pytest.mark.parametrize(
    ("pipeline", "told"),
    [
        (
            {"steps": [{"model": "gone"}]},
            "pipelines.chain: ensemble_scheduling.step[0].model_name",
        ),
        ({"steps": [{"model": "add1", "inputs": {"z": "y"}}]}, "model add1 has no such input"),
    ],
)
def test_a_pipeline_that_cannot_be_is_refused_at_start(tmp_path: Path, pipeline: Any, told: str) -> None:
    numbered_models.adder(numbered_models.version_file(tmp_path, "add1", 1), 1)
    with pytest.raises(InvalidConfig) as caught, serve(tmp_path, pipelines=json.dumps({"chain": pipeline})):
        pass
    assert told in str(caught.value)


def test_a_pipeline_is_not_named_as_a_model_is(tmp_path: Path) -> None:
    numbered_models.adder(numbered_models.version_file(tmp_path, "add1", 1), 1)
    pipelines = '{"add1": {"steps": [{"model": "add1"}]}}'
    with pytest.raises(InvalidConfig, match=r"pipelines\.add1.*must differ"), serve(tmp_path, pipelines=pipelines):
        pass
