"""What a real server tells MLflow: a run of each version; one that is not there costs nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.support.mlflow_places import MlflowPlace
from tests.support.onnx_models import doubler
from tests.support.raw_http import Process, infer, serve_process, wait_until


@contextmanager
def serving(folder: Path, uri: str) -> Iterator[Process]:
    flags = {
        "control.enabled": True,
        "control.port": 0,
        "control.journal": f"sqlite:///{folder / 'rollouts.db'}",
        "monitoring.directory": str(folder / "monitoring"),
        "monitoring.drift.look-s": 0,
        "monitoring.mlflow.enabled": True,
        "monitoring.mlflow.every-s": 1,
        "mlflow.tracking-uri": uri,
    }
    with serve_process(doubler(folder / "double.onnx", 3), **flags, log__level="error") as running:
        yield running


def send(server: Process) -> None:
    with server.connect() as client:
        assert client.send(infer("double", [[1.0, 2.0, 3.0]], "FP32")).reply().status == 200


def counted(server: Process, name: str) -> float:
    """After one more request: nothing is sampled before it was fetched from for the first time."""
    send(server)
    return server.metrics().get(name, 0)


def test_each_version_is_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    place = MlflowPlace.new(tmp_path / "mlflow")
    with serving(tmp_path, place.uri) as server:
        wait_until(lambda: counted(server, "taxiway_mlflow_reports_total") > 0, "MLflow was told")
    with place.client() as client:
        (run,) = client.search_runs([client.get_experiment_by_name("taxiway").experiment_id])
        assert run.info.run_name == "double:1 in service"
        assert run.data.metrics["drift/requests"] > 0


def test_without_mlflow_everything_else_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with serving(tmp_path, "http://127.0.0.1:1") as server:
        wait_until(lambda: counted(server, "taxiway_mlflow_waiting_reports") > 1, "reports wait")
        assert server.metrics()["taxiway_control_up"] == 1
        send(server)
