"""The best configuration of a grid, found by measuring few of them. Pure: it asks, and is told.

Bayesian optimization, as CherryPick does it for configurations of clusters (Alipourfard et al., NSDI 2017): a Gaussian
process says what each configuration may be worth, and the one with the greatest expected improvement is measured next
(Jones, Schonlau and Welch, Efficient global optimization of expensive black-box functions, 1998). Nothing is assumed of
the surface but that neighbours resemble each other, and measurements may be noisy. The latency is believed in likewise:
an improvement counts by the chance that it keeps the SLO (Gardner et al., Bayesian optimization with inequality
constraints, ICML 2014), which shows where the cliff is and what lies along it.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from taxiway.core.errors import InvalidArgument
from taxiway.profile.gaussian_process import Belief, believe

_MAX_GRID: Final = 20_000
_TINY: Final = 1e-9
_QUIET: Final = 6
"""So many measurements in a row that nothing was expected of end the search."""
_LEAST: Final = 4
_MOST_TIMES: Final = 2
"""So often one configuration is measured: on a noisy machine the best so far would take all runs that are left."""

Config = Mapping[str, Any]
"""A value for each axis, by name."""


@dataclass(frozen=True, slots=True)
class Grid:
    """What may be chosen: the values of each axis, in their order (neighbours resemble each other).

    Raises:
        InvalidArgument: an axis is empty, or there are more than 20,000 configurations.
    """

    axes: Mapping[str, Sequence[Any]]

    def __post_init__(self) -> None:
        if not self.axes or not all(self.axes.values()) or len(self) > _MAX_GRID:
            told = ", ".join(f"{name}: {len(values)} values" for name, values in self.axes.items()) or "no axis"
            raise InvalidArgument(f"the grid has {told}; at most {_MAX_GRID} configurations", hint="narrow an axis")

    def __len__(self) -> int:
        return math.prod(len(values) for values in self.axes.values())

    def configs(self) -> list[Config]:
        """All of them."""
        return [dict(zip(self.axes, values, strict=True)) for values in product(*self.axes.values())]

    def places(self) -> NDArray[np.float64]:
        """Where each lies, shape (configurations, axes), each axis from 0 to 1."""
        lines = [np.arange(len(values)) / max(len(values) - 1, 1) for values in self.axes.values()]
        return np.array(list(product(*lines)))


@dataclass(frozen=True, slots=True)
class Measured:
    """What one run of a configuration gave.

    Attributes:
        score: what is to be great, such as requests per second; above 0.
        slowness: the latency by its limit: above 1 the SLO is broken.
    """

    score: float
    slowness: float = 0.0


@dataclass(frozen=True, slots=True)
class ConfigPlan:
    """How to search.

    Attributes:
        grid: what may be chosen.
        first: where to begin, such as what is configured now; None: the middle.
        share: of the grid that is measured at most.
        enough: an expected improvement below this is none.
        seed: of the choice among equals.
    """

    grid: Grid
    first: Config | None = None
    share: float = 0.2
    enough: float = 0.005
    seed: int = 0

    def budget(self) -> int:
        """How many runs there may be."""
        return min(max(int(len(self.grid) * self.share), _LEAST), len(self.grid))


@dataclass(frozen=True, slots=True)
class Best:
    """How the search ended.

    Attributes:
        config: the best that keeps the SLO; None: none that was measured does.
        score: that is expected of it: what was measured, with what is known of its neighbours.
        runs: every configuration that was measured, in order, and what it gave.
    """

    config: Config | None
    score: float
    runs: tuple[tuple[Config, Measured], ...]


Steps = Generator[Config, Measured, Best]


def search_config(plan: ConfigPlan) -> Steps:
    """The search as a dialogue: it yields what to measure, is sent what came of it, and returns the best."""
    search = _Search(plan)
    quiet = 0
    while len(search.runs) < plan.budget() and quiet < _QUIET:
        chosen, expected = search.choose()
        quiet = quiet + 1 if expected < plan.enough else 0
        search.take(chosen, (yield search.configs[chosen]))
    return search.best()


def run_config_search(plan: ConfigPlan, measure: Callable[[Config], Measured]) -> Best:
    """Have a function measure."""
    steps = search_config(plan)
    try:
        config = next(steps)
        while True:
            config = steps.send(measure(config))
    except StopIteration as end:
        best: Best = end.value
        return best


async def run_config_search_async(plan: ConfigPlan, measure: Callable[[Config], Awaitable[Measured]]) -> Best:
    """Have a coroutine measure."""
    steps = search_config(plan)
    try:
        config = next(steps)
        while True:
            config = steps.send(await measure(config))
    except StopIteration as end:
        best: Best = end.value
        return best


class _Search:
    """What was measured so far."""

    def __init__(self, plan: ConfigPlan) -> None:
        self.configs = plan.grid.configs()
        self.runs: list[tuple[int, Measured]] = []
        self._places = plan.grid.places()
        self._noise = np.random.default_rng(plan.seed).random(len(self.configs)) * 1e-6
        self._first = self._begin_at(plan)
        self._design = min(_LEAST + len(plan.grid.axes) - 1, max(plan.budget() // 2, 1))

    def _begin_at(self, plan: ConfigPlan) -> int:
        if plan.first is not None:
            if dict(plan.first) not in self.configs:
                raise InvalidArgument(f"{dict(plan.first)} is not in the grid", hint="begin with values of the axes")
            return self.configs.index(dict(plan.first))
        return int(((self._places - 0.5) ** 2).sum(axis=1).argmin())

    def choose(self) -> tuple[int, float]:
        """The next to measure, and how much better than the best it is expected to be, as a ratio."""
        if not self.runs:
            return self._first, math.inf
        if len(self.runs) < self._design:
            return self._farthest(), math.inf
        score, chance = self._believe()
        measured = sorted({index for index, _ in self.runs})
        kept = [index for index in measured if chance[index] >= 0.5]
        # Where nothing keeps the SLO yet, that comes first, whatever it is worth.
        expected = score.improvement(float(score.mean[kept].max())) * chance if kept else chance.copy()
        expected[measured] *= 0.5  # once more only if that is far from settled
        expected[[index for index in measured if self._times(index) >= _MOST_TIMES]] = 0.0
        chosen = int(expected.argmax())
        return chosen, float(expected[chosen])

    def _times(self, index: int) -> int:
        return sum(one == index for one, _ in self.runs)

    def _farthest(self) -> int:
        """As far from all others as can be, but not in the very corners."""
        inward = 0.1 + 0.8 * self._places
        measured = inward[[index for index, _ in self.runs]]
        nearest = np.abs(inward[:, None, :] - measured[None, :, :]).sum(axis=2).min(axis=1)
        walls = np.minimum(self._places, 1 - self._places).sum(axis=1)
        return int((nearest + 0.5 * walls + self._noise).argmax())

    def _believe(self) -> tuple[Belief, NDArray[np.float64]]:
        """Of the log of the score, and the chance that the SLO is kept, shape (configurations,)."""
        at = self._places[[index for index, _ in self.runs]]
        score = believe(at, np.log([max(one.score, _TINY) for _, one in self.runs]), self._places)
        slow = np.log([max(one.slowness, _TINY) for _, one in self.runs])
        if slow.max() <= math.log(_TINY) + 1:  # there is no SLO
            return score, np.ones(len(self.configs))
        slowness = believe(at, slow, self._places)
        chance: NDArray[np.float64] = norm.cdf(-slowness.mean / slowness.deviation)
        return score, chance

    def take(self, chosen: int, measured: Measured) -> None:
        """Note a measurement."""
        self.runs.append((chosen, measured))

    def best(self) -> Best:
        """Of those that keep the SLO in the mean of their runs, the one that most is expected of."""
        told = tuple((self.configs[index], measured) for index, measured in self.runs)
        slowness: dict[int, list[float]] = {}
        for index, measured in self.runs:
            slowness.setdefault(index, []).append(measured.slowness)
        kept = [index for index, all_of in slowness.items() if sum(all_of) / len(all_of) <= 1]
        if not kept:
            return Best(None, 0.0, told)
        if len(self.runs) == 1:
            return Best(self.configs[kept[0]], self.runs[0][1].score, told)
        mean = self._believe()[0].mean
        chosen = max(kept, key=lambda index: mean[index])
        return Best(self.configs[chosen], math.exp(float(mean[chosen])), told)
