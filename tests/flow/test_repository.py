"""The model repository extension over HTTP: what is loaded, unloaded and told, with real models."""

from __future__ import annotations

import base64
import gzip
import json
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.flow.serving import Answer, Server, serve
from tests.support import numbered_models, onnx_models
from tests.support.grpc_calls import connected, infer_request, output_of
from tests.support.numbered_models import numbered
from tests.support.raw_http import wait_until


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    numbered(tmp_path, "m", 1)
    numbered(tmp_path, "other", 1)
    return tmp_path


@pytest.fixture
def server(repository: Path) -> Iterator[Server]:
    with serve(repository, models__control="explicit", models__load='["m"]') as running:
        yield running


def _infer(server: Server, model: str = "m", version: str = "") -> tuple[int, str, float]:
    """Status, the version that the answer names, and what it added to nothing."""
    tail = f"/versions/{version}" if version else ""
    document = {"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [0]}]}
    answer = server.ask("POST", f"/v2/models/{model}{tail}/infer", document)
    if answer.status != 200:
        return answer.status, "", 0.0
    told = answer.json()
    return 200, told["model_version"], told["outputs"][0]["data"][0]


def _load(server: Server, model: str = "m", **parameters: Any) -> Answer:
    return server.ask("POST", f"/v2/repository/models/{model}/load", {"parameters": parameters} if parameters else None)


def _unload(server: Server, model: str = "m", body: Any = None) -> Answer:
    return server.ask("POST", f"/v2/repository/models/{model}/unload", body)


def _index(server: Server, body: Any = None) -> list[dict[str, str]]:
    lines: list[dict[str, str]] = server.ask("POST", "/v2/repository/index", body).json()
    return lines


def test_a_model_that_was_never_loaded_has_only_its_name(server: Server) -> None:
    assert _index(server) == [{"name": "m", "version": "1", "state": "READY"}, {"name": "other"}]
    assert _index(server, {"ready": True}) == [{"name": "m", "version": "1", "state": "READY"}]
    assert _infer(server, "other")[0] == 404
    assert server.ask("GET", "/v2/models").json() == {"models": ["m"]}


def test_a_loaded_model_answers_when_the_call_is_answered(server: Server) -> None:
    answer = _load(server, "other")
    assert (answer.status, answer.body) == (200, b"")
    assert _infer(server, "other") == (200, "1", 1.0)


def test_a_new_version_answers_when_the_call_is_answered(server: Server, repository: Path) -> None:
    numbered(repository, "m", 2)
    assert _infer(server) == (200, "1", 1.0)
    assert _load(server).status == 200
    assert _infer(server) == (200, "2", 2.0)
    assert _infer(server, version="1")[0] == 404
    wait_until(lambda: _index(server)[0].get("reason") == "unloaded", "the old one is gone")
    assert _index(server)[0] == {"name": "m", "version": "1", "state": "UNAVAILABLE", "reason": "unloaded"}


@pytest.mark.parametrize(
    ("policy", "versions"),
    [("all {}", [1, 2, 3]), ("latest { num_versions: 2 }", [2, 3]), ("specific { versions: [1] }", [1])],
)
def test_the_version_policy_is_obeyed_at_each_load(
    server: Server, repository: Path, policy: str, versions: list[int]
) -> None:
    numbered(repository, "m", 2)
    numbered(repository, "m", 3)
    (repository / "m" / "config.pbtxt").write_text(f"version_policy {{ {policy} }}")
    assert _load(server).status == 200
    ready = [int(line["version"]) for line in _index(server, {"ready": True})]
    assert ready == versions
    for version in versions:
        assert _infer(server, version=str(version)) == (200, str(version), float(version))


def test_a_policy_that_changes_no_version_is_told_all_the_same(server: Server, repository: Path) -> None:
    (repository / "m" / "config.pbtxt").write_text("version_policy { all {} }")
    before = server.ask("GET", "/v2/models/m/config").json()["version_policy"]
    assert _load(server).status == 200
    after = server.ask("GET", "/v2/models/m/config").json()["version_policy"]
    assert (before, after) == ({"latest": {"num_versions": 1}}, {"all": {}})


def test_a_broken_file_leaves_the_old_version_serving(server: Server, repository: Path) -> None:
    path = numbered_models.version_file(repository, "m", 2)
    path.parent.mkdir()
    path.write_bytes(b"broken")
    answer = _load(server)
    assert answer.status == 400
    assert answer.json()["code"] == "invalid-model"
    assert answer.json()["error"].startswith("load failed for model 'm'")
    assert _infer(server) == (200, "1", 1.0)
    assert server.ask("GET", "/v2/health/ready").status == 200
    first, second = _index(server)[:2]
    assert first["state"] == "READY"
    assert "loading it again failed" in first["reason"]
    assert second["state"] == "UNAVAILABLE"
    assert "2/model.onnx" in second["reason"]


def test_a_broken_configuration_leaves_the_old_version_serving(server: Server, repository: Path) -> None:
    (repository / "m" / "config.pbtxt").write_text("nonsense: 1")
    answer = _load(server)
    assert answer.status == 400
    assert answer.json()["code"] == "invalid-config"
    assert _infer(server) == (200, "1", 1.0)


def test_an_unknown_model(server: Server) -> None:
    answer = _load(server, "nobody")
    assert answer.status == 404
    assert answer.json()["error"] == "failed to load 'nobody', failed to poll from model repository"
    assert _unload(server, "nobody").status == 200


def test_an_unloaded_model_answers_no_more_and_comes_back(server: Server) -> None:
    answer = _unload(server, body={"parameters": {"unload_dependents": True}})
    assert (answer.status, answer.body) == (200, b"")
    assert _infer(server)[0] == 404
    gone = server.ask("GET", "/v2/models/m/versions/1")
    assert (gone.status, gone.json()["code"]) == (404, "version-not-served")
    assert "unloaded" in gone.json()["hint"]
    assert server.ask("GET", "/v2/models/m/ready").status == 404
    assert server.ask("GET", "/v2/health/ready").status == 200
    assert _load(server).status == 200
    assert _infer(server) == (200, "1", 1.0)


def test_a_model_comes_with_the_call(server: Server, tmp_path: Path) -> None:
    content = numbered_models.adder(tmp_path / "elsewhere.onnx", 7).read_bytes()
    file = {"file:5/model.onnx": base64.b64encode(content).decode()}
    before = set(Path(tempfile.gettempdir()).glob("taxiway-upload-*"))
    assert _load(server, "given", config="{}", **file).status == 200
    assert _infer(server, "given") == (200, "5", 7.0)
    (folder,) = set(Path(tempfile.gettempdir()).glob("taxiway-upload-*")) - before
    assert folder.stat().st_mode & 0o777 == 0o700
    assert _unload(server, "given").status == 200
    wait_until(lambda: not folder.exists(), "its files are gone")


def test_a_configuration_comes_with_the_call(server: Server) -> None:
    assert _load(server, config='{"max_batch_size": 3}').status == 200
    assert server.ask("GET", "/v2/models/m/config").json()["max_batch_size"] == 3
    assert _load(server).status == 200
    assert server.ask("GET", "/v2/models/m/config").json()["max_batch_size"] != 3


@pytest.mark.parametrize(
    "path",
    [
        "../m.onnx",
        "/etc/m.onnx",
        "1/../../m.onnx",
        "1/./m.onnx",
        "",
        "1//m.onnx",
        "1\\m.onnx",
        "1/m\0.onnx",
        "a/" * 9 + "m",
    ],
)
def test_a_file_stays_in_its_directory(server: Server, path: str) -> None:
    answer = _load(server, "given", config="{}", **{f"file:{path}": "aGk="})
    assert answer.status == 400
    assert "within the model's directory" in answer.json()["error"]


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"confg": "{}"}, "unrecognized load parameter 'confg'."),
        ({"config": {}}, "must be a string"),
        ({"config": "{"}, "load failed"),
        ({"config": '{"max_batch_sise": 3}'}, "max_batch_size"),
        ({"file:1/model.onnx": "aGk="}, "no configuration"),
        ({"config": "{}", "file:1/model.onnx": "*"}, "is not base64"),
    ],
)
def test_a_load_call_that_says_nonsense(server: Server, parameters: dict[str, Any], said: str) -> None:
    answer = _load(server, **parameters)
    assert answer.status == 400
    assert said in answer.json()["error"]
    assert _infer(server) == (200, "1", 1.0)


