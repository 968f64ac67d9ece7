"""Evidence of drift: a martingale under the null, quick under every alternative it was made for."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import gammaln

from taxiway.stats import drift_evidence
from taxiway.stats.cells import NumericCells
from taxiway.stats.drift_evidence import DriftEvidence, Feature

THRESHOLD = math.log(1 / 0.01)
BLOCK = 250
Draw = Callable[[np.random.Generator, int], NDArray[np.float64]]


def normal(random: np.random.Generator, rows: int) -> NDArray[np.float64]:
    return random.normal(size=rows)


def watch(draw: Draw, *, reference: int = 5000, before: int = 20, blocks: int = 60, seed: int = 0) -> int | None:
    """Rows after the change until the alarm; None if there is none. Negative: a false one."""
    random = np.random.default_rng(seed)
    sample = normal(random, reference)
    cells = NumericCells.of(sample)
    evidence = DriftEvidence([Feature(cells.count(sample), cells.order)])
    for at in range(before + blocks):
        values = normal(random, BLOCK) if at < before else draw(random, BLOCK)
        evidence.add(cells.count(values), BLOCK)
        if evidence.log_average >= THRESHOLD:
            return (at + 1 - before) * BLOCK
    return None


def test_a_stream_like_its_reference_never_alarms() -> None:
    assert [watch(normal, blocks=100, seed=seed) for seed in range(20)] == [None] * 20


@pytest.mark.parametrize("rows", [30, 50, 100, 300])
def test_a_small_reference_is_no_alarm_either(rows: int) -> None:
    assert [watch(normal, reference=rows, seed=seed) for seed in range(10)] == [None] * 10


def moved(by: float, spread: float = 1.0) -> Draw:
    return lambda random, rows: random.normal(by, spread, size=rows)


def replaced(share: float, value: float) -> Draw:
    return lambda random, rows: np.where(random.random(rows) < share, value, random.normal(size=rows))


def another_shape(random: np.random.Generator, rows: int) -> NDArray[np.float64]:
    return random.laplace(scale=1 / math.sqrt(2), size=rows)


@pytest.mark.parametrize(
    ("draw", "within"),
    [
        pytest.param(moved(0.5), 250, id="half a deviation"),
        pytest.param(moved(0.25), 750, id="a quarter of one"),
        pytest.param(moved(0.1), 5000, id="a tenth of one"),
        pytest.param(moved(0.0, 1.2), 1500, id="a fifth wider"),
        pytest.param(replaced(0.05, math.nan), 250, id="missing"),
        pytest.param(replaced(0.02, 1e6), 250, id="out of range"),
        pytest.param(another_shape, 3000, id="another shape"),
    ],
)
def test_a_change_is_found(draw: Draw, within: int) -> None:
    delays = [watch(draw, seed=seed) for seed in range(5)]

    assert all(delay is not None and delay > 0 for delay in delays), delays
    assert sorted(delay for delay in delays if delay is not None)[2] <= within, delays


def test_the_row_of_the_change_is_told() -> None:
    random = np.random.default_rng(0)
    sample = normal(random, 5000)
    cells = NumericCells.of(sample)
    evidence = DriftEvidence([Feature(cells.count(sample), cells.order)] * 2)
    for at in range(60):
        steady, moved = normal(random, BLOCK), normal(random, BLOCK) + (0.5 if at >= 40 else 0.0)
        evidence.add(np.concatenate([cells.count(steady), cells.count(moved)]), BLOCK)

    assert abs(evidence.since(1) - 40 * BLOCK) <= 8 * BLOCK
    assert evidence.log_e[1] > THRESHOLD > evidence.log_e[0]
    recent = evidence.counts_since(1)[len(cells.names) :]
    assert abs(int(recent.sum()) - 20 * BLOCK) <= 8 * BLOCK


def test_what_lies_within_the_tolerance_is_the_same() -> None:
    random = np.random.default_rng(0)
    sample = normal(random, 20_000)
    cells = NumericCells.of(sample)
    strict, tolerant = (
        DriftEvidence([Feature(cells.count(sample), cells.order)], tolerance=tolerance) for tolerance in (None, 200.0)
    )
    for _ in range(100):
        counts = cells.count(random.normal(0.1, size=BLOCK))
        strict.add(counts, BLOCK)
        tolerant.add(counts, BLOCK)

    assert strict.log_average > THRESHOLD > tolerant.log_average


def test_before_anything_was_seen_there_is_no_evidence() -> None:
    evidence = DriftEvidence([Feature(np.array([10, 20]))])

    assert evidence.log_average == 0.0
    assert evidence.since(0) == 0
    assert evidence.counts_since(0).sum() == 0


@settings(max_examples=20, deadline=None)
@given(st.lists(st.lists(st.integers(0, 40), min_size=3, max_size=3), min_size=1, max_size=12), st.randoms())
def test_the_order_of_rows_within_a_block_and_of_features_does_not_matter(
    blocks: list[list[int]], random: object
) -> None:
    del random
    features = [Feature(np.array([30, 40, 50]), np.array([0.0, 1.0, 2.0])), Feature(np.array([5, 60, 5]))]
    forth, back = DriftEvidence(features), DriftEvidence(features[::-1])
    for block in blocks:
        counts = np.array(block)
        forth.add(np.concatenate([counts, counts[::-1]]), int(counts.sum()))
        back.add(np.concatenate([counts[::-1], counts]), int(counts.sum()))

    assert np.allclose(forth.log_e, back.log_e[::-1])


def test_expected_evidence_under_the_null_is_one() -> None:
    """Over references too: the mean of E where both reference and stream come from the prior's own draw."""
    random = np.random.default_rng(7)
    values = []
    for _ in range(1500):
        shares = random.dirichlet([0.5, 0.5, 0.5])
        evidence = DriftEvidence([Feature(random.multinomial(30, shares), np.array([0.0, 1.0, 2.0]))])
        for _ in range(4):
            evidence.add(random.multinomial(10, shares), 10)
        values.append(math.exp(min(evidence.log_average, 20.0)))

    assert np.mean(values) == pytest.approx(1.0, abs=0.2)


