"""A real Prometheus scrapes a real server: every query of every dashboard of ours finds something, and of others."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.nvml import H100, build, needs_compiler
from tests.support.onnx_models import doubler
from tests.support.prometheus import Prometheus, needs_prometheus, prometheus, scraping
from tests.support.raw_http import Process, infer, serve_process, wait_until

from taxiway.config.settings import Settings
from taxiway.monitor.dashboards.boards import BOARDS, LLM
from taxiway.monitor.dashboards.checking import check_dashboard
from taxiway.monitor.dashboards.grafana import dashboard_json
from taxiway.monitor.slos.files import rules_text

pytestmark = [needs_prometheus, needs_compiler]

WIDTH = 2
OURS = [
    pytest.param(query.expr, id=f"{board.uid.removeprefix('taxiway-')}: {panel.title} {at}")
    for board in BOARDS
    if board is not LLM  # no engine is served here
    for row in board.rows
    for panel in row.panels
    for at, query in enumerate(panel.queries)
]
TRITONS = [
    "count(count(nv_inference_count) by (instance))",
    "sum by (pod) (rate(nv_inference_count[1m])) / ignoring(pod) group_left sum (rate(nv_inference_count[1m]))",
    "sum(nv_inference_request_success) by (pod)",
    "sum(nv_inference_request_failure) by (pod)",
    "sum(rate(nv_inference_compute_infer_duration_us[30s])) by (model) / 1000",
    "avg(rate(nv_inference_queue_duration_us[30s])/(1+rate(nv_inference_request_success[30s]))) by (pod)",
    "avg(delta(nv_inference_queue_duration_us[30s])/(1+delta(nv_inference_request_success[30s])))",
]
"""Of the dashboard that Triton ships for Kubernetes (deploy/k8s-onprem), and what its autoscaler goes by."""
DCGMS = [
    "DCGM_FI_DEV_GPU_TEMP",
    "avg(DCGM_FI_DEV_GPU_TEMP)",
    "DCGM_FI_DEV_POWER_USAGE",
    "sum(DCGM_FI_DEV_POWER_USAGE)",
    "DCGM_FI_DEV_SM_CLOCK * 1000000",
    "DCGM_FI_DEV_GPU_UTIL",
    "DCGM_FI_DEV_FB_USED",
    "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE",
]
"""Of NVIDIA's dashboard of DCGM exporter (grafana.com 12239)."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    folder = tmp_path_factory.mktemp("server")
    flags = {
        "control.enabled": True,
        "control.port": 0,
        "control.journal": f"sqlite:///{folder / 'rollouts.db'}",
        "monitoring.directory": str(folder / "monitoring"),
        "monitoring.sampling.rows-per-s": 100_000,
        "monitoring.drift.reference-rows": 200,
        "monitoring.drift.look-rows": 100,
        "monitoring.drift.look-s": 0,
    }
    (folder / "nvml").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in build(folder / "nvml", H100).environ.items():
            patch.setenv(name, value)
        with serve_process(doubler(folder / "double.onnx", WIDTH), **flags, log__level="error") as running:
            yield running


@pytest.fixture(scope="module")
def scraped(server: Process, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """One that has seen the server answer, refuse and fail for a few scrapes."""
    folder = tmp_path_factory.mktemp("prometheus")
    slos = {"*": {"availability_percent": 99.9, "latency": [{"percent": 99, "under_ms": 100}]}}
    rules = rules_text(Settings.model_validate({"monitoring": {"slos": slos}}).monitoring)
    (folder / "taxiway.rules.yml").write_text(rules)
    host, port = server.metrics_address
    config = scraping(f"{host}:{port}", rule_files=["taxiway.rules.yml"])
    chance = np.random.default_rng(1)
    with prometheus(folder, config) as running:
        wait_until(lambda: bool(running.query("up == 1")), "it scrapes")
        wait_until(lambda: _has_drift(server, running, chance), "everything has been counted for a while")
        yield running


def _has_drift(server: Process, running: Prometheus, chance: np.random.Generator) -> bool:
    """Goes on asking: a rate is nothing but the difference between scrapes."""
    with server.connect() as client:
        for _ in range(10):
            rows = chance.normal(0, 1, (10, WIDTH)).round(3).tolist()
            assert client.send(infer("double", rows, "FP32")).reply().status == 200
            assert client.send(infer("double", [[1, 2, 3]], "FP32")).reply().status == 400
    return bool(running.query("count_over_time(taxiway_drift_psi[1m]) > 3"))


def in_full(expr: str) -> str:
    """With Grafana's variables filled in."""
    return re.sub(r"\$(?:job|instance|model|version)\b", ".*", expr.replace("$__rate_interval", "1m"))


@pytest.mark.parametrize("expr", OURS)
def test_every_query_of_ours_finds_something(scraped: Prometheus, expr: str) -> None:
    assert scraped.query(in_full(expr))


@pytest.mark.parametrize("expr", [*TRITONS, *DCGMS])
def test_others_dashboards_and_autoscalers_find_something(scraped: Prometheus, expr: str) -> None:
    assert scraped.query(expr)


def test_every_rule_is_evaluated_and_what_it_records_is_there(scraped: Prometheus) -> None:
    wait_until(lambda: bool(scraped.query("slo:period_error_budget_remaining:ratio")), "the budget is known")
    groups = scraped.ask("rules")["groups"]
    problems = {rule["name"]: rule["lastError"] for group in groups for rule in group["rules"] if rule.get("lastError")}
    assert not problems
    recorded = {rule["name"] for group in groups for rule in group["rules"] if rule["type"] == "recording"}
    assert len(recorded) > 10
    assert not [name for name in recorded if not scraped.query(name)]
    assert scraped.firing() <= {"TaxiwayDrift"}


def test_variables_have_values(scraped: Prometheus) -> None:
    for board in BOARDS:
        for variable in board.variables:
            metric = in_full(variable.metric)
            values: Any = scraped.ask(f"label/{variable.name}/values", **{"match[]": metric})
            assert values, f"{board.title}: {variable.name} of {metric}"


def test_what_this_prometheus_has_is_what_dashboards_are_held_against(scraped: Prometheus) -> None:
    exposed = scraped.ask("label/__name__/values")
    checked = {board.uid: check_dashboard(dashboard_json(board), exposed) for board in BOARDS}
    assert [uid for uid, one in checked.items() if one.dead] == ["taxiway-llm"]


def test_native_histograms_are_scraped_and_give_quantiles(server: Process, tmp_path: Path) -> None:
    host, port = server.metrics_address
    words = ("--enable-feature=native-histograms,exemplar-storage",)
    expr = "histogram_quantile(0.99, rate(taxiway_inference_request_seconds[1m]))"
    with prometheus(tmp_path, scraping(f"{host}:{port}"), *words) as running, server.connect() as client:

        def found() -> list[Any]:
            assert client.send(infer("double", [[1, 2]], "FP32")).reply().status == 200
            return [one for one in running.query(expr) if float(one["value"][1]) > 0]

        wait_until(lambda: bool(found()), "a quantile of native buckets is there")
        assert running.query("up == 1")
