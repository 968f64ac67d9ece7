"""The same counts under others' names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxiway.telemetry import catalogue as names
from taxiway.telemetry.dialects import LE_KSERVE, LE_US, in_dialects
from taxiway.telemetry.family import Dialect
from taxiway.telemetry.histogram import Buckets, Distribution, Histogram, NativeHistogram
from taxiway.telemetry.render import Point

US = Buckets([round(float(le) * 1000) for le in LE_US], scale=1000)
KSERVE = Buckets([round(float(le) * 10**9) for le in LE_KSERVE], scale=10**9)
TIMES = st.lists(st.integers(0, 2 * 10**11), max_size=20)


def counted(histogram: Histogram, values: list[int]) -> Distribution:
    for value in values:
        histogram.observe(value)
    return histogram.view()


@given(TIMES)
def test_triton_s_are_what_observing_in_microseconds_gives(values: list[int]) -> None:
    points = in_dialects([Point(names.QUEUE_S, ("m", "1"), counted(NativeHistogram(), values))], ["triton"])
    (told,) = points
    direct = counted(Histogram(US), values)
    assert (told.family, told.labels) == (names.NV_QUEUE_HISTOGRAM_US, ("m", "1"))
    assert isinstance(told.value, Distribution)
    assert told.value[:2] == direct[:2]
    assert told.value.total == pytest.approx(direct.total)


@given(TIMES, TIMES)
def test_kserve_s_are_of_all_versions_together(first: list[int], second: list[int]) -> None:
    versions = {"1": first, "2": second}
    points = [Point(names.INFER_S, ("m", name), counted(Histogram(), of)) for name, of in versions.items()]
    (told,) = in_dialects(points, ["kserve"])
    direct = counted(Histogram(KSERVE), first + second)
    assert (told.family, told.labels) == (names.PREDICT_S, ("m",))
    assert isinstance(told.value, Distribution)
    assert told.value[:2] == direct[:2]
    assert told.value.total == pytest.approx(direct.total)


@pytest.mark.parametrize(
    ("dialects", "told"),
    [
        (["native"], ["taxiway_http_requests_in_flight"]),
        (["triton"], ["nv_inference_request_success"]),
        (["kserve", "vllm"], []),
    ],
)
def test_a_dialect_that_is_not_asked_for_is_left_out(dialects: list[Dialect], told: list[str]) -> None:
    points = [Point(names.IN_FLIGHT, (), 1), Point(names.NV_SUCCESS, ("m", "1"), 1)]
    assert [point.family.name for point in in_dialects(points, dialects)] == told
