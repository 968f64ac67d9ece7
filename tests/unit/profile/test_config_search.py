"""The search for a configuration, over simulated surfaces: how good what it finds is, and how many runs that takes."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taxiway.core.errors import InvalidArgument
from taxiway.profile.config_search import (
    Config,
    ConfigPlan,
    Grid,
    Measured,
    run_config_search,
    run_config_search_async,
)

GRID = Grid(
    {
        "batch": (1, 2, 4, 8, 16, 32, 64),
        "delay_ms": (0, 0.2, 0.5, 1, 2, 5),
        "instances": (1, 2, 4),
        "threads": (1, 2, 4),
    }
)
SMALL = Grid({"batch": (1, 4, 8, 16, 32), "delay_ms": (0, 0.5, 1, 2), "instances": (1, 2), "threads": (1, 2)})
CORES = 4
LIMIT_MS = 20.0
Surface = Callable[[Config], Measured]


def batching_pays(config: Config) -> Measured:
    """A model of matrices: a batch costs a part once, cores are shared, waiting costs the answer's time."""
    batch, instances, threads = config["batch"], config["instances"], config["threads"]
    run_ms = (4 + 0.6 * batch) / threads**0.7
    crowded = max(instances * threads / CORES, 1) ** 1.2
    return Measured(
        1000 * batch * instances / (run_ms * crowded), (run_ms * crowded * 2 + config["delay_ms"]) / LIMIT_MS
    )


def batching_does_not(config: Config) -> Measured:
    """A model that is bound by the memory of its cores: larger batches are slower by the row."""
    run_ms = 3 * config["batch"] ** 1.15
    crowded = max(config["instances"] * config["threads"] / CORES, 1) ** 1.5
    rate = 1000 * config["batch"] * config["instances"] / (run_ms * crowded) / (1 + 0.1 * config["delay_ms"])
    return Measured(rate, (run_ms * crowded * 2) / LIMIT_MS)


def a_ridge(config: Config) -> Measured:
    """What is right for one axis depends on another: the product of instances and threads, and batch with delay."""
    fit = math.log2(config["instances"] * config["threads"] / CORES)
    fill = math.log2(config["batch"] / (2 + 8 * config["delay_ms"]))
    return Measured(800 * math.exp(-0.3 * fit**2 - 0.04 * fill**2), 0.5)


def a_cliff(config: Config) -> Measured:
    """Fast beyond what the SLO allows."""
    rate = 100 * config["batch"] ** 0.6 * config["instances"] ** 0.5
    slow = config["batch"] * config["instances"] / (24 * config["threads"] ** 0.3)
    return Measured(rate, slow)


def flat(config: Config) -> Measured:
    """Nothing matters much."""
    return Measured(500 * (1 + 0.01 * math.log2(config["batch"])), 0.5)


SURFACES = [batching_pays, batching_does_not, a_ridge, a_cliff, flat]


def best_of(surface: Surface, grid: Grid) -> float:
    return max(found.score for found in map(surface, grid.configs()) if found.slowness <= 1)


def noisy(surface: Surface, rng: np.random.Generator, noise: float = 0.03) -> Surface:
    def measure(config: Config) -> Measured:
        true = surface(config)
        wobble = np.exp(noise * rng.standard_normal(2))
        return Measured(true.score * float(wobble[0]), true.slowness * float(wobble[1]))

    return measure


@pytest.mark.parametrize("grid", [GRID, SMALL], ids=["378", "80"])
@pytest.mark.parametrize("surface", SURFACES, ids=lambda surface: surface.__name__)
def test_it_finds_95_percent_of_the_best_with_a_fifth_of_the_runs(surface: Surface, grid: Grid) -> None:
    best = best_of(surface, grid)
    reached = []
    for seed in range(4):
        measure = noisy(surface, np.random.default_rng(seed))
        found = run_config_search(ConfigPlan(grid, seed=seed), measure)
        assert found.config is not None
        assert len(found.runs) <= len(grid) / 5
        true = surface(found.config)
        assert true.slowness <= 1.1
        reached.append(true.score / best)
    assert min(reached) >= 0.95


@pytest.mark.parametrize("noise", [0.1, 0.4])
def test_on_a_noisy_machine_the_best_so_far_does_not_take_all_runs(noise: float) -> None:
    grid = Grid({"batch": range(6), "delay": range(5), "instances": range(2), "threads": range(2)})
    surface = noisy(lambda config: Measured(1 + sum(config.values())), np.random.default_rng(5), noise)
    runs = run_config_search(ConfigPlan(grid), surface).runs
    assert max(Counter(tuple(config.items()) for config, _ in runs).values()) <= 2


def test_it_ends_early_where_nothing_matters() -> None:
    found = run_config_search(ConfigPlan(GRID), noisy(flat, np.random.default_rng(0), 0.001))
    assert len(found.runs) < 40


@settings(max_examples=25, deadline=None)
@given(st.dictionaries(st.sampled_from("abcd"), st.integers(1, 4), min_size=1), st.integers(0, 9), st.floats(0, 0.5))
def test_whatever_the_grid_it_stays_within_it_and_the_budget(sizes: dict[str, int], seed: int, noise: float) -> None:
    grid = Grid({name: list(range(size)) for name, size in sizes.items()})
    plan = ConfigPlan(grid, seed=seed)
    surface = noisy(lambda config: Measured(1 + sum(config.values())), np.random.default_rng(seed), noise)
    found = run_config_search(plan, surface)
    assert 1 <= len(found.runs) <= plan.budget()
    assert all(config in grid.configs() for config, _ in found.runs)
    assert found.config in [config for config, _ in found.runs]


def test_nothing_that_breaks_the_slo_is_the_answer() -> None:
    found = run_config_search(ConfigPlan(SMALL), lambda _: Measured(100, 1.5))
    assert found.config is None
    assert len(found.runs) >= 4


def test_it_begins_where_it_is_told_and_is_the_same_each_time() -> None:
    first = {"batch": 8, "delay_ms": 1, "instances": 2, "threads": 1}
    plan = ConfigPlan(SMALL, first)
    one = run_config_search(plan, a_ridge)
    assert one.runs[0][0] == first

    async def measure(config: Config) -> Measured:
        return a_ridge(config)

    assert asyncio.run(run_config_search_async(plan, measure)) == one
    with pytest.raises(InvalidArgument, match="is not in the grid"):
        run_config_search(ConfigPlan(SMALL, {"batch": 3}), a_ridge)


@pytest.mark.parametrize("axes", [{}, {"batch": ()}, {"a": range(200), "b": range(200)}])
def test_grids_that_cannot_be_are_refused(axes: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match="the grid has"):
        Grid(axes)
