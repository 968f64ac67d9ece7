"""Defects that were reproduced on real Triton 2.51.0 and are not here; D2 and so on are their names.

Each test says what Triton does and shows what taxiway's strict profile does instead.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from onnx import TensorProto, helper
from tests.flow.serving import Answer, Server, serve
from tests.support import onnx_models, slow_models
from tests.support.onnx_models import tensor
from tests.support.raw_http import Raw, infer, request, wait_until

LONG = 12_000
"""Steps of the slow model: most of a second."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    slow_models.sleeper(folder / "slow.onnx")
    onnx_models.doubler(folder / "double.onnx")
    onnx_models.two_outputs(folder / "both.onnx")
    kind = TensorProto.UINT8
    node = helper.make_node("Identity", ["x"], ["y"])
    onnx_models.save(folder / "small.onnx", [node], [tensor("x", ["N", 1], kind)], [tensor("y", ["N", 1], kind)])
    return folder


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[Server]:
    with serve(models, execution__mode="thread", batching__enabled=False, queue__max_requests=3) as running:
        yield running


def _slow(steps: int, *headers: str, **members: Any) -> bytes:
    return infer("slow", [[steps]], "INT64", *headers, **members)


def _metric(server: Server, name: str, **labels: str) -> float:
    words = ",".join(f'{key}="{value}"' for key, value in {"model": "slow", "version": "1", **labels}.items())
    return next(
        float(line.split()[-1]) for line in server.scrape().splitlines() if line.startswith(f"{name}{{{words}}}")
    )


def _queued(server: Server) -> int:
    return int(_metric(server, "taxiway_queue_requests"))


def _connect(server: Server) -> Raw:
    return Raw(server.address)


def _occupy(server: Server) -> Raw:
    """A connection whose request keeps the only executor busy."""
    connection = _connect(server).send(_slow(LONG))
    wait_until(lambda: "taxiway_http_requests_in_flight 1" in server.scrape() and _queued(server) == 0, "it runs")
    return connection


def _echo(rows: list[list[int]], **members: Any) -> dict[str, Any]:
    flat = [number for row in rows for number in row]
    return {"inputs": [{"name": "x", "shape": [len(rows), len(rows[0])], "datatype": "INT32", "data": flat}], **members}


