"""The files that a Prometheus and an Alertmanager are set up with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from taxiway.config.monitoring import MonitoringSettings
from taxiway.monitor.slos.burning import burn_alerts
from taxiway.monitor.slos.general import general_alerts
from taxiway.monitor.slos.objectives import objectives_of
from taxiway.monitor.slos.recording import recording_rules


def rules_text(settings: MonitoringSettings) -> str:
    """All rules, as a rule file of Prometheus."""
    groups: list[dict[str, Any]] = []
    for objective in objectives_of(settings.slos):
        groups.append({"name": f"sloth-slo-sli-recordings-{objective.id}", "rules": recording_rules(objective)})
        groups.append({"name": f"sloth-slo-alerts-{objective.id}", "rules": burn_alerts(objective, settings.runbooks)})
    groups.append({"name": "taxiway", "rules": general_alerts(settings.runbooks)})
    return _yaml({"groups": groups})


def prometheus_text(metrics: str, alertmanager: str = "127.0.0.1:9093") -> str:
    """A configuration of Prometheus that scrapes one server, and follows the rules beside it.

    Args:
        metrics: host:port of the server's metrics.
        alertmanager: host:port.
    """
    return _yaml(
        {
            "global": {"scrape_interval": "5s", "evaluation_interval": "15s"},
            "rule_files": ["taxiway.rules.yml"],
            "scrape_configs": [{"job_name": "taxiway", "static_configs": [{"targets": [metrics]}]}],
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]},
        }
    )


def alertmanager_text() -> str:
    """A configuration of Alertmanager to begin with: pages at once, everything else by the hour."""
    return _yaml(
        {
            "route": {
                "receiver": "later",
                "group_by": ["alertname", "model"],
                "group_wait": "30s",
                "repeat_interval": "12h",
                "routes": [{"matchers": ['severity="page"'], "receiver": "now", "group_wait": "10s"}],
            },
            "receivers": [{"name": "now"}, {"name": "later"}],
            "inhibit_rules": [
                {
                    "source_matchers": ['severity="page"'],
                    "target_matchers": ['severity="ticket"'],
                    "equal": ["model", "sloth_id"],
                }
            ],
        }
    )


def _yaml(document: Mapping[str, Any]) -> str:
    text: str = yaml.safe_dump(document, sort_keys=False, width=4096)
    return text
