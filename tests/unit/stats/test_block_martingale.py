"""Blocks against blocks: natural variation is no alarm, more than it is."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from taxiway.stats.block_martingale import BlockMartingale

ORDER = np.linspace(-2, 2, 9)


def day(random: np.random.Generator, moved: float = 0.0) -> NDArray[np.int64]:
    """A thousand rows whose mean differs from day to day by half a deviation."""
    values = random.normal(random.normal(scale=0.5) + moved, size=1000)
    return np.bincount(np.searchsorted(ORDER, values), minlength=10)


def run(seed: int, moved: float, days: int = 60) -> BlockMartingale:
    random = np.random.default_rng(seed)
    martingale = BlockMartingale([10], seed=seed)
    for _ in range(60):
        martingale.learn(day(random))
    for _ in range(days):
        martingale.judge(day(random, moved))
    return martingale


def test_days_that_differ_as_they_always_did_are_no_alarm() -> None:
    assert max(run(seed, 0.0).log_e for seed in range(20)) < math.log(1 / 0.01)


def test_a_move_beyond_what_days_do_is_found() -> None:
    assert min(run(seed, 2.0).log_e for seed in range(5)) > math.log(1 / 0.01)


def test_p_values_are_uniform_and_independent_while_nothing_changes() -> None:
    p_values = np.concatenate([run(seed, 0.0, 30).p_values for seed in range(20)])

    assert p_values.mean() == pytest.approx(0.5, abs=0.05)
    assert (p_values < 0.1).mean() == pytest.approx(0.1, abs=0.04)
    assert np.corrcoef(p_values[:-1], p_values[1:])[0, 1] == pytest.approx(0.0, abs=0.1)


def test_scores_do_not_depend_on_the_order_of_the_blocks() -> None:
    random = np.random.default_rng(0)
    days = [day(random) for _ in range(10)]
    forth, back = BlockMartingale([10]), BlockMartingale([10])
    for one in days:
        forth.learn(one)
    for one in days[::-1]:
        back.learn(one)

    assert np.allclose(forth.scores(), back.scores()[::-1])


def test_the_reference_cannot_grow_once_it_was_used() -> None:
    martingale = run(0, 0.0, 1)

    with pytest.raises(ValueError, match="over"):
        martingale.learn(np.zeros(10, dtype=np.int64))
