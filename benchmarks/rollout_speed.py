"""How soon worse candidates are found, by this judge and by others: `python -m benchmarks.rollout_speed`.

Bars: errors from 0.5 % to 2 % at 5 % of 100 requests a second in a median of two minutes at most; latency 30 % longer
at 10 % of 50 requests a second, by slow slots: one minute is aimed at, what it takes is told.

The table compares judges on the same requests, two hours at 5 % of 100 a second:

- argo: an analysis run of Argo Rollouts: the candidate's success rate of each minute at least 99 %, failureLimit 3;
- flagger: the same threshold each minute, ten failed checks turn it back;
- z-test: of two proportions, one-sided at 5 %, on all that was counted, looked at every minute;
- kayenta: Mann-Whitney intervals of the error rates of minutes against a baseline of the same size, at 98 %, every
  15 minutes;
- taxiway: the guard `errors` as it is by default, and alone (alpha 5 % for it), looked at every second.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from benchmarks.rollout_errors import ALLOWANCE, ALPHA, BASE, LOG_HARM, LOG_SAFE, MARGIN, guards_of
from benchmarks.rollout_simulation import (
    CALM,
    STEPS,
    EventGuard,
    Lateness,
    Rates,
    Schedule,
    World,
    load_of,
    median,
    walk,
    watch_times,
)

Array = NDArray[Any]
MINUTES: Final = 120
SHARE: Final = STEPS[1]
ALONE: Final = math.log(1 / ALPHA)


class Minutes(NamedTuple):
    """Requests and bad ones of each minute, by run: of the candidate, of a baseline of its size, of all that is old."""

    mine: Array
    mine_bad: Array
    twin: Array
    twin_bad: Array
    old: Array
    old_bad: Array


def draw(world: World, rates: Rates, runs: int, seed: int) -> Minutes:
    """Two hours of requests."""
    chance = np.random.default_rng(seed)
    load, incident = load_of(world, chance, runs, MINUTES * 60)
    total = chance.poisson(load)
    mine = chance.binomial(total, SHARE)
    twin = chance.binomial(total - mine, SHARE / (1 - SHARE))
    factor = np.where(incident, world.incidents, 1.0)
    mine_bad = chance.binomial(mine, np.minimum(rates.candidate * factor, 1))
    twin_bad = chance.binomial(twin, np.minimum(rates.baseline * factor, 1))
    rest_bad = chance.binomial(total - mine - twin, np.minimum(rates.baseline * factor, 1))
    each = (mine, mine_bad, twin, twin_bad, total - mine, rest_bad + twin_bad)
    return Minutes(*(counts.reshape(runs, MINUTES, 60).sum(axis=2) for counts in each))


# --- how others judge: the minute in which each run is turned back, else -1 --------------------------------------


def _first(crossed: Array) -> Array:
    return np.where(crossed.any(axis=1), crossed.argmax(axis=1) + 1, -1)


def argo(seen: Minutes) -> Array:
    """More than three minutes below 99 %."""
    return _first(np.cumsum(_below(seen), axis=1) > 3)


def flagger(seen: Minutes) -> Array:
    """Ten minutes below 99 %."""
    return _first(np.cumsum(_below(seen), axis=1) >= 10)


def _below(seen: Minutes) -> Array:
    return np.asarray(1 - seen.mine_bad / np.maximum(seen.mine, 1) < 0.99)


def z_test(seen: Minutes) -> Array:
    """All until now, against what is old."""
    n, k, m, b = (np.cumsum(counts, axis=1) for counts in (seen.mine, seen.mine_bad, seen.old, seen.old_bad))
    pooled = (k + b) / (n + m)
    error = np.sqrt(np.maximum(pooled * (1 - pooled) * (1 / n + 1 / m), 1e-300))
    return _first((k / n - b / m) / error > norm.ppf(0.95))


def kayenta(seen: Minutes) -> Array:
    """Minutes as observations, all until now, every quarter of an hour."""
    ours, others = seen.mine_bad / np.maximum(seen.mine, 1), seen.twin_bad / np.maximum(seen.twin, 1)
    found = np.full(len(ours), -1)
    for upto in range(15, MINUTES + 1, 15):
        for run in np.flatnonzero(found < 0):
            if _is_high(ours[run, :upto], others[run, :upto]):
                found[run] = upto
    return found


def _is_high(one: Array, other: Array) -> bool:
    """As MannWhitneyClassifier: the interval of the shift lies above a quarter of its estimate."""
    shifts = np.sort((one[:, None] - other[None, :]).reshape(-1))
    n = len(one)
    place = int(n * n / 2 - norm.ppf(0.99) * math.sqrt(n * n * (2 * n + 1) / 12))
    estimate = float(np.median(shifts))
    return estimate > 0 and float(shifts[max(place, 0)]) > 0.25 * estimate


OTHERS: Final[dict[str, Callable[[Minutes], Array]]] = {
    "argo": argo, "flagger": flagger, "z-test": z_test, "kayenta": kayenta
}  # fmt: skip


# --- this judge -------------------------------------------------------------------------------------------------


def ours(world: World, rates: Rates, runs: int, seed: int, log_harm: float, seconds: int = MINUTES * 60) -> Array:
    """Seconds after which the guard of errors turns each run back at 5 %, else -1."""
    guards = {"errors": (EventGuard(runs, MARGIN, ALLOWANCE, log_harm, LOG_SAFE), rates)}
    return walk(world, guards, Schedule(runs, seconds, first_step=1, min_step_s=seconds, settle_s=0), seed).rolled_back


SCENARIOS: Final = (
    ("equal, 0.5 % errors", World(drift=0.0, incidents=1.0), Rates(BASE, BASE)),
    ("equal, with incidents that both have", World(), Rates(BASE, BASE)),
    ("x2: 0.5 % to 1 %", CALM, Rates(2 * BASE, BASE)),
    ("x4: 0.5 % to 2 %", CALM, Rates(4 * BASE, BASE)),
    ("x4: 0.05 % to 0.2 %", CALM, Rates(0.002, 0.0005)),
)


def table(runs: int, seed: int) -> Iterator[str]:
    """Lines of a table in Markdown."""
    names = [*OTHERS, "taxiway", "taxiway, alone"]
    yield f"| scenario | {' | '.join(names)} |"
    yield f"|---|{'---|' * len(names)}"
    for name, world, rates in SCENARIOS:
        seen = draw(world, rates, runs, seed)
        cells = [_cell(judge(seen)) for judge in OTHERS.values()]
        for level in (LOG_HARM, ALONE):
            found = ours(world, rates, runs, seed + 1, level)
            cells.append(_cell(np.where(found < 0, -1, found / 60)))
        yield f"| {name} | {' | '.join(cells)} |"


def _cell(minutes: Array) -> str:
    share, middle = (minutes >= 0).mean(), median(minutes)
    return f"{share:.1%}" + ("" if middle is None or share < 0.5 else f", {middle:.1f} min")


# --- bars -------------------------------------------------------------------------------------------------------


def bars(runs: int, seed: int) -> Iterator[str]:
    """What the two bars take, in seconds."""
    rates = Rates(4 * BASE, BASE)
    for world, name in ((CALM, "calm"), (World(), "with incidents and drift")):
        guards = guards_of(runs, rates.candidate)
        found = walk(world, guards, Schedule(runs, 1200, first_step=1, min_step_s=1200, settle_s=0), seed).rolled_back
        yield f"errors 0.5 % to 2 % at 5 % of 100/s, default plan, {name}: {_spread(found)}"
    how = Lateness(ratio=1.3)
    for spread in (0.25, 0.4):
        for name, level in (("default plan", LOG_HARM), ("alone", ALONE)):
            times = watch_times(
                replace(CALM, rate=50), replace(how, spread=spread), runs=runs, seconds=900, seed=seed,
                log_harm=level, log_safe=LOG_SAFE,
            )  # fmt: skip
            yield f"latency x1.3 at 10 % of 50/s, sigma {spread:g}, {name}: slow slots {_spread(times.slow_harm)}"
            yield f"   and by the median of latency: {_spread(times.latency_harm)}"


def _spread(seconds: Array) -> str:
    order: Sequence[float] = sorted(np.where(seconds < 0, math.inf, seconds))
    nine = order[int(0.9 * len(order))]
    return f"median {order[len(order) // 2]:.0f} s, nine of ten within {nine:.0f} s, found {(seconds >= 0).mean():.1%}"


def main() -> None:
    """Print bars and table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    began = time.monotonic()
    for line in (*bars(options.runs, options.seed), "", *table(options.runs, options.seed)):
        print(line, flush=True)
    print(f"\n{options.runs} runs each, seed {options.seed}, {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
