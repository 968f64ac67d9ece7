"""The framework's answers beside the artifact's: what counts as the same, and where it is not. Pure.

A number's error is relative to the expected one, but never to less than the output's scale times `FLOOR`: a prediction
that is nearly zero because large terms cancel, or a probability of one in a million that float32 forms as 1 - p, has
lost its last digits in the framework as well.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taxiway.convert.outcome import TOLERANCE, Parity, Worst

Arrays = Mapping[str, NDArray[Any]]
LABEL = "label"
PROBABILITIES = "probabilities"
ROUNDING = 1e-12
FLOOR = 0.1
ROW_VALUES_SHOWN = 256
"""A wider row is cut in the report."""


@dataclass(frozen=True, slots=True)
class Samples:
    """Rows at the full precision they have, by input, and where each comes from."""

    rows: dict[str, NDArray[Any]]
    origins: list[str]
    splits: int = 0
    splits_in_all: int = 0

    def __len__(self) -> int:
        return len(self.origins)


@dataclass(frozen=True, slots=True)
class Answered:
    """What the artifact said to rows `start`.. asked together."""

    start: int
    count: int
    outputs: Arrays


@dataclass(frozen=True, slots=True)
class _Errors:
    """Of one output in one batch: the error of each value, infinite where no number says how wrong it is."""

    output: str
    answered: Answered
    expected: NDArray[Any]
    values: NDArray[np.float64]

    @property
    def largest(self) -> float:
        return float(self.values.max(initial=0.0))

    @property
    def wrong_rows(self) -> list[int]:
        rows: list[int] = (self.answered.start + np.flatnonzero((self.values > TOLERANCE).any(axis=1))).tolist()
        return rows


def compare(datatype: str, samples: Samples, expected: Arrays, answers: Iterable[Answered]) -> Parity:
    """Judge every answer. The rows of `expected` are those of `samples`."""
    scales = {name: _scale(name, values) for name, values in expected.items()}
    tied = _ties(expected)
    labels_wrong: set[int] = set()
    numbers_wrong: set[int] = set()
    batches: set[int] = set()
    worst: _Errors | None = None
    largest_number = 0.0
    for answered in answers:
        batches.add(answered.count)
        for name, values in expected.items():
            wanted = values[answered.start : answered.start + answered.count]
            errors = _Errors(name, answered, wanted, _errors(name, wanted, answered.outputs[name], scales[name]))
            if name == LABEL:
                labels_wrong.update(errors.wrong_rows)
                if tied.issuperset(errors.wrong_rows):
                    continue
            else:
                numbers_wrong.update(errors.wrong_rows)
                largest_number = max(largest_number, errors.largest)
            if errors.largest > (worst.largest if worst else 0.0):
                worst = errors
    return Parity(
        datatype=datatype,
        rows=len(samples),
        batches=tuple(sorted(batches)),
        origins={origin: samples.origins.count(origin) for origin in dict.fromkeys(samples.origins)},
        splits=samples.splits,
        splits_in_all=samples.splits_in_all,
        tolerance=TOLERANCE,
        labels_wrong=len(labels_wrong - tied),
        numbers_wrong=len(numbers_wrong),
        ties=len(labels_wrong & tied),
        worst_relative_error=_finite(largest_number),
        has_labels=LABEL in expected,
        worst=_tell(worst, samples) if worst else None,
    )


def _ties(expected: Arrays) -> set[int]:
    """Rows that the framework itself cannot decide: its two best probabilities differ by rounding only."""
    if PROBABILITIES not in expected or expected[PROBABILITIES].shape[1] < 2:
        return set()
    second, best = np.sort(expected[PROBABILITIES].astype(np.float64), axis=1)[:, -2:].T
    return set(np.flatnonzero(best - second <= ROUNDING).tolist())


def _scale(name: str, values: NDArray[Any]) -> NDArray[np.float64]:
    """The usual size of each column's numbers; a probability's is 1, however small most are."""
    columns = by_row(values)
    if name in (LABEL, PROBABILITIES):
        return np.ones(columns.shape[1])
    return np.array([_usual_size(column) for column in np.abs(columns.astype(np.float64)).T])


def _usual_size(sizes: NDArray[np.float64]) -> float:
    sizes = sizes[np.isfinite(sizes) & (sizes > 0)]
    return float(np.median(sizes)) if len(sizes) else 0.0


def by_row(values: NDArray[Any]) -> NDArray[Any]:
    """As a matrix, whatever the shape: one row a row."""
    return values.reshape(len(values), -1)


def _errors(name: str, expected: NDArray[Any], got: NDArray[Any], scale: NDArray[np.float64]) -> NDArray[np.float64]:
    if got.shape != expected.shape:
        return np.full((len(expected), 1), np.inf)
    expected, got = by_row(expected), by_row(got)
    if not (_is_number(expected) and _is_number(got)):
        return _all_or_nothing(expected.astype(str) == got.astype(str))
    expected, got = expected.astype(np.float64), got.astype(np.float64)
    if name == LABEL:
        return _all_or_nothing(expected == got)
    with np.errstate(invalid="ignore", divide="ignore"):
        errors: NDArray[np.float64] = np.abs(got - expected) / np.maximum(np.abs(expected), scale * FLOOR)
    errors[(got == expected) | (np.isnan(got) & np.isnan(expected))] = 0.0
    errors[np.isnan(errors)] = np.inf
    return errors


def _is_number(values: NDArray[Any]) -> bool:
    return values.dtype.kind in "fiub"


def _all_or_nothing(same: NDArray[np.bool_]) -> NDArray[np.float64]:
    errors: NDArray[np.float64] = np.where(same, 0.0, np.inf)
    return errors


def _tell(errors: _Errors, samples: Samples) -> Worst:
    row, column = (int(i) for i in np.unravel_index(int(errors.values.argmax()), errors.values.shape))
    expected, got = errors.expected, errors.answered.outputs[errors.output]
    at = errors.answered.start + row
    shapes_differ = got.shape != expected.shape
    return Worst(
        output=errors.output,
        row=at,
        origin=samples.origins[at],
        batch=errors.answered.count,
        column=column,
        expected=f"shape {expected.shape}" if shapes_differ else _plain(by_row(expected)[row, column]),
        got=f"shape {got.shape}" if shapes_differ else _plain(by_row(got)[row, column]),
        relative_error=_finite(float(errors.values[row, column])),
        inputs={name: [_given(value) for value in _row(values, at)] for name, values in samples.rows.items()},
    )


def _row(values: NDArray[Any], at: int) -> Sequence[Any]:
    shown: list[Any] = values[at].reshape(-1)[:ROW_VALUES_SHOWN].tolist()
    return shown


def _finite(error: float) -> float | None:
    return error if math.isfinite(error) else None


def _plain(value: Any) -> float | str:  # noqa: ANN401 - an element of any array
    return float(value) if isinstance(value, (float, np.floating)) and math.isfinite(value) else str(value)


def _given(value: Any) -> float | str | None:  # noqa: ANN401 - an element of any array
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return None
    return value if isinstance(value, str) else _plain(float(value))