@pytest.mark.parametrize("verb", ["load", "unload"])
def test_a_repository_cannot_be_named(server: Server, verb: str) -> None:
    answer = server.ask("POST", f"/v2/repository/here/models/m/{verb}")
    assert answer.status == 501
    assert answer.json()["error"] == "'repository_name' specification is not supported"


@pytest.mark.parametrize("verb", ["load", "unload"])
@pytest.mark.parametrize(("control", "said"), [("none", "is not allowed"), ("poll", "if polling is enabled")])
def test_nobody_loads_where_that_is_not_theirs(repository: Path, verb: str, control: str, said: str) -> None:
    with serve(repository, models__control=control) as server:
        answer = server.ask("POST", f"/v2/repository/models/m/{verb}")
        assert answer.status == 409
        assert said in answer.json()["error"]
        assert _infer(server) == (200, "1", 1.0)


def test_triton_statuses(repository: Path) -> None:
    with serve(repository, models__control="explicit", compat="triton") as server:
        assert _load(server, "nobody").status == 500
        (repository / "other" / "config.pbtxt").write_text("nonsense: 1")
        assert _load(server, "other").status == 500
        assert _unload(server).status == 200
        assert _infer(server, version="1")[0] == 503
        assert _infer(server, version="2")[0] == 404
        answer = server.ask("POST", "/v2/models/m/infer", {})
        assert (answer.status, answer.json()) == (
            404,
            {"error": "Request for unknown model: 'm' has no available versions"},
        )


