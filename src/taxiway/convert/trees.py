"""Decision trees of any framework, and rows that stand where they decide.

An exporter goes wrong at a split (a threshold rounded to the other side, a missing value sent down the wrong branch),
so that is where rows have to be: for a split, its path from the root is followed, and rows are made that reach it and
lie just below, on and just above its threshold, or lack the value. Whether a framework compares with < or <= does not
matter here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

LEAF = -1
REPEATS = 4
ENDLESS = 1e30
"""A threshold beyond it divides what is there from what is missing; no value lies near it."""


@dataclass(frozen=True, slots=True)
class Tree:
    """One tree as arrays over its nodes, the root first; `feature` is LEAF at a leaf.

    `missing_left` says of each split where a missing value goes, if the model tells. Where `equals` is true, a value
    goes left that is the threshold, and no other: a category.
    """

    feature: NDArray[np.intp]
    threshold: NDArray[np.float64]
    left: NDArray[np.intp]
    right: NDArray[np.intp]
    missing_left: NDArray[np.bool_] | None = None
    equals: NDArray[np.bool_] | None = None

    def asks_for(self, node: int) -> bool:
        """Whether the split asks for one category."""
        return self.equals is not None and bool(self.equals[node])


@dataclass(frozen=True, slots=True)
class Probes:
    """Rows at splits, with the origin of each; `splits` of `splits_in_all` are reached."""

    rows: NDArray[np.float64]
    origins: list[str]
    splits: int
    splits_in_all: int


class _Cells:
    """The pieces into which all thresholds cut each feature, each with one value inside it."""

    def __init__(self, trees: Sequence[Tree], width: int) -> None:
        found: list[list[NDArray[np.float64]]] = [[] for _ in range(width)]
        for tree in trees:
            for feature in np.unique(tree.feature[tree.feature != LEAF]):
                found[feature].append(tree.threshold[tree.feature == feature])
        self.edges = [_finite(np.unique(np.concatenate(parts))) if parts else np.empty(0) for parts in found]
        self.values = [_representatives(edges) for edges in self.edges]
        for feature in {int(f) for tree in trees if tree.equals is not None for f in tree.feature[tree.equals]}:
            self.values[feature] = np.append(self.edges[feature], self.values[feature][:1])  # categories, one unknown

    def random_rows(self, count: int, chance: np.random.Generator) -> NDArray[np.float64]:
        return np.column_stack([chance.choice(values, count) for values in self.values])

    def inside(self, feature: int, low: float, high: float, chance: np.random.Generator) -> float:
        """A value of `feature` above `low` and below `high`; where they are the same, that one."""
        if low == high and abs(low) < ENDLESS:
            return low
        first = int(np.searchsorted(self.edges[feature], low, side="right")) if low > -np.inf else 0
        last = int(np.searchsorted(self.edges[feature], high, side="left"))
        return float(self.values[feature][chance.integers(first, max(first, last) + 1)])


def probe_splits(
    trees: Sequence[Tree], width: int, datatype: DTypeLike, chance: np.random.Generator, *, splits: int, missing: bool
) -> Probes:
    """Rows for up to `splits` splits, and as many again from random cells.

    Edges are neighbours within `datatype`: what an artifact with such inputs can be sent.
    """
    cells = _Cells(trees, width)
    every = [(which, node) for which, tree in enumerate(trees) for node in np.flatnonzero(tree.feature != LEAF)]
    chosen = [every[i] for i in np.sort(chance.permutation(len(every))[:splits])]
    reached = len(chosen)
    chosen *= min(REPEATS, splits // max(reached, 1)) or 1  # one row may meet the same answer on both sides
    parents = {which: _parents(trees[which]) for which, _ in chosen}
    bases = cells.random_rows(len(chosen), chance)
    at_splits = [
        _rows_at(trees[which], node, parents[which], base, cells, datatype, chance, missing)
        for (which, node), base in zip(chosen, bases, strict=True)
    ]
    inside = cells.random_rows(max(len(chosen), 64), chance)
    rows = [inside, *at_splits]
    kinds = ["below a split", "on a split", "above a split", "missing at a split"][: 4 if missing else 3]
    origins = ["between splits"] * len(inside) + kinds * len(chosen)
    return Probes(np.concatenate(rows), origins, reached, len(every))


def divided(trees: Sequence[Tree], rows: NDArray[np.float64], at_most: int) -> int:
    """How many splits have a row on each side; no more than `at_most` are counted."""
    count = 0
    for tree in trees:
        waiting = [(0, np.arange(len(rows)))]
        while waiting and count < at_most:
            node, here = waiting.pop()
            if tree.feature[node] == LEAF or len(here) < 2:
                continue
            goes_left, is_told = _sides(tree, node, rows[here, tree.feature[node]])
            count += bool((goes_left & is_told).any() and (~goes_left & is_told).any())
            waiting += [(int(tree.left[node]), here[goes_left]), (int(tree.right[node]), here[~goes_left])]
    return count


def _sides(tree: Tree, node: int, values: NDArray[np.float64]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which of them go left, and which are there at all."""
    threshold = tree.threshold[node]
    goes_left = values == threshold if tree.asks_for(node) else values <= threshold
    is_missing = np.isnan(values)
    if tree.missing_left is not None and tree.missing_left[node]:
        goes_left = goes_left | is_missing
    return goes_left, ~is_missing


