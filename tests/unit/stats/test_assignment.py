"""Sticky assignment: published values, and that nobody moves who need not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxiway.stats.assignment import arm_of, unit_interval, upper_ends


@pytest.mark.parametrize(
    ("unit", "expected"),
    [("alice", 0.477522008), ("bob", 0.913284307), ("u-1", 0.240139146), ("u-2", 0.036898381)],
)
def test_values_of_an_independent_implementation(unit: str, expected: float) -> None:
    assert unit_interval("rollout-42", unit) == pytest.approx(expected, abs=1e-9)


@given(st.text(max_size=40), st.floats(0, 1), st.floats(0, 1))
def test_raising_a_weight_only_adds_units(unit: str, one: float, other: float) -> None:
    low, high = min(one, other), max(one, other)
    u = unit_interval("salt", unit)
    if arm_of(u, upper_ends([low, 1 - low])) == 0:
        assert arm_of(u, upper_ends([high, 1 - high])) == 0


def test_shares_are_what_they_should_be() -> None:
    ends = upper_ends([0.05, 0.05, 0.9])
    arms = [arm_of(unit_interval("salt", f"user-{number}"), ends) for number in range(20_000)]
    assert [arms.count(arm) / len(arms) for arm in range(3)] == pytest.approx([0.05, 0.05, 0.9], abs=0.006)


def test_salts_are_independent() -> None:
    both = sum(
        unit_interval("one", f"{number}") < 0.5 and unit_interval("other", f"{number}") < 0.5 for number in range(4000)
    )
    assert both / 4000 == pytest.approx(0.25, abs=0.03)


@pytest.mark.parametrize("weights", [[], [0.5, 0.6], [-0.1, 1.1], [0.2, 0.2]])
def test_weights_that_do_not_add_up_are_refused(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="add up"):
        upper_ends(weights)
