"""Rules and alerts as promtool judges them: in virtual time, on what a server would have counted."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from taxiway.cli.monitor_export import command
from taxiway.config.settings import Settings
from taxiway.monitor.slos.files import rules_text

pytestmark = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed: make prometheus")

SLOS = {"fraud": {"availability_percent": 99.9, "latency": [{"percent": 99, "under_ms": 100}]}}
REQUESTS = 'taxiway_inference_request_seconds_count{model="fraud",version="1"}'
IN_TIME = 'taxiway_inference_request_seconds_bucket{model="fraud",version="1",le="0.1"}'
FAILED = 'taxiway_inference_failures_total{model="fraud",version="1",reason="model_failed"}'
GONE = 'taxiway_inference_failures_total{model="fraud",version="1",reason="cancelled"}'
FAST, SLOW = "TaxiwayErrorBudgetBurnsFast", "TaxiwayErrorBudgetBurnsSlowly"


def promtool(folder: Path, *words: str) -> None:
    told = subprocess.run(["promtool", *words], cwd=folder, capture_output=True, text=True, check=False, timeout=60)
    assert told.returncode == 0, told.stdout + told.stderr


Firing = set[tuple[str, str]]
"""Names of alerts, and the objectives that they are about."""


def judge(folder: Path, series: dict[str, str], firing: dict[str, Firing]) -> None:
    """Have promtool see these series, a value a minute, and find these alerts firing at each moment, and no others."""
    settings = Settings.model_validate({"monitoring": {"slos": SLOS}})
    (folder / "taxiway.rules.yml").write_text(rules_text(settings.monitoring))
    case: dict[str, Any] = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": 'count by (alertname, sloth_slo) (ALERTS{alertstate="firing"})',
                "eval_time": moment,
                "exp_samples": [{"labels": labels(*one), "value": 1} for one in sorted(wanted)],
            }
            for moment, wanted in firing.items()
        ],
    }
    judged = {"rule_files": ["taxiway.rules.yml"], "evaluation_interval": "1m", "tests": [case]}
    (folder / "test.yml").write_text(yaml.safe_dump(judged))
    promtool(folder, "test", "rules", "test.yml")


def labels(alert: str, objective: str) -> str:
    slo = f',sloth_slo="{objective}"' if objective else ""
    return f'{{alertname="{alert}"{slo}}}'


AVAILABILITY, LATENCY = "availability", "latency-100ms"
NOTHING: Firing = set()
STEADY = "0+600x"
"""Ten requests a second."""


def test_what_is_exported_is_what_prometheus_takes(tmp_path: Path) -> None:
    config = tmp_path / "taxiway.yaml"
    config.write_text(yaml.safe_dump({"monitoring": {"slos": {**SLOS, "*": {"availability_percent": 99}}}}))
    told = CliRunner().invoke(command, ["prometheus", str(tmp_path / "out"), "--config", str(config)])
    assert told.exit_code == 0, told.output
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "alertmanager.yml",
        "prometheus.yml",
        "taxiway.rules.yml",
    ]
    promtool(tmp_path / "out", "check", "rules", "taxiway.rules.yml")
    promtool(tmp_path / "out", "check", "config", "prometheus.yml")


def test_no_traffic_is_no_alert(tmp_path: Path) -> None:
    series = {REQUESTS: "500x200", IN_TIME: "500x200", FAILED: "3x200"}
    judge(tmp_path, series, {"10m": NOTHING, "3h": NOTHING})


def test_one_error_in_a_quiet_hour_is_no_alert(tmp_path: Path) -> None:
    series = {
        REQUESTS: "0+1x30 30+0x90 30+1x200",
        IN_TIME: "0+1x30 30+0x90 30+1x200",
        FAILED: "0x60 1x260",
    }
    judge(tmp_path, series, {f"{minute}m": NOTHING for minute in (30, 61, 63, 70, 90, 121, 180, 300)})


def test_a_restart_of_the_server_is_no_alert(tmp_path: Path) -> None:
    series = {REQUESTS: f"{STEADY}60 0+600x60", IN_TIME: f"{STEADY}60 0+600x60", FAILED: "7x60 0x60"}
    judge(tmp_path, series, {"60m": NOTHING, "61m": NOTHING, "62m": NOTHING, "66m": NOTHING})


def test_callers_that_went_away_are_no_alert(tmp_path: Path) -> None:
    judge(
        tmp_path, {REQUESTS: f"{STEADY}60", IN_TIME: f"{STEADY}60", FAILED: "0x60", GONE: "0+300x60"}, {"30m": NOTHING}
    )


def test_an_outage_pages_within_minutes_and_is_over_soon_after(tmp_path: Path) -> None:
    series = {
        REQUESTS: f"{STEADY}120 72000x30 72000+600x120",
        IN_TIME: f"{STEADY}120 72000x30 72000+600x120",
        FAILED: "0x120 0+600x30 18000x120",
    }
    burns = {(FAST, AVAILABILITY), (SLOW, AVAILABILITY)}
    fires = {"120m": NOTHING, "124m": burns, "140m": burns, "190m": {(SLOW, AVAILABILITY)}}
    judge(tmp_path, series, fires)


def test_a_regression_of_latency_pages_within_minutes_of_a_young_server(tmp_path: Path) -> None:
    series = {REQUESTS: f"{STEADY}60", IN_TIME: "0+600x5 3000x55", FAILED: "0x60"}
    judge(tmp_path, series, {"5m": NOTHING, "9m": {(FAST, LATENCY), (SLOW, LATENCY)}})


def test_what_stalls_dies_or_drifts_is_told(tmp_path: Path) -> None:
    series = {
        'up{job="taxiway",instance="a"}': "1x5 0x20",
        'taxiway_model_ready{model="fraud",version="1"}': "1x5 0x20",
        'taxiway_drift_alarm{model="fraud",version="1",kind="rows"}': "0x5 1x20",
        'taxiway_control_up{instance="a"}': "1x5 0x20",
        'taxiway_worker_restarts_total{instance="a"}': "0x5 4x20",
    }
    first = {("TaxiwayDrift", "")}
    later = {(f"Taxiway{name}", "") for name in ("Drift", "Down", "ModelStalled", "ControlDown", "WorkersRestart")}
    judge(tmp_path, series, {"5m": NOTHING, "6m": first | {("TaxiwayWorkersRestart", "")}, "12m": later})


def test_each_alert_has_its_runbook() -> None:
    page = (Path(__file__).parents[2] / "docs" / "runbooks.md").read_text(encoding="utf-8").lower()
    rules = yaml.safe_load(rules_text(Settings.model_validate({"monitoring": {"slos": SLOS}}).monitoring))
    alerts = [rule for group in rules["groups"] for rule in group["rules"] if "alert" in rule]
    assert len(alerts) > 10
    for alert in alerts:
        anchor = alert["annotations"]["runbook_url"].rpartition("#")[2]
        assert f"## {anchor}\n" in page, f"{anchor} has no runbook"
