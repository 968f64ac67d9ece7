"""Arrival processes: rate, variation, order, and that a replay changes nothing but speed."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from taxiway.core.errors import InvalidArgument
from taxiway.profile.arrivals import Arrivals, Bursts, Constant, Gamma, Poisson, Replay, parse_arrival

PROCESSES = st.one_of(
    st.just(Constant()),
    st.just(Poisson()),
    st.builds(Gamma, st.floats(0.1, 5)),
    st.builds(Bursts, st.floats(0.05, 2), st.floats(0.05, 2), st.floats(0.5, 20)),
)


def cv_of(times: NDArray[np.float64]) -> float:
    gaps = np.diff(times)
    return float(gaps.std() / gaps.mean())


@given(PROCESSES, st.floats(0.1, 2000), st.floats(0.01, 20), st.integers(0, 2**32))
def test_times_are_sorted_and_within_the_run(arrivals: Arrivals, rate: float, duration_s: float, seed: int) -> None:
    times = arrivals.offsets(np.random.default_rng(seed), rate, duration_s)
    assert times.dtype == np.float64
    assert (np.diff(times) >= 0).all()
    assert not len(times) or (times[0] >= 0 and times[-1] < duration_s)


@pytest.mark.parametrize(
    "arrivals", [Constant(), Poisson(), Gamma(0.3), Gamma(4.0), Gamma(13.0), Bursts(1.0, 4.0, 10.0)]
)
def test_a_short_run_offers_the_rate_that_was_asked_for(arrivals: Arrivals) -> None:
    rng = np.random.default_rng(5)
    counts = [len(arrivals.offsets(rng, 50.0, 2.0)) for _ in range(6000)]
    error = float(np.std(counts)) / math.sqrt(len(counts))
    assert abs(float(np.mean(counts)) - 100) <= max(4 * error, 1e-9)


@given(st.floats(0.2, 3), st.integers(0, 2**32))
def test_gamma_has_its_coefficient_of_variation(cv: float, seed: int) -> None:
    times = Gamma(cv).offsets(np.random.default_rng(seed), 1000.0, 60.0)
    assert cv_of(times) == pytest.approx(cv, rel=0.12)


@given(st.integers(0, 2**32))
def test_poisson_and_constant_have_theirs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    assert cv_of(Poisson().offsets(rng, 1000.0, 60.0)) == pytest.approx(1, rel=0.03)
    assert cv_of(Constant().offsets(rng, 1000.0, 60.0)) == pytest.approx(0, abs=1e-9)


def test_bursts_are_as_much_busier_as_they_say() -> None:
    bursts = Bursts(on_s=1.0, off_s=4.0, factor=10.0)
    on, off = bursts.rates(100.0)
    assert on == pytest.approx(10 * off)
    assert (on * 1 + off * 4) / 5 == pytest.approx(100)
    rng = np.random.default_rng(1)
    counts = np.concatenate([np.bincount((bursts.offsets(rng, 100.0, 200.0) * 10).astype(int)) for _ in range(20)])
    # In tenths of a second: an index of dispersion far above that of Poisson, which is 1.
    assert counts.var() / counts.mean() > 5


@given(
    st.lists(st.floats(1e-3, 5), min_size=3, max_size=60),
    st.floats(0.01, 100),
    st.booleans(),
    st.floats(0, 1e6),
)
def test_a_replay_keeps_the_variation_exactly(gaps: list[float], scale: float, fits: bool, start: float) -> None:
    times = start + np.concatenate([[0.0], np.cumsum(gaps)])
    replay = Replay(times, None if fits else scale)
    sent = replay.offsets(np.random.default_rng(0), 37.0, math.inf)
    assert len(sent) == len(times)
    assert cv_of(sent) == pytest.approx(cv_of(times), rel=1e-4, abs=1e-9)
    factor = 1 / (37.0 * np.diff(times).mean()) if fits else scale
    assert np.diff(sent) == pytest.approx(np.diff(times) * factor, rel=1e-6, abs=1e-6)


def test_a_replay_ends_or_begins_again() -> None:
    rng = np.random.default_rng(0)
    times = np.array([5.0, 6.0, 9.0])
    assert Replay(times).offsets(rng, 1.0, 100.0).tolist() == [0, 1, 4]
    assert Replay(times, repeats=True).offsets(rng, 1.0, 12.5).tolist() == [0, 1, 4, 6, 7, 10, 12]
    assert Replay(times, 0.5).offsets(rng, 1.0, 1.0).tolist() == [0, 0.5]
    assert Replay(np.array([3.0]), None, repeats=True).offsets(rng, 1.0, 10.0).tolist() == [0]


def test_a_replay_begins_where_it_is_told() -> None:
    rng = np.random.default_rng(0)
    times = np.array([5.0, 6.0, 9.0])
    assert Replay(times, begin=1).offsets(rng, 1.0, 100.0).tolist() == [0, 3]
    assert Replay(times, repeats=True, begin=1).offsets(rng, 1.0, 12.5).tolist() == [0, 3, 5, 6, 9, 11, 12]
    for begin in (-1, 3):
        with pytest.raises(InvalidArgument, match="begin is"):
            Replay(times, begin=begin)


@given(st.lists(st.floats(1e-3, 5), min_size=1, max_size=20), st.data())
def test_a_replay_goes_on_as_if_it_had_not_stopped(gaps: list[float], data: st.DataObject) -> None:
    replay = Replay(np.concatenate([[0.0], np.cumsum(gaps)]), None, repeats=True)
    begin = data.draw(st.integers(0, len(gaps)))
    rng, count = np.random.default_rng(0), 3 * len(replay.times_s)
    whole = replay.offsets(rng, 10.0, count / 10.0)
    rest = replace(replay, begin=begin).offsets(rng, 10.0, count / 10.0)
    assert rest[: len(whole) - begin] == pytest.approx(whole[begin:] - whole[begin], abs=1e-6)


@pytest.mark.parametrize(
    ("text", "arrivals"),
    [
        ("constant", Constant()),
        ("poisson", Poisson()),
        ("gamma:cv=2", Gamma(2.0)),
        ("bursts:on=1s,off=4s,factor=10", Bursts(1.0, 4.0, 10.0)),
        ("bursts:on=250ms, off=4, factor=1e1", Bursts(0.25, 4.0, 10.0)),
    ],
)
def test_arrivals_are_written_in_words(text: str, arrivals: Arrivals) -> None:
    assert parse_arrival(text) == arrivals


def test_a_replay_is_written_in_words() -> None:
    times = np.array([0.0, 1.0])
    for text, scale, repeats in [
        ("replay", 1, False),
        ("replay:scale=0.5,repeat", 0.5, True),
        ("replay:fit", None, False),
    ]:
        found = parse_arrival(text, times)
        assert isinstance(found, Replay)
        assert (found.scale, found.repeats, found.times_s is times) == (scale, repeats, True)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "none of the known kinds"),
        ("weekly", "'weekly'"),
        ("gamma", "lacks 'cv'"),
        ("gamma:cv=much", "cv='much'"),
        ("gamma:cv=0", "cv is 0"),
        ("gamma:cv=nan", "cv is nan"),
        ("gamma:cv=2,shape=1", "unknown 'shape'"),
        ("poisson:cv=1", "unknown 'cv'"),
        ("bursts:on=1s,off=-4s,factor=10", "off is -4"),
        ("replay", "needs the times"),
    ],
)
def test_what_is_no_arrival_is_refused_with_its_word(text: str, problem: str) -> None:
    with pytest.raises(InvalidArgument, match=problem) as refused:
        parse_arrival(text)
    assert refused.value.hint


@pytest.mark.parametrize("times", [[], [2.0, 1.0], [0.0, math.inf]])
def test_a_replay_of_nothing_or_of_disorder_is_refused(times: list[float]) -> None:
    with pytest.raises(InvalidArgument, match="replay of"):
        Replay(np.array(times))
