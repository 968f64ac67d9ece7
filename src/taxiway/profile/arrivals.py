"""When requests come, whatever the server does: sorted offsets in seconds from the beginning. Pure.

Every process here is stationary: as likely to have an arrival in its first second as in any other, so that a short run
offers the rate that was asked for in the mean. A renewal process whose first gap is drawn as all others are does not:
it offers (cv² - 1) / 2 requests too many (W. Feller, An Introduction to Probability Theory, volume 2, XI.4).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from taxiway.core.errors import InvalidArgument

MAX_REQUESTS: Final = 10_000_000
"""Of one run: the generator and its report hold some 200 bytes for each."""
_MAX_CV = 100.0
_MAX_FACTOR = 1e6


class Arrivals(Protocol):
    """A process of arrivals."""

    def offsets(self, rng: np.random.Generator, rate_per_s: float, duration_s: float) -> NDArray[np.float64]:
        """Sorted seconds from the beginning, all below `duration_s`, shape (requests,)."""


@dataclass(frozen=True, slots=True)
class Constant:
    """At even distances, the first at once."""

    def offsets(self, rng: np.random.Generator, rate_per_s: float, duration_s: float) -> NDArray[np.float64]:  # noqa: ARG002
        """One every 1 / rate seconds."""
        times = np.arange(math.ceil(rate_per_s * duration_s) + 1) / rate_per_s
        return times[times < duration_s]


@dataclass(frozen=True, slots=True)
class Poisson:
    """Independent of each other, as those of many users are."""

    def offsets(self, rng: np.random.Generator, rate_per_s: float, duration_s: float) -> NDArray[np.float64]:
        """Exponential distances: given how many there are, they lie anywhere."""
        return np.sort(rng.random(int(rng.poisson(rate_per_s * duration_s)))) * duration_s


@dataclass(frozen=True, slots=True)
class Gamma:
    """Distances of a gamma distribution with this coefficient of variation: above 1 in clusters, below 1 more even.

    Raises:
        InvalidArgument: `cv` is not above 0 and at most 100.
    """

    cv: float

    def __post_init__(self) -> None:
        _check("cv", self.cv, _MAX_CV)

    def offsets(self, rng: np.random.Generator, rate_per_s: float, duration_s: float) -> NDArray[np.float64]:
        """Independent distances; the first is what is left of one that began before."""
        shape = 1 / self.cv**2
        scale = 1 / (rate_per_s * shape)
        first = rng.random() * rng.gamma(shape + 1, scale)  # of a gap chosen by its length, some uniform part is left
        parts = [np.array([first])]
        reached = first
        while reached < duration_s:
            ahead = rate_per_s * (duration_s - reached)
            times = reached + np.cumsum(rng.gamma(shape, scale, int(ahead + 4 * self.cv * math.sqrt(ahead) + 16)))
            parts.append(times)
            reached = float(times[-1])
        times = np.concatenate(parts)
        return times[times < duration_s]


@dataclass(frozen=True, slots=True)
class Bursts:
    """Poisson at two rates in turn (MMPP-2): `factor` times as many while on as while off, for exponential times.

    W. Fischer and K. Meier-Hellstern, The Markov-modulated Poisson process (MMPP) cookbook, 1993.

    Attributes:
        on_s: mean seconds of a burst.
        off_s: mean seconds between two.
        factor: rate in a burst by rate between bursts.

    Raises:
        InvalidArgument: one of them is not above 0, or out of reason.
    """

    on_s: float
    off_s: float
    factor: float

    def __post_init__(self) -> None:
        _check("on", self.on_s, 1e6)
        _check("off", self.off_s, 1e6)
        _check("factor", self.factor, _MAX_FACTOR)

    def rates(self, rate_per_s: float) -> tuple[float, float]:
        """Requests per second while on and while off that give `rate_per_s` in the mean."""
        off = rate_per_s * (self.on_s + self.off_s) / (self.factor * self.on_s + self.off_s)
        return off * self.factor, off

    def offsets(self, rng: np.random.Generator, rate_per_s: float, duration_s: float) -> NDArray[np.float64]:
        """Arrivals of rate 1 in a time that runs as fast as requests come (Lewis and Shedler 1979), read backwards."""
        borders, rates = self._phases(rng, rate_per_s, duration_s)
        expected = np.concatenate([[0.0], np.cumsum(np.diff(borders) * rates)])
        whole = float(expected[-1])
        return np.interp(np.sort(rng.random(int(rng.poisson(whole)))) * whole, expected, borders)

    def _phases(
        self, rng: np.random.Generator, rate_per_s: float, duration_s: float
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Where each phase begins and ends, shape (phases + 1,), and its rate, shape (phases,)."""
        is_on = bool(rng.random() < self.on_s / (self.on_s + self.off_s))
        on, off = self.rates(rate_per_s)
        borders, rates = [0.0], []
        while borders[-1] < duration_s:
            borders.append(min(borders[-1] + rng.exponential(self.on_s if is_on else self.off_s), duration_s))
            rates.append(on if is_on else off)
            is_on = not is_on
        return np.array(borders), np.array(rates)


