"""When an instance's next run starts and who is in it: pure choices, the clock passed in.

Both rules are Triton's (core, src/sequence_batch_scheduler and src/dynamic_batch_scheduler), but for one thing: where
rows differ in shape it is the step that has waited longest, not the lowest row, that the others must be like.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import takewhile

from taxiway.config.sequence_spec import OldestStrategy
from taxiway.server.sequencing.plan import SequencePlan


@dataclass(frozen=True, slots=True)
class Candidate:
    """The next step of a sequence that has none running.

    Attributes:
        arrived_ns: when the step came.
        place: the place of its sequence.
        shapes: equal for steps that can share a run.
    """

    arrived_ns: int
    place: int
    shapes: Hashable


@dataclass(frozen=True, slots=True)
class Together:
    """Run these now: indices of candidates by row; None is a row without a step."""

    rows: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class Later:
    """Run nothing; look again at `until_ns`, or when something changes."""

    until_ns: int


def decide_run(
    candidates: Sequence[Candidate], now_ns: int, plan: SequencePlan, *, hurried: bool = False
) -> Together | Later:
    """What an idle instance runs of its `candidates`, which are in the order in which they became ready.

    `hurried`: nothing waits for company.
    """
    oldest_ns = min(candidate.arrived_ns for candidate in candidates)
    strategy = plan.strategy
    until_ns = now_ns if hurried else oldest_ns + strategy.max_queue_delay_ns
    if isinstance(strategy, OldestStrategy):
        return _decide_oldest(candidates, until_ns, now_ns, strategy, plan.merged_rows)
    if len(candidates) < strategy.minimum_slot_utilization * plan.places and until_ns > now_ns:
        return Later(until_ns)
    return Together(_by_place(candidates, oldest_ns))


def _by_place(candidates: Sequence[Candidate], oldest_ns: int) -> tuple[int | None, ...]:
    """Each in the row of its place, up to the last one that is filled."""
    shapes = next(candidate.shapes for candidate in candidates if candidate.arrived_ns == oldest_ns)
    alike = {candidate.place: index for index, candidate in enumerate(candidates) if candidate.shapes == shapes}
    return tuple(alike.get(place) for place in range(max(alike) + 1))


def _decide_oldest(
    candidates: Sequence[Candidate], until_ns: int, now_ns: int, strategy: OldestStrategy, most: int
) -> Together | Later:
    """Nobody overtakes: the run is the first candidates, as far as they are alike."""
    first = candidates[0].shapes
    alike = sum(1 for _ in takewhile(lambda candidate: candidate.shapes == first, candidates))
    count = min(alike, most)
    if strategy.max_queue_delay_ns and until_ns <= now_ns:
        return Together(tuple(range(count)))
    preferred = max((size for size in strategy.preferred_sizes if size <= count), default=0)
    if preferred:
        return Together(tuple(range(preferred)))
    cannot_grow = count == most or count < len(candidates)
    return Together(tuple(range(count))) if cannot_grow or until_ns <= now_ns else Later(until_ns)
