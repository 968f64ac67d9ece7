"""What verdicts promise, and what others' judges do on the same work: `python -m benchmarks.rollout_errors`.

Simulated rollouts, looked at every second: two hours of 100 requests/s with a canary of 5 % that is no worse; common
incidents (both arms fail ten times as often for a minute or two), a load that drifts, and replicas that hiccup for
three seconds every ten minutes. The bars: false rollbacks at most alpha (aim: 1.5 % at alpha 5 %), and candidates
exactly at the margin promoted at most beta. Then how soon a worse candidate is found, and the same for judges that
compare with a threshold every minute, test a hypothesis every minute, or compare ranks every quarter of an hour.

The e-processes are the product's, computed for all runs at once; that the two agree is checked at the start. The
medians' test, which costs a millisecond, is looked at every two minutes.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import mannwhitneyu, norm

from taxiway.config.rollout_plan import DEFAULT_GUARDS
from taxiway.stats.event_label import BETTER_RATIOS, WORSE_RATIOS, Direction, log_e
from taxiway.stats.log_buckets import BUCKETS, LogHistogram, bucket_of
from taxiway.stats.quantile_test import log_e_harm, log_e_safe

Array = NDArray[Any]
ALPHA: Final = 0.05
BETA: Final = 0.05
AIM: Final = 0.015
_WEIGHTS: Final[dict[str, float]] = {guard.metric: guard.weight for guard in DEFAULT_GUARDS}
_MARGINS: Final[dict[str, float]] = {guard.metric: guard.margin for guard in DEFAULT_GUARDS}


def harm_at(metric: str) -> float:
    """What the evidence has to reach, at the share of alpha that this guard has by default."""
    return math.log(sum(_WEIGHTS.values()) / (_WEIGHTS[metric] * ALPHA))


_SAFE_AT: Final = math.log(1 / BETA)
_HOURS: Final = 2


class EventLabels:
    """The event-label e-process of many runs at once."""

    def __init__(self, runs: int, direction: Direction, margin: float) -> None:
        self._null = 1.0 + margin
        self._ratios = self._null * np.asarray(WORSE_RATIOS if direction == "harm" else BETTER_RATIOS)
        self._logs = np.zeros((runs, len(self._ratios)))

    def add(self, weight: float, candidate: Array, baseline: Array) -> Array:
        """Bad events of one second of each run; the evidence of each run now."""
        null = weight * self._null / (weight * self._null + 1 - weight)
        other = weight * self._ratios / (weight * self._ratios + 1 - weight)
        self._logs += candidate[:, None] * np.log(other / null) + baseline[:, None] * np.log((1 - other) / (1 - null))
        top = self._logs.max(axis=1)
        return np.asarray(top + np.log(np.exp(self._logs - top[:, None]).mean(axis=1)))


@dataclass
class World:
    """What happens to requests, second by second, in many runs at once."""

    runs: int
    chance: np.random.Generator
    per_s: float = 100.0
    share: float = 0.05
    rate: float = 0.005

    def __post_init__(self) -> None:
        self._incident = np.zeros(self.runs)
        self._phase = self.chance.uniform(0, 2 * np.pi, self.runs)

    def second(self, at: int, ratio: float) -> tuple[Array, Array]:
        """Bad requests of candidate and baseline; the candidate fails `ratio` times as often."""
        load = self.per_s * (1 + 0.5 * np.sin(2 * np.pi * at / 3600 + self._phase))
        begins = self.chance.random(self.runs) < 1 / 1800
        self._incident = np.where(begins, self.chance.uniform(30, 120, self.runs), np.maximum(self._incident - 1, 0))
        rate = self.rate * np.where(self._incident > 0, 10.0, 1.0)
        mine = self.chance.poisson(load * self.share * rate * ratio)
        return mine, self.chance.poisson(load * (1 - self.share) * rate)


class Replicas:
    """Slow slots of the candidate's replica and of its twin: each hiccups for itself."""

    def __init__(self, runs: int, chance: np.random.Generator, slow: float, per_slot: float) -> None:
        self._runs, self._chance = runs, chance
        self._usual = 1 - (1 - slow) ** per_slot

    def slot(self, slow: float | None = None, per_slot: float = 25.0) -> Array:
        """Whether this slot was slow, of each run; `slow` is the chance of a single request if it is not the usual."""
        usual = self._usual if slow is None else 1 - (1 - slow) ** per_slot
        hiccup = self._chance.random(self._runs) < 8 / 600  # 3 s every 10 min touch a slot of 5 s in 8 of 600 seconds
        return np.asarray((self._chance.random(self._runs) < usual) | hiccup, float)


