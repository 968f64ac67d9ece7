"""Hypothesis plays everybody who moves an alias; nobody's move is ever undone by taxiway unseen."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxiway.core.errors import InvalidArgument
from taxiway.intake.mlflow.deciding import (
    TAG_ALIAS,
    TAG_PREFIX,
    Agree,
    Conflict,
    Point,
    Rest,
    Same,
    TakeIn,
    decide_follow,
    decide_mirror,
    decide_tags,
    delay_after,
)
from taxiway.intake.mlflow.uris import MlflowUri
from taxiway.registry.following import Followed

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
BEGUN = Followed("models:/fraud@champion", "fraud", "candidate", "", "begun", None, None, "", "", NOW, 1)

VERSIONS = st.integers(1, 3).map(str)
MOVES = st.one_of(
    st.tuples(st.just("theirs"), st.none() | VERSIONS),
    st.tuples(st.just("ours"), st.none() | st.integers(1, 4)),
    st.tuples(st.just("look"), st.just(None)),
)


@given(st.lists(MOVES, max_size=30))
def test_a_followed_alias_is_only_moved_from_where_it_was_left(moves: list[tuple[str, object]]) -> None:
    """Version n in MLflow is version n here; 4 is ours alone."""
    there: str | None = None
    ours: int | None = None
    touched = False
    kept = BEGUN
    for who, to in moves:
        if who == "theirs":
            there = to  # type: ignore[assignment]
        elif who == "ours":
            ours, touched = to, ours != to or touched  # type: ignore[assignment]
        else:
            match decide_follow(there, kept, ours, ""):
                case TakeIn(version):
                    number = int(version)
                    if ours in (kept.placed, number):
                        assert not touched or ours in (kept.placed, number)
                        kept = replace(kept, seen=version, outcome="placed", number=number, placed=number)
                        ours, touched = number, False
                    else:
                        assert touched
                        kept = replace(kept, seen=version, outcome="conflict", number=number, problem="moved")
                case Agree(number):
                    assert (ours, kept.outcome) == (number, "conflict")
                    kept = replace(kept, outcome="placed", placed=number, problem="")
                    touched = False
                case Rest():
                    assert there is None or there == kept.seen


@given(st.sampled_from(["placed", "refused", "conflict"]), st.none() | st.integers(1, 3), st.booleans())
def test_what_was_dealt_with_is_not_dealt_with_again(outcome: str, ours: int | None, same_terms: bool) -> None:
    kept = replace(BEGUN, seen="2", outcome=outcome, number=2, placed=1, terms="strict")  # type: ignore[arg-type]
    found = decide_follow("2", kept, ours, "strict" if same_terms else "lax")
    if outcome == "refused" and not same_terms:
        assert found == TakeIn("2")
    elif outcome == "conflict" and ours == 2:
        assert found == Agree(2)
    else:
        assert found == Rest("")


def test_an_alias_that_is_gone_moves_nothing() -> None:
    assert decide_follow(None, replace(BEGUN, seen="2", outcome="placed"), 2, "") == Rest("the alias is not there")


@given(st.none() | VERSIONS, st.none() | VERSIONS, st.frozensets(st.none() | VERSIONS))
def test_a_mirrored_alias_is_only_moved_from_where_it_was_left(
    wanted: str | None, found: str | None, left: frozenset[str | None]
) -> None:
    match decide_mirror(wanted, found, left):
        case Same():
            assert found == wanted
        case Point(version):
            assert version == wanted
            assert found in left
        case Conflict(problem):
            assert found not in left
            assert "somebody else moved it" in problem


WORDS = st.text("abc", min_size=1, max_size=2)
TAGS = st.dictionaries(WORDS, WORDS, max_size=3)
LETTERS = st.fixed_dictionaries(
    {
        "name": st.just("fraud"),
        "number": st.integers(1, 9),
        "digest": WORDS,
        "aliases": st.lists(WORDS, unique=True, max_size=3),
        "tags": TAGS,
    }
)


@given(LETTERS, LETTERS, TAGS)
def test_tags_end_up_as_the_last_letter_says(first: dict, second: dict, others: dict[str, str]) -> None:  # type: ignore[type-arg]
    """Whatever was there; a second time nothing is left to do, and nobody else's tags are touched."""
    found = dict(others)
    for letter in (first, second):
        for key, value in decide_tags(letter, found).items():
            if value is None:
                del found[key]
            else:
                found[key] = value
        assert decide_tags(letter, found) == {}
    assert {key: value for key, value in found.items() if not key.startswith("taxiway.")} == others
    assert {key.removeprefix(TAG_PREFIX): found[key] for key in found if key.startswith(TAG_PREFIX)} == second["tags"]
    assert found.get(TAG_ALIAS, "") == ",".join(sorted(second["aliases"]))


@given(st.integers(0, 10_000), st.floats(0.1, 3600))
def test_delays_grow_and_are_bounded(failures: int, usual_s: float) -> None:
    assert usual_s <= delay_after(failures, usual_s) <= delay_after(failures + 1, usual_s) <= max(300, usual_s)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("models:/fraud@champion", {"name": "fraud", "alias": "champion"}),
        ("models:/a model of ours/12", {"name": "a model of ours", "version": "12"}),
        ("models:/m-0a1b", {"model_id": "m-0a1b"}),
        ("runs:/0a1b/model/deep", {"run_id": "0a1b", "path": "model/deep"}),
    ],
)
def test_the_four_forms(text: str, said: dict[str, str]) -> None:
    assert MlflowUri.parse(text) == MlflowUri(text, **said)


@given(st.text(max_size=30) | st.text("models:/runs@12.", max_size=20))
def test_other_texts_are_refused_in_words(text: str) -> None:
    try:
        uri = MlflowUri.parse(text)
    except InvalidArgument:
        return
    assert [bool(uri.name), bool(uri.model_id), bool(uri.run_id)].count(True) == 1
    assert bool(uri.name) == (bool(uri.alias) != bool(uri.version))
    assert ".." not in uri.path.split("/")


def test_a_refusal_names_the_forms() -> None:
    with pytest.raises(InvalidArgument) as refused:
        MlflowUri.parse("models:/fraud/latest")
    assert "models:/NAME@ALIAS" in refused.value.hint
