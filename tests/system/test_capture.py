"""Requests of a real server, captured as Parquet: asked on the command line, and whole after a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.onnx_models import doubler
from tests.support.raw_http import PATIENCE_S, Process, infer, serve_process, wait_until

from taxiway.monitor.capture.files import files_in

WIDTH = 3


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "captured"


@pytest.fixture
def server(tmp_path: Path, folder: Path) -> Iterator[Process]:
    flags = {
        "control.enabled": True,
        "control.port": 0,
        "control.journal": f"sqlite:///{tmp_path / 'rollouts.db'}",
        "monitoring.directory": str(tmp_path / "monitoring"),
        "monitoring.sampling.rows-per-s": 100_000,
        "monitoring.drift.enabled": False,
        "monitoring.capture.models": '["double"]',
        "monitoring.capture.directory": str(folder),
        "monitoring.capture.redact": '{"x[1]": "hash", "request_id": "hash"}',
        "monitoring.capture.rotate-s": 1,
    }
    with serve_process(doubler(tmp_path / "double.onnx", WIDTH), **flags, log__level="error") as running:
        yield running


def send(server: Process, requests: int) -> None:
    with server.connect() as client:
        for at in range(requests):
            values = [[float(at), 2.0, 3.0]]
            assert client.send(infer("double", values, "FP32", id=f"secret-{at}")).reply().status == 200


def query(folder: Path, sql: str, *words: str, status: int = 0) -> str:
    command = [sys.executable, "-m", "taxiway", "monitor", "query", sql, "--dir", str(folder), *words]
    told = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert told.returncode == status, told.stderr
    return told.stdout if not status else told.stderr


def rows_of(folder: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(query(folder, "select * from double", "--format", "json"))
    return rows


def capture(server: Process, folder: Path, more: int = 1) -> None:
    """Nothing is sampled before it was fetched from for the first time."""

    def is_captured() -> bool:
        send(server, 5)
        return len(files_in(folder)) >= more

    wait_until(is_captured, "requests are captured")


def test_requests_are_captured_asked_and_whole_after_a_kill(server: Process, folder: Path, tmp_path: Path) -> None:
    capture(server, folder)
    row = rows_of(folder)[-1]
    assert row["y"] == [2 * row["x[0]"], 4.0, 6.0]
    assert (row["model"], row["version"], row["x[2]"], row["request_id"]) == ("double", 1, 3.0, None)
    assert "x[1]" not in row
    assert len({one["x[1]_hash"] for one in rows_of(folder)}) == 1
    assert not any(b"secret" in one.path.read_bytes() for one in files_in(folder))
    wait_until(lambda: server.metrics().get("taxiway_capture_bytes", 0) > 0, "it is told how much there is")
    assert server.metrics()['taxiway_capture_rows_total{model="double",version="1"}'] > 0

    (pid,) = server.control_processes()
    send(server, 20)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: server.control_processes() not in ([], [pid]), "another one is started")
    before = len(files_in(folder))
    capture(server, folder, before + 1)
    assert query(folder, "select count(*) > 0 as any from requests", "--format", "csv") == "any\ntrue\n"
    assert "no SELECT" in query(folder, f"copy (select 1) to '{tmp_path / 'z'}'", status=2)
    assert "nothing has been captured" in query(tmp_path, "select 1", status=3)
