"""Alerts on what goes wrong whatever was promised: processes that die, models that stall, drift."""

from __future__ import annotations

from typing import Final, NamedTuple

from taxiway.monitor.slos.recording import Rule


class Alert(NamedTuple):
    """One of them.

    Attributes:
        lasts: how long it must hold before anybody hears of it.
        severity: page, ticket or info.
    """

    name: str
    query: str
    lasts: str
    severity: str
    summary: str
    description: str


ALERTS: Final = (
    Alert(
        "TaxiwayDown",
        'up{job="taxiway"} == 0',
        "1m",
        "page",
        "{{ $labels.instance }} cannot be scraped",
        "Prometheus has not reached its metrics port for a minute: the server, or the way to it, is down.",
    ),
    Alert(
        "TaxiwayModelStalled",
        "taxiway_model_ready == 0",
        "2m",
        "page",
        "{{ $labels.model }}:{{ $labels.version }} is loaded and answers nobody",
        "A run of the model has not come back, or all its processes are down.",
    ),
    Alert(
        "TaxiwayRequestsTurnedAway",
        'sum by (instance, model) (rate(taxiway_inference_failures_total{reason=~"queue.*|predicted_late"}[5m])) > 0',
        "5m",
        "ticket",
        "{{ $labels.model }} is asked more than it can answer",
        "{{ $value | humanize }} requests a second are turned away because its queue is full or they would be late.",
    ),
    Alert(
        "TaxiwayWorkersRestart",
        "increase(taxiway_worker_restarts_total[15m]) > 2",
        "0m",
        "page",
        "data-plane processes of {{ $labels.instance }} die again and again",
        "More than two were started anew within a quarter of an hour.",
    ),
    Alert(
        "TaxiwayModelProcessesDie",
        "sum by (instance, model, version) (increase(taxiway_model_process_deaths_total[15m])) > 2",
        "0m",
        "ticket",
        "processes of {{ $labels.model }}:{{ $labels.version }} die again and again",
        "Its own code crashes, runs out of memory, or is killed; requests in it fail.",
    ),
    Alert(
        "TaxiwayControlDown",
        "taxiway_control_up == 0",
        "5m",
        "ticket",
        "the control process of {{ $labels.instance }} is down",
        "Requests are answered; rollouts stand still, and nobody watches for drift.",
    ),
    Alert(
        "TaxiwaySeriesLeftOut",
        "taxiway_metrics_dropped_series > 0",
        "15m",
        "info",
        "{{ $labels.instance }} has more series than it tells",
        "{{ $value }} series are left out of each scrape: a family has reached its limit.",
    ),
    Alert(
        "TaxiwayGpuLost",
        "taxiway_gpu_up == 0",
        "1m",
        "page",
        "a GPU of {{ $labels.instance }}, or its driver, is lost",
        "It was there, and the driver does not answer for it any more.",
    ),
    Alert(
        "TaxiwayGpuErrors",
        "increase(taxiway_gpu_xid_errors_total[10m]) > 0",
        "0m",
        "ticket",
        "GPU {{ $labels.gpu }} of {{ $labels.instance }} reports errors",
        "The driver has reported errors (XID); the number of the last is in taxiway_gpu_last_xid.",
    ),
    Alert(
        "TaxiwayGpuThrottled",
        "taxiway_gpu_throttled == 1",
        "15m",
        "info",
        "GPU {{ $labels.gpu }} of {{ $labels.instance }} is slowed down",
        "Heat or its power limit holds its clocks down.",
    ),
    Alert(
        "TaxiwayDrift",
        "max by (instance, model, version, kind) (taxiway_drift_alarm) == 1",
        "0m",
        "ticket",
        "{{ $labels.model }}:{{ $labels.version }} sees other {{ $labels.kind }} than its reference has",
        "The evidence has reached its threshold, which chance does in one of a hundred versions' lives by default.",
    ),
)


def general_alerts(runbooks: str) -> list[Rule]:
    """As rules."""
    return [
        {
            "alert": one.name,
            "expr": one.query,
            "for": one.lasts,
            "labels": {"severity": one.severity},
            "annotations": {
                "summary": one.summary,
                "description": one.description,
                "runbook_url": f"{runbooks}#{one.name.lower()}",
            },
        }
        for one in ALERTS
    ]
