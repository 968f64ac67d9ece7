"""The console of a real server: its stream goes on after the control process was killed, and what was is kept."""

from __future__ import annotations

import json
import os
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support import onnx_models
from tests.support.raw_http import PATIENCE_S, Process, infer, serve_process, wait_until

DOUBLE = infer("double", [[1, 2]], "FP32")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    folder = tmp_path_factory.mktemp("console")
    models = folder / "models"
    models.mkdir()
    onnx_models.doubler(models / "double.onnx")
    flags = {
        "control.enabled": True,
        "control.port": 0,
        "control.journal": f"sqlite:///{folder / 'rollouts.db'}",
        "registry.url": f"sqlite:///{folder / 'registry.db'}",
        "monitoring.directory": str(folder / "monitoring"),
        "monitoring.slos": json.dumps({"double": {"availability_percent": 99}}),
        "workers": 2,
    }
    with serve_process(models, **flags, log__level="error") as running:
        yield running


def _ask(server: Process, path: str, body: object = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(server.control + path, data, PATIENCE_S) as told:  # noqa: S310 - our own
        return json.loads(told.read())


class Stream:
    """What a page does: reads frames, and connects again whenever that ends."""

    def __init__(self, server: Process) -> None:
        self._url = f"{server.control}/v1/stream"
        self._frames = self._read()

    def next(self) -> tuple[str, dict[str, Any]]:
        return next(self._frames)

    def _read(self) -> Iterator[tuple[str, dict[str, Any]]]:
        while True:
            try:
                with urllib.request.urlopen(self._url, timeout=PATIENCE_S) as lines:  # noqa: S310 - our own
                    event = ""
                    for line in lines:
                        if line.startswith(b"event: "):
                            event = line[7:].strip().decode()
                        elif line.startswith(b"data: "):
                            yield event, json.loads(line[6:])
            except OSError:
                continue


def test_a_page_sees_what_is_answered_and_goes_on_when_control_was_killed(server: Process) -> None:
    stream = Stream(server)
    kind, full = stream.next()
    assert kind == "full"
    assert [(one["model"], one["version"]) for one in full["versions"]] == [("double", 1)]
    rps = full["fields"].index("rps")
    with server.connect() as client:
        while True:
            assert client.send(DOUBLE).reply().output() == [2, 4]
            kind, delta = stream.next()
            if kind == "delta" and delta["v"].get("0", [0] * 20)[rps] > 0:
                break
    (pid,) = server.control_processes()
    os.kill(pid, signal.SIGKILL)
    epoch = full["epoch"]
    while kind != "full" or full["epoch"] == epoch:
        kind, told = stream.next()
        full = told if kind == "full" else full
    assert [one["model"] for one in full["versions"]] == ["double"]


def test_what_was_is_told_by_columns(server: Process) -> None:
    def answered() -> bool:
        with server.connect() as client:
            client.send(DOUBLE).reply()
        told = _ask(server, "/v1/history?model=double&fields=rps,p99&span_s=60")
        columns = [one["fields"] for one in told["series"]]
        return bool(columns) and any(value for value in columns[0]["rps"]) and len(columns[0]["p99"]) == told["points"]

    wait_until(answered, "a second with requests is kept")
    heat = _ask(server, "/v1/history/heatmap?model=double&version=1&span_s=60")
    assert sum(sum(row) for row in heat["counts"] if row) > 0
    host = _ask(server, "/v1/history?kind=host&fields=workers.ready&span_s=5")["series"][0]["fields"]
    assert 2.0 in host["workers.ready"]
    for bad in ("kind=nonsense", "span_s=x", "span_s=0"):
        with pytest.raises(urllib.error.HTTPError, match="400"):
            _ask(server, f"/v1/history?{bad}")


def test_models_are_told_and_tried(server: Process) -> None:
    assert _ask(server, "/v1/models")["models"][0] == {
        "model": "double",
        "versions": [1],
        "state": "READY",
        "stages": {},
    }
    (version,) = _ask(server, "/v1/models/double")["versions"]
    assert (version["ready"], version["state"]) == (True, "READY")
    assert version["metadata"]["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]
    x = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [[3, 4]]}
    told = _ask(server, "/v1/playground/double", {"inputs": [x]})
    assert told["answer"]["outputs"] == [{"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [6.0, 8.0]}]
    wrong: list[object] = [{**x, "shape": [1, 3]}, {**x, "datatype": "NONSENSE"}, {**x, "data": ["a", "b"]}, 7]
    for one in wrong:
        with pytest.raises(urllib.error.HTTPError, match=r"400|501"):
            _ask(server, "/v1/playground/double", {"inputs": [one]})
    with pytest.raises(urllib.error.HTTPError, match="404"):
        _ask(server, "/v1/playground/nothing", {"inputs": [x]})


def test_records_are_told_also_where_there_are_none(server: Process) -> None:
    assert _ask(server, "/v1/registry")["models"] == []
    assert _ask(server, "/v1/registry/double")["versions"] == []
    assert _ask(server, "/v1/audit")["entries"] == []
    assert _ask(server, "/v1/audit/rollouts?limit=5")["entries"] == []
    assert _ask(server, "/v1/reports")["models"] == []
    wait_until(lambda: bool(_ask(server, "/v1/slos")["slos"]), "budgets are worked out")
    (slo,) = _ask(server, "/v1/slos")["slos"]
    assert (slo["name"], slo["state"], slo["budget_left"]) == ("availability", "ok", 1.0)


def test_what_failed_is_kept_with_its_reason(server: Process) -> None:
    late = infer("double", [[1, 2]], "FP32", parameters={"timeout": 1})
    found: list[dict[str, Any]] = []

    def kept() -> bool:
        with server.connect() as client:
            client.send(late).reply()
        found[:] = _ask(server, "/v1/requests?model=double&kind=failed")["requests"]
        return bool(found)

    wait_until(kept, "one of them was late")
    assert (found[0]["model"], found[0]["version"], found[0]["kind"]) == ("double", 1, "failed")
    assert found[0]["code"] in {"timeout", "predicted_late"}
    assert _ask(server, "/v1/requests?kind=slow")["kept"] is True


def test_the_plain_page_names_every_version(server: Process) -> None:
    def told() -> bool:
        with urllib.request.urlopen(f"{server.control}/console/plain", timeout=PATIENCE_S) as page:  # noqa: S310 - our own
            return b"<td>double</td><td>1</td><td>yes</td>" in page.read()

    wait_until(told, "it is there")


def test_streams_are_counted(server: Process, tmp_path: Path) -> None:
    stream = Stream(server)
    stream.next()
    wait_until(lambda: server.metrics().get("taxiway_console_streams", 0) >= 1, "it is counted")
