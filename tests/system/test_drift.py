"""Drift of a real server: it learns, it finds what changed, and it goes on where it was when it is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from tests.support.onnx_models import doubler
from tests.support.raw_http import PATIENCE_S, Process, Raw, infer, request, serve_process, wait_until

WIDTH = 3


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Process]:
    flags = {
        "control.enabled": True,
        "control.port": 0,
        "control.journal": f"sqlite:///{tmp_path / 'rollouts.db'}",
        "monitoring.directory": str(tmp_path / "monitoring"),
        "monitoring.sampling.rows-per-s": 100_000,
        "monitoring.drift.reference-rows": 400,
        "monitoring.drift.look-rows": 100,
        "monitoring.drift.look-s": 0,
        "monitoring.drift.save-every-s": 1,
    }
    with serve_process(doubler(tmp_path / "double.onnx", WIDTH), **flags, log__level="error") as running:
        yield running


def ask(server: Process, path: str) -> Any:
    parts = urlsplit(server.control)
    with Raw((str(parts.hostname), int(parts.port or 0))) as connection:
        reply = connection.send(request("GET", path).replace(b"Host: h", b"Host: localhost")).reply()
    assert reply.status in (200, 404), reply.body
    return reply.json()


def send(server: Process, chance: np.random.Generator, rows: int, shift: float = 0.0) -> None:
    with server.connect() as client:
        for _ in range(rows // 50):
            values = chance.normal(0, 1, (50, WIDTH))
            values[:, 1] += shift
            assert client.send(infer("double", values.round(3).tolist(), "FP32")).reply().status == 200


def rows_of(server: Process) -> int:
    return int(ask(server, "/v1/monitor/drift/double").get("rows", -1))


def learn(server: Process, chance: np.random.Generator) -> None:
    send(server, chance, 50)
    wait_until(lambda: "learned" in ask(server, "/v1/monitor/drift/double"), "it is watched")
    send(server, chance, 600)
    wait_until(lambda: "reference" in ask(server, "/v1/monitor/drift/double"), "it has a reference")


def test_it_learns_finds_what_changed_and_survives_a_kill(server: Process) -> None:
    chance = np.random.default_rng(1)
    learn(server, chance)
    before = rows_of(server)
    send(server, chance, 1000)
    wait_until(lambda: rows_of(server) >= before + 1000, "rows are held against it")
    report = ask(server, "/v1/monitor/drift/double")
    assert (report["state"], report["alarm"]) == ("steady", False)
    wait_until(lambda: _kept(server, report["rows"]), "what is known is on the disk")

    (pid,) = server.control_processes()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: server.control_processes() not in ([], [pid]), "another one is started")
    wait_until(lambda: rows_of(server) >= report["rows"], "it goes on where it was")

    send(server, chance, 500, shift=1.0)
    wait_until(lambda: bool(ask(server, "/v1/monitor/drift/double")["alarm"]), "the change is found")
    told = ask(server, "/v1/monitor/drift/double")
    assert {told["features"][0]["name"], told["features"][1]["name"]} == {"x[1]", "y[1]"}
    wait_until(lambda: server.metrics()['taxiway_drift_alarm{model="double",version="1",kind="rows"}'] == 1, "told")
    assert ask(server, "/v1/monitor/drift/other")["code"] == "not-found"


def _kept(server: Process, rows: int) -> bool:
    """The answer comes from memory: only a file that was written after it says what the next process will know."""
    told = ask(server, "/v1/monitor/drift")
    return bool(told["watches"]) and told["watches"][0]["saved_rows"] >= rows


def test_training_data_is_a_reference_and_the_command_line_tells_of_it(server: Process, tmp_path: Path) -> None:
    chance = np.random.default_rng(2)
    data = tmp_path / "train.npz"
    np.savez(data, x=chance.normal(0, 1, (2000, WIDTH)))
    url = f"http://{server.address[0]}:{server.address[1]}"
    told = run(server, "reference", "double", "--data", str(data), "--url", url)
    assert "no drift" in told.stdout
    send(server, chance, 50)
    wait_until(lambda: rows_of(server) >= 0, "it is watched")
    send(server, chance, 500, shift=1.0)
    wait_until(lambda: bool(ask(server, "/v1/monitor/drift/double")["alarm"]), "the change is found")
    checked = run(server, "drift", "--check", status=6)
    assert "double:1" in checked.stdout
    assert "drift was found: double:1" in checked.stderr
    report = json.loads(run(server, "drift", "double", "--output", "json").stdout)
    assert report["reference"]["kind"] == "train.npz"
    assert {"x[1]", "y[1]"} == {report["features"][0]["name"], report["features"][1]["name"]}
    page = tmp_path / "double.html"
    assert "unlike the reference" in run(server, "report", "double", "-o", str(page)).stdout
    assert "<h1>double, version 1</h1>" in page.read_text("utf-8")
    run(server, "reference", "double", "--like", "1", "--url", url)
    assert ask(server, "/v1/monitor/drift/double")["reference"]["kind"] == "its own last rows"
    run(server, "reference", "double", "--learn", "--url", url)
    assert "learning" in run(server, "drift", "double").stdout


def test_labels_that_come_back_tell_the_accuracy(server: Process) -> None:
    """The doubler's greater output is its label: of (3, 1, 2) the first."""
    wait_until(lambda: _sampled(server), "it is sampled")
    pieces = []
    with server.connect() as client:
        for number in range(20):
            values = [3.0, 1.0, 2.0]
            assert client.send(infer("double", [values], "FP32", id=f"r{number}")).reply().status == 200
            pieces.append({"id": f"r{number}", "label": 0 if number < 15 else 2})
        body = json.dumps({"feedback": pieces}).encode()
        assert client.send(request("POST", "/v2/models/double/feedback", body)).reply().status == 200
    told = ask(server, "/v1/monitor/drift/double")["quality"]["labelled"]
    assert (told["rows"], told["accuracy"]) == (20, 0.75)
    assert told["low"] < 0.75 < told["high"]
    name = 'taxiway_model_accuracy_ratio{model="double",version="1",source="labels",bound="accuracy"}'
    wait_until(lambda: server.metrics().get(name) == 0.75, "it is told")


def _sampled(server: Process) -> bool:
    """Nothing is before it was fetched from for the first time; then a request is seen."""
    with server.connect() as client:
        assert client.send(infer("double", [[1.0, 2.0, 3.0]], "FP32")).reply().status == 200
    return bool(ask(server, "/v1/monitor/drift/double").get("learned", {}).get("rows"))


def run(server: Process, *words: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "taxiway", "monitor", *words, "--control", server.control]
    told = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert told.returncode == status, told.stderr
    return told
