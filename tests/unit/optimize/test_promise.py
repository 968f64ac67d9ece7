"""Metrics give a number for each sample, and the promise one of three answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import f1_score

from taxiway.core.errors import InvalidArgument, InvalidData
from taxiway.optimize.metrics import METRICS, Call, Kind, check, from_function
from taxiway.optimize.promise import Answer, judge, macro_f1

Floats = NDArray[np.float64]
RNG = np.random.default_rng(0)


def call(output: Any, baseline: Any = None, labels: Any = None) -> Call:
    made = np.asarray(output)
    return Call({"y": made}, {"y": made if baseline is None else np.asarray(baseline)}, labels, {}, len(made))


def score(metric: str, one: Call) -> list[float]:
    return [float(each) for each in METRICS[metric].score(one, "y")]


def test_accuracy_takes_the_largest_column_a_side_of_one_half_or_the_label_itself() -> None:
    labels = np.array([1, 0])
    assert score("accuracy", call([[0.1, 0.9], [0.2, 0.8]], labels=labels)) == [1.0, 0.0]
    assert score("accuracy", call([[0.7], [0.7]], labels=labels)) == [1.0, 0.0]
    assert score("accuracy", call([1, 1], labels=labels)) == [1.0, 0.0]
    assert score("accuracy", call(np.array([b"a", b"b"], dtype=object), labels=np.array(["a", "c"]))) == [1.0, 0.0]


def test_agreement_is_with_the_baseline_and_a_share_where_there_are_positions() -> None:
    assert score("agreement", call([[0.1, 0.9], [0.6, 0.4]], [[0.2, 0.8], [0.3, 0.7]])) == [1.0, 0.0]
    tokens = RNG.normal(size=(1, 4, 5))
    moved = tokens.copy()
    moved[0, 0] = -tokens[0, 0]
    assert score("agreement", call(moved, tokens)) == [0.75]


def test_cosine_of_nothing_with_nothing_is_one() -> None:
    assert score("cosine", call([[1.0, 0.0], [0.0, 0.0]], [[1.0, 1.0], [0.0, 0.0]])) == pytest.approx(
        [0.70711, 1.0], abs=1e-5
    )


def test_perplexity_leaves_out_what_has_no_label() -> None:
    logits = np.log(np.array([[[0.5, 0.5], [0.9, 0.1]]]))
    assert score("perplexity", call(logits, labels=np.array([[0, -100]]))) == pytest.approx([np.log(2)])


def test_macro_f1_is_the_one_that_everybody_means() -> None:
    labels, said = RNG.integers(0, 4, 200).astype(float), RNG.integers(0, 4, 200).astype(float)
    assert macro_f1(said, labels, np.unique(labels)) == pytest.approx(f1_score(labels, said, average="macro"))


def test_a_function_of_the_users_has_to_give_a_score_for_each_sample() -> None:
    good = from_function("mine", lambda outputs, _labels, _inputs: outputs["y"][:, 0])
    assert good.score(call([[0.5], [0.25]]), "y").tolist() == [0.5, 0.25]
    with pytest.raises(InvalidData, match="1 scores for 2 samples"):
        from_function("mine", lambda *_: 0.5).score(call([[0.5], [0.25]]), "y")


def test_a_metric_without_its_labels_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="no array called label"):
        check(METRICS["accuracy"], labelled=False)


def right(n: int, wrong: int) -> Floats:
    return np.concatenate([np.zeros(wrong), np.ones(n - wrong)])


@pytest.mark.parametrize(
    ("wrong", "n", "answer"),
    [
        (0, 1000, Answer.KEPT),
        (2, 1000, Answer.KEPT),
        (9, 1000, Answer.NOT_ENOUGH_DATA),
        (40, 1000, Answer.BROKEN),
        (0, 100, Answer.NOT_ENOUGH_DATA),
    ],
)
def test_a_point_of_accuracy_is_kept_broken_or_unknown(wrong: int, n: int, answer: Answer) -> None:
    verdict = judge(Kind.POINTS, right(n, 0), right(n, wrong), None, 0.01, 0.05)
    assert verdict.answer is answer
    assert verdict.lower <= verdict.drop <= verdict.upper
    assert (verdict.more is not None) == (answer is Answer.NOT_ENOUGH_DATA)


def test_a_root_mean_square_may_rise_by_a_share_of_itself() -> None:
    errors = RNG.exponential(1.0, 4000)
    assert judge(Kind.ROOT, errors, errors * 1.02**2, None, 0.05, 0.05).answer is Answer.KEPT
    verdict = judge(Kind.ROOT, errors, errors * 1.1**2, None, 0.05, 0.05)
    assert verdict.answer is Answer.BROKEN
    assert verdict.drop == pytest.approx(0.1, abs=1e-6)


def test_a_perplexity_may_rise_by_a_share_of_itself() -> None:
    logs = RNG.normal(3.0, 0.5, 4000)
    verdict = judge(Kind.LOG, logs, logs + np.log(1.02), None, 0.05, 0.05)
    assert verdict.answer is Answer.KEPT
    assert verdict.drop == pytest.approx(0.02)
    assert judge(Kind.LOG, logs, logs + np.log(1.1), None, 0.05, 0.05).answer is Answer.BROKEN


def test_f1_is_judged_by_resampling_whole_samples() -> None:
    labels = RNG.integers(0, 3, 1500).astype(float)
    spoiled = labels.copy()
    spoiled[::5] = (labels[::5] + 1) % 3
    assert judge(Kind.CLASSES, labels, labels, labels, 0.01, 0.05).answer is Answer.KEPT
    assert judge(Kind.CLASSES, labels, spoiled, labels, 0.01, 0.05).answer is Answer.BROKEN


@pytest.mark.parametrize(("n", "allowed"), [(60, 0.02), (20, 0.1)])
def test_f1_of_few_samples_proves_nothing_by_showing_no_difference(n: int, allowed: float) -> None:
    labels = (np.arange(n) % 2).astype(float)
    verdict = judge(Kind.CLASSES, labels, labels, labels, allowed, 0.05)
    assert verdict.answer is Answer.NOT_ENOUGH_DATA
    assert verdict.more is not None


@pytest.mark.parametrize("true_drop", [0.012, 0.02])
def test_a_promise_that_is_broken_is_seldom_called_kept(true_drop: float) -> None:
    rng = np.random.default_rng(11)
    kept = 0
    for _ in range(400):
        drawn = rng.random(1500)
        candidate = np.where(drawn < true_drop + 0.01, 0.0, 1.0)
        baseline = np.where((drawn >= true_drop + 0.01) & (drawn < true_drop + 0.02), 0.0, 1.0)
        kept += judge(Kind.POINTS, baseline, candidate, None, 0.01, 0.05).answer is Answer.KEPT
    assert kept / 400 < 0.06