def _rows_at(
    tree: Tree,
    node: int,
    parents: NDArray[np.intp],
    row: NDArray[np.float64],
    cells: _Cells,
    datatype: DTypeLike,
    chance: np.random.Generator,
    missing: bool,
) -> NDArray[np.float64]:
    feature = int(tree.feature[node])
    for bound, (low, high) in _box(tree, node, parents).items():
        row[bound] = cells.inside(bound, low, high, chance)
    with np.errstate(over="ignore"):
        edge = np.asarray(tree.threshold[node]).astype(datatype)
    lowest, highest = edge.dtype.type(-np.inf), edge.dtype.type(np.inf)
    values: list[Any] = [np.nextafter(edge, lowest), edge, np.nextafter(edge, highest)]
    rows = np.tile(row, (4 if missing else 3, 1))
    rows[:, feature] = [*(value if abs(value) < ENDLESS else row[feature] for value in values), np.nan][: len(rows)]
    return rows


def _box(tree: Tree, node: int, parents: NDArray[np.intp]) -> dict[int, tuple[float, float]]:
    """What a row must satisfy to come to `node`."""
    box: dict[int, tuple[float, float]] = {}
    while parents[node] != LEAF:
        parent = int(parents[node])
        feature, threshold = int(tree.feature[parent]), float(tree.threshold[parent])
        low, high = box.get(feature, (-np.inf, np.inf))
        went_left = tree.left[parent] == node
        if tree.asks_for(parent):
            if went_left:
                box[feature] = (threshold, threshold)
            node = parent
            continue
        box[feature] = (low, min(high, threshold)) if went_left else (max(low, threshold), high)
        node = parent
    return box


def _parents(tree: Tree) -> NDArray[np.intp]:
    parents = np.full(len(tree.feature), LEAF)
    inner = np.flatnonzero(tree.feature != LEAF)
    parents[tree.left[inner]] = inner
    parents[tree.right[inner]] = inner
    return parents


def _finite(edges: NDArray[np.float64]) -> NDArray[np.float64]:
    return edges[np.abs(edges) < ENDLESS]


def _representatives(edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """One value of each piece: the middle between two edges, and one beyond each end."""
    if not len(edges):
        return np.array([0.0, 1.0, -1.0])
    reach = max(float(edges[-1] - edges[0]) * 0.1, abs(float(edges[0])) * 0.1, 1e-3)
    return np.concatenate([[edges[0] - reach], edges[:-1] + np.diff(edges) / 2, [edges[-1] + reach]])
