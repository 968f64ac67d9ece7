"""Our dashboards, held against what a reader of dashboards complains about."""

from __future__ import annotations

from typing import Any

import promql_parser
import pytest

from taxiway.monitor.dashboards.boards import BOARDS, LLM
from taxiway.monitor.dashboards.checking import check_dashboard
from taxiway.monitor.dashboards.grafana import dashboard_json
from taxiway.monitor.dashboards.panels import COLUMNS, Dashboard, Panel
from taxiway.telemetry.catalogue import CATALOGUE
from taxiway.telemetry.family import MetricKind

PANELS = [
    pytest.param(board, panel, id=f"{board.uid}: {panel.title}")
    for board in BOARDS
    for row in board.rows
    for panel in row.panels
]
COUNTERS = {family.name for family in CATALOGUE if family.kind is MetricKind.COUNTER}


@pytest.mark.parametrize(("board", "panel"), PANELS)
def test_a_panel_says_what_it_shows_and_of_what_it_shows_it(board: Dashboard, panel: Panel) -> None:
    assert panel.title
    assert panel.description.endswith(".")
    assert panel.queries
    for query in panel.queries:
        promql_parser.parse(query.expr.replace("$__rate_interval", "5m"))
        assert "rate_interval" in query.expr or "rate(" not in query.expr, "a rate over what Grafana scrapes"
        if board is not LLM:
            assert 'job=~"$job",instance=~"$instance"' in query.expr
        for counter in COUNTERS:
            assert f"{counter}{{" not in query.expr or f"rate({counter}" in query.expr or "increase(" in query.expr
    assert panel.kind != "timeseries" or all(query.legend for query in panel.queries)


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.uid)
def test_a_dashboard_is_provisioned_as_it_is(board: Dashboard) -> None:
    told = dashboard_json(board)
    assert (told["id"], told["editable"], "__inputs" in told) == (None, False, False)
    assert told["templating"]["list"][0]["type"] == "datasource"
    panels = told["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert all(panel["datasource"]["uid"] == "${datasource}" for panel in panels if panel["type"] != "row")
    assert not [pair for pair in _pairs(panels) if _overlap(*pair)]
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= COLUMNS for panel in panels)


def test_no_query_of_ours_is_dead() -> None:
    exposed = {family.name for family in CATALOGUE} | {"up"}
    dead = [one for board in BOARDS if board is not LLM for one in check_dashboard(dashboard_json(board), exposed).dead]
    assert not dead


def test_each_dashboard_has_a_place_of_its_own() -> None:
    assert len({board.uid for board in BOARDS}) == len(BOARDS)


def _pairs(panels: list[Any]) -> list[tuple[Any, Any]]:
    return [(one, other) for at, one in enumerate(panels) for other in panels[at + 1 :]]


def _overlap(one: Any, other: Any) -> bool:
    a, b = one["gridPos"], other["gridPos"]
    return bool(
        a["x"] < b["x"] + b["w"] and b["x"] < a["x"] + a["w"] and a["y"] < b["y"] + b["h"] and b["y"] < a["y"] + a["h"]
    )
