"""Verdicts computed again from the evidence that was stored with them: the same, bit for bit, or it is said where."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from taxiway.rollout.analysis import judge
from taxiway.rollout.journal import Journal
from taxiway.rollout.nouns import Evidence, Verdict

_AT_ONCE = 1000


class Replayed(Struct, frozen=True):
    """What came of one verdict.

    Attributes:
        generation: of the rollout after the event that it led to.
        evidence: the digest of what it follows from.
        outcome: as it was stored.
        differences: where the one computed now is another, as paths; none: it is the same, bit for bit.
    """

    generation: int
    evidence: str
    outcome: str
    differences: tuple[str, ...]


def differences(stored: Verdict, evidence: Evidence, plan: Mapping[str, Any]) -> tuple[str, ...]:
    """Where the verdict of this evidence is not the stored one: paths, with both values."""
    again = judge(evidence, plan, list(stored.arms))
    return tuple(_differences("verdict", msgspec.to_builtins(stored), msgspec.to_builtins(again)))


def _differences(path: str, one: Any, other: Any) -> Iterator[str]:  # noqa: ANN401 - plain data
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for key in {**one, **other}:
            yield from _differences(f"{path}.{key}", one.get(key), other.get(key))
    elif _is_list(one) and _is_list(other) and len(one) == len(other):
        for place, (mine, theirs) in enumerate(zip(one, other, strict=True)):
            yield from _differences(f"{path}[{place}]", mine, theirs)
    elif one != other:
        yield f"{path}: stored {one!r}, computed {other!r}"


def _is_list(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def replay_verdicts(journal: Journal, number: str) -> Iterator[Replayed]:
    """Every verdict of a rollout that moved it, oldest first.

    Raises:
        NotFound: there is no such rollout.
        JournalBroken: evidence is not what was stored, or is gone.
    """
    plan, last = journal.rollout(number).plan, 0
    while events := journal.events(number, after=last, limit=_AT_ONCE):
        last = events[-1].generation
        for event in events:
            told = event.payload.get("event", {}).get("verdict")
            if told is None or not event.evidence:
                continue
            stored = msgspec.convert(told, Verdict)
            found = differences(stored, journal.evidence(event.evidence), plan)
            yield Replayed(event.generation, event.evidence, stored.outcome.value, found)