def check_kernel() -> None:
    """The many-at-once form gives what the product's gives."""
    chance = np.random.default_rng(0)
    mine, theirs = chance.poisson(3, (50, 4)), chance.poisson(40, (50, 4))
    many = EventLabels(4, "harm", 0.5)
    last = np.zeros(4)
    for second in range(50):
        last = many.add(0.05, mine[second], theirs[second])
    for run in range(4):
        exact = log_e([(0.05, int(mine[:, run].sum()), int(theirs[:, run].sum()))], 0.5, "harm")
        assert math.isclose(float(last[run]), exact, abs_tol=1e-9), (last[run], exact)


def null_rollouts(runs: int, chance: np.random.Generator) -> tuple[float, dict[str, float]]:
    """The share of rollouts of an equal candidate that are turned back, in all and by guard."""
    seconds = _HOURS * 3600
    counted = {
        name: (World(runs, chance, rate=rate), EventLabels(runs, "harm", _MARGINS[name]))
        for name, rate in _RATES.items()
    }
    slots, replicas = EventLabels(runs, "harm", 0.0), Replicas(runs, chance, 0.0034, 25.0)
    fell = {name: np.zeros(runs, bool) for name in (*counted, "slow-slots", "latency")}
    for at in range(seconds):
        for name, (world, test) in counted.items():
            fell[name] |= test.add(world.share, *world.second(at, 1.0)) >= harm_at(name)
        if at % 5 == 4:
            fell["slow-slots"] |= slots.add(0.5, replicas.slot(), replicas.slot()) >= harm_at("slow-slots")
    fell["latency"] |= latency_crossings(runs, chance, 1.0, log_e_harm, harm_at("latency"))
    by_guard = {name: float(one.mean()) for name, one in fell.items()}
    return float(np.any(list(fell.values()), axis=0).mean()), by_guard


_RATES: Final = {"errors": 0.005, "timeouts": 0.001, "refusals": 0.0005, "invalid-output": 0.0002}


def latency_crossings(
    runs: int, chance: np.random.Generator, ratio: float, test: Callable[..., float], at_least: float
) -> Array:
    """Whether the median's test crosses, looked at every two minutes of two hours; the load moves both arms' times."""
    base = _bucket_shares(1.0)
    moved = _bucket_shares(ratio)
    crossed = np.zeros(runs, bool)
    for run in range(runs):
        baseline, candidate = LogHistogram(), LogHistogram()
        for look in range(_HOURS * 30):
            drift = round(8 * math.sin(look / 5 + run))
            for histogram, shares in ((baseline, base), (candidate, moved)):
                more = np.roll(chance.multinomial(600, shares), drift)
                histogram.counts = (np.asarray(histogram.counts) + more).tolist()
            if test(baseline, candidate, 0.5, 0.1) >= at_least:
                crossed[run] = True
                break
    return crossed


def _bucket_shares(ratio: float) -> Array:
    chance = np.random.default_rng(9)
    shares = np.zeros(BUCKETS)
    for one in chance.lognormal(0, 0.25, 200_000) * 1e7 * ratio:
        shares[bucket_of(float(one))] += 1
    return np.asarray(shares / shares.sum())


def at_the_margin(runs: int, chance: np.random.Generator) -> dict[str, float]:
    """The share of candidates exactly at the margin that pass a guard."""
    world, test = World(runs, chance), EventLabels(runs, "safe", _MARGINS["errors"])
    passed = np.zeros(runs, bool)
    for at in range(_HOURS * 3600):
        evidence = test.add(world.share, *world.second(at, 1 + _MARGINS["errors"]))
        passed |= evidence >= _SAFE_AT
    latency = latency_crossings(min(runs, 400), chance, 1.1, log_e_safe, _SAFE_AT)
    return {"errors": float(passed.mean()), "latency p50": float(latency.mean())}


def found_after_s(runs: int, chance: np.random.Generator, ratio: float, rate: float, at_least: float) -> Array:
    """Seconds until more errors are found; infinite where they are not in two hours."""
    world, test = World(runs, chance, rate=rate), EventLabels(runs, "harm", _MARGINS["errors"])
    found = np.full(runs, np.inf)
    for at in range(_HOURS * 3600):
        crossed = test.add(world.share, *world.second(at, ratio)) >= at_least
        found = np.where(crossed & np.isinf(found), at + 1, found)
        if np.isfinite(found).all():
            break
    return found


def slow_after_s(runs: int, chance: np.random.Generator, ratio: float, at_least: float) -> Array:
    """Seconds until slower answers are found by slow slots: 10 % of 50 requests/s, times of a lognormal of 0.25."""
    limit = norm.ppf(0.99) + math.log(1.1) / 0.25
    usual, slow = float(norm.sf(limit)), float(norm.sf(limit - math.log(ratio) / 0.25))
    replicas, test = Replicas(runs, chance, usual, 25.0), EventLabels(runs, "harm", 0.0)
    found = np.full(runs, np.inf)
    for slot in range(_HOURS * 720):
        crossed = test.add(0.5, replicas.slot(slow), replicas.slot()) >= at_least
        found = np.where(crossed & np.isinf(found), (slot + 1) * 5, found)
    return found


