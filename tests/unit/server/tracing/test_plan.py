"""What is traced of which model, as settings and callers say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxiway.config.settings import TraceSettings
from taxiway.core.errors import InvalidArgument, Unsupported
from taxiway.server.tracing.plan import TracePlan, TracePlans

PLANS = TracePlans.of(TraceSettings(file="t.json"))
ON: Mapping[str, Sequence[str]] = {"trace_level": ["TIMESTAMPS"], "trace_rate": ["5"]}

WORDS = st.fixed_dictionaries(
    {},
    optional={
        "trace_level": st.sampled_from([None, ["OFF"], ["TIMESTAMPS"], ["TENSORS", "TIMESTAMPS"]]),
        "trace_rate": st.none() | st.integers(1, 1 << 32 - 1).map(lambda number: [str(number)]),
        "trace_count": st.none() | st.integers(-1, (1 << 31) - 1).map(lambda number: [str(number)]),
        "log_frequency": st.none() | st.integers(0, 1 << 20).map(lambda number: [str(number)]),
    },
)
SCOPES = st.sampled_from([None, "a", "b"])


def test_a_models_own_change_stands_over_the_servers_and_the_rest_is_followed() -> None:
    plans = PLANS.changed("a", {"trace_rate": ["7"]}).changed(None, {**ON, "trace_count": ["9"]})

    assert plans.plan("a") == TracePlan(frozenset({"TIMESTAMPS"}), rate=7, count=9)
    assert plans.plan("b") == plans.plan(None) == TracePlan(frozenset({"TIMESTAMPS"}), rate=5, count=9)


def test_what_is_taken_back_is_as_at_the_start() -> None:
    plans = PLANS.changed(None, ON).changed("a", {"trace_rate": ["7"]})

    back = plans.changed("a", {"trace_rate": None}).changed(None, dict.fromkeys(ON))

    assert back == PLANS


@given(st.lists(st.tuples(SCOPES, WORDS), max_size=8))
def test_taking_everything_back_restores_the_start(changes: list[tuple[str | None, dict[str, Any]]]) -> None:
    plans = PLANS
    for scope, words in changes:
        plans = plans.changed(scope, words)
    for scope in ("a", "b", None):
        plans = plans.changed(scope, dict.fromkeys(["trace_level", "trace_rate", "trace_count", "log_frequency"]))

    assert plans == PLANS


@given(SCOPES, WORDS)
def test_what_is_told_can_be_said_again(scope: str | None, words: dict[str, Any]) -> None:
    plans = PLANS.changed(scope, words)
    told = plans.to_words(scope)
    said = {key: [value] if isinstance(value, str) else value for key, value in told.items() if key != "trace_file"}

    assert PLANS.changed(None, said).plan(None) == plans.plan(scope)


@given(SCOPES, WORDS, WORDS, WORDS)
def test_all_changes_of_a_scope_can_be_made_at_once(
    scope: str | None, first: dict[str, Any], second: dict[str, Any], other: dict[str, Any]
) -> None:
    """As a process that starts later is told of them."""
    changed = PLANS.changed(scope, first).changed(scope, second)

    assert PLANS.changed(scope, other).replaced(scope, changed.changes(scope)) == changed


@pytest.mark.parametrize(
    "words",
    [
        {"trace_rate": ["5", "6"]},
        {"trace_rate": []},
        {"trace_rate": ["5abc"]},
        {"trace_rate": ["4.5"]},
        {"trace_rate": ["9" * 5000]},
        {"trace_level": ["timestamps"]},
        {"trace_level": ["OFF", "OFF"]},
        {"trace_count": [""]},
        {"trace_mode": ["x"]},
        {"rate": ["5"]},
    ],
)
def test_what_cannot_be_is_refused(words: dict[str, list[str]]) -> None:
    with pytest.raises(InvalidArgument) as refused:
        PLANS.changed(None, words)

    assert len(refused.value.message) < 200


def test_the_file_is_not_for_callers_to_choose() -> None:
    with pytest.raises(Unsupported):
        PLANS.changed(None, {"trace_file": ["/etc/passwd"]})


def test_nothing_is_traced_to_no_file() -> None:
    plans = TracePlans.of(TraceSettings())

    with pytest.raises(InvalidArgument, match="file name is not given"):
        plans.changed("a", ON)
    assert plans.changed(None, {"trace_mode": ["opentelemetry"]}).changed("a", ON).plan("a").is_on
