"""The control process of a real server: beside the data plane, never in its way, and not for everybody."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.support import onnx_models
from tests.support.raw_http import PATIENCE_S, Process, Raw, Reply, infer, request, serve_process, wait_until

DOUBLE = infer("double", [[1, 2]], "FP32")
HEALTH = request("GET", "/v1/health").replace(b"Host: h", b"Host: localhost")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    onnx_models.doubler(folder / "double.onnx")
    return folder


@pytest.fixture(scope="module")
def server(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    journal = tmp_path_factory.mktemp("journal") / "rollouts.db"
    flags = {"control.enabled": True, "control.port": 0, "control.journal": f"sqlite:///{journal}"}
    with serve_process(models, **flags, log__level="error") as running:
        yield running


def _ask(server: Process, raw: bytes) -> Reply:
    parts = urlsplit(server.control)
    with Raw((str(parts.hostname), int(parts.port or 0))) as connection:
        return connection.send(raw).reply()


def test_it_answers_as_soon_as_the_server_is_ready(server: Process) -> None:
    assert _ask(server, HEALTH).json()["status"] == "ok"
    wait_until(lambda: server.metrics()["taxiway_control_up"] == 1, "it is counted")
    wait_until(lambda: server.metrics().get("taxiway_rollout_answers_not_judged_total") == 0, "and what it counts is")


def test_one_that_is_killed_is_started_again_and_serving_goes_on(server: Process) -> None:
    assert _ask(server, HEALTH).status == 200
    (pid,) = server.control_processes()
    workers = server.workers()
    before = server.metrics()["taxiway_control_restarts_total"]
    os.kill(pid, signal.SIGKILL)
    with server.connect() as client:
        while server.control_processes() in ([], [pid]):
            assert client.send(DOUBLE).reply().output() == [2, 4]
    assert _ask(server, HEALTH).status == 200  # callers wait for it, and are not refused
    assert server.workers() == workers
    assert server.metrics()["taxiway_control_restarts_total"] == before + 1


def test_a_name_or_a_page_that_is_not_ours_is_refused(server: Process) -> None:
    told = _ask(server, HEALTH.replace(b"localhost", b"evil.example"))
    assert (told.status, told.headers["content-type"]) == (403, "application/problem+json")
    assert told.json()["code"] == "permission-denied"
    assert "control.allowed_hosts" in told.json()["hint"]
    elsewhere = request("GET", "/v1/health", None, "Origin: http://evil.example").replace(
        b"Host: h", b"Host: localhost"
    )
    assert _ask(server, elsewhere).status == 403
    assert _ask(server, HEALTH.replace(b"localhost", b"127.0.0.1:99")).status == 200


def test_what_is_not_there_says_so(server: Process) -> None:
    assert _ask(server, HEALTH.replace(b"/v1/health", b"/v1/nothing")).json()["code"] == "route-not-found"
    assert _ask(server, HEALTH.replace(b"GET", b"PUT")).json()["code"] == "method-not-allowed"


def test_a_port_that_is_taken_is_said_before_anything_starts(models: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        ports = ("--http.port", "0", "--grpc.port", "0", "--metrics.port", "0")
        command = [sys.executable, "-m", "taxiway", "serve", str(models), *ports]
        command += ["--control.port", str(taken.getsockname()[1])]
        told = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert told.returncode == 4
    assert "cannot listen on 127.0.0.1 port" in told.stderr
    assert "--control.port" in told.stderr
    assert json.dumps(told.stdout) == '""'


def test_another_one_waits_and_takes_the_place_of_one_that_is_killed(models: Path, tmp_path: Path) -> None:
    flags = {"control.enabled": True, "control.port": 0, "control.journal": f"sqlite:///{tmp_path / 'rollouts.db'}"}
    with serve_process(models, **flags, log__level="error", control__standby=True) as server:
        for _ in range(3):
            wait_until(lambda: len(server.control_processes()) == 2, "one decides, one waits")
            decides = _ask(server, HEALTH).json()["pid"]
            (waits,) = set(server.control_processes()) - {decides}
            os.kill(decides, signal.SIGKILL)
            wait_until(lambda: _ask(server, HEALTH).json()["leads"], "it decides")
            assert _ask(server, HEALTH).json()["pid"] == waits
        wait_until(lambda: len(server.control_processes()) == 2, "one decides, one waits")
        for pid in server.control_processes():
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: _ask(server, HEALTH).json()["leads"], "a third one decides")
        processes = [*server.control_processes(), *server.workers()]
    assert not any(Path(f"/proc/{pid}").exists() for pid in processes), "none is left"
