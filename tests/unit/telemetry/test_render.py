from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxiway.telemetry.catalogue import BUILD_INFO, CATALOGUE, IN_FLIGHT, INFER_S, NV_FAILURE, NV_SUCCESS
from taxiway.telemetry.family import Family, MetricKind
from taxiway.telemetry.histogram import Histogram
from taxiway.telemetry.render import Point, render_metrics

TEXT = st.text(max_size=20)
NUMBERS = st.one_of(st.integers(-(10**15), 10**15), st.floats())
LABELS = st.tuples(TEXT, TEXT)


def _distribution(values: list[int]) -> Histogram:
    histogram = Histogram()
    for value in values:
        histogram.observe(value)
    return histogram


def test_the_text_of_a_scrape() -> None:
    tiny = Family("tiny_seconds", MetricKind.HISTOGRAM, "Back\\slash\nand line", ("model",))
    histogram = _distribution([5_000])
    text = render_metrics(
        [
            Point(tiny, ('a"b\\c\nd',), histogram.view()),
            Point(NV_SUCCESS, ("m", "2"), 7),
            Point(NV_SUCCESS, ("m", "1"), 3),
            Point(IN_FLIGHT, (), math.inf),
        ]
    ).decode()
    lines = text.split("\n")
    assert lines[:4] == [
        "# HELP nv_inference_request_success Number of successful inference requests, all batch sizes",
        "# TYPE nv_inference_request_success counter",
        'nv_inference_request_success{model="m",version="1"} 3',
        'nv_inference_request_success{model="m",version="2"} 7',
    ]
    assert "taxiway_http_requests_in_flight +Inf" in lines
    assert "# HELP tiny_seconds Back\\\\slash\\nand line" in lines
    assert 'tiny_seconds_bucket{model="a\\"b\\\\c\\nd",le="1e-05"} 1' in lines
    assert 'tiny_seconds_bucket{model="a\\"b\\\\c\\nd",le="+Inf"} 1' in lines
    assert 'tiny_seconds_sum{model="a\\"b\\\\c\\nd"} 5e-06' in lines
    assert 'tiny_seconds_count{model="a\\"b\\\\c\\nd"} 1' in lines
    assert text.endswith("\n")


def test_the_same_points_in_another_order_are_the_same_bytes() -> None:
    points = [Point(NV_FAILURE, (model, "1", "OTHER"), 1) for model in "cab"] + [Point(IN_FLIGHT, (), 1)]
    assert render_metrics(points) == render_metrics(reversed(points))


def test_a_series_told_twice_is_written_once_and_counted() -> None:
    text = render_metrics([Point(IN_FLIGHT, (), 1), Point(IN_FLIGHT, (), 2)])
    assert b"taxiway_http_requests_in_flight 1\n" in text
    assert b"taxiway_metrics_dropped_series 1\n" in text


def test_a_family_holds_no_more_series_than_its_limit() -> None:
    points = [Point(NV_SUCCESS, (f"m{index}", "1"), index) for index in range(10)]
    text = render_metrics(points, max_series=4)
    assert text.count(b"\nnv_inference_request_success{") == 4
    assert b"taxiway_metrics_dropped_series 6\n" in text


def test_labels_that_are_not_the_family_s_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        render_metrics([Point(NV_SUCCESS, ("m",), 1)])


def test_a_lone_surrogate_does_not_break_the_scrape() -> None:
    assert b'model="?"' in render_metrics([Point(NV_SUCCESS, ("\udcff", "1"), 1)])


def test_the_catalogue_s_names_are_unique_and_legal() -> None:
    names = [family.name for family in CATALOGUE]
    assert len(names) == len(set(names))
    for family in CATALOGUE:
        assert family.name.replace("_", "").isalnum()
        assert family.name.islower() or family.name.startswith("DCGM_FI_"), "those are NVIDIA's"
        assert family.help
        if family.name.startswith("taxiway_"):
            assert (family.kind is MetricKind.COUNTER) == family.name.endswith("_total")


@given(
    st.dictionaries(LABELS, NUMBERS, max_size=6),
    st.dictionaries(LABELS, st.lists(st.integers(0, 10**12), max_size=20), max_size=4),
)
def test_prometheus_own_parser_reads_back_what_was_written(
    numbers: dict[tuple[str, str], float], values: dict[tuple[str, str], list[int]]
) -> None:
    parser = pytest.importorskip("prometheus_client.parser")
    histograms = {labels: _distribution(observed) for labels, observed in values.items()}
    points = [Point(NV_SUCCESS, labels, number) for labels, number in numbers.items()]
    points += [Point(BUILD_INFO, labels, number) for labels, number in numbers.items()]
    points += [Point(INFER_S, labels, histogram.view()) for labels, histogram in histograms.items()]
    found = {}
    for family in parser.text_string_to_metric_families(render_metrics(points).decode()):
        assert family.name not in found
        found[family.name] = family
    for told in (NV_SUCCESS, BUILD_INFO):
        samples = found[told.name].samples if numbers else []
        read = {tuple(sample.labels[name] for name in told.labels): sample.value for sample in samples}
        assert read.keys() == numbers.keys()
        for labels, number in numbers.items():
            assert read[labels] == number or (math.isnan(read[labels]) and math.isnan(number))
    _check_histograms(found[INFER_S.name].samples if histograms else [], histograms)


def _check_histograms(samples: list[object], histograms: dict[tuple[str, str], Histogram]) -> None:
    buckets: dict[tuple[str, str], list[float]] = {labels: [] for labels in histograms}
    counts: dict[tuple[str, str], float] = {}
    sums: dict[tuple[str, str], float] = {}
    for sample in samples:
        name, told, value = sample.name, sample.labels, sample.value  # type: ignore[attr-defined]
        labels = (told["model"], told["version"])
        if name.endswith("_bucket"):
            buckets[labels].append(value)
        else:
            (counts if name.endswith("_count") else sums)[labels] = value
    for labels, histogram in histograms.items():
        shown = histogram.view()
        running = [sum(shown.counts[: index + 1]) for index in range(len(shown.counts))]
        assert buckets[labels] == running
        assert counts[labels] == running[-1]
        assert sums[labels] == shown.total


def test_a_label_with_a_percent_sign_is_told_as_it_is() -> None:
    assert b'model="50%s"' in render_metrics([Point(INFER_S, ("50%s", "1"), Histogram().view())])
