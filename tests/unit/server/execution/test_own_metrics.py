"""Metrics that a model's own code counts: added up over its processes, kept when one dies, bounded, and shown."""

from __future__ import annotations

import pytest

from taxiway.runtimes.hosted.frames import Metric
from taxiway.server.execution.processes.metrics import MAX_SERIES, OwnMetrics
from taxiway.telemetry.adding import Totals
from taxiway.telemetry.render import render_metrics
from taxiway.telemetry.slots import decode_points, encode_points


def _moved(name: str, act: str, value: float = 0.0, kind: str = "counter", **labels: str) -> Metric:
    return Metric(name, kind, f"{name} of a test", labels, act, value, (1.0, 10.0) if kind == "histogram" else ())


def _shown(own: OwnMetrics) -> set[str]:
    lines = render_metrics(own.points()).decode().splitlines()
    return {line for line in lines if not line.startswith(("#", "taxiway_"))}


def test_they_are_added_up_over_processes_and_told_apart_by_labels() -> None:
    own = OwnMetrics("m", "1")
    for process in (0, 1):
        own.take(process, _moved("seen", "create", a="b"))
        own.take(process, _moved("seen", "add", 2, a="b"))
    own.take(0, _moved("seen", "add", 5, a="b", c="d"))
    own.take(0, _moved("level", "set", 3, kind="gauge"))
    own.take(1, _moved("level", "add", -1, kind="gauge"))
    for value in (0.5, 1, 7, 70):
        own.take(0, _moved("sizes", "observe", value, kind="histogram"))

    assert _shown(own) == {
        'seen{a="b"} 4.0',
        'seen{a="b",c="d"} 5.0',
        "level 2.0",
        'sizes_bucket{le="1.0"} 2',
        'sizes_bucket{le="10.0"} 3',
        'sizes_bucket{le="+Inf"} 4',
        "sizes_sum 78.5",
        "sizes_count 4",
    }


def test_they_outlive_a_process_and_end_with_the_last_that_holds_them() -> None:
    own = OwnMetrics("m", "1")
    for process in (0, 1):
        own.take(process, _moved("seen", "create"))
        own.take(process, _moved("seen", "add", 1))
    own.forget(0)  # it died
    own.take(0, _moved("seen", "create"))  # and another has come
    assert _shown(own) == {"seen 2.0"}

    own.take(0, _moved("seen", "remove"))
    assert _shown(own) == {"seen 2.0"}
    own.take(1, _moved("seen", "remove"))
    assert not _shown(own)


@pytest.mark.parametrize("name", ["nv_inference_count", "taxiway_model_ready", "taxiway_build_info_count"])
def test_names_of_ours_are_refused(name: str) -> None:
    own = OwnMetrics("m", "1")

    own.take(0, _moved(name, "add", 1))

    assert not list(own.points())


def test_a_name_has_one_kind_and_a_model_so_many_series() -> None:
    own = OwnMetrics("m", "1")
    own.take(0, _moved("seen", "add", 1))
    own.take(0, _moved("seen", "set", 7, kind="gauge", a="b"))
    for number in range(MAX_SERIES + 5):
        own.take(0, _moved("many", "add", 1, number=str(number)))

    assert len(list(own.points())) == MAX_SERIES
    assert 'seen{a="b"} 7.0' not in _shown(own)


def test_they_pass_through_the_slots_of_workers() -> None:
    totals = Totals()
    for _ in range(2):
        own = OwnMetrics("m", "1")
        own.take(0, _moved("seen", "add", 2, a="b"))
        own.take(0, _moved("sizes", "observe", 7, kind="histogram", c="d"))
        totals.add(decode_points(encode_points(own.points())))

    text = render_metrics(totals.points()).decode()
    assert 'seen{a="b"} 4.0' in text
    assert "# HELP seen seen of a test" in text
    assert 'sizes_bucket{c="d",le="10.0"} 2' in text
