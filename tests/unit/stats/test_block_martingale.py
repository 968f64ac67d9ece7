"""Blocks against blocks: natural variation is no alarm, more than it is."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from taxiway.stats.block_martingale import BlockMartingale
from taxiway.stats.drift_evidence import Feature

ORDER = np.linspace(-2, 2, 9)
FEATURE = Feature(np.full(10, 100), np.arange(10.0))
WORDS = Feature(np.array([500, 300, 200]))


def day(random: np.random.Generator, moved: float = 0.0) -> NDArray[np.int64]:
    """A thousand rows whose mean differs from day to day by half a deviation."""
    values = random.normal(random.normal(scale=0.5) + moved, size=1000)
    return np.bincount(np.searchsorted(ORDER, values), minlength=10)


def run(seed: int, moved: float, days: int = 60) -> BlockMartingale:
    random = np.random.default_rng(seed)
    martingale = BlockMartingale([FEATURE], seed=seed)
    for _ in range(60):
        martingale.learn(day(random))
    for _ in range(days):
        martingale.judge(day(random, moved))
    return martingale


def test_days_that_differ_as_they_always_did_are_no_alarm() -> None:
    assert max(run(seed, 0.0).log_e for seed in range(20)) < math.log(1 / 0.01)


def test_a_move_beyond_what_days_do_is_found() -> None:
    assert min(run(seed, 2.0).log_e for seed in range(5)) > math.log(1 / 0.01)


def test_capital_is_fair_while_nothing_changes() -> None:
    """The average over many runs of what one currency unit has become is no more than one."""
    worth = np.exp([run(seed, 0.0, 30).log_e for seed in range(200)])

    assert worth.mean() < 1.0 + 3 * worth.std() / math.sqrt(len(worth))
    assert worth.min() > 0.0


def test_the_order_of_what_was_learned_does_not_matter() -> None:
    random = np.random.default_rng(0)
    days = [day(random) for _ in range(10)]
    forth, back = BlockMartingale([FEATURE]), BlockMartingale([FEATURE])
    for one in days:
        forth.learn(one)
    for one in days[::-1]:
        back.learn(one)

    assert [forth.judge(days[0]), forth.log_e] == [back.judge(days[0]), back.log_e]


def test_which_feature_is_told() -> None:
    random = np.random.default_rng(0)
    martingale = BlockMartingale([FEATURE, WORDS])
    for _ in range(60):
        martingale.learn(np.concatenate([day(random), random.multinomial(500, [0.5, 0.3, 0.2])]))
    for _ in range(30):
        martingale.judge(np.concatenate([day(random), random.multinomial(500, [0.2, 0.3, 0.5])]))

    assert martingale.log_e > math.log(1 / 0.01)
    assert int(np.argmax(martingale.log_e_by_feature)) == 1


def test_a_long_life_keeps_its_capital_and_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taxiway.stats.block_martingale.MOST_BLOCKS", 90)
    worth = []
    for seed in range(60):
        martingale = run(seed, 0.0, 200)
        assert len(martingale.p_values) <= 90
        assert len(martingale.state()["shares"][2]) <= 90 * martingale.state()["shares"][1][1] * 4
        worth.append(math.exp(martingale.log_e))
    assert np.mean(worth) < 1.0 + 3 * np.std(worth) / math.sqrt(len(worth))
    assert max(worth) < 100
    assert run(1, 2.0, 200).log_e > math.log(1 / 0.01)


def test_one_that_is_restored_goes_on_equally() -> None:
    martingale, other = run(1, 0.0, 5), BlockMartingale([FEATURE])
    other.restore(martingale.state())
    random = np.random.default_rng(2)
    for _ in range(5):
        counts = day(random, 0.5)
        assert (martingale.judge(counts), martingale.log_e) == (other.judge(counts), other.log_e)
    with pytest.raises(ValueError, match="sides"):
        BlockMartingale([WORDS]).restore(martingale.state())


def test_the_reference_cannot_grow_once_it_was_used() -> None:
    martingale = run(0, 0.0, 1)

    with pytest.raises(ValueError, match="over"):
        martingale.learn(np.zeros(10, dtype=np.int64))
