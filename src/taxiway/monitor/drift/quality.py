"""How right one version is: by labels as they come back, and without them from how sure it says that it is.

An answer is remembered by its request's id until its label comes. What labels say teaches how often the version is
right at each confidence; from then on the accuracy of rows without labels is estimated by that.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from taxiway.core.samples import SampledRows
from taxiway.monitor.drift.columns import Column
from taxiway.stats.change import Counts, State, packed, unpacked
from taxiway.stats.confidence_sets import share_interval
from taxiway.stats.label_free import BINS, AccuracyEstimate, ConfidenceCurve, bins_of

MOST_ANSWERS: Final = 100_000
"""Answers that wait for their labels; of more, the oldest are forgotten."""
MOST_SLICES: Final = 100
"""Values of slices that are told apart; what is more counts as `other`."""
LEAST_LABELLED: Final = 200
"""Rows with labels, below which nothing is estimated from confidence."""
_KEPT: Final = 20
"""Groups of rows that an estimate is made of, the last ones."""
_ALPHA: Final = 0.05
_BEST_AT: Final = 1000.0
"""Rows at which intervals are the shortest for their promise."""
_NO_BIN: Final = -1


@dataclass(frozen=True, slots=True)
class Remembered:
    """An answer that waits for its label.

    Attributes:
        bin: of its confidence; -1 if it has none.
        slices: names and values of those that it is in.
    """

    label: str
    bin: int
    slices: tuple[tuple[str, str], ...]


@dataclass(slots=True)
class Tally:
    """Rows with labels."""

    rows: int = 0
    right: int = 0

    def add(self, *, right: bool) -> None:
        """One more."""
        self.rows += 1
        self.right += right

    def told(self) -> dict[str, Any]:
        """With an interval of 95 % that holds at all times."""
        low, high = share_interval(self.right, self.rows, _ALPHA, _BEST_AT)
        return {"rows": self.rows, "accuracy": self.right / self.rows, "low": low, "high": high}


class QualityWatch:
    """Of one version.

    Args:
        slices: features by whose values accuracy is told apart.
    """

    def __init__(self, slices: Sequence[str] = ()) -> None:
        self._slices = tuple(slices)
        self._answers: OrderedDict[str, Remembered] = OrderedDict()
        self._tallies: dict[tuple[str, str], Tally] = {}
        self._rows: Counts = np.zeros(BINS, dtype=np.int64)
        self._right: Counts = np.zeros(BINS, dtype=np.int64)
        self._lately: deque[Counts] = deque(maxlen=_KEPT)
        self.all = Tally()

    def answered(self, rows: SampledRows, columns: Sequence[Column]) -> None:
        """Rows as they were answered, with their columns."""
        by_name = {column.name: column for column in columns}
        confidence = next((one for one in columns if one.name.endswith(".confidence") and one.is_numeric), None)
        bins = None if confidence is None else bins_of(np.asarray(confidence.values))
        if bins is not None:
            self._lately.append(np.bincount(bins, minlength=BINS))
        label = _label_column(columns)
        if label is not None and all(count == 1 for count in rows.counts):
            slices = [(name, by_name[name]) for name in self._slices if name in by_name]
            for at, request in enumerate(rows.ids):
                if request:
                    self._remember(request, at, label, bins, slices)

    def _remember(
        self,
        request: str,
        at: int,
        label: Column,
        bins: NDArray[np.intp] | None,
        slices: Sequence[tuple[str, Column]],
    ) -> None:
        inside = tuple((name, _word(column, at)) for name, column in slices)
        self._answers[request] = Remembered(_word(label, at), _NO_BIN if bins is None else int(bins[at]), inside)
        if len(self._answers) > MOST_ANSWERS:
            self._answers.popitem(last=False)

    def labelled(self, request: str, value: object) -> bool:
        """The label of a request has come; whether its answer was waiting for it."""
        answer = self._answers.pop(request, None)
        if answer is None:
            return False
        right = _said(value) == answer.label
        self.all.add(right=right)
        for slice_of in answer.slices:
            key = slice_of if slice_of in self._tallies or len(self._tallies) < MOST_SLICES else (slice_of[0], "other")
            self._tallies.setdefault(key, Tally()).add(right=right)
        if answer.bin != _NO_BIN:
            self._rows[answer.bin] += 1
            self._right[answer.bin] += right
        return True

    @property
    def estimate(self) -> AccuracyEstimate | None:
        """Of the last rows, without their labels; None until enough labels have come."""
        if self._rows.sum() < LEAST_LABELLED or not self._lately:
            return None
        return ConfidenceCurve.of_counts(self._rows, self._right).estimate(sum(self._lately, np.zeros_like(self._rows)))

    def told(self, *, unlike: bool) -> dict[str, Any]:
        """What is known; `unlike` says that rows are unlike any that labels were known of."""
        estimate, told = self.estimate, {}
        if self.all.rows:
            told["labelled"] = self.all.told()
        if estimate is not None:
            told["estimate"] = {
                "rows": estimate.rows,
                "accuracy": estimate.accuracy,
                "low": estimate.low,
                "high": estimate.high,
                "unreliable": unlike or estimate.on_thin_ground,
            }
        slices = [{"slice": name, "value": value, **one.told()} for (name, value), one in self._tallies.items()]
        return {**told, "slices": sorted(slices, key=lambda one: one["high"]), "waiting": len(self._answers)}

    def state(self) -> State:
        """What it knows; answers that wait for their labels are not kept."""
        return {
            "rows": packed(self._rows),
            "right": packed(self._right),
            "all": [self.all.rows, self.all.right],
            "slices": [[*key, one.rows, one.right] for key, one in self._tallies.items()],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` told."""
        self._rows, self._right = unpacked(state["rows"]), unpacked(state["right"])
        self.all = Tally(*state["all"])
        self._tallies = {(name, value): Tally(rows, right) for name, value, rows, right in state["slices"]}


def _label_column(columns: Sequence[Column]) -> Column | None:
    """What says which class an answer is: the best of its scores, or else its only word or whole number."""
    predictions = [one for one in columns if one.side == "prediction"]
    best = next((one for one in predictions if one.name.endswith(".label")), None)
    if best is not None:
        return best
    return next((one for one in predictions if not one.is_numeric or np.asarray(one.values).dtype.kind in "iub"), None)


def _word(column: Column, at: int) -> str:
    return _said(column.values[at])


def _said(value: object) -> str:
    """A label as it is compared: 1, 1.0 and "1" are the same."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)
