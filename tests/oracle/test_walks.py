"""Real Triton and taxiway load, unload and reload models alike, except where `deviations.toml` says so."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, seed, settings
from tests.oracle.compare import Answer
from tests.oracle.deviations import Deviation
from tests.oracle.lifecycle import Change, Line, Walk
from tests.oracle.survey import Survey
from tests.oracle.walking import Walker, tidy
from tests.oracle.walks import Forecast, chosen_by, walks


def _some_walks(count: int, number: int) -> list[Walk]:
    found: dict[Walk, None] = {}

    @seed(number)
    @settings(settings.get_profile("oracle"), max_examples=count + 1)
    @given(walks())
    def each(walk: Walk) -> None:
        found[walk] = None

    each()
    return list(found)[-count:]  # Hypothesis begins with the simplest


@pytest.mark.timeout(1800)
def test_generated_walks_end_alike(
    walker: Walker, deviations: tuple[Deviation, ...], report: list[str], pytestconfig: pytest.Config
) -> None:
    number = pytestconfig.getoption("--oracle-seed")
    chosen = _some_walks(pytestconfig.getoption("--oracle-walks"), number)
    with ThreadPoolExecutor(walker.at_once) as pool:
        taken = dict(zip(chosen, pool.map(walker.take, chosen), strict=True))
    survey = Survey("walks", taken.__getitem__, deviations)

    for walk in chosen:
        survey.consider(walk)

    report.append(survey.summary())
    survey.verdict()


# --- what walks are made of


@pytest.mark.parametrize(
    ("policy", "chosen"),
    [("", [3]), ("latest 2", [2, 3]), ("all", [1, 2, 3]), ("specific 1 3", [1, 3]), ("specific 9", [])],
)
def test_policies_choose(policy: str, chosen: list[int]) -> None:
    assert chosen_by(policy, (3, 1, 2)) == chosen


def test_a_load_by_halves_is_foreseen() -> None:
    forecast = Forecast()
    assert not forecast.by_halves("beta", None)
    forecast.note(Change("write_version", ("beta", 2, None)))
    assert forecast.by_halves("beta", None)
    forecast.note(Change("write_config", ("beta", "specific 1 3")))
    assert not forecast.by_halves("beta", None)
    assert forecast.by_halves("beta", ("all", {}))
    assert not forecast.by_halves("beta", ("all", {1: Line(1, 1)}))
    assert forecast.by_halves("beta", ("all", {1: Line(1, 1), 2: None}))
    forecast.note(Change("remove_version", ("beta", 2)))
    assert not forecast.by_halves("beta", ("all", {}))


def test_an_index_is_compared_as_a_set_without_its_words() -> None:
    index = [
        {"name": "b", "version": "1", "state": "UNAVAILABLE", "reason": "Internal: no"},
        {"name": "a", "version": "2", "state": "UNAVAILABLE", "reason": "unloaded"},
        {"name": "c"},
    ]
    told = json.loads(tidy(Answer(200, body=json.dumps(index).encode())).body)

    assert [entry["name"] for entry in told] == ["a", "b", "c"]
    assert [entry.get("reason") for entry in told] == ["unloaded", "some other reason", None]
    assert tidy(Answer(200, body=b"[1")).body == b"[1"
