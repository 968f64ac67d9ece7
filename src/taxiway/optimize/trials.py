"""What is known of a candidate, and which of several is better. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Final

import msgspec

from taxiway.optimize.promise import Verdict
from taxiway.optimize.recipes import Dynamic, Recipe, Static
from taxiway.optimize.workshop.orders import Times


class Fate(StrEnum):
    """What became of a candidate."""

    RECOMMENDED = "recommended"
    KEPT = "kept"
    """It keeps the promise, proven on data held out of everything."""
    UNPROVEN = "not enough data"
    BROKEN = "broken"
    DROPPED = "dropped"
    """It never came to a proof; the reason says why."""


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """One candidate.

    Attributes:
        path: its file; empty: it could not be made.
        size: bytes.
        speed: a multiple of the baseline's at the workload; None: this machine cannot tell.
        alone_speed: the same for requests of one row each, as they are served: of a steady model merged, else one by
            one, beside the baseline's merged; None: not measured.
        drop, error: estimated on the samples that choose, with the standard error.
        distortion: one minus the cosine to the baseline.
        memory: bytes a process grows by with it; None: not weighed.
        repaired_from: the recipe whose broken promise this one mends.
    """

    recipe: Recipe
    target: str
    fate: Fate = Fate.DROPPED
    reason: str = ""
    path: str = ""
    size: int = 0
    speed: float | None = None
    speed_low: float | None = None
    speed_high: float | None = None
    alone_speed: float | None = None
    times: Times | None = None
    drop: float | None = None
    error: float | None = None
    distortion: float | None = None
    memory: int | None = None
    verdict: Verdict | None = None
    repaired_from: str = ""

    @property
    def name(self) -> str:
        """The variant's word."""
        return self.recipe.name if self.target == "cpu" else f"{self.recipe.name}.{self.target}"


FASTER: Final = 1.03
"""Times the baseline's speed: what a measurement can tell from nothing, where its lower quartile is above 1 too."""


def is_faster(trial: Trial) -> bool:
    """Whether it beats the baseline by more than a measurement errs."""
    return trial.speed is not None and trial.speed > FASTER and (trial.speed_low or 0.0) > 1.0


def is_steady(recipe: Recipe) -> bool:
    """Whether a row's answer is the same whatever rows share its batch: ranges measured at run time are the batch's."""
    return not isinstance(recipe, Dynamic) and not (isinstance(recipe, Static) and recipe.measured)


def probably_keeps(trial: Trial, max_drop: float) -> bool:
    """Whether a proof has a chance: the estimate and half its error are inside."""
    return trial.drop is not None and trial.error is not None and trial.drop + 0.5 * trial.error <= max_drop


def quickness(trial: Trial) -> tuple[float, int]:
    """To sort by: the faster first, then the smaller; where speed is unknown, the smaller."""
    return (-(trial.speed if trial.speed is not None else 0.0), trial.size)


def pareto(trials: Sequence[Trial]) -> list[Trial]:
    """Those that no other beats in speed, size and quality at once."""
    return [one for one in trials if not any(_beats(other, one) for other in trials if other is not one)]


def _beats(one: Trial, other: Trial) -> bool:
    mine, theirs = _merits(one), _merits(other)
    return all(a >= b for a, b in zip(mine, theirs, strict=True)) and mine != theirs


def _merits(trial: Trial) -> tuple[float, ...]:
    """Higher is better. Differences that a measurement makes are none."""
    speed = round((trial.speed or 0.0) * 50) / 50
    drop = round(trial.drop if trial.drop is not None else 1.0, 4)
    return (speed, -round(trial.size / 1024), -drop, float(is_steady(trial.recipe)))


def worthwhile(trials: Sequence[Trial], baseline_size: int) -> list[Trial]:
    """Those that are faster than the baseline, or smaller than it and than every faster one."""
    ranked = sorted(trials, key=quickness)
    found: list[Trial] = []
    for trial in ranked:
        smallest = min((one.size for one in found), default=int(0.9 * baseline_size))
        if trial.speed is None or is_faster(trial) or trial.size < smallest:
            found.append(trial)
    return found
