"""OpenMetrics, as prometheus_client's strict parser reads it."""

from __future__ import annotations

import importlib
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxiway.telemetry.catalogue import CATALOGUE, INFER_S, NV_SUCCESS, RESPONSES
from taxiway.telemetry.exposition import OPENMETRICS, PROTOBUF, TEXT, exposition_for
from taxiway.telemetry.family import Family, MetricKind
from taxiway.telemetry.histogram import Histogram
from taxiway.telemetry.openmetrics import render_openmetrics
from taxiway.telemetry.render import Point

LABEL = st.text(max_size=20)
OF_PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


def families(points: list[Point]) -> dict[str, Any]:
    parser: Any = importlib.import_module("prometheus_client.openmetrics.parser")
    return {one.name: one for one in parser.text_string_to_metric_families(render_openmetrics(points).decode())}


def test_triton_s_counters_are_of_unknown_type_and_keep_their_names() -> None:
    family = families([Point(NV_SUCCESS, ("m", "1"), 7)])[NV_SUCCESS.name]

    assert family.type == "unknown"
    assert [(one.name, one.value) for one in family.samples] == [(NV_SUCCESS.name, 7.0)]


def test_our_counters_are_counters() -> None:
    family = families([Point(RESPONSES, ("2xx",), 7)])["taxiway_http_responses"]

    assert family.type == "counter"
    assert [(one.name, one.value) for one in family.samples] == [(RESPONSES.name, 7.0)]


def test_a_gauge_and_a_counter_of_one_stem_do_not_clash() -> None:
    level = Family("seen", MetricKind.GAUGE, "of a model's own code")
    total = Family("seen_total", MetricKind.COUNTER, "of a model's own code")
    told = families([Point(level, (), 1), Point(total, (), 2)])

    assert (told["seen"].type, told["seen"].samples[0].value) == ("gauge", 1.0)
    assert (told["seen_total"].type, told["seen_total"].samples[0].value) == ("unknown", 2.0)


@given(LABEL, LABEL, st.lists(st.integers(0, 10**12), max_size=20))
def test_a_histogram_is_read_back(model: str, version: str, values: list[int]) -> None:
    histogram = Histogram()
    for value in values:
        histogram.observe(value)
    samples = families([Point(INFER_S, (model, version), histogram.view())])[INFER_S.name].samples

    assert [one.value for one in samples if one.name.endswith("_count")] == [len(values)]
    assert math.isclose(next(one.value for one in samples if one.name.endswith("_sum")), sum(values) / 1e9)
    assert all((one.labels["model"], one.labels["version"]) == (model, version) for one in samples)


def test_every_family_of_the_catalogue_can_be_told() -> None:
    points = [
        Point(one, ("x",) * len(one.labels), Histogram().view() if one.kind is MetricKind.HISTOGRAM else 1)
        for one in CATALOGUE
    ]

    assert len(families(points)) == len(CATALOGUE)


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("", TEXT),
        ("*/*", TEXT),
        ("text/html,application/xhtml+xml", TEXT),
        ("text/plain;version=0.0.4;q=0.5,*/*;q=0.1", TEXT),
        (OF_PROMETHEUS, OPENMETRICS),
        (f"{PROTOBUF.content_type},{OF_PROMETHEUS}", PROTOBUF),
        ("application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text", TEXT),
        ("application/openmetrics-text; version=2.0.0, text/plain;q=0.1", TEXT),
        ("application/openmetrics-text;q=nonsense, text/plain;q=0.1", TEXT),
        ("application/openmetrics-text;q=0, */*", TEXT),
    ],
)
def test_the_form_is_the_one_that_is_liked_best(accept: str, chosen: object) -> None:
    assert exposition_for(accept) is chosen
