"""Thousands of rollouts at once, in virtual time: the judge's own mathematics, as arrays over rollouts.

The counts of each rollout are drawn second by second, and the same evidence is computed of them that
`rollout.analysis.judge` computes of one: tests/unit/rollout/test_error_control.py holds both against each other.

`walk` simulates whole rollouts by bad events: steps are taken as soon as their guard has passed for long enough.
`watch_times` simulates the guards of time, at one step: slow slots, and a quantile of latency.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from taxiway.rollout.slots import TOO_MANY
from taxiway.stats.event_label import alternatives, share_of_events
from taxiway.stats.fixed_bets import STAKES
from taxiway.stats.log_buckets import BUCKETS, LEAST_NS, PER_OCTAVE, LogHistogram
from taxiway.stats.quantile_test import log_e_harm, log_e_safe, log_mixture

Array = NDArray[Any]
Floats = NDArray[np.float64]
STEPS: Final = (0.01, 0.05, 0.10, 0.25, 0.50, 1.0)


@dataclass(frozen=True)
class World:
    """What happens to all arms alike.

    Attributes:
        rate: requests a second in all, on average.
        drift: by how much the load goes up and down, as a share, over half an hour.
        incidents: minutes in which every arm fails (and takes) so many times as often, about two an hour; 1: none.
        hiccup_s: how long a process stands still for one arm now and then; 0: never.
        hiccup_every_s: how often, each process and arm for itself.
    """

    rate: float = 100.0
    drift: float = 0.3
    incidents: float = 20.0
    hiccup_s: float = 3.0
    hiccup_every_s: float = 600.0


CALM: Final = World(drift=0.0, incidents=1.0, hiccup_s=0.0)


def load_of(world: World, chance: np.random.Generator, runs: int, seconds: int) -> tuple[Floats, Array]:
    """Requests a second, and in which seconds there is an incident: of each run."""
    time = np.arange(seconds)
    phase = chance.random((runs, 1)) * 2 * math.pi
    load = world.rate * (1 + world.drift * np.sin(2 * math.pi * time / 1800 + phase))
    incident = np.zeros((runs, seconds), bool)
    if world.incidents != 1:
        for begin in chance.integers(0, seconds, (max(1, seconds // 1800), runs)):
            incident |= (time >= begin[:, None]) & (time < begin[:, None] + 60)
    return load, incident


def log_mean_exp(logs: Floats) -> Floats:
    """Over the last axis."""
    top = logs.max(axis=-1)
    return np.asarray(top + np.log(np.exp(logs - top[..., None]).mean(axis=-1)))


# --- bad events ------------------------------------------------------------------------------------------------


def label_logs(share: Floats, mine: Array, theirs: Array, ratios: Floats, null: float) -> Floats:
    """What each alternative of the event-label test has gained, by run."""
    boundary = share_of_events(share, null)  # type: ignore[arg-type]
    other = share_of_events(share[:, None], ratios)  # type: ignore[arg-type]
    up, down = np.log(other / np.asarray(boundary)[:, None]), np.log((1 - other) / (1 - np.asarray(boundary))[:, None])
    return np.asarray(mine[:, None] * up + theirs[:, None] * down)


def excess_logs(share: Floats, mine: Array, theirs: Array, good: Array, excess: Floats) -> Floats:
    """What each stake has gained on the excess being less than that, by run."""
    worst = np.maximum(1 / share - excess, 1e-9)

    def gain(payoff: Floats) -> Floats:
        return np.asarray(np.log1p(STAKES * (payoff / worst)[:, None]))

    gained = mine[:, None] * gain(excess - 1 / share) + theirs[:, None] * gain(excess + 1 / (1 - share))
    return np.asarray(gained + good[:, None] * gain(excess))


@dataclass
class EventGuard:
    """One guard of bad events over all runs: counts by step and run.

    Attributes:
        margin, allowance: of the guard.
        log_harm, log_safe: what has to be reached.
        twin: it compares with the twin instead of all that is old.
        exact: shares are those asked for.
    """

    runs: int
    margin: float
    allowance: float
    log_harm: float
    log_safe: float
    twin: bool = False
    exact: bool = False
    counts: Array = field(init=False)

    def __post_init__(self) -> None:
        self.counts = np.zeros((len(STEPS), 4, self.runs))
        self._worse = np.asarray(alternatives("harm", self.margin))
        self._better = np.asarray(alternatives("safe", self.margin))
        self._past = {"harm": np.zeros((self.runs, 24)), "safe": np.zeros((self.runs, 24))}

    def add(self, live: Array, step: Array, *counts: Array) -> None:
        """Requests and bad ones of the candidate, and of the other."""
        for kind, more in enumerate(counts):
            self.counts[step, kind, live] += more

    def _bounds(self, step: Array, live: Array) -> tuple[Floats, Floats]:
        weight = np.asarray(STEPS)[step]
        nominal = np.where(weight < 1, 0.5 if self.twin else weight, 0.5)
        mine, theirs = self.counts[step, 0, live], self.counts[step, 2, live]
        total = np.maximum(mine + theirs, 1)
        real = np.where(mine + theirs > 0, np.clip(mine / total, 1e-6, 1 - 1e-6), nominal)
        if self.exact:
            return nominal, nominal
        return np.minimum(nominal, real), np.maximum(nominal, real)

    def _logs(self, direction: str, step: Array, live: Array) -> Floats:
        low, high = self._bounds(step, live)
        share, ratios = (high, self._worse) if direction == "harm" else (low, self._better)
        return label_logs(share, self.counts[step, 1, live], self.counts[step, 3, live], ratios, 1 + self.margin)

    def harm(self, live: Array, step: Array) -> Floats:
        """Evidence of harm."""
        return log_mean_exp(self._past["harm"][live] + self._logs("harm", step, live))

    def safe(self, live: Array, step: Array) -> Floats:
        """Evidence of safety."""
        ratio = log_mean_exp(self._past["safe"][live] + self._logs("safe", step, live))
        if not self.allowance:
            return ratio
        excess = self.allowance / np.asarray(STEPS)[np.minimum(step + 1, len(STEPS) - 1)]
        gained = np.zeros((len(live), len(STAKES)))
        for number in range(int(step.max()) + 1):
            here = np.full(len(live), number)
            counts = self.counts[number][:, live]
            share = self._bounds(here, live)[0]
            good = counts[0] - counts[1] + counts[2] - counts[3]
            gained += excess_logs(share, counts[1], counts[3], good, excess)
        return np.logaddexp(ratio, log_mean_exp(gained)) - math.log(2)

    def leave(self, live: Array, step: Array) -> None:
        """These runs leave their step: its shares are final."""
        for direction in ("harm", "safe"):
            self._past[direction][live] += self._logs(direction, step, live)


@dataclass(frozen=True)
class Rates:
    """Bad events of one guard, as a share of requests, by arm."""

    candidate: float
    baseline: float


@dataclass
class Walks:
    """How rollouts ended: by run, when (seconds), else -1.

    Attributes:
        harmed: by guard, which of them turned it back.
    """

    rolled_back: Array
    promoted: Array
    step: Array
    harmed: dict[str, int]


@dataclass(frozen=True)
class Schedule:
    """How rollouts go on, as `config.rollout_plan.RolloutPlan` says it.

    Attributes:
        seconds: after which they end undecided.
        units: so many callers send all of the requests, sticky; 0: requests are split one by one.
    """

    runs: int
    seconds: int = 7200
    required: str = "errors"
    min_step_s: int = 120
    settle_s: int = 5
    first_step: int = 0
    last_step: int = len(STEPS) - 2
    units: int = 0


def walk(world: World, guards: dict[str, tuple[EventGuard, Rates]], plan: Schedule, seed: int) -> Walks:
    """Walk rollouts, looked at every second."""
    runs, seconds = plan.runs, plan.seconds
    chance = np.random.default_rng(seed)
    load, incident = load_of(world, chance, runs, seconds)
    shares = _shares(chance, runs, plan.units)
    step, since = np.full(runs, plan.first_step), np.zeros(runs, int)
    ended = Walks(np.full(runs, -1), np.full(runs, -1), step, dict.fromkeys(guards, 0))
    live = np.arange(runs)
    for now in range(seconds):
        here = step[live]
        share, twin_share = shares[0, here, live], shares[1, here, live]
        total = chance.poisson(load[live, now])
        mine = chance.binomial(total, share)
        twin = chance.binomial(total - mine, np.minimum(twin_share / np.maximum(1 - share, 1e-9), 1.0))
        counted = now - since[live] >= plan.settle_s
        failed = np.zeros(len(live), bool)
        for name, (guard, rates) in guards.items():
            theirs = twin if guard.twin else total - mine
            factor = np.where(incident[live, now], world.incidents, 1.0)
            mine_bad = chance.binomial(mine, np.minimum(rates.candidate * factor, 1.0))
            theirs_bad = chance.binomial(theirs, np.minimum(rates.baseline * factor, 1.0))
            guard.add(live, here, *(counted * count for count in (mine, mine_bad, theirs, theirs_bad)))
            harm = (guard.harm(live, here) >= guard.log_harm) & counted
            ended.harmed[name] += int((harm & ~failed).sum())
            failed |= harm
        ended.rolled_back[live[failed]] = now
        ready = ~failed & (now - since[live] >= plan.min_step_s + plan.settle_s)
        if ready.any():
            ready[ready] = _passed(guards[plan.required][0], live[ready], here[ready])
        _take_steps(ended, guards, live[ready], step, since, now, plan)
        live = live[~failed & (ended.promoted[live] < 0)]
        if not len(live):
            break
    return ended


def _shares(chance: np.random.Generator, runs: int, units: int) -> Floats:
    """The shares of requests of the candidate and of its twin, by step and run.

    Units are assigned by a number of their own each, as `stats.assignment` does, and send unequally many requests.
    """
    weights = np.asarray(STEPS[:-1])
    if not units:
        both = np.stack([weights, np.minimum(weights, 1 - weights)])
        return np.repeat(both[:, :, None], runs, axis=2)
    volume = 1 / np.arange(1, units + 1)
    volume /= volume.sum()
    place = chance.random((runs, units))
    upto = [((place < weight) * volume).sum(axis=1) for weight in weights]
    both_upto = [((place < min(2 * weight, 1.0)) * volume).sum(axis=1) for weight in weights]
    return np.asarray([upto, [one - other for one, other in zip(both_upto, upto, strict=True)]])


def _passed(guard: EventGuard, live: Array, step: Array) -> Array:
    return np.asarray(guard.safe(live, step) >= guard.log_safe)


def _take_steps(
    ended: Walks,
    guards: dict[str, tuple[EventGuard, Rates]],
    runs: Array,
    step: Array,
    since: Array,
    now: int,
    plan: Schedule,
) -> None:
    for guard, _ in guards.values():
        guard.leave(runs, step[runs])
    ended.promoted[runs[step[runs] >= plan.last_step]] = now
    step[runs] += 1
    since[runs] = now


# --- time ------------------------------------------------------------------------------------------------------

SLOT_S: Final = 5
MINUTE: Final = 12
LEAST: Final = 50
_FIRST: Final = 320
_KEPT: Final = 460
"""Buckets that are counted: from a millisecond to twenty seconds; what lies beyond is in the last."""


@dataclass
class Times:
    """What the guards of time found: by run, the seconds after which they had, else -1."""

    slow_harm: Array
    slow_safe: Array
    latency_harm: Array
    latency_safe: Array
    slow: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class Lateness:
    """How latencies are drawn and judged.

    Attributes:
        rate: requests a second of the candidate, and of its twin.
        ratio: how much longer the candidate takes.
        processes: that share them.
        spread: of the logarithms.
        slow_quantile, slow_margin, too_many: of the guard of slow slots.
        quantile, margin: of the guard of latency.
        history_s: how long the version served now had been seen before.
    """

    rate: float = 5.0
    ratio: float = 1.0
    processes: int = 2
    spread: float = 0.4
    slow_quantile: float = 0.9
    slow_margin: float = 0.1
    quantile: float = 0.5
    margin: float = 0.1
    history_s: int = 60
    too_many: float = TOO_MANY
    typical_ms: float = 20.0


def watch_times(
    world: World,
    how: Lateness,
    *,
    runs: int,
    seconds: int,
    seed: int,
    log_harm: float,
    log_safe: float,
    drawn: list[tuple[Array, Array]] | None = None,
) -> Times:
    """Judge latencies slot by slot; what was drawn of both arms is added to `drawn`."""
    chance = np.random.default_rng(seed)
    slots = (how.history_s + seconds) // SLOT_S
    load, incident = load_of(world, chance, runs, slots * SLOT_S)
    delays = [_hiccups(world, chance, runs, how.processes, slots) for _ in range(2)]
    minute: list[Array] = []
    slow = np.zeros((2, runs))
    found = Times(*np.full((4, runs), -1))
    histograms = np.zeros((2, runs, _KEPT), np.int64)
    counted = 0
    shift = math.ceil(math.log2(1 + how.slow_margin) * PER_OCTAVE - 1e-9)
    for slot in range(slots):
        factor = load[:, slot * SLOT_S] / world.rate
        slower = np.where(incident[:, slot * SLOT_S], 1 + math.log(world.incidents), 1.0) * factor**0.5
        both = [
            _draw(chance, how, world, factor * how.rate, slower * ratio, delay[:, :, slot])
            for ratio, delay in ((how.ratio, delays[0]), (1.0, delays[1]))
        ]
        if drawn is not None:
            drawn.append((both[0], both[1]))
        reference = _reference(minute, how.slow_quantile) if minute else None
        now = (slot + 1) * SLOT_S - how.history_s
        if now > 0 and reference is not None:
            for arm, (buckets, moved) in enumerate(zip(both, (shift, 0), strict=True)):
                answered = (buckets >= 0).sum(axis=2)
                above = (buckets > (reference + moved)[:, :, None]).sum(axis=2)
                is_slow = (
                    (reference >= 0) & (answered > 0) & (above > how.too_many * (1 - how.slow_quantile) * answered)
                )
                slow[arm] += is_slow.sum(axis=1)
            _look_at_slots(found, slow, now, log_harm, log_safe)
            counted += runs * how.processes
        if now > 0:
            for arm, buckets in enumerate(both):
                _count(histograms[arm], buckets)
            _look_at_quantile(found, histograms, how, now, log_harm, log_safe)
        minute = [*minute[1 - MINUTE :], both[1]]
    found.slow = (float(slow[0].sum() / max(counted, 1)), float(slow[1].sum() / max(counted, 1)))
    return found


def _hiccups(world: World, chance: np.random.Generator, runs: int, processes: int, slots: int) -> Floats:
    """The share of each slot in which the process stands still for the arm."""
    shares = np.zeros((runs, processes, slots + 1))
    if world.hiccup_s:
        begins = chance.random((runs, processes, slots)) < SLOT_S / world.hiccup_every_s
        at = chance.random((runs, processes, slots)) * SLOT_S
        inside = np.minimum(world.hiccup_s, SLOT_S - at)
        shares[:, :, :-1] += begins * inside / SLOT_S
        shares[:, :, 1:] += begins * (world.hiccup_s - inside) / SLOT_S
    return np.minimum(shares[:, :, :slots], 1.0)


def _draw(
    chance: np.random.Generator, how: Lateness, world: World, rate: Floats, slower: Floats, delayed: Floats
) -> Array:
    """Buckets of the latencies of one slot: by run, process and request; -1 where there is none."""
    count = chance.poisson(rate[:, None] * SLOT_S / how.processes, (len(rate), how.processes))
    shape = (*count.shape, max(1, int(count.max())))
    ns = how.typical_ms * 1e6 * slower[:, None, None] * np.exp(how.spread * chance.standard_normal(shape))
    if world.hiccup_s:
        late = chance.random(shape) < delayed[:, :, None]
        ns += late * chance.random(shape) * world.hiccup_s * 1e9
    buckets = np.minimum((np.log2(ns / LEAST_NS) * PER_OCTAVE).astype(np.int32) + 1, BUCKETS - 1)
    buckets[np.arange(shape[2]) >= count[:, :, None]] = -1
    return np.asarray(buckets)


def _reference(minute: list[Array], quantile: float) -> Array:
    """The bucket of the quantile of the slots before, by run and process; -1 where too little is known."""
    together = np.concatenate(minute, axis=2)
    known = (together >= 0).sum(axis=2)
    together = np.sort(np.where(together < 0, BUCKETS, together), axis=2)
    place = np.clip(np.ceil(quantile * known - 1e-9).astype(int) - 1, 0, together.shape[2] - 1)
    bucket = np.take_along_axis(together, place[:, :, None], axis=2)[:, :, 0]
    return np.where(known >= LEAST, bucket, -1)


def _look_at_slots(found: Times, slow: Array, now: int, log_harm: float, log_safe: float) -> None:
    half = np.full(slow.shape[1], 0.5)
    for direction, level, at in (("harm", log_harm, found.slow_harm), ("safe", log_safe, found.slow_safe)):
        ratios = np.asarray(alternatives("harm" if direction == "harm" else "safe", 0.0))
        crossed = log_mean_exp(label_logs(half, slow[0], slow[1], ratios, 1.0)) >= level
        at[crossed & (at < 0)] = now


def _count(histogram: Array, buckets: Array) -> None:
    runs = np.repeat(np.arange(len(histogram)), buckets[0].size)
    flat = buckets.reshape(-1)
    kept = flat >= 0
    np.add.at(histogram, (runs[kept], np.clip(flat[kept] - _FIRST, 0, _KEPT - 1)), 1)


def _look_at_quantile(
    found: Times, histograms: Array, how: Lateness, now: int, log_harm: float, log_safe: float
) -> None:
    """The evidence is the least over all times; where it is small at one of them, it is not looked for elsewhere."""
    mine, base = histograms
    shift = math.log2(1 + how.margin) * PER_OCTAVE
    for first, second, moved, level, at, test in (
        (base, mine, math.ceil(shift - 1e-9), log_harm, found.latency_harm, log_e_harm),
        (mine, base, -math.floor(shift + 1e-9), log_safe, found.latency_safe, log_e_safe),
    ):
        open_ = np.flatnonzero(at < 0)
        bound = _at_quantile(first[open_], second[open_], how.quantile, moved)
        for run in open_[bound >= level]:
            pair = [_whole(histogram[run]) for histogram in (base, mine)]
            if test(pair[0], pair[1], how.quantile, how.margin) >= level:
                at[run] = now


def _at_quantile(first: Array, second: Array, p: float, shift: int) -> Floats:
    below = np.cumsum(first, axis=1)
    bucket = (below < p * below[:, -1:]).sum(axis=1)
    rows = np.arange(len(first))
    k_first = np.where(bucket > 0, below[rows, np.maximum(bucket - 1, 0)], 0)
    upto = np.cumsum(second, axis=1)
    k_second = upto[rows, np.clip(bucket + shift, 0, upto.shape[1] - 1)]
    one = log_mixture(k_first.astype(float), below[:, -1].astype(float), p, above=True)
    return one + log_mixture(k_second.astype(float), upto[:, -1].astype(float), p, above=False)


def _whole(part: Array) -> LogHistogram:
    counts = [0] * BUCKETS
    counts[_FIRST : _FIRST + _KEPT] = [int(count) for count in part]
    return LogHistogram(counts)


def median(seconds: Array) -> float | None:
    """Of all runs: None if half of them never got there."""
    order = np.sort(np.where(seconds < 0, np.inf, seconds))
    middle = float(order[len(order) // 2])
    return None if math.isinf(middle) else middle
