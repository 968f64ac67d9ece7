"""The response cache of a whole server: every front door, every form of answer, and what is counted."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper
from tests.flow.plain_models import prompt
from tests.flow.serving import Server, serve
from tests.support import onnx_models, slow_models
from tests.support.grpc_calls import connected, infer_request, output_of
from tests.support.onnx_models import tensor
from tests.support.raw_http import Raw, request, wait_until

from taxiway.telemetry.logs import describe_record


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name, make in {
        "double": onnx_models.doubler,
        "texts": onnx_models.echo_texts,
        "both": onnx_models.two_outputs,
        "prompt": prompt,
        "poisonable": onnx_models.poisonable,
        "slow": slow_models.sleeper,
    }.items():
        onnx_models.cached(make(folder / name / "1/model.onnx"))
    return folder


@pytest.fixture
def server(models: Path) -> Iterator[Server]:
    with serve(models, cache__max_bytes=1 << 20, cache__max_input_bytes=10_000) as running:
        yield running


def _stats(server: Server, model: str) -> dict[str, Any]:
    told: dict[str, Any] = server.ask("GET", f"/v2/models/{model}/stats").json()["model_stats"][0]
    return told


def _cache(server: Server, model: str) -> tuple[int, int]:
    stats = _stats(server, model)["inference_stats"]
    return stats["cache_hit"]["count"], stats["cache_miss"]["count"]


def _is_known(server: Server, model: str, hits: int) -> bool:
    return _cache(server, model) == (hits, 1)


def _metric(server: Server, name: str) -> float:
    return sum(
        float(line.split()[-1]) for line in server.scrape().splitlines() if line.split("{")[0].split()[0] == name
    )


def _rows(*rows: list[float], **members: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "x", "shape": [len(rows), 2], "datatype": "FP32", "data": list(rows)}], **members}


def test_json_and_binary_share_an_answer_in_their_own_forms(server: Server) -> None:
    path = "/v2/models/double/infer"
    first = server.ask("POST", path, _rows([1, 2], id="one"))
    again = server.ask("POST", path, _rows([1, 2], id="two"))
    assert first.json()["id"] == "one"
    assert again.json() == {**first.json(), "id": "two"}
    head = json.dumps(
        {
            "inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "parameters": {"binary_data_size": 8}}],
            "outputs": [{"name": "y", "parameters": {"binary_data": True}}],
        }
    ).encode()
    body = head + np.array([1, 2], np.float32).tobytes()
    binary = server.ask("POST", path, body, {"Inference-Header-Content-Length": str(len(head))})
    assert binary.body.endswith(np.array([2, 4], np.float32).tobytes())
    assert server.ask("POST", path, _rows([1, 2], outputs=[{"name": "y", "parameters": {"classification": 1}}])).json()[
        "outputs"
    ][0]["data"] == ["4.000000:1"]
    assert _cache(server, "double") == (3, 1)


def test_grpc_shares_answers_too(server: Server) -> None:
    numbers = np.array([[1, 2]], np.float32)
    assert server.ask("POST", "/v2/models/double/infer", _rows([1, 2])).status == 200
    with connected(server.grpc) as channel:
        for _ in range(2):
            answer = channel.call("ModelInfer", infer_request("double", ("x", numbers)))
            assert output_of(answer, 0) == [[2, 4]]
    assert _cache(server, "double") == (2, 1)


def test_shared_memory_and_traces_and_the_cache_go_together(models: Path, tmp_path: Path) -> None:
    key = f"test-{uuid.uuid4().hex}"
    memory = Path("/dev/shm", key)  # noqa: S108 - shared memory is what is tested
    memory.write_bytes(np.array([1, 2, 0, 0], np.float32).tobytes())
    flags = {"trace__level": "TIMESTAMPS", "trace__rate": 1, "trace__file": str(tmp_path / "traces.json")}
    place = {"shared_memory_region": "r", "shared_memory_byte_size": 8}
    document = {
        "inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "parameters": place}],
        "outputs": [{"name": "y", "parameters": {**place, "shared_memory_offset": 8}}],
    }
    try:
        with serve(models / "double", cache__max_bytes=1 << 20, shared_memory__system=True, **flags) as server:
            register = {"key": key, "byte_size": 16}
            assert server.ask("POST", "/v2/systemsharedmemory/region/r/register", register).status == 200
            for _ in range(2):
                assert server.ask("POST", "/v2/models/double/infer", document).status == 200
                assert np.frombuffer(memory.read_bytes(), np.float32).tolist() == [1, 2, 2, 4]
                memory.write_bytes(np.array([1, 2, 0, 0], np.float32).tobytes())
            assert _cache(server, "double") == (1, 1)
            assert server.ask("POST", "/v2/models/double/infer", _rows([1, 2])).json()["outputs"][0]["data"] == [2, 4]
            assert _cache(server, "double") == (2, 1)
    finally:
        memory.unlink()
    steps = [[stamp["name"] for stamp in one["timestamps"]] for one in _traces(tmp_path) if "timestamps" in one]
    assert sum("COMPUTE_START" in names for names in steps) == 1, "a hit is not run"
    assert sum("REQUEST_END" in names for names in steps) == 3


def _traces(folder: Path) -> list[Any]:
    return [one for file in sorted(folder.glob("traces.json*")) for one in json.loads(file.read_text())]


def test_what_is_counted(server: Server) -> None:
    path = "/v2/models/double/infer"
    one, other = [1.0, 2.0], [3.0, 4.0]
    for rows in ([one, other], [one, other], [other, one]):
        assert server.ask("POST", path, _rows(*rows)).status == 200
    stats = _stats(server, "double")
    assert (stats["inference_count"], stats["execution_count"]) == (4, 2)
    counts = {name: one["count"] for name, one in stats["inference_stats"].items()}
    assert counts == {
        "success": 3, "fail": 0, "queue": 3, "compute_input": 2, "compute_infer": 2, "compute_output": 2,
        "cache_hit": 1, "cache_miss": 2,
    }  # fmt: skip
    assert stats["inference_stats"]["cache_hit"]["ns"] > 0
    assert stats["inference_stats"]["cache_miss"]["ns"] > 0
    assert _metric(server, "nv_inference_request_success") == 3
    assert _metric(server, "nv_inference_count") == 4
    assert _metric(server, "nv_cache_num_hits_per_model") == 1
    assert _metric(server, "nv_cache_num_misses_per_model") == 2
    assert _metric(server, "taxiway_cache_entries") == 2
    assert 2000 < _metric(server, "taxiway_cache_bytes") < 10_000


def test_the_plain_front_doors_too_and_their_parameters_count(server: Server) -> None:
    for _ in range(2):
        answer = server.ask("POST", "/v1/models/double:predict", {"instances": [[1, 2]]})
        assert answer.json() == {"predictions": [[2.0, 4.0]]}
    assert _cache(server, "double") == (1, 1)
    prompt = {"text_input": "hello", "temperature": 0.5}
    for extra in ({}, {"seed": 1}, {"seed": 2}, {"parameters": {"seed": 1}}, {"seed": True}):
        answer = server.ask("POST", "/v2/models/prompt/generate", {**prompt, **extra})
        assert answer.json()["text_output"] == "hello"
    assert _cache(server, "prompt") == (1, 4)


def test_texts_and_large_requests(server: Server) -> None:
    for texts in (["ab", ""], ["a", "b"], ["ab", ""]):
        document = {"inputs": [{"name": "x", "shape": [2, 1], "datatype": "BYTES", "data": texts}]}
        assert server.ask("POST", "/v2/models/texts/infer", document).json()["outputs"][0]["data"] == texts
    assert _cache(server, "texts") == (1, 2)
    for _ in range(2):
        assert server.ask("POST", "/v2/models/double/infer", _rows(*[[1.0, 2.0]] * 2000)).status == 200
    assert _cache(server, "double") == (0, 0)
    assert _metric(server, "taxiway_cache_bypassed_total") == 2


def test_a_failed_run_is_not_kept(server: Server) -> None:
    bad = {"inputs": [{"name": "x", "shape": [1, 1], "datatype": "INT64", "data": [99]}]}
    for _ in range(2):
        assert server.ask("POST", "/v2/models/poisonable/infer", bad).status == 500
    assert _cache(server, "poisonable") == (0, 0)
    assert _stats(server, "poisonable")["inference_stats"]["fail"]["count"] == 2


def test_equal_requests_at_once_are_one_run(models: Path) -> None:
    document = {"inputs": [{"name": "x", "shape": [1, 1], "datatype": "INT64", "data": [8000]}]}
    with serve(models / "slow", cache__max_bytes=1 << 20, execution__mode="thread") as server:
        answers: list[Any] = []

        def ask() -> None:
            answers.append(server.ask("POST", "/v2/models/slow/infer", document).json()["outputs"][0]["data"])

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == [[8000]] * 8
        assert _stats(server, "slow")["execution_count"] == 1
        assert _cache(server, "slow") == (7, 1)


@pytest.mark.parametrize(
    ("flags", "more", "reason"),
    [
        ({}, "", "config.pbtxt enables response_cache, and cache.max_bytes is 0"),
        (
            {"cache__max_bytes": 1000},
            "max_batch_size: 4 dynamic_batching { preserve_ordering: true }",
            "what is known would overtake what runs",
        ),
    ],
)
def test_a_model_that_is_not_cached_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, flags: dict[str, Any], more: str, reason: str
) -> None:
    model = onnx_models.cached(onnx_models.doubler(tmp_path / "double/1/model.onnx"), more)
    with serve(model, **flags) as server:
        for _ in range(2):
            assert server.ask("POST", "/v2/models/double/infer", _rows([1, 2])).status == 200
        assert _cache(server, "double") == (0, 0)
        assert _stats(server, "double")["execution_count"] == 2
    told = [line for line in map(describe_record, caplog.records) if line["event"] == "response_not_cached"]
    assert [line["reason"] for line in told] == [reason]
    assert told[0]["model"] == "double"
    assert told[0]["hint"]


def test_a_model_that_does_not_ask_is_not_cached(tmp_path: Path) -> None:
    with serve(onnx_models.doubler(tmp_path / "double.onnx"), cache__max_bytes=1000) as server:
        for _ in range(2):
            server.ask("POST", "/v2/models/double/infer", _rows([1, 2]))
        assert _stats(server, "double")["execution_count"] == 2
        assert "nv_cache_num_hits_per_model" not in server.scrape()


def test_a_reload_never_gives_what_was_kept_before(tmp_path: Path) -> None:
    path = tmp_path / "double/1/model.onnx"
    onnx_models.cached(onnx_models.doubler(path))
    flags: dict[str, object] = {"models__control": "explicit", "models__load": ["*"]}
    with serve(tmp_path, cache__max_bytes=1 << 20, **flags) as server:
        for _ in range(2):
            assert _numbers(server) == [2.0, 4.0]
        node = helper.make_node("Identity", ["x"], ["y"])
        onnx_models.save(path, [node], [tensor("x", ["N", 2])], [tensor("y", ["N", 2])])
        assert server.ask("POST", "/v2/repository/models/double/load").status == 200
        assert _numbers(server) == _numbers(server) == [1.0, 2.0]
        wait_until(lambda: _metric(server, "taxiway_cache_entries") == 1, "the old version's answers are gone")


def _numbers(server: Server) -> Any:
    return server.ask("POST", "/v2/models/double/infer", _rows([1, 2])).json()["outputs"][0]["data"]


def test_a_client_that_goes_while_its_known_answer_is_packed_is_counted_out_once(tmp_path: Path) -> None:
    width = 1_000_000
    onnx_models.cached(onnx_models.doubler(tmp_path / "wide/1/model.onnx", width=width))
    x = {"name": "x", "shape": [1, width], "datatype": "FP32", "parameters": {"binary_data_size": 4 * width}}
    head = json.dumps({"inputs": [x], "parameters": {"binary_data_output": True}}).encode()
    body = head + np.random.default_rng(1).random(width, np.float32).tobytes()
    headers = {"Inference-Header-Content-Length": str(len(head)), "Accept-Encoding": "gzip"}
    asked = request("POST", "/v2/models/wide/infer", body, *(f"{name}: {value}" for name, value in headers.items()))
    with serve(tmp_path, cache__max_bytes=1 << 26, cache__max_input_bytes=1 << 23) as server:
        assert server.ask("POST", "/v2/models/wide/infer", body, headers).status == 200
        for known in (1, 2, 3):
            with Raw(server.address) as leaver:
                leaver.send(asked)
                wait_until(partial(_is_known, server, "wide", known), "it is known, and being packed")
        wait_until(lambda: _metric(server, "taxiway_http_open_connections") == 0, "all have gone")
        assert _metric(server, "taxiway_http_requests_in_flight") == 0
