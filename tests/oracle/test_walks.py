"""Real Triton and taxiway load, unload and reload models alike, except where `deviations.toml` says so."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, seed, settings
from tests.oracle.deviations import Deviation
from tests.oracle.lifecycle import Walk, walks
from tests.oracle.survey import Survey
from tests.oracle.walking import Walker


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