@dataclass(frozen=True, slots=True, eq=False)
class Replay:
    """As requests once came: distances are all multiplied alike, so their coefficient of variation stays.

    Attributes:
        times_s: when they came, sorted; the first is sent at once. Shape (requests,).
        scale: what distances are multiplied with: 0.5 is twice as fast. None: whatever gives the rate that is asked
            for; else that rate is ignored.
        repeats: whether to begin again, one mean distance after the last, where the run is longer than the trace.
        begin: the number, from 0, of the request that is sent first; those before it come again where it repeats.

    Raises:
        InvalidArgument: there is no request, they are not sorted, `scale` is not above 0, or none is of number `begin`.
    """

    times_s: NDArray[np.float64]
    scale: float | None = 1.0
    repeats: bool = False
    begin: int = 0

    def __post_init__(self) -> None:
        if self.scale is not None:
            _check("scale", self.scale, 1e9)
        if not len(self.times_s) or not np.isfinite(self.times_s).all() or (np.diff(self.times_s) < 0).any():
            raise InvalidArgument(
                f"a replay of {len(self.times_s)} requests needs at least one, and times that are finite and sorted",
                hint="record one with `taxiway record`, or sort the lines by `at_s`",
            )
        if not 0 <= self.begin < len(self.times_s):
            raise InvalidArgument(
                f"begin is {self.begin} and must be the number of one of {len(self.times_s)} requests",
                hint="0 is the first",
                field="begin",
            )

    def offsets(self, rng: np.random.Generator, rate_per_s: float, duration_s: float) -> NDArray[np.float64]:  # noqa: ARG002
        """Those below `duration_s`; none are drawn.

        Raises:
            InvalidArgument: repeated that often they are too many.
        """
        scale = self._scale(rate_per_s)
        period = float(self.times_s[-1] - self.times_s[0] + self._mean_gap_s()) * scale
        times: NDArray[np.float64] = (self.times_s[self.begin :] - self.times_s[self.begin]) * scale
        if self.repeats:
            before = (self.times_s[: self.begin] - self.times_s[self.begin]) * scale
            times = np.concatenate([times, before + period])
        if self.repeats and 0 < period < duration_s:
            count = math.ceil(duration_s / period)
            if count * len(times) > MAX_REQUESTS:
                told = f"the replay has {len(times)} requests in {period:g} s, {count * len(times)} in {duration_s:g} s"
                raise InvalidArgument(
                    f"{told}; a run has at most {MAX_REQUESTS}", hint="give a shorter duration or a larger scale"
                )
            starts = np.arange(count) * period
            times = (starts[:, None] + times[None, :]).ravel()
        return times[times < duration_s]

    def _mean_gap_s(self) -> float:
        span = float(self.times_s[-1] - self.times_s[0])
        return span / (len(self.times_s) - 1) if len(self.times_s) > 1 else 0.0

    def _scale(self, rate_per_s: float) -> float:
        if self.scale is not None:
            return self.scale
        gap = self._mean_gap_s()
        return 1 / (rate_per_s * gap) if gap else 1.0


