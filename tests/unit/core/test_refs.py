"""The four ways to name a model."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxiway.core.errors import InvalidArgument
from taxiway.core.refs import ModelRef

_NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._\-]{0,20}", fullmatch=True)


@pytest.mark.parametrize(
    ("text", "ref"),
    [
        ("fraud", ModelRef("fraud")),
        ("fraud:3", ModelRef("fraud", 3)),
        ("fraud:3-int8", ModelRef("fraud", 3, "int8")),
        ("fraud@stable", ModelRef("fraud", alias="stable")),
    ],
)
def test_forms(text: str, ref: ModelRef) -> None:
    assert ModelRef.parse(text) == ref
    assert str(ref) == text


@pytest.mark.parametrize("text", ["", ":3", "fraud:", "fraud:0", "fraud:x", "fraud@", "a b", "fraud:3@stable", "-x"])
def test_anything_else_is_refused_with_the_forms(text: str) -> None:
    with pytest.raises(InvalidArgument, match="name:3-int8 or name@alias"):
        ModelRef.parse(text)


@given(_NAMES, st.none() | st.integers(1, 10**17), st.none() | st.from_regex(r"[A-Za-z0-9._]{1,8}", fullmatch=True))
def test_what_is_printed_is_read_back(name: str, version: int | None, variant: str | None) -> None:
    ref = ModelRef(name, version, variant if version else None)
    assert ModelRef.parse(str(ref)) == ref
