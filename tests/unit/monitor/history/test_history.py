"""History in virtual time: what a second, ten seconds and five minutes say of the same requests."""

from __future__ import annotations

import math
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from taxiway.monitor.history.desk import MAX_POINTS, HistoryDesk, Stretch
from taxiway.monitor.history.differences import Differences
from taxiway.monitor.history.ring import SECONDS
from taxiway.monitor.history.rows import (
    BOUNDS_S,
    CELLS,
    QUANTILES,
    Key,
    Row,
    decode,
    encode,
    merged,
    quantile,
    work_out,
)
from taxiway.monitor.history.store import COARSE_S, FINE_S, LONG_S, HistoryStore
from taxiway.telemetry import catalogue as names
from taxiway.telemetry.histogram import Histogram
from taxiway.telemetry.render import Point

T0 = 1_700_000_100  # a multiple of 300 begins at 1_700_000_100
KEY: Key = ("version", "iris", "1")


class Model:
    """Counters of one version, as a server has them."""

    def __init__(self, version: str = "1") -> None:
        self.own = ("iris", version)
        self.served = 0
        self.failed = 0
        self.request = Histogram()

    def serve(self, requests: int, seconds: float) -> None:
        self.served += requests
        self.request.observe(round(seconds * 1e9), requests)

    def points(self) -> list[Point]:
        return [
            Point(names.NV_SUCCESS, self.own, self.served),
            Point(names.NV_COUNT, self.own, self.served * 4),
            Point(names.NV_EXEC_COUNT, self.own, self.served),
            Point(names.FAILURES, (*self.own, "timeout"), self.failed),
            Point(names.NV_PENDING, self.own, 3),
            Point(names.VERSION_READY, self.own, 1),
            Point(names.REQUEST_S, self.own, self.request.view()),
            Point(names.IN_FLIGHT, (), 2),
        ]


def _desk(path: Path | None = None, *, max_series: int = 100, days: int = 30) -> HistoryDesk:
    return HistoryDesk(HistoryStore(path, days, 1 << 30), max_series)


def _run(desk: HistoryDesk, model: Model, first: int, seconds: int, requests: int = 10) -> None:
    for second in range(first, first + seconds):
        desk.take(model.points(), {}, second, float(second))
        model.serve(requests, 0.004)


def _column(desk: HistoryDesk, name: str, span_s: float, until_s: float) -> Any:
    (series,) = desk.history("version", ["iris"], [name], Stretch.of(span_s, until_s))["series"]
    return series["fields"][name]


def test_seconds_are_rates_and_quantiles_of_what_came_in_them() -> None:
    desk, model = _desk(), Model()
    _run(desk, model, T0, 30)
    rates = _column(desk, "rps", 30, T0 + 29)
    assert rates[0] == 0  # of the first look nothing is known but what is so now
    assert rates[1:].tolist() == [10.0] * 29
    p50 = _column(desk, "p50", 30, T0 + 29)
    assert np.isnan(p50[0])
    assert all(0.0025 <= one <= 0.005 for one in p50[1:])
    assert _column(desk, "batch", 30, T0 + 29)[5] == 4
    assert np.isnan(_column(desk, "rps", 60, T0 + 29)[:30]).all(), "before that nothing is known"
    assert desk.now(T0 + 29)["host", "host"].values["in_flight"] == 2


def test_a_counter_that_began_anew_counts_from_zero() -> None:
    differences, model = Differences(), Model()
    model.serve(100, 0.01)
    differences.take(model.points(), 1.0)
    again = Model()
    again.serve(7, 0.01)
    row = differences.take(again.points(), 2.0)[KEY]
    assert row.values["rps"] == 7
    assert row.buckets["request"].sum() == 7


def test_failures_are_told_by_reason() -> None:
    desk, model = _desk(), Model()
    for second in range(T0, T0 + 5):
        desk.take(model.points(), {}, second, float(second))
        model.failed += 2
    assert _column(desk, "eps", 3, T0 + 4).tolist() == [2, 2, 2]
    assert _column(desk, "error.timeout", 3, T0 + 4).tolist() == [2, 2, 2]


