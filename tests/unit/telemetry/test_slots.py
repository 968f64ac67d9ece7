from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxiway.telemetry import catalogue as names
from taxiway.telemetry import slots
from taxiway.telemetry.adding import Totals, lasting
from taxiway.telemetry.histogram import Distribution, Histogram, NativeHistogram
from taxiway.telemetry.render import Point
from taxiway.telemetry.slots import SlotReader, SlotWriter, decode_points, encode_points, make_slot


@pytest.fixture
def slot() -> Iterator[int]:
    made = make_slot()
    yield made
    os.close(made)


def _success(count: int, model: str = "m") -> Point:
    return Point(names.NV_SUCCESS, (model, "1"), count)


def test_nothing_is_read_before_the_first_snapshot(slot: int) -> None:
    assert SlotReader(slot).read() == []


def test_the_newest_snapshot_is_read(slot: int) -> None:
    writer, reader = SlotWriter(slot), SlotReader(slot)
    for count in range(5):
        assert writer.publish([_success(count)])
        assert reader.read() == [_success(count)]


def test_a_slot_grows(slot: int) -> None:
    writer, reader = SlotWriter(slot), SlotReader(slot)
    for size in (1, 3000, 10, 30_000, 5):
        points = [_success(1, f"model-{number}") for number in range(size)]
        assert writer.publish(points)
        assert reader.read() == points


def test_what_does_not_fit_is_not_published(slot: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "MAX_BYTES", 200_000)
    writer, reader = SlotWriter(slot), SlotReader(slot)
    assert writer.publish([_success(1)])
    assert not writer.publish([_success(1, f"model-{number}") for number in range(10_000)])
    assert reader.read() == [_success(1)]
    assert writer.publish([_success(2)])
    assert reader.read() == [_success(2)]


@pytest.mark.parametrize("damaged", ["content", "record"])
def test_a_snapshot_that_was_cut_short_is_passed_over(slot: int, damaged: str) -> None:
    writer, reader = SlotWriter(slot), SlotReader(slot)
    writer.publish([_success(1)])
    writer.publish([_success(2)])
    place = 3 if damaged == "record" else writer._regions[0][0] + 5
    os.pwrite(slot, b"\xff\xff", place)
    assert reader.read() == [_success(1)]


def test_a_reader_never_sees_half_a_snapshot(slot: int) -> None:
    writer, reader = SlotWriter(slot), SlotReader(slot)
    writer.publish([_success(0)])
    done = threading.Event()

    def write() -> None:
        for number in range(2000):
            writer.publish([_success(number, f"model-{index}") for index in range(1 + number % 50)])
        done.set()

    thread = threading.Thread(target=write)
    thread.start()
    last = 0
    while not done.is_set():
        counts = {point.value for point in reader.read()}
        assert len(counts) <= 1
        number = counts.pop() if counts else last
        assert isinstance(number, int)
        assert number >= last
        last = number
    thread.join()


def test_points_come_back_as_they_were() -> None:
    histogram = Histogram()
    histogram.observe(12_345)
    points = [
        Point(names.REQUEST_S, ("m", "1"), histogram.view()),
        Point(names.NV_LOAD_S, ('a "name"\n', "1"), 0.25),
        Point(names.OPEN_CONNECTIONS, (), 2**53),
    ]
    assert decode_points(encode_points(points)) == points


def test_a_value_that_is_no_number_stays_none() -> None:
    (point,) = decode_points(encode_points([Point(names.NV_LOAD_S, ("m", "1"), math.nan)]))
    assert isinstance(point.value, float)
    assert math.isnan(point.value)


# --- adding up -----------------------------------------------------------------------------------------


@given(st.lists(st.lists(st.integers(0, 10**12), max_size=20), max_size=5))
def test_histograms_of_processes_add_up_to_the_histogram_of_all(processes: list[list[int]]) -> None:
    totals, all_values = Totals(), Histogram()
    for values in processes:
        own = Histogram()
        for value in values:
            own.observe(value)
            all_values.observe(value)
        totals.add([Point(names.REQUEST_S, ("m", "1"), own.view())])
    for point in totals.points():
        assert isinstance(point.value, Distribution)
        assert point.value.counts == tuple(all_values.counts)
        assert point.value.total == pytest.approx(all_values.total / 1e9)


def test_each_family_says_how_it_is_put_together() -> None:
    totals = Totals()
    for open_connections, load_s in ((3, 0.5), (4, 0.2)):
        totals.add(
            [
                _success(10),
                Point(names.OPEN_CONNECTIONS, (), open_connections),
                Point(names.NV_LOAD_S, ("m", "1"), load_s),
                Point(names.VERSION_READY, ("m", "1"), open_connections - 3),
            ]
        )
    assert [point.value for point in totals.points()] == [20, 7, 0.5, 0]


def test_what_lasts_is_what_was_counted() -> None:
    points = [_success(1), Point(names.OPEN_CONNECTIONS, (), 1), Point(names.REQUEST_S, ("m", "1"), Histogram().view())]
    assert [point.family for point in lasting(points)] == [names.NV_SUCCESS, names.REQUEST_S]


def test_a_file_that_every_process_reads_again_was_changed_once() -> None:
    totals = Totals()
    for reloads in (2, 2, 1):  # the last process was started after the first change
        totals.add([Point(names.RELOADS, ("keys", "taken"), reloads)])
    assert totals.points() == [Point(names.RELOADS, ("keys", "taken"), 2)]


def test_native_buckets_pass_and_add_up() -> None:
    one, other, both = NativeHistogram(), NativeHistogram(), NativeHistogram()
    one.observe_many([1, 10**6, 10**7])
    other.observe_many([10**6, 10**13])
    both.observe_many([1, 10**6, 10**7, 10**6, 10**13])
    totals = Totals()
    for histogram in (one, other):
        totals.add(decode_points(encode_points([Point(names.REQUEST_S, ("m", "1"), histogram.view())])))
    (point,) = totals.points()
    assert isinstance(point.value, Distribution)
    assert point.value.counts == both.view().counts
    assert point.value.fine == both.view().fine