_WORDS = "constant, poisson, gamma:cv=2, bursts:on=1s,off=4s,factor=10 or replay:scale=0.5,repeat"


def parse_arrival(text: str, times_s: NDArray[np.float64] | None = None) -> Arrivals:
    """What a person writes: `constant`, `poisson`, `gamma:cv=2`, `bursts:on=1s,off=4s,factor=10`, `replay`.

    `replay:scale=0.5` is twice as fast, `replay:fit` at the rate that is asked for, `replay:repeat` without end.

    Args:
        text: that.
        times_s: of the workload, for a replay; None: it has none.

    Raises:
        InvalidArgument: it is none of these, or a value breaks a rule.
    """
    kind, _, rest = text.partition(":")
    words = _Words(text, rest)
    if kind == "replay":
        found: Arrivals = _replay(words, times_s)
    elif kind == "gamma":
        found = Gamma(words.number("cv"))
    elif kind == "bursts":
        found = Bursts(words.seconds("on"), words.seconds("off"), words.number("factor"))
    elif kind in ("constant", "poisson"):
        found = Constant() if kind == "constant" else Poisson()
    else:
        raise InvalidArgument(f"arrival {text!r} begins with none of the known kinds", hint=f"write {_WORDS}")
    words.end()
    return found


def _replay(words: _Words, times_s: NDArray[np.float64] | None) -> Replay:
    if times_s is None:
        raise InvalidArgument(
            f"arrival {words.text!r} needs the times of a workload, and there are none",
            hint="give a workload whose lines have `at_s`, such as one of `taxiway record`",
        )
    repeats = words.flag("repeat")
    if words.flag("fit"):
        return Replay(times_s, None, repeats)
    return Replay(times_s, words.number("scale", 1.0), repeats)


class _Words:
    """The `key=value` behind the colon, each taken once."""

    def __init__(self, text: str, rest: str) -> None:
        self.text = text
        parts = [part.partition("=") for part in rest.split(",") if part]
        self._left = {key.strip(): value.strip() for key, _, value in parts}

    def number(self, key: str, default: float | None = None) -> float:
        """The number of this key."""
        return self._number(key, self._left.pop(key, None), default)

    def seconds(self, key: str) -> float:
        """The time of this key in seconds, written 1.5, 1.5s or 1500ms."""
        said = self._left.pop(key, None)
        if said is not None and said.endswith("ms"):
            return self._number(key, said.removesuffix("ms"), None) / 1000
        return self._number(key, None if said is None else said.removesuffix("s"), None)

    def flag(self, key: str) -> bool:
        """Whether it is there."""
        return self._left.pop(key, None) is not None

    def end(self) -> None:
        """Refuse what nobody asked for."""
        if self._left:
            raise InvalidArgument(
                f"arrival {self.text!r} has an unknown {next(iter(self._left))!r}", hint=f"write {_WORDS}"
            )

    def _number(self, key: str, said: str | None, default: float | None) -> float:
        if said is None and default is not None:
            return default
        try:
            return float(said or "")
        except ValueError:
            problem = f"lacks {key!r}" if said is None else f"has {key}={said!r}, which is no number"
            raise InvalidArgument(f"arrival {self.text!r} {problem}", hint=f"write {_WORDS}") from None


def _check(name: str, value: float, most: float) -> None:
    if not 0 < value <= most:  # also what is not a number
        raise InvalidArgument(
            f"{name} is {value:g} and must be above 0 and at most {most:g}", hint=f"write {_WORDS}", field=name
        )