def test_a_body_that_was_packed_before_a_switch_is_answered_by_what_serves_after(repository: Path) -> None:
    document = {"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [0]}]}
    packed = gzip.compress(json.dumps(document).encode() + b" " * 3_000_000)  # unpacked in the thread
    headers = {"Content-Encoding": "gzip"}
    with serve(repository, models__control="explicit", compat="triton") as server:
        numbered(repository, "m", 2)
        assert server.ask("POST", "/v2/models/m/infer", packed, headers).json()["model_version"] == "1"
        assert _load(server).status == 200
        assert server.ask("POST", "/v2/models/m/infer", packed, headers).json()["model_version"] == "2"


def test_a_single_file_may_be_replaced(tmp_path: Path) -> None:
    path = onnx_models.doubler(tmp_path / "m.onnx", 1)
    with serve(path, models__control="explicit") as server:
        assert _infer(server) == (200, "1", 0.0)
        numbered_models.adder(path, 5)
        assert _load(server).status == 200
        assert _infer(server) == (200, "1", 5.0)


def test_cached_answers_leave_with_the_version_that_gave_them(tmp_path: Path) -> None:
    path = numbered_models.version_file(tmp_path, "m", 1)
    numbered_models.adder(path, 1)
    (tmp_path / "m" / "config.pbtxt").write_text("response_cache { enable: true }")
    with serve(tmp_path, models__control="explicit", cache__max_bytes=1 << 20) as server:
        assert _infer(server) == _infer(server) == (200, "1", 1.0)
        numbered_models.adder(path, 5)
        assert _load(server).status == 200
        assert _infer(server) == (200, "1", 5.0)
        wait_until(lambda: "taxiway_cache_entries 1" in server.scrape(), "only the new answer is kept")


def test_no_grpc_call_is_lost_or_answered_by_the_wrong_version_over_many_switches(
    server: Server, repository: Path
) -> None:
    acknowledged = [1]
    wrong: list[str] = []
    asked = [0] * 3
    over = threading.Event()

    def ask(index: int) -> None:
        with connected(server.grpc) as channel:
            while not over.is_set():
                least = acknowledged[-1]
                answer = channel.call("ModelInfer", infer_request("m", ("x", np.zeros((1, 1), np.float32))))
                asked[index] += 1
                version = int(answer.model_version)
                if output_of(answer) != [[version]] or version < least:
                    wrong.append(f"version {version} answered {output_of(answer)}; {least} was acknowledged")

    with ThreadPoolExecutor(3) as pool:
        callers = [pool.submit(ask, index) for index in range(3)]
        try:
            for version in range(2, 12):
                enough = sum(asked) + 60
                numbered(repository, "m", version)
                assert _load(server).status == 200
                acknowledged.append(version)
                wait_until(lambda enough=enough: sum(asked) >= enough, "the new version is asked")  # type: ignore[misc]
        finally:
            over.set()
        for caller in callers:
            caller.result(20)
    assert wrong == []