# --- others' judges -------------------------------------------------------------------------------------------


def others(runs: int, chance: np.random.Generator, ratio: float, rate: float) -> dict[str, Array]:
    """Minutes until each judge turns the candidate back; infinite where it does not in two hours."""
    world = World(runs, chance, rate=rate)
    mine, theirs = np.zeros((runs, _HOURS * 60)), np.zeros((runs, _HOURS * 60))
    for at in range(_HOURS * 3600):
        one, other = world.second(at, ratio)
        mine[:, at // 60] += one
        theirs[:, at // 60] += other
    per_minute = world.per_s * 60 * np.array([world.share, 1 - world.share])
    low = mine / per_minute[0] > 0.01
    return {
        "success < 99 % in 4 minutes (as Argo Rollouts)": _first(np.cumsum(low, axis=1) >= 4),
        "success < 99 % in 10 minutes (as Flagger)": _first(np.cumsum(low, axis=1) >= 10),
        "z-test every minute": _first(_z(mine, theirs, per_minute) > norm.ppf(0.95)),
        "Mann-Whitney every 15 min (as Kayenta)": _ranks(mine / per_minute[0], theirs / per_minute[1]),
    }


def _z(mine: Array, theirs: Array, per_minute: Array) -> Array:
    minutes = np.arange(1, mine.shape[1] + 1)
    n, m = per_minute[0] * minutes, per_minute[1] * minutes
    p, q = np.cumsum(mine, axis=1) / n, np.cumsum(theirs, axis=1) / m
    pooled = (np.cumsum(mine, axis=1) + np.cumsum(theirs, axis=1)) / (n + m)
    return np.asarray((p - q) / np.sqrt(np.maximum(pooled * (1 - pooled) * (1 / n + 1 / m), 1e-12)))


def _ranks(mine: Array, theirs: Array) -> Array:
    found = np.full(len(mine), np.inf)
    for run in range(len(mine)):
        for end in range(15, mine.shape[1] + 1, 15):
            p = mannwhitneyu(mine[run, :end], theirs[run, :end], alternative="greater").pvalue
            if p < 0.02:
                found[run] = end
                break
    return found


def _first(crossed: Array) -> Array:
    return np.where(crossed.any(axis=1), crossed.argmax(axis=1) + 1.0, np.inf)


def _told(minutes: Array) -> str:
    found = np.isfinite(minutes)
    if not found.any():
        return "0 %"
    return f"{found.mean():.1%}, median {np.median(minutes[found]):.3g} min"


def main() -> int:
    """Run everything; 1 if a bar is not reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    said = parser.parse_args()
    chance = np.random.default_rng(said.seed)
    check_kernel()
    false, by_guard = null_rollouts(said.runs, chance)
    print(f"{said.runs} rollouts of an equal candidate: {false:.2%} turned back (alpha {ALPHA:.0%}, aim {AIM:.1%})")
    print("  by guard:", ", ".join(f"{name} {share:.2%}" for name, share in by_guard.items()))
    margin = at_the_margin(said.runs, chance)
    passed = ", ".join(f"{name} {share:.2%}" for name, share in margin.items())
    print(f"candidates exactly at the margin that pass: {passed}")
    few = min(said.runs, 400)
    alone = math.log(1 / ALPHA)
    for what, least in (("all default guards", harm_at), ("this guard alone", lambda _: alone)):
        errors = found_after_s(few, chance, 4.0, 0.005, least("errors")) / 60
        slow = slow_after_s(few, chance, 1.3, least("slow-slots")) / 60
        print(f"{what}: errors 0.5 -> 2 %: {_told(errors)}; latency +30 %: {_told(slow)}")
    for name, ratio, rate in _SCENES:
        print(f"{name}")
        for judge, minutes in others(few, chance, ratio, rate).items():
            print(f"  {judge:<50} {_told(minutes)}")
        ours = found_after_s(few, chance, ratio, rate, math.log(1 / ALPHA)) / 60
        print(f"  {'taxiway, every second':<50} {_told(ours)}")
    problems = [f"{false:.2%} false rollbacks"] * (false > ALPHA)
    problems += [f"{name} at the margin passes in {share:.2%}" for name, share in margin.items() if share > BETA]
    print("\n".join(problems) or "every bar is reached")
    return 1 if problems else 0


_SCENES: Final = (
    ("no difference, 0.5 % errors", 1.0, 0.005),
    ("twice as many: 0.5 -> 1 %", 2.0, 0.005),
    ("four times as many: 0.5 -> 2 %", 4.0, 0.005),
    ("four times as many: 0.05 -> 0.2 %", 4.0, 0.0005),
)


if __name__ == "__main__":
    sys.exit(main())
