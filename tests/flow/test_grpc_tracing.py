"""Trace settings and log settings over gRPC, through Triton's client; and calls that are traced."""

from __future__ import annotations

import io
import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
from tests.flow.serving import Server, serve
from tests.support.onnx_models import doubler
from tests.support.otlp import collect

from taxiway.telemetry.logs import configure_logs, structured_handler

WAIT_S = 20.0
TRACE_ID, SPAN_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serve(doubler(tmp_path / "doubler.onnx"), trace__file=str(tmp_path / "t.json")) as one:
        yield one


@pytest.fixture
def client(server: Server) -> Iterator[Any]:
    with triton.InferenceServerClient(server.grpc) as one:
        yield one


def _infer(client: Any, request_id: str, **more: Any) -> Any:
    row = triton.InferInput("x", [1, 2], "FP32")
    row.set_data_from_numpy(np.array([[1, 2]], np.float32))
    return client.infer("doubler", [row], request_id=request_id, **more).as_numpy("y").tolist()


def _values(settings: Any) -> dict[str, list[str]]:
    return {key: list(setting.value) for key, setting in settings.settings.items()}


def test_trace_settings_are_told_changed_and_taken_back(client: Any) -> None:
    assert _values(client.get_trace_settings())["trace_level"] == ["OFF"]

    changed = client.update_trace_settings("doubler", {"trace_level": ["TENSORS", "TIMESTAMPS"], "trace_rate": "7"})
    assert _values(changed)["trace_level"] == ["TIMESTAMPS", "TENSORS"]
    assert _values(client.get_trace_settings())["trace_rate"] == ["1000"]

    back = client.update_trace_settings("doubler", {"trace_level": None, "trace_rate": None})
    assert (_values(back)["trace_level"], _values(back)["trace_rate"]) == (["OFF"], ["1000"])


@pytest.mark.parametrize(
    ("model", "settings", "status", "message"),
    [
        ("", {"trace_file": "x"}, "UNIMPLEMENTED", "trace file location can not be updated through network protocol"),
        ("", {"trace_rate": ["5", "6"]}, "INVALID_ARGUMENT", "expect only 1 value for 'trace_rate'"),
        ("", {"trace_rate": "x"}, "INVALID_ARGUMENT", "Unable to parse 'trace_rate', got: x"),
        ("", {"bad": "x"}, "INVALID_ARGUMENT", "unknown trace setting 'bad'"),
        ("nope", {"trace_rate": "5"}, "NOT_FOUND", "Request for unknown model : nope"),
        ("nope", {}, "NOT_FOUND", "Request for unknown model : nope"),
    ],
)
def test_wrong_trace_settings_are_refused(
    client: Any, model: str, settings: dict[str, Any], status: str, message: str
) -> None:
    with pytest.raises(triton.InferenceServerException) as refused:
        client.update_trace_settings(model, settings)

    assert (refused.value.status(), refused.value.message()) == (f"StatusCode.{status}", message)


def test_calls_are_traced(server: Server, client: Any, tmp_path: Path) -> None:
    client.update_trace_settings(settings={"trace_level": "TIMESTAMPS", "trace_rate": "1", "log_frequency": "1"})
    assert _infer(client, "a1") == [[2, 4]]

    file, deadline = tmp_path / "t.json.0", time.monotonic() + WAIT_S
    while not file.exists() or not file.stat().st_size:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    told = json.loads(file.read_bytes())
    names = [stamp["name"] for part in told for stamp in part.get("timestamps", ())]
    assert names == [
        "GRPC_WAITREAD_START",
        "GRPC_WAITREAD_END",
        "REQUEST_START",
        "QUEUE_START",
        "COMPUTE_START",
        "COMPUTE_INPUT_END",
        "COMPUTE_OUTPUT_START",
        "COMPUTE_END",
        "INFER_RESPONSE_COMPLETE",
        "REQUEST_END",
        "GRPC_SEND_START",
        "GRPC_SEND_END",
    ]
    assert {"id": 1, "model_name": "doubler", "model_version": 1, "request_id": "a1"} in told


def test_a_callers_trace_is_continued(tmp_path: Path) -> None:
    with collect() as collector:
        settings: dict[str, object] = {"trace__mode": "opentelemetry", "trace__endpoint": collector.url}
        with (
            serve(doubler(tmp_path / "doubler.onnx"), trace__level=["TIMESTAMPS"], **settings) as server,
            triton.InferenceServerClient(server.grpc) as client,
        ):
            _infer(client, "a1", headers={"traceparent": f"00-{TRACE_ID}-{SPAN_ID}-01"})
            spans = {span.name: span for span in collector.wait_for(4)}

    root = spans["inference.GRPCInferenceService/ModelInfer"]
    assert (root.trace_id, root.parent_id) == (TRACE_ID, SPAN_ID)
    assert root.attributes["rpc.system"] == "grpc"
    assert root.attributes["rpc.method"] == "ModelInfer"


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    level, stream = root.level, io.StringIO()
    configure_logs(form="text", level="info", stream=stream)
    yield stream
    handler = structured_handler()
    assert handler is not None
    root.removeHandler(handler)
    root.setLevel(level)


def test_log_settings_are_told_and_changed(client: Any, log: io.StringIO) -> None:
    told = client.get_log_settings(as_json=True)["settings"]
    assert told["log_info"] == {"bool_param": True}
    assert told["log_format"] == {"string_param": "ISO8601"}

    changed = client.update_log_settings({"log_info": False, "log_verbose_level": 2}, as_json=True)["settings"]
    assert (changed["log_info"], changed["log_verbose_level"]) == ({"bool_param": False}, {"uint32_param": 2})

    with pytest.raises(triton.InferenceServerException, match="log file location can not be updated"):
        client.update_log_settings({"log_file": "x"})
