"""Names of a configuration and a model's own."""

from __future__ import annotations

import pytest

from taxiway.core.errors import InvalidModel
from taxiway.runtimes.hosted.naming import match_names


@pytest.mark.parametrize(
    ("names", "known", "places"),
    [
        (["b", "a"], ["a", "b", "c"], [1, 0]),
        (["INPUT__1", "INPUT__0"], ["a", "b"], [1, 0]),
        (["left__1", "right__0"], ["a", "b"], [1, 0]),
        (["first", "second"], ["a", "b", "c"], [0, 1]),
        (["a", "other"], ["b", "a"], [0, 1]),
        (["x__0", "y__0"], ["a", "b"], [0, 1]),
        ([], ["a"], []),
    ],
)
def test_a_name_is_the_models_own_or_a_number_or_a_place(names: list[str], known: list[str], places: list[int]) -> None:
    assert match_names("input", names, known) == places


@pytest.mark.parametrize("names", [["INPUT__2"], ["a", "b", "c"]])
def test_what_the_model_has_not_is_refused(names: list[str]) -> None:
    with pytest.raises(InvalidModel, match=r"the model has 2: \['x', 'y'\]"):
        match_names("input", names, ["x", "y"])
