"""Mends a recipe that breaks the promise: which nodes do the damage, and the fewest that have to stay out of it. Pure.

Damage is asked of classes of nodes first (all the second halves of feed-forward layers, say), then of the single nodes
of those classes that do most of it: it sits in few places, and finding them takes a score of short runs, where trying
every node of a network would take hundreds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from taxiway.optimize.graph.classes import NodeClass
from taxiway.optimize.recipes import Dynamic, Float8, Static
from taxiway.optimize.trials import Trial, probably_keeps

Mendable = Static | Dynamic | Float8
Look = Callable[[Mendable], Trial]
"""Makes a candidate and scores it on some samples; without its speed."""

WORST_SHARE = 0.85
"""Of the damage: the classes that do so much together are asked node by node."""

MOST_NODES = 24
"""Asked one by one; the others of their class are taken to do as much as each other."""

_HARMLESS = 1e-7


@dataclass(frozen=True, slots=True)
class Damage:
    """What one class of nodes does to the answers when it alone is quantized.

    Attributes:
        distortion: one minus the cosine to the baseline.
        by_node: the same for its nodes, where they were asked.
    """

    where: NodeClass
    distortion: float
    by_node: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Repaired:
    """What came of a repair.

    Attributes:
        damages: by class, the worst first.
        recipes: mixes that probably keep the promise; empty: none does.
    """

    damages: tuple[Damage, ...]
    recipes: tuple[Mendable, ...]


def sensitivity(recipe: Mendable, classes: Sequence[NodeClass], look: Look) -> tuple[Damage, ...]:
    """How much each class does, and each node of the worst classes; the worst first."""
    every = tuple(name for one in classes for name in one.nodes)
    damages = [Damage(one, _alone(recipe, one.nodes, every, look)) for one in classes]
    damages.sort(key=lambda one: -one.distortion)
    total = sum(one.distortion for one in damages)
    asked, told, so_far = 0, [], 0.0
    for one in damages:
        worst = so_far < WORST_SHARE * total and 1 < len(one.where.nodes) <= MOST_NODES - asked
        so_far += one.distortion
        if worst:
            asked += len(one.where.nodes)
            by_node = tuple((name, _alone(recipe, (name,), every, look)) for name in one.where.nodes)
            one = Damage(one.where, one.distortion, by_node)  # noqa: PLW2901 - the same class, better known
        told.append(one)
    return tuple(told)


def _alone(recipe: Mendable, nodes: Sequence[str], every: Sequence[str], look: Look) -> float:
    """The distortion with only these nodes quantized; all of it where no candidate came about."""
    kept = tuple(name for name in every if name not in set(nodes))
    trial = look(_keeping(recipe, kept, alone=True))
    return max(trial.distortion, _HARMLESS) if trial.distortion is not None else 1.0


def _keeping(recipe: Mendable, nodes: tuple[str, ...], *, alone: bool = False) -> Mendable:
    if isinstance(recipe, Static) and alone:
        return msgspec.structs.replace(recipe, keep=nodes, embeddings=False)
    return msgspec.structs.replace(recipe, keep=nodes)


def worst_first(damages: Sequence[Damage]) -> list[tuple[str, float]]:
    """Nodes with their damage, by damage for the work saved: what is gained by keeping each in floating point."""
    ranked = []
    for damage in damages:
        known = dict(damage.by_node)
        each = damage.distortion / len(damage.where.nodes)
        cost = max(damage.where.weight, 1)
        ranked += [(name, known.get(name, each), cost**0.5) for name in damage.where.nodes]
    return [(name, damage) for name, damage, cost in sorted(ranked, key=lambda one: -one[1] / one[2])]


def repair(
    broken: Trial, classes: Sequence[NodeClass], look: Look, max_drop: float, matmuls: frozenset[str]
) -> Repaired:
    """The mixes with the fewest exceptions that probably keep the promise.

    Args:
        broken: the one that breaks it, as scored.
        classes: of nodes that it quantizes.
        look: makes and scores a candidate.
        max_drop: what the promise allows.
        matmuls: nodes that can round their activations at run time instead of staying in floating point, which
            costs less speed and loses little.
    """
    recipe = broken.recipe
    assert isinstance(recipe, (Static, Dynamic, Float8))  # noqa: S101 - the caller chose it so
    damages = sensitivity(recipe, classes, look)
    worst = worst_first(damages)
    ranked = [name for name, _ in worst]
    guess = _guess([damage for _, damage in worst], max_drop / (broken.drop or 1.0))
    kept = _fewest(len(ranked), lambda count: look(_keeping(recipe, tuple(ranked[:count]))), max_drop, guess)
    recipes: list[Mendable] = [] if kept is None else [_keeping(recipe, tuple(ranked[:kept]))]
    if isinstance(recipe, Static) and recipe.activations == "uint8" and matmuls:
        mixes = [_measuring(recipe, tuple(ranked[:count]), matmuls) for count in range(len(ranked) + 1)]
        measured = _fewest(len(ranked), lambda count: look(mixes[count]), max_drop, kept or guess)
        if measured is not None and mixes[measured] not in recipes:  # where no product is among them
            recipes.append(mixes[measured])
    return Repaired(damages, tuple(recipes))


def _guess(damages: Sequence[float], share: float) -> int:
    """How many of the worst have to go, so that `share` of the damage is left, if damages added up."""
    left = allowed = sum(damages)
    allowed *= share
    for count, damage in enumerate(damages):
        if left <= allowed:
            return count
        left -= damage
    return len(damages)


def _measuring(recipe: Static, nodes: tuple[str, ...], matmuls: frozenset[str]) -> Static:
    return msgspec.structs.replace(
        recipe,
        measured=tuple(one for one in nodes if one in matmuls),
        keep=tuple(one for one in nodes if one not in matmuls),
    )


def _fewest(nodes: int, look: Callable[[int], Trial], max_drop: float, guess: int) -> int | None:
    """The smallest count that probably keeps the promise: from a guess outwards in doubling steps, then by halves.

    Keeping more nodes out does no harm, mostly. None: not even with half of them out.
    """
    most = max(1, nodes // 2)
    low, high, step = 0, min(max(guess, 1), most), 1
    while not probably_keeps(look(high), max_drop):
        if high == most:
            return None
        low, high, step = high, min(high + step, most), 2 * step
    step = 1
    while low == 0 and high > 1:
        lower = max(high - step, 1)
        if not probably_keeps(look(lower), max_drop):
            low = lower
            break
        high, step = lower, 2 * step
    while high - low > 1:
        middle = (low + high) // 2
        if probably_keeps(look(middle), max_drop):
            high = middle
        else:
            low = middle
    return high
