"""`taxiway serve` that traces to files: one process or several, started and stopped as its users do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.flow.serving import ask
from tests.support.onnx_models import doubler
from tests.support.raw_http import Process, infer, request, serve_process, wait_until

WAIT_S = 30.0
BODY = b'{"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}'


def test_what_was_traced_is_in_the_file_when_the_server_has_ended(tmp_path: Path) -> None:
    model = doubler(tmp_path / "doubler.onnx")
    command = [
        sys.executable,
        "-m",
        "taxiway",
        "serve",
        str(model),
        "--no-control.enabled",
        "--http.port",
        "0",
        "--metrics.port",
        "0",
    ]
    command += ["--trace.level", "TIMESTAMPS", "--trace.rate", "3", "--trace.file", str(tmp_path / "t.json")]
    command += ["--grpc.port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            address = server.stdout.readline().rpartition(" ")[2].strip()
            for _ in range(10):
                answer = ask(address, "POST", "/v2/models/doubler/infer", BODY, {})
                assert answer.status == 200
        finally:
            server.send_signal(signal.SIGINT)
            assert server.wait(WAIT_S) == 0

    told = json.loads((tmp_path / "t.json").read_bytes())
    names = [stamp["name"] for part in told for stamp in part.get("timestamps", ())]
    assert {part["id"] for part in told} == {1, 2, 3}
    assert names.count("HTTP_RECV_START") == names.count("HTTP_SEND_END") == 3
    assert [part["model_name"] for part in told if "model_name" in part] == ["doubler"] * 3


def test_tracing_to_no_file_is_refused_at_the_start(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "taxiway",
        "serve",
        str(doubler(tmp_path / "m.onnx")),
        "--no-control.enabled",
        "--trace.level",
        "TENSORS",
    ]

    done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S, check=False)

    assert done.returncode == 2
    assert "trace.file" in done.stderr


def _set(server: Process, path: str, **change: object) -> None:
    assert server.ask(request("POST", path, json.dumps(change).encode())).status == 200


def test_a_worker_that_starts_later_traces_what_the_others_do(tmp_path: Path) -> None:
    doubler(tmp_path / "models" / "doubler.onnx")
    with serve_process(tmp_path / "models", workers=2, trace__file=tmp_path / "t.json") as server:
        _set(server, "/v2/models/doubler/trace/setting", trace_level=["TIMESTAMPS"], trace_rate="1")
        _set(server, "/v2/trace/setting", trace_rate="5")
        first = server.workers()
        os.kill(first[0], signal.SIGKILL)
        wait_until(lambda: len(set(server.workers()) - set(first)) == 1, "another worker has started")
        (new,) = set(server.workers()) - set(first)

        def is_traced() -> bool:
            server.ask(infer("doubler", [[1.0, 2.0]], "FP32"))
            return (tmp_path / f"t.json.{new}").exists()

        wait_until(is_traced, "it traces")
        for _ in range(20):
            told = server.ask(request("GET", "/v2/trace/setting")).json()
            assert (told["trace_level"], told["trace_rate"]) == (["OFF"], "5")
