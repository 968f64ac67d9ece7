"""How often rollouts are decided wrongly: `python -m benchmarks.rollout_errors [--runs 2000] [--seed 1]`.

Whole rollouts in virtual time, looked at every second, and in runs of their own the guards of time, looked at when a
slot of 5 s ends; by the default plan: six guards share alpha = 5 %. The load goes up and down by 30 %, twice an hour
every arm fails twenty times as often for a minute and takes four times as long, and each process stands still for one
of its arms for 3 s every ten minutes. The bars:

- equal candidates: turned back in at most alpha of the rollouts (target: 1.5 %), by all guards together;
- candidates exactly at a guard's boundary: passed in at most beta = 5 %.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.rollout_simulation import EventGuard, Lateness, Rates, Schedule, Walks, World, median, walk, watch_times
from taxiway.stats.log_buckets import GAMMA

ALPHA: Final = 0.05
BETA: Final = 0.05
TARGET: Final = 0.015
GUARDS: Final = 6
LOG_HARM: Final = math.log(GUARDS / ALPHA)
LOG_SAFE: Final = math.log(1 / BETA)
ALLOWANCE: Final = 0.002
MARGIN: Final = 0.1
BASE: Final = 0.005
TWO_HOURS: Final = 7200
_OTHERS: Final = {"timeouts": (0.002, True), "refusals": (0.002, True), "invalid-output": (0.0005, False)}


class Row(NamedTuple):
    """One line of the table: what happened in how many runs, and what may."""

    what: str
    happened: int
    runs: int
    at_most: float
    note: str = ""

    @property
    def held(self) -> bool:
        """Whether the bar holds."""
        return self.happened <= self.at_most * self.runs

    def __str__(self) -> str:
        sign = "held" if self.held else "MISSED"
        share = f"{self.happened / self.runs:7.2%}  of {self.runs}"
        return f"{self.what:<72} {share:<18} at most {self.at_most:5.1%}  {sign}  {self.note}"


def guards_of(runs: int, candidate: float, base: float = BASE) -> dict[str, tuple[EventGuard, Rates]]:
    """The guards of bad events of the default plan; all but errors are alike in both arms."""
    errors = EventGuard(runs, MARGIN, ALLOWANCE, LOG_HARM, LOG_SAFE)
    made = {"errors": (errors, Rates(candidate, base))}
    for name, (rate, twin) in _OTHERS.items():
        margin = 0.0 if name == "invalid-output" else MARGIN
        made[name] = (EventGuard(runs, margin, ALLOWANCE, LOG_HARM, LOG_SAFE, twin=twin), Rates(rate, rate))
    return made


def null_walks(runs: int, seed: int, *, base: float = BASE, units: int = 0, seconds: int = TWO_HOURS) -> Walks:
    """Rollouts of candidates that are no worse."""
    return walk(World(), guards_of(runs, base, base), Schedule(runs, seconds, units=units), seed)


def null_times(runs: int, seed: int, seconds: int = 1800) -> NDArray[np.bool_]:
    """Which of these were turned back by slow slots or by latency, at 10 % of 50 requests a second."""
    how = Lateness()
    found = watch_times(
        World(rate=50), how, runs=runs, seconds=seconds, seed=seed, log_harm=LOG_HARM, log_safe=LOG_SAFE
    )
    return np.asarray((found.slow_harm >= 0) | (found.latency_harm >= 0))


def rows(runs: int, seed: int) -> Iterator[Row]:
    """All bars."""
    walks, times = null_walks(runs, seed), null_times(runs, seed + 1)
    events = walks.rolled_back >= 0
    note = _promoted(walks)
    yield Row("equal candidate, errors 0.5 %: turned back by bad events", int(events.sum()), runs, ALPHA, note)
    yield Row("equal candidate: turned back by slow slots or latency", int(times.sum()), runs, ALPHA)
    yield Row("equal candidate: turned back by any of the six guards", int((events | times).sum()), runs, TARGET)
    for text, base, units in (
        ("equal candidate, errors 0.02 %", 0.0002, 0),
        ("equal candidate, no errors ever", 0.0, 0),
        ("equal candidate, 200 callers of very different size, sticky", BASE, 200),
    ):
        walks = null_walks(runs, seed + 2 + units, base=base, units=units)
        back = int((walks.rolled_back >= 0).sum())
        yield Row(f"{text}: turned back by bad events", back, runs, ALPHA, _promoted(walks))
    yield from _at_the_boundary(runs, seed + 10)


def _promoted(walks: Walks) -> str:
    middle = median(walks.promoted)
    return f"promoted {(walks.promoted >= 0).mean():.1%}, median {'-' if middle is None else f'{middle / 60:.0f} min'}"


def _at_the_boundary(runs: int, seed: int) -> Iterator[Row]:
    guard = EventGuard(runs, MARGIN, 0.0, LOG_HARM, LOG_SAFE)
    pair = {"errors": (guard, Rates(BASE * (1 + MARGIN), BASE))}
    world, last = World(rate=1000), Schedule(runs, min_step_s=0, first_step=4)
    found = walk(world, pair, last, seed)
    yield Row("errors exactly 1.1 times, no allowance, at 50 %: passed", int((found.promoted >= 0).sum()), runs, BETA)
    yield Row("   the same: turned back", int((found.rolled_back >= 0).sum()), runs, ALPHA / GUARDS)
    guard = EventGuard(runs, MARGIN, ALLOWANCE, LOG_HARM, LOG_SAFE)
    pair = {"errors": (guard, Rates(BASE + ALLOWANCE, BASE))}
    found = walk(world, pair, last, seed + 1)
    yield Row("errors 0.5 % + the allowance, at 50 %: passed", int((found.promoted >= 0).sum()), runs, BETA)
    pair = guards_of(runs, BASE + ALLOWANCE)
    found = walk(World(), pair, Schedule(runs), seed + 2)
    note = f"turned back {(found.rolled_back >= 0).mean():.1%}"
    yield Row("   the same, whole rollouts: promoted", int((found.promoted >= 0).sum()), runs, BETA, note)
    # The margin of slow slots is rounded up to whole buckets of 2.2 %.
    for name, ratio in (("median latency", 1 + MARGIN), ("slow slots", GAMMA**5)):
        how = replace(Lateness(), ratio=ratio)
        world = World(rate=50)
        times = watch_times(world, how, runs=runs, seconds=1800, seed=seed + 3, log_harm=LOG_HARM, log_safe=LOG_SAFE)
        slow = name == "slow slots"
        safe, harm = (times.slow_safe, times.slow_harm) if slow else (times.latency_safe, times.latency_harm)
        yield Row(f"{name} exactly {ratio:.4g} times: passed", int((safe >= 0).sum()), runs, BETA)
        yield Row("   the same: turned back", int((harm >= 0).sum()), runs, ALPHA / GUARDS)


def main() -> None:
    """Print the table; exit code 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    began, held = time.monotonic(), True
    for row in rows(options.runs, options.seed):
        print(row, flush=True)
        held = held and row.held
    print(f"{options.runs} runs each, seed {options.seed}, {time.monotonic() - began:.0f} s")
    sys.exit(0 if held else 1)


if __name__ == "__main__":
    main()
