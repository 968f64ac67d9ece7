"""Telling MLflow: a real one on SQLite, one that answers nobody, one that comes back; nobody waits for it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.mlflow_places import MlflowPlace
from tests.support.raw_http import wait_until

from taxiway.config.monitoring_mlflow import MlflowExportSettings
from taxiway.core.errors import InvalidArgument, MlflowUnavailable
from taxiway.intake.mlflow.server import Mlflow
from taxiway.monitor.mlflow.exporter import MlflowExporter, Recorder
from taxiway.monitor.mlflow.metrics import metrics_of

NOW_NS = 1_700_000_000 * 10**9


def report(rows: int = 1000, model: str = "fraud", **more: Any) -> dict[str, Any]:
    return {
        "model": model,
        "version": 3,
        "rows": rows,
        "requests": rows,
        "dropped": 0,
        "evidence": 1.5,
        "block_evidence": float("-inf"),
        "threshold": 2.3,
        "alarm": False,
        "block_alarm": True,
        "quality": {"labelled": {"rows": 20, "accuracy": 0.75, "low": 0.5, "high": 0.9}, "slices": []},
        "features": [
            {"name": "x[1] \N{SNOWMAN}", "side": "input", "evidence": 0.5, "psi": 0.1, "js": None, "ks": None}
        ],
        **more,
    }


def values(exporter: MlflowExporter) -> dict[str, Any]:
    return {point.family.name: point.value for point in exporter.points()}


def sent(exporter: MlflowExporter) -> int:
    return int(values(exporter)["taxiway_mlflow_reports_total"])


def wait_for(exporter: MlflowExporter, reports: int) -> None:
    wait_until(lambda: sent(exporter) == reports, "MLflow was told")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowPlace:
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        monkeypatch.delenv(name, raising=False)
    return MlflowPlace.new(tmp_path / "mlflow")


def test_numbers_have_names_as_mlflow_takes_them() -> None:
    told = metrics_of(report())
    assert (told["drift/rows"], told["drift/evidence"], told["drift/block_alarm"]) == (1000, 1.5, 1)
    assert told["quality/labelled/accuracy"] == 0.75
    assert told["features/input/x_1_ _/psi"] == 0.1
    assert "drift/block_evidence" not in told, "what is not finite is left out"
    assert "quality/estimate/rows" not in told


def test_a_version_is_one_run_of_a_real_mlflow_over_restarts(place: MlflowPlace) -> None:
    settings = MlflowExportSettings(experiment="in service")
    for time in range(2):
        exporter = MlflowExporter(settings, lambda: Mlflow.connect(place.uri))
        exporter.tell([report(1000 + time), report(5, "other")], NOW_NS + time * 10**9)
        wait_for(exporter, 2)
        exporter.close()
    with place.client() as client:
        experiment = client.get_experiment_by_name("in service").experiment_id
        runs = {run.info.run_name: run for run in client.search_runs([experiment])}
        assert set(runs) == {"fraud:3 in service", "other:3 in service"}
        history = client.get_metric_history(runs["fraud:3 in service"].info.run_id, "drift/rows")
    assert sorted((one.value, one.step) for one in history) == [(1000, 1000), (1001, 1001)]


class Flaky:
    """Stands for MLflow where it has to fail at a moment that a test chooses."""

    def __init__(self) -> None:
        self.problem: Exception | None = MlflowUnavailable("it is down")
        self.held = threading.Event()
        self.held.set()
        self.steps: list[int] = []
        self.tries = 0

    def experiment(self, name: str) -> str:
        """Its id."""
        return name

    def run_of(self, experiment: str, name: str, tags: Any) -> str:
        """Its id."""
        return name

    def log(self, run: str, metrics: Any, at_ms: int, step: int) -> None:
        """Raise what it was told to, or remember."""
        self.tries += 1
        self.held.wait()
        if self.problem is not None:
            raise self.problem
        self.steps.append(step)


@pytest.fixture
def flaky() -> Iterator[Flaky]:
    one = Flaky()
    yield one
    one.held.set()


def exporter_to(flaky: Recorder, *, most: int = 100, wait_s: float = 0.01) -> MlflowExporter:
    return MlflowExporter(MlflowExportSettings(max_waiting=most), lambda: flaky, wait_s)


def test_what_it_could_not_tell_is_told_in_order_once_mlflow_answers(flaky: Flaky) -> None:
    exporter = exporter_to(flaky)
    for rows in range(1, 4):
        exporter.tell([report(rows)], NOW_NS)
    wait_until(lambda: flaky.tries >= 3, "it tries again")
    flaky.problem = None
    wait_for(exporter, 3)
    assert flaky.steps == [1, 2, 3]
    assert values(exporter)["taxiway_mlflow_dropped_reports_total"] == 0
    exporter.close()


def test_while_mlflow_is_down_it_is_left_alone_and_memory_is_bounded(flaky: Flaky) -> None:
    exporter = exporter_to(flaky, most=10, wait_s=300)
    for rows in range(100):
        exporter.tell([report(rows)], NOW_NS)
    wait_until(lambda: flaky.tries == 1, "it tried")
    told = values(exporter)
    assert told["taxiway_mlflow_waiting_reports"] <= 10
    wait_until(lambda: values(exporter)["taxiway_mlflow_dropped_reports_total"] >= 89, "the oldest are dropped")
    assert flaky.tries == 1
    exporter.close()


def test_nobody_waits_for_an_mlflow_that_hangs(flaky: Flaky) -> None:
    flaky.held.clear()
    exporter = exporter_to(flaky)
    exporter.tell([report()], NOW_NS)
    wait_until(lambda: flaky.tries == 1, "it hangs")
    exporter.tell([report()], NOW_NS)
    assert values(exporter)["taxiway_mlflow_waiting_reports"] == 1
    flaky.problem = None
    flaky.held.set()
    wait_for(exporter, 2)
    exporter.close()


def test_what_mlflow_refuses_is_dropped_and_the_next_is_told(flaky: Flaky) -> None:
    flaky.problem = InvalidArgument("not so")
    exporter = exporter_to(flaky)
    exporter.tell([report(1)], NOW_NS)
    wait_until(lambda: values(exporter)["taxiway_mlflow_dropped_reports_total"] == 1, "it is dropped")
    flaky.problem = None
    exporter.tell([report(2)], NOW_NS)
    wait_for(exporter, 1)
    assert flaky.steps == [2]
    exporter.close()
