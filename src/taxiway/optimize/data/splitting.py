"""Which samples calibrate, which choose between recipes, and which, seen by neither, prove the promise. Pure.

Copies of a sample count once: they would not be the independent evidence that a proof counts. The way of a sample is
decided by what it is, so that data which grow keep their split.
"""

from __future__ import annotations

from dataclasses import dataclass

from taxiway.core.errors import InvalidArgument, NotEnoughData, OverlappingData
from taxiway.optimize.data.samples import Samples

CALIBRATING, CHOOSING = 0.15, 0.25
"""Shares of the data; the rest proves the promise, as a proof needs more samples than a choice."""

MOST_CALIBRATING = 128
"""More samples hardly move a range, and each costs a run with every tensor looked at."""

MOST_CHOOSING = 512

MOST_PROVING = 4096
"""An accuracy is known to a few tenths of a percent by then."""

SCREENED = 64

FEWEST = 20
"""Of these at least are needed in each part."""

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Split:
    """Three sets of samples without a sample in common."""

    calibrating: Samples
    choosing: Samples
    proving: Samples

    @property
    def screening(self) -> Samples:
        """Some of those that choose, from all over: they rank nodes and recipes before all are asked."""
        return self.choosing.first(SCREENED)


def split(samples: Samples) -> Split:
    """Three ways by the content of each sample.

    Raises:
        NotEnoughData: fewer than three times `FEWEST` different samples.
    """
    calibrating, rest = _part(_distinct(samples), CALIBRATING, MOST_CALIBRATING)
    choosing, proving = _part(rest, CHOOSING / (1 - CALIBRATING), MOST_CHOOSING)
    return _checked(Split(calibrating, choosing, proving.first(MOST_PROVING)))


def split_beside(samples: Samples, proving: Samples) -> Split:
    """Two ways; the proof's samples were given apart.

    Raises:
        OverlappingData: a sample is in both.
    """
    proven = {digest: at for at, digest in enumerate(proving.digests())}
    both = [(at, proven[digest]) for at, digest in enumerate(samples.digests()) if digest in proven]
    if both:
        shown = ", ".join(f"{one} = {other}" for one, other in both[:_SHOWN])
        raise OverlappingData(
            f"eval_data: {len(both)} of {len(proving)} samples are in the data as well (sample of data = sample of "
            f"eval_data: {shown}); what a recipe was made with cannot judge it",
            hint="take them out of one of the two, or leave --eval-data out: the data are then split without overlap",
            overlapping=len(both),
        )
    calibrating, rest = _part(_distinct(samples), CALIBRATING / (CALIBRATING + CHOOSING), MOST_CALIBRATING)
    choosing = rest.first(MOST_CHOOSING)
    return _checked(Split(calibrating, choosing, _distinct(proving).first(MOST_PROVING)))


def _distinct(samples: Samples) -> Samples:
    """The first of each sample's copies."""
    first: dict[bytes, int] = {}
    for at, digest in enumerate(samples.digests()):
        first.setdefault(digest, at)
    return samples if len(first) == len(samples) else samples.take(list(first.values()))


def _part(samples: Samples, share: float, most: int) -> tuple[Samples, Samples]:
    """A share of samples of which none is like another, and the others."""
    digests = samples.digests()
    count = min(most, max(FEWEST, round(share * len(samples))))
    places = sorted(range(len(samples)), key=digests.__getitem__)
    return samples.take(places[:count]), samples.take(places[count:])


def _checked(parts: Split) -> Split:
    for name, part in (("choose between recipes", parts.choosing), ("prove the promise", parts.proving)):
        if len(part) < FEWEST:
            raise NotEnoughData(
                f"data: {len(part)} different samples are left to {name}, which takes at least {FEWEST}",
                hint=f"give at least {3 * FEWEST} different samples; a few hundred make a proof of one percent",
                samples=len(part),
            )
    if not len(parts.calibrating):
        raise InvalidArgument("data: no samples", hint="give inputs of the model, an array for each by its name")
    return parts