def test_the_ring_forgets_what_it_wrote_over() -> None:
    desk, model = _desk(), Model()
    _run(desk, model, T0, SECONDS + 50)
    last = T0 + SECONDS + 49
    assert not np.isnan(_column(desk, "rps", SECONDS, last)).any()
    assert np.isnan(_column(desk, "rps", SECONDS, last - 50)[:50]).all()


@pytest.mark.parametrize(
    ("span_s", "step_s"), [(300, 1), (600, 1), (3600, 10), (21600, 20), (86400, 300), (2592000, 1800)]
)
def test_steps_follow_from_the_span(span_s: float, step_s: int) -> None:
    stretch = Stretch.of(span_s, T0)
    assert stretch.step_s == step_s
    assert stretch.points <= MAX_POINTS
    assert (stretch.first + stretch.points - 1) * step_s <= T0 < (stretch.first + stretch.points) * step_s


def test_tens_of_seconds_and_minutes_say_the_same_and_the_stretch_that_goes_on_is_in_them(tmp_path: Path) -> None:
    desk, model = _desk(tmp_path / "history.db"), Model()
    _run(desk, model, T0, 1000)
    fine = _column(desk, "rps", 1200, T0 + 999)
    assert np.nanmax(fine) == 10
    assert np.nanmin(fine[-90:]) == 10
    p99 = _column(desk, "p99", 1200, T0 + 999)
    coarse = _column(desk, "rps", 86400, T0 + 999)
    known = coarse[~np.isnan(coarse)]
    assert known.tolist() == pytest.approx([10 * 299 / 300, 10, 10, 10])
    assert _column(desk, "p99", 86400, T0 + 999)[-1] == pytest.approx(p99[-1])
    heat = desk.heat(KEY, Stretch.of(1200, T0 + 999))
    assert len(heat["le"]) == CELLS
    assert sum(heat["counts"][-1]) == 100
    assert sum(desk.heat(KEY, Stretch.of(60, T0 + 999))["counts"][-1]) == 10
    assert desk.total(KEY, 300, T0 + 999).value("rps") == 10
    desk.close()


