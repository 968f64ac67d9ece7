"""Requests over HTTP that are traced to Triton's file."""

from __future__ import annotations

import http.client
import json
import re
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tests.flow.serving import Server, serve
from tests.support.onnx_models import doubler, echo_texts, poisonable
from tests.support.slow_models import sleeper

INFER = "/v2/models/doubler/infer"
WAIT_S = 10.0
ALL = {"trace_level": ["TIMESTAMPS", "TENSORS"], "trace_rate": "1"}
WHOLE_WAY = [
    "HTTP_RECV_START",
    "HTTP_RECV_END",
    "REQUEST_START",
    "QUEUE_START",
    "COMPUTE_START",
    "COMPUTE_INPUT_END",
    "COMPUTE_OUTPUT_START",
    "COMPUTE_END",
    "INFER_RESPONSE_COMPLETE",
    "REQUEST_END",
    "HTTP_SEND_START",
    "HTTP_SEND_END",
]


def _row(*values: float, **more: Any) -> dict[str, Any]:
    return {**more, "inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": list(values)}]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    doubler(tmp_path / "models" / "doubler.onnx")
    poisonable(tmp_path / "models" / "poisonable.onnx")
    echo_texts(tmp_path / "models" / "echo.onnx")
    return tmp_path


@pytest.fixture
def server(folder: Path) -> Iterator[Server]:
    with serve(sorted((folder / "models").iterdir()), trace__file=str(folder / "t.json")) as one:
        yield one


def _traces(path: Path, count: int) -> dict[int, list[dict[str, Any]]]:
    """What the file says of each trace, once it tells of `count`."""
    traces: dict[int, list[dict[str, Any]]] = {}
    deadline = time.monotonic() + WAIT_S
    while len(traces) < count:
        assert time.monotonic() < deadline, f"{len(traces)} traces, not {count}"
        time.sleep(0.02)
        traces = {}
        for told in json.loads(path.read_bytes()) if path.exists() else ():
            traces.setdefault(told["id"], []).append(told)
    return traces


def _times(told: list[dict[str, Any]]) -> list[tuple[str, int]]:
    return [(stamp["name"], stamp["ns"]) for part in told for stamp in part.get("timestamps", ())]


def test_a_request_is_followed_the_whole_way(server: Server, folder: Path) -> None:
    server.ask("POST", "/v2/trace/setting", ALL)

    assert server.ask("POST", INFER, _row(1, 2.5, id="a1")).status == 200

    (told,) = _traces(folder / "t.json", 1).values()
    times = _times(told)
    assert [name for name, _ in times] == WHOLE_WAY
    assert all(before <= after for (_, before), (_, after) in pairwise(times))
    assert {"id": 1, "model_name": "doubler", "model_version": 1, "request_id": "a1"} in told
    assert [part for part in told if "tensor" in part] == [
        {
            "id": 1,
            "activity": "TENSOR_QUEUE_INPUT",
            "tensor": {"name": "x", "data": "1,2.5", "shape": "1,2", "dtype": "FP32"},
        },
        {
            "id": 1,
            "activity": "TENSOR_BACKEND_OUTPUT",
            "tensor": {"name": "y", "data": "2,5", "shape": "1,2", "dtype": "FP32"},
        },
    ]


def test_texts_are_quoted(server: Server, folder: Path) -> None:
    server.ask("POST", "/v2/trace/setting", {"trace_level": ["TENSORS"], "trace_rate": "1"})

    body = {"inputs": [{"name": "x", "shape": [2, 1], "datatype": "BYTES", "data": ["a", "b"]}]}
    assert server.ask("POST", "/v2/models/echo/infer", body).status == 200

    (told,) = _traces(folder / "t.json", 1).values()
    assert [part["tensor"]["data"] for part in told if "tensor" in part] == ['"a","b"'] * 2
    assert not _times(told)


def test_rate_and_count_choose_which(server: Server, folder: Path) -> None:
    server.ask("POST", "/v2/trace/setting", {"trace_level": ["TIMESTAMPS"], "trace_rate": "2", "trace_count": "2"})

    for index in range(7):
        server.ask("POST", INFER, _row(1, 2, id=f"r{index}"))

    traces = _traces(folder / "t.json", 2)
    told = [part["request_id"] for parts in traces.values() for part in parts if "request_id" in part]
    assert told == ["r1", "r3"]
    assert server.ask("GET", "/v2/trace/setting").json()["trace_count"] == "0"


def test_traces_are_split_over_numbered_files(server: Server, folder: Path) -> None:
    server.ask("POST", "/v2/trace/setting", {**ALL, "log_frequency": "2"})

    for _ in range(5):
        server.ask("POST", INFER, _row(1, 2))

    assert len(_traces(folder / "t.json.2", 1)) == 1
    assert len(_traces(folder / "t.json.0", 2)) == len(_traces(folder / "t.json.1", 2)) == 2
    assert not (folder / "t.json").exists()


