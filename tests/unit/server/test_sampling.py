"""Which requests are chosen: each with the same chance, at a share that follows the traffic."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.random import default_rng

from taxiway.server.sampling import Lottery, share_after


def chosen_of(lottery: Lottery, share: float, requests: int) -> list[int]:
    """The numbers of those that it chooses."""
    chosen = []
    for number in range(requests):
        lottery.left -= 1
        if lottery.left < 0:
            chosen.append(number)
            lottery.choose(share)
    return chosen


def test_each_has_the_same_chance() -> None:
    lottery = Lottery(default_rng(7).random)
    lottery.open(0.1)
    chosen = chosen_of(lottery, 0.1, 40_000)
    assert lottery.seen == 40_000
    assert 3_700 < len(chosen) < 4_300
    by_place = Counter(number % 10 for number in chosen)
    assert min(by_place.values()) > 320, "no place among ten comes less often than chance allows"


def test_a_whole_share_chooses_all_and_a_closed_one_none() -> None:
    lottery = Lottery()
    assert chosen_of(lottery, 1.0, 5) == []
    lottery.open(1.0)
    assert chosen_of(lottery, 1.0, 5) == [0, 1, 2, 3, 4]
    lottery.close()
    assert chosen_of(lottery, 1.0, 5) == []
    assert lottery.seen == 5


@pytest.mark.parametrize(
    ("rows", "share", "roominess", "expected"),
    [
        (1000, 1.0, 9.0, 0.2),  # 200 are wanted of 1000
        (100, 0.1, 9.0, 0.2),  # twice as many are wanted
        (100, 1.0, 0.5, 0.5),  # they fill all the space: half of it is enough
        (10, 0.5, 9.0, 1.0),
        (0, 0.25, 9.0, 0.5),  # where nothing came more is chosen
    ],
)
def test_the_share_follows_rows_and_space(rows: int, share: float, roominess: float, expected: float) -> None:
    assert share_after(rows, share, 200.0, roominess) == pytest.approx(expected)


@given(
    rows=st.integers(0, 10**6),
    share=st.floats(1e-6, 1.0),
    wanted=st.floats(0, 1e12),
    roominess=st.floats(0.4, 1e9),
)
def test_a_share_is_always_one(rows: int, share: float, wanted: float, roominess: float) -> None:
    assert 0 < share_after(rows, share, wanted, roominess) <= 1
