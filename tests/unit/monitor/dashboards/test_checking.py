"""Dead queries of other people's dashboards, old ones too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from taxiway.cli.monitor_check import command
from taxiway.core.errors import InvalidData, VerdictFailed
from taxiway.monitor.dashboards.checking import check_dashboard

EXPOSED = {"nv_inference_count", "taxiway_inference_request_seconds", "up", "vllm:kv_cache_usage_perc"}


def panel(title: str, *queries: str, kind: str = "timeseries") -> dict[str, Any]:
    return {"type": kind, "title": title, "targets": [{"expr": query} for query in queries]}


def board(*panels: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"title": "theirs", "panels": list(panels), **more}


def dead(document: dict[str, Any]) -> list[tuple[str, str]]:
    return [(one.where, one.metric) for one in check_dashboard(document, EXPOSED).dead]


def test_metrics_of_every_part_of_a_query_are_asked_for() -> None:
    query = (
        'histogram_quantile(0.9, sum by (le) (rate(gone_bucket{a="$b"}[$__rate_interval]))) / on(x) group_left '
        'topk($n, max_over_time(lost[5m:1m])) - {__name__="by_name"} + nv_inference_count or -up'
    )
    assert dead(board(panel("all", query))) == [("all", "by_name"), ("all", "gone_bucket"), ("all", "lost")]


def test_histograms_are_known_by_their_name() -> None:
    alive = "rate(taxiway_inference_request_seconds_bucket[5m]) / taxiway_inference_request_seconds_count"
    assert dead(board(panel("alive", alive))) == []


@pytest.mark.parametrize("span", ["$__rate_interval", "${__rate_interval}", "$interval", "[[interval]]", "${my_range}"])
def test_variables_stand_for_something(span: str) -> None:
    query = f'sum by ($group) (rate(gone{{pod=~"$pod", x=~"[[x]]"}}[{span}]))'
    assert dead(board(panel("one", query))) == [("one", "gone")]


def test_a_metric_that_the_reader_chooses_is_not_dead() -> None:
    assert dead(board(panel("chosen", "rate($metric[5m])"), panel("part", "vllm:${what}_total"))) == []


def test_panels_in_rows_of_today_and_of_before_are_read() -> None:
    inside = {"type": "row", "title": "row", "panels": [panel("inside", "a")]}
    old = {"title": "old", "rows": [{"title": "row", "panels": [panel("older", "b", kind="graph")]}]}
    assert dead(board(inside)) == [("inside", "a")]
    assert dead(old) == [("older", "b")]
    assert dead({"dashboard": board(panel("from the API", "c")), "meta": {}}) == [("from the API", "c")]


def test_variables_and_annotations_ask_too() -> None:
    variables = [
        {"name": "v", "type": "query", "query": "label_values(gone{a='b'}, pod)"},
        {"name": "w", "type": "query", "query": {"query": "query_result(lost)"}},
        {"name": "x", "type": "query", "query": "label_values(pod)"},
        {"name": "y", "type": "custom", "query": "a,b"},
    ]
    notes = [{"name": "n", "expr": "changes(restarts[1m])"}, {"name": "built in"}]
    document = board(templating={"list": variables}, annotations={"list": notes})
    assert dead(document) == [("variable v", "gone"), ("variable w", "lost"), ("annotation n", "restarts")]


def test_what_was_renamed_is_told() -> None:
    told = check_dashboard(
        board(panel("cache", "vllm:gpu_cache_usage_perc", "vllm:num_requests_swapped", "rate(]")), EXPOSED
    )
    assert [one.instead for one in told.dead[:2]] == [
        "now vllm:kv_cache_usage_perc",
        "there is no such metric any more",
    ]
    assert told.dead[2].instead.startswith("no PromQL: ")


@pytest.mark.parametrize("document", [{}, {"panels": 3}, {"dashboard": []}])
def test_what_is_no_dashboard_is_refused(document: dict[str, Any]) -> None:
    with pytest.raises(InvalidData, match="no dashboard of Grafana"):
        check_dashboard(document, EXPOSED)


def test_the_command_lists_them_and_says_so_with_its_exit(tmp_path: Path) -> None:
    file = tmp_path / "board.json"
    file.write_text(
        json.dumps(board(panel("cache", "vllm:gpu_cache_usage_perc"), panel("alive", "nv_inference_count")))
    )
    told = CliRunner().invoke(command, [str(file)])
    assert isinstance(told.exception, VerdictFailed)
    assert told.output.splitlines() == [
        f"{file}: theirs: 1 dead of 2 queries",
        "  cache: vllm:gpu_cache_usage_perc (now vllm:kv_cache_usage_perc)",
    ]
    file.write_text(json.dumps(board(panel("alive", "rate(nv_inference_count[5m])"))))
    assert CliRunner().invoke(command, [str(file)]).exit_code == 0
    file.write_text("{")
    assert isinstance(CliRunner().invoke(command, [str(file)]).exception, InvalidData)
