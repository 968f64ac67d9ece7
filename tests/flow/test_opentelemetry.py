"""Requests over HTTP whose spans a collector gets."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from tests.flow.serving import Server, serve
from tests.support.ensembles import graph, step, write
from tests.support.onnx_models import doubler, poisonable
from tests.support.otlp import Collector, Span, collect
from tests.support.prometheus import needs_prometheus, prometheus, scraping
from tests.support.raw_http import wait_until

INFER = "/v2/models/doubler/infer"
TRACE_ID, SPAN_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SERVER_KIND, ERROR = 2, 2


def _row(**more: Any) -> dict[str, Any]:
    return {**more, "inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collect() as one:
        yield one


@pytest.fixture
def server(tmp_path: Path, collector: Collector) -> Iterator[Server]:
    models = [doubler(tmp_path / "doubler.onnx"), poisonable(tmp_path / "poisonable.onnx")]
    settings = {"trace__mode": "opentelemetry", "trace__endpoint": collector.url}
    with serve(models, trace__level=["TIMESTAMPS"], trace__rate=1, **settings) as one:
        yield one


def _by_name(spans: list[Span]) -> dict[str, Span]:
    return {span.name: span for span in spans}


def test_a_request_is_one_span_with_its_phases_below(server: Server, collector: Collector) -> None:
    began_ns = time.time_ns()
    assert server.ask("POST", INFER, _row(id="a1")).status == 200

    spans = _by_name(collector.wait_for(4))
    root = spans["POST /v2/models/{model}/infer"]
    assert set(spans) == {root.name, "queue", "compute", "respond"}
    assert (root.kind, root.parent_id, root.status) == (SERVER_KIND, "", 0)
    assert root.attributes == {
        "http.request.method": "POST",
        "http.route": "/v2/models/{model}/infer",
        "url.scheme": "http",
        "triton.model_name": "doubler",
        "triton.model_version": 1,
        "triton.request_id": "a1",
        "taxiway.request.rows": 1,
    }
    assert (root.resource["service.name"], root.resource["telemetry.sdk.name"]) == ("taxiway", "opentelemetry")
    second = 1_000_000_000
    assert began_ns - second < root.start_ns <= root.end_ns < time.time_ns() + second
    for phase in ("queue", "compute", "respond"):
        span = spans[phase]
        assert (span.trace_id, span.parent_id) == (root.trace_id, root.span_id)
        assert root.start_ns <= span.start_ns <= span.end_ns <= root.end_ns
    compute = spans["compute"]
    assert compute.attributes == {"taxiway.batch.requests": 1, "taxiway.batch.rows": 1}
    times = list(compute.events.values())
    assert list(compute.events) == ["compute_input_end", "compute_output_start"]
    assert [compute.start_ns, *times, compute.end_ns] == sorted([compute.start_ns, *times, compute.end_ns])


def test_a_callers_trace_is_continued(server: Server, collector: Collector) -> None:
    headers = {"traceparent": f"00-{TRACE_ID}-{SPAN_ID}-01", "tracestate": "congo=t61rcWkgMzE"}
    server.ask("POST", INFER, _row(), headers)

    spans = collector.wait_for(4)
    assert {span.trace_id for span in spans} == {TRACE_ID}
    assert {span.state for span in spans} == {"congo=t61rcWkgMzE"}
    assert _by_name(spans)["POST /v2/models/{model}/infer"].parent_id == SPAN_ID


def test_the_callers_decision_counts_before_the_rate(server: Server, collector: Collector) -> None:
    server.ask("POST", "/v2/trace/setting", {"trace_rate": "1000"})
    for index, flags in enumerate(["00", "01", None, "00", "01"]):
        headers = {} if flags is None else {"traceparent": f"00-{TRACE_ID}-{SPAN_ID}-{flags}"}
        server.ask("POST", INFER, _row(id=f"r{index}"), headers)

    roots = [span for span in collector.wait_for(8) if span.kind == SERVER_KIND]
    assert [span.attributes["triton.request_id"] for span in roots] == ["r1", "r4"]


def test_a_failure_is_an_error_with_its_code(server: Server, collector: Collector) -> None:
    body = {"inputs": [{"name": "x", "shape": [1, 1], "datatype": "INT64", "data": [99]}]}
    assert server.ask("POST", "/v2/models/poisonable/infer", body).status == 500

    root = _by_name(collector.wait_for(4))["POST /v2/models/{model}/infer"]
    assert (root.status, root.attributes["error.type"]) == (ERROR, "model-failed")
    assert root.message


def test_settings_are_told_in_tritons_words_for_this_mode(server: Server, collector: Collector) -> None:
    told = server.ask("GET", "/v2/trace/setting").json()

    assert told == {
        "trace_level": ["TIMESTAMPS"],
        "trace_rate": "1",
        "trace_count": "-1",
        "trace_mode": "opentelemetry",
        "url": collector.url,
        "bsp_max_export_batch_size": "512",
        "bsp_schedule_delay": "200",
        "bsp_max_queue_size": "2048",
    }


def test_the_mode_can_be_changed_while_the_server_runs(tmp_path: Path, collector: Collector) -> None:
    with serve(doubler(tmp_path / "doubler.onnx"), trace__endpoint=collector.url) as server:
        change = {"trace_mode": "opentelemetry", "trace_level": ["TIMESTAMPS"], "trace_rate": "1"}
        assert server.ask("POST", "/v2/trace/setting", change).status == 200
        server.ask("POST", INFER, _row())

        assert len(collector.wait_for(4)) == 4


def test_what_is_left_is_sent_at_the_end(tmp_path: Path, collector: Collector) -> None:
    settings = {"trace__mode": "opentelemetry", "trace__endpoint": collector.url, "trace__rate": 1}
    with serve(doubler(tmp_path / "doubler.onnx"), trace__level=["TIMESTAMPS"], **settings) as server:
        for _ in range(10):
            server.ask("POST", INFER, _row())

    assert len(collector.spans) == 40


def test_a_collector_that_refuses_costs_only_the_spans(server: Server, collector: Collector) -> None:
    collector.answers = 400
    assert server.ask("POST", INFER, _row()).status == 200
    assert collector.refused.wait(20)
    collector.answers = 200
    assert server.ask("POST", INFER, _row()).status == 200

    collector.wait_for(4)
    assert 'taxiway_traces_total{mode="opentelemetry",outcome="failed"} 1' in server.scrape()


def test_without_the_packages_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taxiway.server.tracing.export._is_installed", lambda: False)
    with serve(doubler(tmp_path / "doubler.onnx")) as server:
        change = {"trace_mode": "opentelemetry", "trace_level": ["TIMESTAMPS"]}
        answer = server.ask("POST", "/v2/trace/setting", change)

        assert (answer.status, answer.json()["hint"]) == (409, "pip install 'taxiway[otel]'")
        assert server.ask("GET", "/v2/trace/setting").json()["trace_mode"] == "triton"


def test_the_steps_of_an_ensemble_are_spans_below_its_own(tmp_path: Path, collector: Collector) -> None:
    doubler(tmp_path / "doubler" / "1" / "model.onnx")
    twice = (step("doubler", {"x": "x"}, {"y": "mid"}), step("doubler", {"x": "mid"}, {"y": "y"}))
    write(tmp_path, "twice", graph(*twice))
    settings = {"trace__mode": "opentelemetry", "trace__endpoint": collector.url, "trace__rate": 1}
    headers = {"traceparent": f"00-{TRACE_ID}-{SPAN_ID}-01"}
    with serve(tmp_path, trace__level=["TIMESTAMPS"], **settings) as server:
        assert server.ask("POST", "/v2/models/twice/infer", _row(), headers).status == 200
    spans = collector.spans
    (root,) = [span for span in spans if span.kind == SERVER_KIND]
    steps = [span for span in spans if span.name == "infer doubler"]
    assert {span.trace_id for span in spans} == {TRACE_ID}
    assert (root.parent_id, [span.parent_id for span in steps]) == (SPAN_ID, [root.span_id] * 2)
    for one in steps:
        assert root.start_ns <= one.start_ns <= one.end_ns <= root.end_ns
        assert {span.name for span in spans if span.parent_id == one.span_id} == {"queue", "compute"}


def test_a_bucket_of_latency_names_a_trace_that_the_collector_has(server: Server, collector: Collector) -> None:
    assert server.ask("POST", INFER, _row()).status == 200
    own = _by_name(collector.wait_for(4))["POST /v2/models/{model}/infer"]
    accept = "application/openmetrics-text; version=1.0.0"
    exemplars = _exemplars(server.scrape_as(accept).body.decode())
    assert [one.labels for one in exemplars] == [{"trace_id": own.trace_id}]
    assert exemplars[0].value == pytest.approx((own.end_ns - own.start_ns) / 1e9, rel=0.2, abs=1e-3)
    assert abs(float(exemplars[0].timestamp) - time.time()) < 60
    assert "# {" not in server.scrape(), "the text format has no place for them"


def test_an_exemplar_is_of_the_callers_trace(server: Server, collector: Collector) -> None:
    headers = {"traceparent": f"00-{TRACE_ID}-{SPAN_ID}-01"}
    assert server.ask("POST", INFER, _row(), headers=headers).status == 200
    collector.wait_for(4)
    told = _exemplars(server.scrape_as("application/openmetrics-text; version=1.0.0").body.decode())
    assert [one.labels["trace_id"] for one in told] == [TRACE_ID]


@needs_prometheus
def test_a_real_prometheus_keeps_them(server: Server, collector: Collector, tmp_path: Path) -> None:
    assert server.ask("POST", INFER, _row()).status == 200
    trace_id = collector.wait_for(4)[0].trace_id
    target = urlsplit(server.metrics).netloc
    with prometheus(tmp_path, scraping(target), "--enable-feature=exemplar-storage") as scraper:
        asked = {"query": "taxiway_inference_request_seconds_bucket", "start": "0", "end": str(time.time() + 60)}
        wait_until(lambda: bool(scraper.ask("query_exemplars", **asked)), "it has scraped one")
        (series,) = scraper.ask("query_exemplars", **asked)
    assert [one["labels"] for one in series["exemplars"]] == [{"trace_id": trace_id}]


def _exemplars(body: str) -> list[Any]:
    families = text_string_to_metric_families(body)  # type: ignore[no-untyped-call]
    samples = [sample for family in families for sample in family.samples]
    return [sample.exemplar for sample in samples if sample.exemplar is not None]
