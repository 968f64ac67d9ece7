"""`taxiway serve` that traces to files: one process, started and stopped as its users do."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

from tests.flow.serving import ask
from tests.support.onnx_models import doubler

WAIT_S = 30.0
BODY = b'{"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}'


def test_what_was_traced_is_in_the_file_when_the_server_has_ended(tmp_path: Path) -> None:
    model = doubler(tmp_path / "doubler.onnx")
    command = [sys.executable, "-m", "taxiway", "serve", str(model), "--http.port", "0", "--metrics.port", "0"]
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
    command = [sys.executable, "-m", "taxiway", "serve", str(doubler(tmp_path / "m.onnx")), "--trace.level", "TENSORS"]

    done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S, check=False)

    assert done.returncode == 2
    assert "trace.file" in done.stderr