def test_a_span_is_put_together_of_long_rows_and_short_ones(tmp_path: Path) -> None:
    store = HistoryStore(tmp_path / "history.db", 30, 1 << 30)
    for slot in range(T0 // COARSE_S, (T0 + 8 * 3600) // COARSE_S):
        store.put(COARSE_S, slot, [(KEY, Row(300, {"rps": 2.0}))])
    for slot in range(T0 // LONG_S, (T0 + 8 * 3600) // LONG_S):
        store.coarsen(LONG_S, slot)
    desk, model = HistoryDesk(store, 100), Model()
    _run(desk, model, T0 + 8 * 3600, 100)
    for span_s, seconds in ((3600, 3600), (6 * 3600, 6 * 3600), (30 * 86400, 8 * 3600 + 100)):
        whole = desk.total(KEY, span_s, T0 + 8 * 3600 + 100)
        assert whole.seconds == pytest.approx(seconds, abs=300)
    assert desk.total(KEY, 60, T0 + 8 * 3600 + 100).value("rps") == 10
    desk.close()


def test_another_process_goes_on_where_one_ended(tmp_path: Path) -> None:
    path, model = tmp_path / "history.db", Model()
    desk = _desk(path)
    _run(desk, model, T0, 455)
    desk.close()
    after = _desk(path)
    _run(after, model, T0 + 460, 300)
    rates = _column(after, "rps", 1200, T0 + 759)
    assert rates[-76:].tolist() == pytest.approx([9.0, *[10.0] * 45, 10 * 0.8 * 5 / 4, *rates[-29:]], abs=1.01)
    minutes = _column(after, "rps", 86400, T0 + 759)
    assert minutes[~np.isnan(minutes)].tolist() == pytest.approx([10, 10, 10], rel=0.05)
    after.close()


def test_old_and_too_much_is_forgotten(tmp_path: Path) -> None:
    store = HistoryStore(tmp_path / "history.db", 1, 1 << 30)
    day = 86400
    for slot in range(3 * day // COARSE_S):
        store.put(COARSE_S, slot, [(KEY, Row(300, {"rps": 1.0}))])
        store.put(FINE_S, slot * 30, [(("version", "gone", "1"), Row(10, {"rps": 1.0}))])
    store.coarsen(COARSE_S, 3 * day // COARSE_S)
    kept = [slot for _, slot, _ in store.read(COARSE_S, 0, 1 << 40, [KEY])]
    assert min(kept) == pytest.approx(2 * day // COARSE_S, abs=2)
    full = store.nbytes
    store._max_bytes = full // 4
    for slot in range(3 * day // COARSE_S, 3 * day // COARSE_S + 8):
        store.coarsen(COARSE_S, slot)
    assert store.nbytes < full
    store.close()


def test_a_damaged_file_is_put_aside_and_a_place_that_cannot_be_written_costs_only_the_past(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    path.write_bytes(b"no database at all" * 100)
    desk, model = _desk(path), Model()
    _run(desk, model, T0, 30)
    desk.close()
    assert path.with_name("history.db.damaged").exists()
    assert sqlite3.connect(path).execute("SELECT count(*) FROM point").fetchone()[0] > 0
    (tmp_path / "file").write_text("in the way")
    desk = _desk(tmp_path / "file" / "history.db")
    _run(desk, Model(), T0, 30)
    assert np.nanmax(_column(desk, "rps", 30, T0 + 29)) == 10
    desk.close()


def test_series_are_bounded_and_small() -> None:
    desk = _desk(max_series=6)
    models = [Model(str(version)) for version in range(10)]
    for second in range(T0, T0 + SECONDS):
        desk.take([point for one in models for point in one.points()], {}, second, float(second))
        for one in models:
            one.serve(1, 0.1)
    assert desk.dropped
    assert len(desk.keys("version")) <= 6
    assert desk.nbytes < 6 * 250_000


def test_rows_come_back_as_they_were_kept_and_merge_exactly() -> None:
    cells = np.zeros(CELLS, np.int64)
    cells[3], cells[-1] = 5, 2
    row = decode(encode(Row(10, {"rps": 2.5, "eps": 0.0}, {"request": cells})))
    assert (row.seconds, row.values) == (10, {"rps": 2.5})
    assert row.buckets["request"].tolist() == cells.tolist()
    whole = merged([row, Row(30, {"rps": 0.5})])
    assert whole.seconds == 40
    assert whole.values["rps"] == 1.0
    assert quantile(cells, 0.99) == BOUNDS_S[-1]
    assert math.isnan(quantile(np.zeros(CELLS, np.int64), 0.5))
    assert {"p50", "q99", "i90"} < QUANTILES


def test_quantiles_are_those_of_the_histogram() -> None:
    histogram = Histogram()
    for ns in range(50_000, 90_000_000, 77_777):
        histogram.observe(ns)
    cells = np.array(histogram.counts, np.int64)
    for fraction in (0.0, 0.1, 0.5, 0.9, 0.99, 1.0):
        assert quantile(cells, fraction) == pytest.approx(histogram.quantile(fraction) / 1e9)


def test_quantiles_of_many_rows_are_those_of_each() -> None:
    chance = np.random.default_rng(3)
    rows = [Row(1, {}, {"request": chance.poisson(0.2, CELLS).astype(np.int64)}) for _ in range(50)]
    rows = [row for row in rows if row.buckets["request"].any()]
    alone = [[Row(1, {}, row.buckets).value(name) for name in ("p50", "p90", "p99")] for row in rows]
    work_out(rows)
    assert all(len(row.quantiles) == 3 for row in rows)
    assert [[row.value(name) for name in ("p50", "p90", "p99")] for row in rows] == pytest.approx(np.array(alone))
