"""How a server process ends, whatever it is doing, and what its log says of that."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.support import onnx_models, slow_models
from tests.support.raw_http import PATIENCE_S, Process, Raw, children, infer, serve_process, wait_until

VERY_LONG = 10_000_000
"""Steps of the slow model: many minutes."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    slow_models.sleeper(folder / "slow.onnx")
    return folder


def _occupy(server: Process) -> tuple[Raw, Raw]:
    """One request that runs for ever, and one that waits behind it."""
    first, second = (server.connect().send(infer("slow", [[VERY_LONG]], "INT64")) for _ in range(2))
    wait_until(lambda: server.metrics()["taxiway_http_requests_in_flight"] == 2, "both are taken")
    return first, second


def _flags(drain_s: float) -> dict[str, Any]:
    return {
        "execution__mode": "thread",
        "execution__instances": 1,
        "batching__enabled": False,
        "limits__drain_timeout_s": drain_s,
    }


def test_a_drain_ends_in_time_and_what_still_runs_is_refused(models: Path) -> None:
    with serve_process(models, **_flags(1)) as server:
        asked = _occupy(server)
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        for connection in asked:
            reply = connection.reply()
            assert reply.status == 503
            assert reply.json()["code"] == "unavailable"
            assert connection.at_end()
            connection.socket.close()
        assert server.process.wait(PATIENCE_S) == 5
        assert time.monotonic() - began < 4


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_stops_it_at_once(models: Path, second: signal.Signals) -> None:
    with serve_process(models, **_flags(25)) as server:
        asked = _occupy(server)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        server.process.send_signal(second)
        assert server.process.wait(5) == 128 + second
        for connection in asked:
            connection.socket.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_while_it_loads(tmp_path: Path, number: signal.Signals) -> None:
    pipe = tmp_path / "slow.onnx"
    os.mkfifo(pipe)  # opening it blocks for as long as nobody writes, like a file on a slow disk
    folder = tmp_path / "named" / "1"
    folder.mkdir(parents=True)
    (folder / "model.onnx").symlink_to(pipe)
    command = [sys.executable, "-m", "taxiway", "serve", str(tmp_path / "named"), "--http.port", "0"]
    with subprocess.Popen([*command, "--metrics.port", "0", "--grpc.port", "0", "--no-control.enabled"]) as process:
        try:
            wait_until(lambda: _is_loading(process.pid), "a worker tries to read the model")
            process.send_signal(number)
            assert process.wait(5) == -number
        finally:
            process.kill()


def _is_loading(server: int) -> bool:
    """Whether a thread of a worker is held up by the kernel in opening a pipe."""
    threads = [wait for pid in children(server) for wait in Path(f"/proc/{pid}/task").glob("*/wchan")]
    return any("wait_for_partner" in wait.read_text() for wait in threads)


@pytest.mark.parametrize("section", ["http", "grpc", "metrics"])
def test_a_port_that_is_taken_is_told_so(models: Path, section: str) -> None:
    others = [word for name in ("http", "grpc", "metrics") if name != section for word in (f"--{name}.port", "0")]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        told = _serve_in_vain(models, *others, f"--{section}.port", str(port))
    assert told.returncode == 4
    assert f"cannot listen on 127.0.0.1 port {port}" in told.stderr
    assert f"--{section}.port" in told.stderr
    assert "model_ready" not in told.stderr


def test_systemd_is_told_when_it_is_ready_and_when_it_leaves(models: Path, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(PATIENCE_S)
        ports = ("--http.port", "0", "--grpc.port", "0", "--metrics.port", "0", "--no-control.enabled")
        command = [sys.executable, "-m", "taxiway", "serve", str(models), *ports]
        with subprocess.Popen(command, env={**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")}) as process:
            try:
                assert manager.recv(100) == b"READY=1"
                process.send_signal(signal.SIGINT)
                assert manager.recv(100) == b"STOPPING=1"
                assert process.wait(PATIENCE_S) == 0
            finally:
                process.kill()


def test_a_file_that_cannot_be_read_is_no_matter_of_ports(models: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bad"
    (folder / "1").mkdir(parents=True)
    (folder / "1" / "model.onnx").write_bytes((models / "slow.onnx").read_bytes())
    (folder / "config.pbtxt").symlink_to("/proc/self/mem")  # a file, and reading it is an OSError
    told = _serve_in_vain(folder)
    assert "cannot listen" not in told.stderr
    assert "Traceback" not in told.stderr
    assert "model 'bad' cannot be read" in told.stderr


def _serve_in_vain(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "taxiway", "serve", "--no-control.enabled", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


def test_the_log_tells_the_story(tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    slow_models.sleeper(models / "slow.onnx")
    onnx_models.poisonable(models / "poison.onnx")
    command = [
        sys.executable,
        "-m",
        "taxiway",
        "serve",
        str(models),
        "--no-control.enabled",
        "--http.port",
        "0",
        "--metrics.port",
        "0",
    ]
    command += ["--grpc.port", "0"]
    command += ["--limits.max-connections", "2", "--limits.max-requests", "1", "--limits.header-timeout-s", "0.3"]
    command += ["--limits.drain-timeout-s", "0.5", "--execution.mode", "thread", "--log.format", "json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            port = int(process.stdout.readline().rsplit(":", 1)[1])
            address = ("127.0.0.1", port)
            with Raw(address) as first, Raw(address) as second:
                assert first.send(infer("poison", [[99]], "INT64")).reply().status == 500
                with Raw(address) as third:
                    assert third.reply().status == 503
                first.send(infer("slow", [[VERY_LONG]], "INT64"))
                time.sleep(0.2)
                assert second.send(infer("slow", [[1]], "INT64")).reply().status == 503
                assert second.send(b"GET /").reply().status == 408
                process.send_signal(signal.SIGTERM)
                told = [json.loads(line) for line in process.stderr if line.startswith("{")]  # ONNX Runtime has its own
        finally:
            process.kill()
    by_event = {line["event"]: line for line in told}
    assert by_event["model_failed"]["model"] == "poison"
    assert by_event["model_failed"]["code"] == "model-failed"
    assert by_event["connection_refused"]["limit"] == 2
    assert by_event["connection_refused"]["peer"].startswith("127.0.0.1:")
    assert by_event["overloaded"]["setting"] == "limits.max_requests"
    assert by_event["overloaded"]["model"] == "slow"
    assert by_event["slow_client"]["status"] == 408
    assert by_event["signal"]["signal"] == "SIGTERM"
    assert by_event["draining"]["requests"] == 1
    assert by_event["draining"]["timeout_s"] == 0.5
    assert by_event["ready"]["models"] == 2
    assert by_event["ready"]["grpc"].startswith("127.0.0.1:")
    assert by_event["drain_timeout"]["model"] == "slow"
    assert "limits.drain_timeout_s" in by_event["drain_timeout"]["reason"]
    assert "stopped" in by_event
    assert "bug" not in by_event
