"""A dashboard as the JSON that Grafana provisions: no placeholder is left for anybody to fill in."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, Final

import yaml

from taxiway.monitor.dashboards.panels import COLUMNS, Dashboard, Panel, Query, Row, Variable

SCHEMA_VERSION: Final = 39
_SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
_TAG: Final = "taxiway"

Json = dict[str, Any]


def dashboard_text(board: Dashboard) -> str:
    """The file of one dashboard."""
    return json.dumps(dashboard_json(board), indent=2) + "\n"


def provider_text(folder: str) -> str:
    """The file that has Grafana read the dashboards in a directory."""
    provider = {
        "name": "taxiway",
        "folder": "taxiway",
        "type": "file",
        "allowUiUpdates": False,
        "options": {"path": folder},
    }
    text: str = yaml.safe_dump({"apiVersion": 1, "providers": [provider]}, sort_keys=False)
    return text


def dashboard_json(board: Dashboard) -> Json:
    """One dashboard."""
    return {
        "id": None,
        "uid": board.uid,
        "title": board.title,
        "description": board.description,
        "tags": [_TAG],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "10s",
        "timezone": "browser",
        "time": {"from": "now-1h", "to": "now"},
        "links": [_links()],
        "templating": {"list": [_datasource(), *map(_variable, board.variables)]},
        "annotations": {"list": []},
        "panels": list(_placed(board.rows)),
    }


def _links() -> Json:
    """To the other dashboards, with what is chosen here."""
    return {
        "title": "taxiway",
        "type": "dashboards",
        "tags": [_TAG],
        "asDropdown": True,
        "includeVars": True,
        "keepTime": True,
    }


def _datasource() -> Json:
    return {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "current": {}}


def _variable(variable: Variable) -> Json:
    query = f"label_values({variable.metric}, {variable.name})"
    return {
        "name": variable.name,
        "label": variable.label,
        "type": "query",
        "datasource": _SOURCE,
        "definition": query,
        "query": {"query": query, "refId": f"variable-{variable.name}"},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def _placed(rows: Sequence[Row]) -> Iterator[Json]:
    """Panels from left to right, row by row, each row under its heading."""
    numbers, top = iter(range(1, 10_000)), 0
    for row in rows:
        place = {"x": 0, "y": top, "w": COLUMNS, "h": 1}
        yield {
            "id": next(numbers),
            "type": "row",
            "title": row.title,
            "collapsed": False,
            "gridPos": place,
            "panels": [],
        }
        top += 1
        left = tallest = 0
        for panel in row.panels:
            if left + panel.width > COLUMNS:
                left, top, tallest = 0, top + tallest, 0
            yield _panel(panel, next(numbers), {"x": left, "y": top, "w": panel.width, "h": panel.height})
            left, tallest = left + panel.width, max(tallest, panel.height)
        top += tallest


def _panel(panel: Panel, number: int, place: Json) -> Json:
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": _SOURCE,
        "gridPos": place,
        "targets": [_target(query, at, panel) for at, query in enumerate(panel.queries)],
        "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
        "options": _options(panel),
    }


def _target(query: Query, at: int, panel: Panel) -> Json:
    told: Json = {
        "refId": chr(ord("A") + at),
        "datasource": _SOURCE,
        "expr": query.expr,
        "legendFormat": query.legend or "__auto",
        "range": panel.kind in {"timeseries", "heatmap"},
        "instant": panel.kind not in {"timeseries", "heatmap"},
    }
    if panel.kind in {"table", "heatmap"}:
        told["format"] = panel.kind
    return told


def _defaults(panel: Panel) -> Json:
    told: Json = {"unit": panel.unit, "min": 0, "noValue": "no data"}
    if panel.top is not None:
        told["max"] = panel.top
    if panel.limits is not None:
        warning, bad = panel.limits
        steps = [("green", None), ("orange", warning), ("red", bad)]
        told["thresholds"] = {"mode": "absolute", "steps": [{"color": one, "value": value} for one, value in steps]}
        told["color"] = {"mode": "thresholds" if panel.kind != "timeseries" else "palette-classic"}
    if panel.kind == "timeseries":
        mode = "normal" if panel.stacked else "none"
        told["custom"] = {"lineWidth": 1, "fillOpacity": 40 if panel.stacked else 8, "stacking": {"mode": mode}}
    return told


def _options(panel: Panel) -> Json:
    if panel.kind == "timeseries":
        return {
            "legend": {"displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull", "max"]},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
    if panel.kind == "heatmap":
        return {"calculate": False, "yAxis": {"unit": panel.unit}, "color": {"scheme": "Blues", "mode": "scheme"}}
    if panel.kind == "table":
        return {"showHeader": True}
    return {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "value", "graphMode": "area"}
