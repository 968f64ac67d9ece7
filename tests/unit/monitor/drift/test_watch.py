"""A watch over one version: it learns a reference, finds what has changed, keeps its promise, survives restarts."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.random import Generator, default_rng

from taxiway.core.errors import FailedPrecondition, InvalidArgument
from taxiway.monitor.drift.columns import Column
from taxiway.monitor.drift.reference import Reference
from taxiway.monitor.drift.report import report_of, summary_of
from taxiway.monitor.drift.watch import Watch, WatchPlan

DAY_NS = 86_400_000_000_000
PLAN = WatchPlan(reference_rows=1000, look_rows=200, reference_blocks=5)


def rows_from(chance: Generator, rows: int, *, shift: float = 0.0, gone: float = 0.0) -> list[Column]:
    """Two inputs and a prediction that follows the first."""
    first = chance.normal(shift, 1, rows)
    first[chance.random(rows) < gone] = np.nan
    country = [b"de" if one < 0.7 else b"fr" for one in chance.random(rows)]
    label = (np.nan_to_num(first) > 0).astype(np.float64)
    return [Column("age", "input", first), Column("country", "input", country), Column("y.label", "prediction", label)]


def watched(chance: Generator, plan: WatchPlan = PLAN) -> Watch:
    return Watch(plan, Reference.of(rows_from(chance, 3000), "train.npz", 0))


def show(watch: Watch, chance: Generator, rows: int, at_ns: int = DAY_NS, **how: float) -> None:
    for _ in range(rows // 100):
        watch.add(rows_from(chance, 100, **how), 100, at_ns)


def test_its_first_rows_become_the_reference() -> None:
    watch, chance = Watch(PLAN), default_rng(1)
    show(watch, chance, 900)
    assert summary_of("m", 1, watch)["learned"] == {"rows": 900, "of": 1000}
    show(watch, chance, 100)
    assert watch.reference is not None
    assert (watch.reference.rows, watch.rows) == (1000, 0)
    assert [feature.name for feature in watch.reference.features] == ["age", "country", "y.label"]


def test_what_has_changed_is_found_and_named_with_its_beginning() -> None:
    chance = default_rng(2)
    watch = watched(chance)
    show(watch, chance, 4000)
    assert not watch.alarmed_ns
    show(watch, chance, 1000, 2 * DAY_NS, shift=0.5)
    assert watch.alarmed_ns == 2 * DAY_NS
    report = report_of("m", 1, watch)
    assert (report["state"], report["alarm"]) == ("drifted", True)
    first = report["features"][0]
    assert first["name"] in {"age", "y.label"}
    assert abs(first["since_row"] - 4000) <= 400
    assert report["features"][-1]["name"] == "country"


def test_missing_values_are_found_although_no_distribution_moves() -> None:
    chance = default_rng(3)
    watch = watched(chance)
    show(watch, chance, 2000)
    show(watch, chance, 1000, gone=0.03)
    report = report_of("m", 1, watch)
    assert report["alarm"]
    assert report["features"][0]["name"] == "age"
    assert {key: value for key, value in report["features"][0]["cells"][-1].items() if key != "now"} == {
        "name": "missing",
        "reference": 0,
    }


def test_a_column_that_is_gone_is_missing_in_every_row() -> None:
    chance = default_rng(4)
    watch = watched(chance)
    for _ in range(4):
        watch.add(rows_from(chance, 100)[1:], 100, DAY_NS)
    assert watch.alarmed_ns


def test_days_are_held_against_days() -> None:
    chance = default_rng(5)
    watch = watched(chance)
    for day in range(5, 45):
        show(watch, chance, 300, day * DAY_NS)
    assert not watch.block_alarmed_ns
    for day in range(45, 75):
        show(watch, chance, 300, day * DAY_NS, shift=0.6)
    assert 45 * DAY_NS <= watch.block_alarmed_ns < 75 * DAY_NS
    calendar = report_of("m", 1, watch)["blocks"]["calendar"]
    assert [one["p_value"] for one in calendar[:5]] == [None] * 5
    assert all(0 <= one["p_value"] <= 1 for one in calendar[5:])


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**32 - 1), st.lists(st.integers(1, 400), min_size=1, max_size=12), st.integers(0, 11))
def test_one_that_is_restored_goes_on_equally(seed: int, sizes: list[int], at: int) -> None:
    chance = default_rng(seed)
    plan = WatchPlan(reference_rows=300, look_rows=150, reference_blocks=2)
    watch = Watch(plan, Reference.of(rows_from(chance, 400), "train.npz", 0))
    other = watch
    for number, size in enumerate(sizes):
        if number == at:
            other = Watch.restored(plan, msgspec.msgpack.decode(msgspec.msgpack.encode(watch.state())))
        columns, at_ns = rows_from(chance, size, shift=number / 10), (number // 2) * DAY_NS + DAY_NS
        watch.add(columns, size, at_ns)
        if other is not watch:
            other.add(columns, size, at_ns)
    assert report_of("m", 1, watch) | {"saved_rows": 0} == report_of("m", 1, other) | {"saved_rows": 0}


def test_a_reference_survives_being_written() -> None:
    reference = Reference.of(rows_from(default_rng(6), 500), "train.npz", 7)
    read = Reference.decode(reference.encode())
    assert (read.source, read.rows, read.made_ns) == ("train.npz", 500, 7)
    more = rows_from(default_rng(7), 300, shift=0.3)
    for one, other in zip(reference.count(more, 300), read.count(more, 300), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("content", [b"", b"\x80", b"nonsense", msgspec.msgpack.encode({"features": [{}]})])
def test_what_is_no_reference_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidArgument, match="no reference of this release"):
        Reference.decode(content)


def test_the_last_rows_become_a_reference_for_others() -> None:
    chance = default_rng(10)
    watch = watched(chance)
    show(watch, chance, 3000, shift=1.0)
    other = Watch(PLAN, watch.as_reference("the last rows of version 1", 3))
    show(other, chance, 2000, shift=1.0)
    assert summary_of("m", 2, other)["state"] == "steady"
    assert summary_of("m", 2, other)["reference"]["rows"] >= 2000
    show(other, chance, 1000)
    assert summary_of("m", 2, other)["state"] == "drifted"
    with pytest.raises(FailedPrecondition, match="learning its own"):
        Watch(PLAN).as_reference("", 0)
    with pytest.raises(FailedPrecondition, match="a reference of 0 rows"):
        watched(chance).as_reference("", 0)


def test_too_few_rows_are_no_reference() -> None:
    with pytest.raises(FailedPrecondition, match="a reference of 49 rows"):
        Reference.of(rows_from(default_rng(8), 49), "train.npz", 0)


def test_texts_are_watched_by_their_length_and_script() -> None:
    chance = default_rng(9)

    def sentences(word: str, rows: int) -> list[Column]:
        texts = [
            f"{word} {number}".encode() * int(chance.integers(1, 4)) for number in chance.integers(1 << 40, size=rows)
        ]
        return [Column("prompt", "input", texts)]

    reference = Reference.of(sentences("hello", 2000), "train.npz", 0)
    assert {feature.name for feature in reference.features} >= {"prompt.characters", "prompt.script"}
    watch = Watch(PLAN, Reference.decode(reference.encode()))
    for _ in range(10):
        watch.add(sentences("hello", 200), 200, DAY_NS)
    assert summary_of("m", 1, watch)["state"] == "steady"
    for _ in range(3):
        watch.add(sentences("привет", 200), 200, DAY_NS)
    assert summary_of("m", 1, watch)["state"] == "drifted"
    assert report_of("m", 1, watch)["features"][0]["name"] == "prompt.script"