def test_every_protocol_is_traced(server: Server, folder: Path) -> None:
    server.ask("POST", "/v2/trace/setting", {**ALL})

    assert server.ask("POST", "/v2/models/doubler/generate", {"x": [1, 2]}).status == 200
    assert server.ask("POST", "/v1/models/doubler:predict", {"instances": [[1, 2]]}).status == 200

    for told in _traces(folder / "t.json", 2).values():
        assert [name for name, _ in _times(told)] == WHOLE_WAY


def test_a_failure_ends_its_trace(server: Server, folder: Path) -> None:
    server.ask("POST", "/v2/trace/setting", ALL)

    body = {"inputs": [{"name": "x", "shape": [1, 1], "datatype": "INT64", "data": [99]}]}
    assert server.ask("POST", "/v2/models/poisonable/infer", body).status == 500

    (told,) = _traces(folder / "t.json", 1).values()
    names = [name for name, _ in _times(told)]
    assert "COMPUTE_START" in names
    assert "REQUEST_END" in names
    assert "INFER_RESPONSE_COMPLETE" not in names
    assert told[-1]["error"]["code"] == "model-failed"


def test_only_the_models_own_setting_counts_for_it(server: Server, folder: Path) -> None:
    server.ask("POST", "/v2/models/doubler/trace/setting", ALL)

    server.ask(
        "POST",
        "/v2/models/echo/infer",
        {"inputs": [{"name": "x", "shape": [1, 1], "datatype": "BYTES", "data": ["a"]}]},
    )
    server.ask("POST", INFER, _row(1, 2))
    server.ask("POST", "/v2/models/doubler/trace/setting", {"trace_level": ["OFF"]})
    server.ask("POST", INFER, _row(1, 2))
    server.ask("POST", "/v2/models/doubler/trace/setting", {"trace_level": ["TIMESTAMPS"], "trace_rate": "1"})
    server.ask("POST", INFER, _row(1, 2, id="last"))

    traces = _traces(folder / "t.json", 2)
    assert [part["model_name"] for parts in traces.values() for part in parts if "model_name" in part] == [
        "doubler"
    ] * 2
    assert {"id": 2, "model_name": "doubler", "model_version": 1, "request_id": "last"} in traces[2]


def test_what_was_taken_is_written_at_the_end_and_counted(folder: Path) -> None:
    models = folder / "models" / "doubler.onnx"
    settings = {"trace__file": str(folder / "t.json"), "trace__level": ["TIMESTAMPS"], "trace__rate": 1}
    with serve(models, **settings) as server:
        for _ in range(20):
            server.ask("POST", INFER, _row(1, 2))
        assert 'taxiway_traces_total{mode="triton",outcome="dropped"} 0' in server.scrape()

    assert len(_traces(folder / "t.json", 20)) == 20


# --- requests that come to nothing


def _slow(steps: int, request_id: str, **parameters: int) -> bytes:
    inputs = [{"name": "x", "shape": [1, 1], "datatype": "INT64", "data": [steps]}]
    return json.dumps({"id": request_id, "parameters": parameters, "inputs": inputs}).encode()


def _begin(server: Server, body: bytes) -> http.client.HTTPConnection:
    connection = http.client.HTTPConnection(*server.address, timeout=WAIT_S)
    connection.request("POST", "/v2/models/slow/infer", body)
    return connection


def _wait_for(server: Server, family: str, value: int) -> None:
    deadline = time.monotonic() + WAIT_S
    while not re.search(rf"^{family}(?:{{.*}})? {value}$", server.scrape(), re.MULTILINE):
        assert time.monotonic() < deadline, f"{family} is not {value}"
        time.sleep(0.01)


def test_cancelled_late_and_refused_requests_end_their_traces(tmp_path: Path) -> None:
    settings: dict[str, object] = {"execution__mode": "thread", "queue__max_requests": 1, "trace__rate": 1}
    file = tmp_path / "t.json"
    model = sleeper(tmp_path / "slow.onnx")
    with serve(model, trace__file=str(file), trace__level=["TIMESTAMPS"], **settings) as server:
        running = _begin(server, _slow(4000, "runs"))
        _wait_for(server, "taxiway_http_requests_in_flight", 1)
        _wait_for(server, "taxiway_queue_requests", 0)
        queued = _begin(server, _slow(1, "queued"))
        _wait_for(server, "taxiway_queue_requests", 1)
        refused = server.ask("POST", "/v2/models/slow/infer", _slow(1, "refused"))
        queued.close()
        _wait_for(server, "taxiway_queue_requests", 0)
        late = server.ask("POST", "/v2/models/slow/infer", _slow(1, "late", timeout=1000))
        assert (refused.status, late.status) == (503, 504)
        assert running.getresponse().status == 200
        running.close()

    told: dict[str, dict[str, Any]] = {}
    for parts in _traces(file, 4).values():
        names = [name for name, _ in _times(parts)]
        assert names.count("REQUEST_END") == 1
        (who,) = [part["request_id"] for part in parts if "request_id" in part]
        told[who] = {"ran": "COMPUTE_END" in names, "error": parts[-1].get("error", {}).get("code")}
    assert told == {
        "runs": {"ran": True, "error": None},
        "queued": {"ran": False, "error": "cancelled"},
        "refused": {"ran": False, "error": "overloaded"},
        "late": {"ran": False, "error": "deadline-exceeded"},
    }
