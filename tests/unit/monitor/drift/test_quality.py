"""Accuracy by labels, and without them: what each knows, and when it says that it does not."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from numpy.random import Generator, default_rng

from taxiway.core.samples import SampledRows
from taxiway.monitor.drift.columns import columns_of
from taxiway.monitor.drift.data import rows_of
from taxiway.monitor.drift.quality import LEAST_LABELLED, QualityWatch


def answers(chance: Generator, rows: int, *, sure: float = 0.8) -> tuple[SampledRows, list[int]]:
    """Requests of one row whose model is as right as it says, and their labels."""
    confidence = np.clip(chance.normal(sure, 0.1, rows), 0.51, 0.99).astype(np.float32)
    said = chance.integers(0, 2, rows)
    scores = np.where(said[:, None] == [0, 1], confidence[:, None], 1 - confidence[:, None]).astype(np.float32)
    labels = np.where(chance.random(rows) < confidence, said, 1 - said)
    country = np.array([[b"de"] if one else [b"fr"] for one in chance.random(rows) < 0.5], dtype=object)
    told = rows_of("m", 1, {"country": country}, {"p": scores})
    ids = tuple(f"{chance.integers(1 << 60)}" for _ in range(rows))
    return msgspec.structs.replace(told, ids=ids, counts=(1,) * rows, times_ns=(0,) * rows), labels.tolist()


def feed(watch: QualityWatch, chance: Generator, rows: int, *, sure: float = 0.8, labelled: bool = True) -> float:
    """Show it answers, and perhaps their labels; the share of right ones."""
    told, labels = answers(chance, rows, sure=sure)
    watch.answered(told, columns_of(told, {}))
    if labelled:
        assert all(watch.labelled(request, label) for request, label in zip(told.ids, labels, strict=True))
    said = np.frombuffer(told.outputs["p"].data, np.float32).reshape(-1, 2).argmax(axis=1)
    return float((said == labels).mean())


def test_labels_tell_the_accuracy_with_an_interval() -> None:
    watch = QualityWatch(["country"])
    true = feed(watch, default_rng(1), 1000)
    told = watch.told(unlike=False)
    assert told["labelled"]["accuracy"] == pytest.approx(true)
    assert told["labelled"]["low"] < 0.8 < told["labelled"]["high"]
    assert {one["value"] for one in told["slices"]} == {"de", "fr"}
    assert sum(one["rows"] for one in told["slices"]) == 1000
    assert told["slices"][0]["high"] <= told["slices"][1]["high"], "worst first"


def test_an_interval_holds_at_all_times() -> None:
    chance, missed = default_rng(2), 0
    for _ in range(40):
        watch, truth = QualityWatch(), 0.8
        right = chance.random(400) < truth
        for one in range(400):
            watch.all.add(right=bool(right[one]))
            if one % 20 == 19:
                told = watch.all.told()
                if not told["low"] <= truth <= told["high"]:
                    missed += 1
                    break
    assert missed <= 5


def test_without_labels_the_fall_of_confidence_is_taken_for_one_of_accuracy() -> None:
    watch, chance = QualityWatch(), default_rng(3)
    feed(watch, chance, 3000, sure=0.8)
    for _ in range(20):
        feed(watch, chance, 200, sure=0.65, labelled=False)
    told = watch.told(unlike=False)["estimate"]
    assert told["accuracy"] == pytest.approx(0.65, abs=0.04)
    assert not told["unreliable"]
    assert watch.told(unlike=True)["estimate"]["unreliable"]


def test_before_there_are_enough_labels_nothing_is_estimated() -> None:
    watch, chance = QualityWatch(), default_rng(4)
    feed(watch, chance, LEAST_LABELLED - 1)
    assert "estimate" not in watch.told(unlike=False)
    feed(watch, chance, 1)
    assert "estimate" in watch.told(unlike=False)


def test_a_label_counts_once_and_one_of_nothing_not_at_all() -> None:
    watch, chance = QualityWatch(), default_rng(5)
    told, labels = answers(chance, 1)
    watch.answered(told, columns_of(told, {}))
    assert watch.labelled(told.ids[0], labels[0])
    assert not watch.labelled(told.ids[0], labels[0])
    assert not watch.labelled("unknown", 1)
    assert watch.all.rows == 1


@pytest.mark.parametrize("value", [1, 1.0, "1"])
def test_a_label_is_the_same_however_it_is_written(value: object) -> None:
    scores = np.array([[0.1, 0.9]], np.float32)
    told = msgspec.structs.replace(rows_of("m", 1, {"x": scores}, {"p": scores}), ids=("a",))
    watch = QualityWatch()
    watch.answered(told, columns_of(told, {}))
    watch.labelled("a", value)
    assert (watch.all.rows, watch.all.right) == (1, 1)


def test_words_are_labels_too() -> None:
    told = rows_of("m", 1, {"x": np.zeros((1, 1), np.float32)}, {"y": np.array([[b"cat"]], dtype=object)})
    watch = QualityWatch()
    for request, value in (("a", "cat"), ("b", "dog")):
        one = msgspec.structs.replace(told, ids=(request,))
        watch.answered(one, columns_of(one, {}))
        watch.labelled(request, value)
    assert (watch.all.rows, watch.all.right) == (2, 1)


def test_what_labels_said_survives_a_restart() -> None:
    watch, other, chance = QualityWatch(["country"]), QualityWatch(["country"]), default_rng(6)
    feed(watch, chance, 500)
    other.restore(msgspec.msgpack.decode(msgspec.msgpack.encode(watch.state())))
    assert other.told(unlike=False)["labelled"] == watch.told(unlike=False)["labelled"]
    assert other.told(unlike=False)["slices"] == watch.told(unlike=False)["slices"]