def test_one_that_is_restored_goes_on_equally_whatever_it_knew_before() -> None:
    random = np.random.default_rng(3)
    sample = normal(random, 2000)
    cells = NumericCells.of(sample)
    feature = Feature(cells.count(sample), cells.order)
    evidence, other = DriftEvidence([feature]), DriftEvidence([feature])
    for _ in range(30):
        evidence.add(cells.count(normal(random, BLOCK)), BLOCK)
        other.add(cells.count(normal(random, BLOCK) + 1), BLOCK)
    other.restore(evidence.state())
    for _ in range(30):
        counts = cells.count(normal(random, BLOCK) + 0.1)
        evidence.add(counts, BLOCK)
        other.add(counts, BLOCK)
        assert other.log_average == evidence.log_average
    with pytest.raises(ValueError, match="cells"):
        DriftEvidence([Feature(np.array([1, 2]))]).restore(evidence.state())


def test_evidence_is_what_its_definition_says() -> None:
    """The fast arithmetic against the plain one, of one start that has seen it all."""
    random = np.random.default_rng(4)
    sample = normal(random, 1000)
    cells = NumericCells.of(sample)
    feature = Feature(cells.count(sample), cells.order)
    evidence = DriftEvidence([feature])
    for shift in (0.0, 0.3):
        counts = cells.count(normal(random, BLOCK) + shift)
        evidence.add(counts, BLOCK)
    first = evidence._starts
    alpha: NDArray[np.float64] = feature.reference.astype(np.float64) + 0.5
    since = evidence.counts.astype(np.float64)
    assert first.evidence[0, 0] == pytest.approx(plain_evidence(alpha, since, cells.order), abs=1e-3)


def plain_evidence(alpha: NDArray[np.float64], counts: NDArray[np.float64], order: NDArray[np.float64]) -> float:
    def chance(prior: NDArray[np.float64]) -> float:
        whole = gammaln(prior.sum()) - gammaln(prior.sum() + counts.sum())
        return float((gammaln(prior + counts) - gammaln(prior)).sum() + whole)

    def mean(logs: list[float]) -> float:
        return float(np.logaddexp.reduce(logs) - math.log(len(logs)))

    shares, scores = alpha / alpha.sum(), drift_evidence._normal_scores(Feature((alpha - 0.5).astype(np.int64), order))
    scale = min(drift_evidence._BELIEF / alpha.sum(), drift_evidence._MOST_BELIEVED)
    tempered = mean([chance(np.full_like(alpha, 0.5)), chance(0.5 + scale * (alpha - 0.5))])
    tilts = [a * scores + b * (scores**2 - 1) for a, b in drift_evidence._TILTS]
    tilted = [float((counts * (np.log(shares) + t - math.log((shares * np.exp(t)).sum()))).sum()) for t in tilts]
    inflated = []
    for moved in drift_evidence._INFLATIONS:
        into = [(1 - moved) * shares + moved * (np.arange(len(shares)) == at) for at in range(len(shares))]
        inflated.append(mean([float((counts * np.log(one)).sum()) for one in into]))
    moved_by = float(np.logaddexp(mean(tilted), mean(inflated)))
    return float(np.logaddexp(tempered, moved_by)) - math.log(3) - chance(alpha)