def test_d1_the_response_cache_knows_shapes_datatypes_parameters_and_outputs_apart(tmp_path: Path) -> None:
    """Triton's key is the inputs' names and bytes: [3, 2] and [1, 6] got the answer of the [2, 3] before them."""
    kind = TensorProto.INT32
    node = helper.make_node("Identity", ["x"], ["y"])
    shape = ["A", "B"]
    echo = onnx_models.save(
        tmp_path / "echo/1/model.onnx", [node], [tensor("x", shape, kind)], [tensor("y", shape, kind)]
    )
    paths = [onnx_models.cached(echo), onnx_models.cached(onnx_models.two_outputs(tmp_path / "both/1/model.onnx"))]
    numbers = [1, 2, 3, 4, 5, 6]
    with serve(paths, cache__max_bytes=1 << 20) as server:
        for _ in range(2):  # the second time from the cache
            for width in (3, 2, 6, 1):
                rows = [numbers[at : at + width] for at in range(0, 6, width)]
                answer = server.ask("POST", "/v2/models/echo/infer", _echo(rows)).json()["outputs"][0]
                assert (answer["shape"], answer["data"]) == ([6 // width, width], numbers)
        assert _cache(server, "echo") == {"hit": 4, "miss": 4}
        document = _echo([numbers])
        document["inputs"][0]["datatype"] = "UINT32"
        assert server.ask("POST", "/v2/models/echo/infer", document).status == 400
        for parameters in ({"a": 1}, {"a": 1.5}, {"a": "1"}, {"a": True}, {"b": 1}):
            assert server.ask("POST", "/v2/models/echo/infer", _echo([numbers], parameters=parameters)).status == 200
        assert _cache(server, "echo") == {"hit": 4, "miss": 9}
        for _ in range(2):
            for names in (["SUM"], ["DIFFERENCE"], ["SUM", "DIFFERENCE"]):
                asked = _both(outputs=[{"name": name} for name in names])
                answer = server.ask("POST", "/v2/models/both/infer", asked).json()["outputs"]
                assert {output["name"] for output in answer} == set(names)
        assert _cache(server, "both") == {"hit": 3, "miss": 3}


def _cache(server: Server, model: str) -> dict[str, int]:
    stats = server.ask("GET", f"/v2/models/{model}/stats").json()["model_stats"][0]["inference_stats"]
    return {name: stats[f"cache_{name}"]["count"] for name in ("hit", "miss")}


@pytest.mark.parametrize(
    "late",
    [_slow(0, parameters={"timeout": 100_000}), _slow(0, "Request-Timeout: 0.1")],
    ids=["parameter", "header"],
)
def test_d2_a_queue_timeout_is_answered_while_the_executor_is_busy(server: Server, late: bytes) -> None:
    """Triton looks only every 500 ms while no instance is free: 200 ms were answered after 890 ms."""
    before = _metric(server, "nv_inference_exec_count")
    with _occupy(server) as running, _connect(server) as waiting:
        reply = waiting.send(late).reply()
        assert reply.status == 504
        assert reply.json()["code"] == "deadline-exceeded"
        assert running.silent()  # answered before what it waited behind
        assert running.reply().output() == [LONG]
        assert waiting.send(_slow(0)).reply().output() == [0]
    assert _metric(server, "nv_inference_exec_count") - before == 2  # it was never run


def test_d3_what_a_full_queue_rejects_is_counted(server: Server) -> None:
    """Triton counts only timeouts as REJECTED: six requests over the queue's size left no trace."""
    before = _metric(server, "nv_inference_request_failure", reason="REJECTED")
    with _occupy(server) as running:
        queued = [_connect(server).send(_slow(n)) for n in range(3)]
        wait_until(lambda: _queued(server) == 3, "the queue is full")
        with _connect(server) as refused:
            for _ in range(6):
                reply = refused.send(_slow(0)).reply()
                assert reply.status == 503
                assert "queue.max_requests" in json.dumps(reply.json())
                assert int(reply.headers["retry-after"]) >= 1
        assert running.silent()
        assert running.reply().output() == [LONG]
        assert [connection.reply().output() for connection in queued] == [[0], [1], [2]]
        for connection in queued:
            connection.socket.close()
    assert _metric(server, "nv_inference_request_failure", reason="REJECTED") - before == 6


def test_d4_who_hung_up_while_queued_is_not_run(server: Server) -> None:
    """Triton ran all three of those whose clients had gone (execution count 1 -> 5)."""
    before = _metric(server, "nv_inference_exec_count")
    with _occupy(server) as running:
        gone = [_connect(server).send(_slow(1)) for _ in range(3)]
        wait_until(lambda: _queued(server) == 3, "three are queued")
        for connection in gone:
            connection.socket.close()
        wait_until(lambda: _queued(server) == 0, "they are taken back")
        assert running.silent()
        assert running.reply().output() == [LONG]
    assert _metric(server, "nv_inference_exec_count") - before == 1


def _small(server: Server, value: Any) -> Answer:
    one = {"name": "x", "shape": [1, 1], "datatype": "UINT8", "data": [value]}
    return server.ask("POST", "/v2/models/small/infer", {"inputs": [one]})


@pytest.mark.parametrize("value", [300, 256, -1, 2**63, 2**64 - 1])
def test_d7_a_value_outside_its_datatype_is_refused(server: Server, value: int) -> None:
    """Triton takes the low byte: 300 as UINT8 silently became 44."""
    answer = _small(server, value)
    assert answer.status == 400
    assert answer.json()["code"] == "value-out-of-range"
    assert str(value) in answer.json()["error"]
    assert "0 to 255" in answer.json()["error"]


def test_d7_the_edges_of_a_datatype_are_taken(server: Server) -> None:
    for value in (0, 44, 255):
        assert _small(server, value).json()["outputs"][0]["data"] == [value]


_ONE = {"name": "x", "shape": [1, 1], "datatype": "UINT8", "data": [1]}
MISTAKES: dict[str, Any] = {
    "not-json": b"{",
    "not-an-object": [],
    "no-inputs": {},
    "inputs-not-an-array": {"inputs": {}},
    "input-not-an-object": {"inputs": [1]},
    "no-name": {"inputs": [{**_ONE, "name": None}]},
    "too-many-elements": {"inputs": [{**_ONE, "data": [1, 2]}]},
    "too-few-elements": {"inputs": [{**_ONE, "data": []}]},
    "text-for-a-number": {"inputs": [{**_ONE, "data": ["1"]}]},
    "float-for-an-integer": {"inputs": [{**_ONE, "data": [1.5]}]},
    "bool-for-an-integer": {"inputs": [{**_ONE, "data": [True]}]},
    "negative-shape": {"inputs": [{**_ONE, "shape": [-1, 1]}]},
    "shape-not-integers": {"inputs": [{**_ONE, "shape": ["1", 1]}]},
    "huge-shape": {"inputs": [{**_ONE, "shape": [1, 2**62, 8]}]},
    "id-not-text": {"id": 7, "inputs": [_ONE]},
    "parameters-not-an-object": {"parameters": [], "inputs": [_ONE]},
    "outputs-not-an-array": {"outputs": {}, "inputs": [_ONE]},
    "wrong-datatype": {"inputs": [{**_ONE, "datatype": "INT8"}]},
    "no-such-datatype": {"inputs": [{**_ONE, "datatype": "INT9"}]},
}


@pytest.mark.parametrize("body", MISTAKES.values(), ids=MISTAKES)
def test_d8_a_clients_mistake_is_not_the_servers_fault(server: Server, body: Any) -> None:
    """Triton answers 500 to bad JSON, no inputs, wrong counts and types, negative shapes, an id that is no text."""
    answer = server.ask("POST", "/v2/models/small/infer", body)
    assert answer.status in (400, 413)
    assert answer.json()["error"]
    assert answer.json()["code"] != "internal"


def test_d8_an_unknown_model_is_not_found(server: Server) -> None:
    assert server.ask("POST", "/v2/models/nobody/infer", {"inputs": [_ONE]}).status == 404
    assert 400 <= server.ask("POST", "/v2/repository/models/nobody/load", {}).status < 500


def test_d9_an_error_of_generate_has_a_status_of_its_own(tmp_path: Path) -> None:
    """Triton begins a 200 before it knows: what goes wrong then is an error in the body of a success.

    There: a model that gives no response, or more than one; here every model gives one, and nothing is sent before it.
    """
    onnx_models.poisonable(tmp_path / "fragile.onnx")
    with serve(tmp_path) as server:
        for verb, kind in (("generate", "application/json"), ("generate_stream", "text/event-stream")):
            path = f"/v2/models/fragile/{verb}"
            for body, status in (({"x": 99}, 500), ({"x": "text"}, 422), ({}, 422), (b"{", 400)):
                answer = server.ask("POST", path, body)
                assert answer.status == status, (verb, body, answer)
                assert answer.headers["content-type"] == "application/json"
                assert answer.json()["error"]
            assert server.ask("POST", path.replace("fragile", "nobody"), {"x": 1}).status == 404
            well = server.ask("POST", path, {"x": 1})
            assert (well.status, well.headers["content-type"].partition(";")[0]) == (200, kind)
            assert b'"error"' not in well.body


def _both(**members: Any) -> dict[str, Any]:
    inputs = [{"name": name, "shape": [1, 2], "datatype": "FP32", "data": [1, 2]} for name in "ab"]
    return {"inputs": inputs, **members}


def test_d10_binary_data_output_speaks_for_listed_outputs_too(server: Server) -> None:
    """Triton ignores it for every output that is listed; its protocol says that it holds unless overridden."""
    document = _both(
        parameters={"binary_data_output": True},
        outputs=[{"name": "SUM"}, {"name": "DIFFERENCE", "parameters": {"binary_data": False}}],
    )
    answer = server.ask("POST", "/v2/models/both/infer", document)
    length = int(answer.headers["inference-header-content-length"])
    listed, overridden = json.loads(answer.body[:length])["outputs"]
    assert listed["parameters"] == {"binary_data_size": 8}
    assert len(answer.body) == length + 8
    assert overridden["data"] == [0.0, 0.0]


def test_d11_a_model_that_unloads_or_reloads_does_not_make_the_server_unready(tmp_path: Path) -> None:
    """Triton says that the whole server is not ready while any model is unloading."""
    slow_models.sleeper(tmp_path / "slow" / "1" / "model.onnx")
    onnx_models.doubler(tmp_path / "double" / "1" / "model.onnx")
    flags = {"execution__mode": "thread", "batching__enabled": False, "models__control": "explicit"}

    with serve(tmp_path, **flags) as server, _connect(server) as connection:
        connection.send(_slow(LONG))
        wait_until(lambda: "taxiway_http_requests_in_flight 1" in server.scrape(), "it runs")
        assert server.ask("POST", "/v2/repository/models/slow/unload").status == 200
        index = server.ask("POST", "/v2/repository/index").json()
        assert [(line["name"], line["state"]) for line in index] == [("double", "READY"), ("slow", "UNLOADING")]
        assert server.ask("GET", "/v2/health/ready").status == 200
        assert server.ask("POST", "/v2/repository/models/slow/load").status == 200  # beside the one that leaves
        assert server.ask("GET", "/v2/health/ready").status == 200
        assert connection.reply().output() == [LONG]
        (tmp_path / "double" / "config.pbtxt").write_text("nonsense: 1")
        assert server.ask("POST", "/v2/repository/models/double/load").status == 400
        assert server.ask("GET", "/v2/health/ready").status == 200


@pytest.mark.parametrize("length", [None, "0"])
def test_d12_an_empty_body_is_refused(server: Server, length: str | None) -> None:
    """Triton takes an empty POST for a tensor without elements and answers 200."""
    headers = {} if length is None else {"Inference-Header-Content-Length": length}
    for body in (b"", None):
        answer = server.ask("POST", "/v2/models/double/infer", body, headers)
        assert answer.status == 400
        assert "no body" in answer.json()["error"]


def test_d13_every_error_says_that_it_is_json(models: Path) -> None:
    """Triton calls some of its JSON errors text/plain: unknown models, wrong methods, timeouts."""
    asked = {
        404: [infer("nobody", [[1]], "FP32"), request("GET", "/nowhere"), request("GET", "/v2/models/nobody")],
        405: [request("DELETE", "/v2"), request("GET", "/v2/models/double/infer")],
        400: [b"\0\r\n\r\n", request("POST", "/v2/models/double/infer", b"{"), request("GET", "/v2", None, "Host: g")],
        413: [request("POST", "/v2/models/double/infer", None, "Content-Length: 999999999")],
        431: [request("GET", "/v2", None, "X: " + "x" * 20_000)],
        501: [request("POST", "/v2/models/double/infer", b"x", "Content-Encoding: br")],
        504: [_slow(LONG, parameters={"timeout": 1000})],
        408: [b"GET /v2 HTTP/1.1\r\n"],
    }
    with serve(models, execution__mode="thread", limits__header_timeout_s=0.1) as server:
        for status, raws in asked.items():
            for raw in raws:
                with _connect(server) as connection:
                    reply = connection.send(raw).reply()
                assert reply.status == status, (raw[:100], reply)
                assert reply.headers["content-type"] == "application/json"
                assert isinstance(reply.json()["error"], str)


def test_d13_also_when_the_client_takes_compressed_answers(server: Server) -> None:
    answer = server.ask("GET", "/v2/models/nobody", None, {"Accept-Encoding": "gzip"})
    assert answer.headers["content-type"] == "application/json"
    body = gzip.decompress(answer.body) if "content-encoding" in answer.headers else answer.body
    assert json.loads(body)["error"]
