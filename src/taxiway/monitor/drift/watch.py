"""One version, watched: its rows held against a reference, row by row and block by block.

At first its rows become the reference, if it was given none. Then rows are counted, and every few hundred of them the
evidence is looked at: whether rows differ from the reference (tier 1). Counts of a whole block (a day) are held against
those of other blocks: whether today is unlike any day before (tier 2). Both promises hold for the life of the watch,
and share it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Self

import numpy as np

from taxiway.core.errors import FailedPrecondition
from taxiway.monitor.drift.columns import Column
from taxiway.monitor.drift.quality import QualityWatch
from taxiway.monitor.drift.reference import Reference, WatchedFeature
from taxiway.stats.block_martingale import BlockMartingale
from taxiway.stats.change import Counts, State, packed, unpacked
from taxiway.stats.drift_evidence import DriftEvidence
from taxiway.stats.drift_sizes import drift_sizes

NOW_ROWS: Final = 5_000
"""About how many of the last rows the size of a change is told of."""
LATE_S: Final = 60.0
"""Rows that are fewer than a look's are looked at after so long all the same."""
_FAR: Final = 0.25
"""A population stability index that is called a large change by convention."""
_KEPT_BLOCKS: Final = 400
_KEPT_LOOKS: Final = 1_000
_LEAST_OF_BLOCK: Final = 50
"""Rows without which a block says nothing."""


@dataclass(frozen=True, slots=True)
class WatchPlan:
    """How one version is watched.

    Attributes:
        promise: how likely a watch without any drift ever alarms, both tiers together.
        reference_rows: of a version's own first rows, where it was given no reference.
        look_rows: how many rows are looked at together, at least.
        block_s: how long a block is.
        reference_blocks: how many blocks are learned before one is judged.
        slices: features by whose values accuracy is told apart.
        tolerance_rows: shares are taken as known from at most so many rows of the reference; None: from all.
    """

    promise: float = 0.01
    reference_rows: int = 5_000
    look_rows: int = 500
    block_s: float = 86_400.0
    reference_blocks: int = 14
    tolerance_rows: int | None = None
    slices: tuple[str, ...] = ()

    @property
    def log_threshold(self) -> float:
        """Of each tier's evidence, as a natural logarithm."""
        return math.log(2.0 / self.promise)


@dataclass(frozen=True, slots=True)
class Look:
    """What was known after one look.

    Attributes:
        at_ns: of the newest row, in UTC nanoseconds.
        rows: since the reference.
        log_e: the evidence of all features together.
    """

    at_ns: int
    rows: int
    log_e: float


@dataclass(frozen=True, slots=True)
class Block:
    """One block that is over.

    Attributes:
        p_value: None: it was learned, or had too few rows to be judged.
    """

    began_ns: int
    rows: int
    p_value: float | None


@dataclass(slots=True)
class Learning:
    """Rows that are to become the reference."""

    parts: list[list[Column]] = field(default_factory=list)
    rows: int = 0

    def add(self, columns: list[Column], rows: int) -> None:
        """More of them; those with other features than the first ones are left out."""
        if self.parts and [one.name for one in self.parts[0]] != [one.name for one in columns]:
            return
        self.parts.append(columns)
        self.rows += rows

    def columns(self) -> list[Column]:
        """All of them, one part after the other."""
        return [_joined(same) for same in zip(*self.parts, strict=True)]


