"""Counting the answers of one decoupled model's version: how many, when each came, and how it ended.

Triton's `response_stats`: the first answers of all requests are counted together, so are the second ones, and so on.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum

MAX_COUNTED = 1024
"""Answers of one request that are counted by their place; those that follow are counted with the last of these."""


class AnswerKind(IntEnum):
    """How one answer ended: Triton's words for it."""

    SUCCESS = 0
    FAIL = 1
    EMPTY_RESPONSE = 2
    CANCEL = 3


_KINDS = tuple(kind.name.lower() for kind in AnswerKind)


class _Place:
    """All answers that came at one place among those of their requests."""

    __slots__ = ("counts", "ns")

    def __init__(self) -> None:
        self.counts = [0] * len(AnswerKind)
        self.ns = [0] * len(AnswerKind)


class ResponseCounts:
    """Those of one version. Times of one request add up to its run: each answer takes from the one before it."""

    def __init__(self) -> None:
        self._places: list[_Place] = []

    def count(self, place: int, kind: AnswerKind, ns: int) -> None:
        """The answer at `place` among its request's came `ns` after the one before it, or after the run began."""
        place = min(place, MAX_COUNTED - 1)
        while len(self._places) <= place:
            self._places.append(_Place())
        told = self._places[place]
        told.counts[kind] += 1
        told.ns[kind] += ns

    def totals(self) -> Iterator[tuple[str, int]]:
        """Answers by how they ended."""
        for kind in AnswerKind:
            yield _KINDS[kind], sum(place.counts[kind] for place in self._places)

    def to_json(self) -> dict[str, dict[str, dict[str, int]]]:
        """Triton's `response_stats`, its keys in Triton's order."""
        return {str(number): _told(place) for number, place in enumerate(self._places)}


def _told(place: _Place) -> dict[str, dict[str, int]]:
    """The model is thought to compute from one answer to the next: giving it away costs nothing that is measured."""
    computed = place.counts[AnswerKind.SUCCESS]
    kinds = zip(_KINDS, place.counts, place.ns, strict=True)
    return {
        "compute_infer": {"count": computed, "ns": place.ns[AnswerKind.SUCCESS]},
        "compute_output": {"count": computed, "ns": 0},
        **{name: {"count": count, "ns": ns} for name, count, ns in kinds},
    }