class Watch:
    """The watch over one version.

    Args:
        reference: what its rows are held against; None: its own first rows.
    """

    def __init__(self, plan: WatchPlan, reference: Reference | None = None) -> None:
        self.plan = plan
        self.quality = QualityWatch(plan.slices)
        self.reference: Reference | None = None
        self.learning = Learning()
        self.seen = self.dropped = 0
        """Requests that came, and those that could not be copied."""
        self.saved_rows = 0
        """Rows that a copy on the disk knows of."""
        self.looks: deque[Look] = deque(maxlen=_KEPT_LOOKS)
        self.blocks: deque[Block] = deque(maxlen=_KEPT_BLOCKS)
        self.alarmed_ns = 0
        """When the evidence of rows first reached its threshold; 0: never."""
        self.block_alarmed_ns = 0
        """The same of blocks."""
        if reference is not None:
            self.begin(reference)

    def begin(self, reference: Reference) -> None:
        """Hold rows against this from now on; what was known is forgotten."""
        features = reference.evidence_features()
        sizes = [len(one.reference) for one in features]
        tolerance = self.plan.tolerance_rows
        self.reference, self.learning = reference, Learning()
        self.evidence = DriftEvidence(features, tolerance=None if tolerance is None else float(tolerance))
        self.martingale = BlockMartingale(features)
        self._ends = np.cumsum(sizes)[:-1]
        self._pending = np.zeros(sum(sizes), dtype=np.int64)
        self._pending_rows = 0
        self._looked_ns = 0
        self._now: deque[tuple[int, Counts]] = deque()
        self._block = np.zeros(sum(sizes), dtype=np.int64)
        self._block_rows = self._block_ns = self._learned = 0
        self.alarmed_ns = self.block_alarmed_ns = 0
        self.looks.clear()
        self.blocks.clear()

    # --- rows -----------------------------------------------------------------------------------------------

    def add(self, columns: list[Column], rows: int, at_ns: int) -> None:
        """Rows as they came; `at_ns` is when the last of them did."""
        if self.reference is None:
            self._learn(columns, rows, at_ns)
            return
        counts = np.concatenate(self.reference.count(columns, rows))
        self._pending += counts
        self._pending_rows += rows
        self._add_to_block(counts, rows, at_ns)
        if self._pending_rows >= self.plan.look_rows or at_ns - self._looked_ns >= LATE_S * 1e9:
            self._look(at_ns)

    def _learn(self, columns: list[Column], rows: int, at_ns: int) -> None:
        self.learning.add(columns, rows)
        if self.learning.rows >= self.plan.reference_rows:
            source = f"its own first {self.learning.rows} rows in service"
            self.begin(Reference.of(self.learning.columns(), source, at_ns))

    def _look(self, at_ns: int) -> None:
        counts, rows = self._pending, self._pending_rows
        self._pending, self._pending_rows, self._looked_ns = np.zeros_like(counts), 0, at_ns
        self.evidence.add(counts, rows)
        self._now.append((rows, counts))
        while sum(rows for rows, _ in self._now) - self._now[0][0] >= NOW_ROWS:
            self._now.popleft()
        log_e = self.evidence.log_average
        self.looks.append(Look(at_ns, self.evidence.rows, log_e))
        if not self.alarmed_ns and log_e >= self.plan.log_threshold:
            self.alarmed_ns = at_ns

    # --- blocks ---------------------------------------------------------------------------------------------

    def _add_to_block(self, counts: Counts, rows: int, at_ns: int) -> None:
        began_ns = at_ns - at_ns % round(self.plan.block_s * 1e9)
        if began_ns != self._block_ns:
            self._end_block()
            self._block_ns = began_ns
        self._block += counts
        self._block_rows += rows

    def _end_block(self) -> None:
        counts, rows, began_ns = self._block, self._block_rows, self._block_ns
        self._block, self._block_rows = np.zeros_like(counts), 0
        if not began_ns:
            return
        p_value = None
        if rows >= _LEAST_OF_BLOCK and self._learned < self.plan.reference_blocks:
            self.martingale.learn(counts)
            self._learned += 1
        elif rows >= _LEAST_OF_BLOCK:
            p_value = self.martingale.judge(counts)
        self.blocks.append(Block(began_ns, rows, p_value))
        if not self.block_alarmed_ns and self.martingale.log_e >= self.plan.log_threshold:
            self.block_alarmed_ns = began_ns

    # --- over restarts --------------------------------------------------------------------------------------

    def state(self) -> State:
        """What it knows, as plain data; rows that are still to become a reference are not kept."""
        told: State = {"seen": self.seen, "dropped": self.dropped, "quality": self.quality.state()}
        if self.reference is None:
            return told
        return told | {
            "reference": self.reference.encode(),
            "alarms": [self.alarmed_ns, self.block_alarmed_ns],
            "evidence": self.evidence.state(),
            "martingale": self.martingale.state(),
            "pending": [self._pending_rows, packed(self._pending), self._looked_ns],
            "block": [self._block_rows, packed(self._block), self._block_ns, self._learned],
            "now": [[rows, packed(counts)] for rows, counts in self._now],
            "looks": [[one.at_ns, one.rows, one.log_e] for one in self.looks],
            "blocks": [[one.began_ns, one.rows, one.p_value] for one in self.blocks],
        }

    @classmethod
    def restored(cls, plan: WatchPlan, state: State) -> Self:
        """One that goes on from what another one knew.

        Raises:
            ValueError, LookupError, TaxiwayError: it is not that.
        """
        watch = cls(plan, Reference.decode(state["reference"]) if "reference" in state else None)
        watch.seen, watch.dropped = state["seen"], state["dropped"]
        watch.quality.restore(state["quality"])
        if watch.reference is None:
            return watch
        watch.alarmed_ns, watch.block_alarmed_ns = state["alarms"]
        watch.evidence.restore(state["evidence"])
        watch.martingale.restore(state["martingale"])
        watch._pending_rows, pending, watch._looked_ns = state["pending"]
        watch._block_rows, block, watch._block_ns, watch._learned = state["block"]
        watch._pending, watch._block = unpacked(pending), unpacked(block)
        watch._now.extend((rows, unpacked(counts)) for rows, counts in state["now"])
        watch.saved_rows = watch.rows
        watch.looks.extend(Look(*one) for one in state["looks"])
        watch.blocks.extend(Block(*one) for one in state["blocks"])
        return watch

    # --- what is known --------------------------------------------------------------------------------------

    @property
    def is_unlike(self) -> bool:
        """Whether inputs have moved far from the reference, and not by chance: what was learned may not hold."""
        if self.reference is None or not self.alarmed_ns:
            return False
        proven = zip(self.reference.features, self.evidence.log_e, self.now(), strict=True)
        return any(
            log_e >= self.plan.log_threshold and now.sum() and _psi(feature, now) >= _FAR
            for feature, log_e, now in proven
            if feature.side == "input"
        )

    @property
    def rows(self) -> int:
        """Rows that were held against the reference."""
        return 0 if self.reference is None else self.evidence.rows + self._pending_rows

    @property
    def log_e(self) -> float:
        """The evidence that rows differ, over all features."""
        return 0.0 if self.reference is None else self.evidence.log_average

    @property
    def block_log_e(self) -> float:
        """The evidence that blocks do."""
        return 0.0 if self.reference is None else self.martingale.log_e

    def as_reference(self, source: str, made_ns: int) -> Reference:
        """The last rows, for others to be held against, or itself from now on.

        Raises:
            FailedPrecondition: it has no reference yet by whose cells rows are counted, or they are too few.
        """
        if self.reference is None:
            raise FailedPrecondition(
                "it is learning its own reference, and counts in no cells yet", hint="wait for it, or give --data"
            )
        rows = self._pending_rows + sum(rows for rows, _ in self._now)
        return self.reference.recounted(self.now(), rows, source, made_ns)

    def now(self) -> list[Counts]:
        """The last rows in each cell, by feature."""
        total = self._pending + sum((counts for _, counts in self._now), np.zeros_like(self._pending))
        return np.split(total, self._ends)


def _psi(feature: WatchedFeature, now: Counts) -> float:
    return drift_sizes(feature.reference, now).psi


def _joined(same: Sequence[Column]) -> Column:
    first = same[0]
    if first.is_numeric:
        return Column(first.name, first.side, np.concatenate([np.asarray(one.values) for one in same]))
    return Column(first.name, first.side, [value for one in same for value in one.values])
