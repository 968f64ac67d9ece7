"""Rows for a scikit-learn pipeline: made for its last step, and led back through the steps before it.

A way back may be lossy, or made up for some columns; so the splits that are told are those that the rows divide once
they have come forward again.

Where a step cannot be led back, and for estimators without trees, rows lie where the data lay as far as the fitted
attributes tell it: around a scaler's means, at the categories of an encoder, at support vectors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from taxiway.convert.foreign import SPLITS_PROBED, Foreign, Rows, takes
from taxiway.convert.frameworks.sklearn_trees import every_tree, trees_of
from taxiway.convert.parity import Samples
from taxiway.convert.trees import divided, probe_splits
from taxiway.core.tensors import Datatype
from taxiway.runtimes.hosted.guests.sklearn import Estimator, categories_of, steps_of
from taxiway.runtimes.hosted.tabular import MATRIX, Column

_ROWS: Final = 600
_SPREADS: Final = np.array([0.1, 1.0, 1.0, 3.0])
_UNKNOWN: Final = "taxiway: no such category"
_SEEN: Final = ("support_vectors_", "_fit_X", "X_train_", "X_fit_", "theta_", "means_", "centroids_")


def make_samples(model: Foreign, table: Estimator, datatype: Datatype, chance: np.random.Generator) -> Samples:
    """Rows at the splits where there are trees that can be led back to, else plausible ones."""
    steps = steps_of(table.estimator)
    plausible = _plausible_rows(model.columns, steps, chance)
    width = int(steps[-1].n_features_in_)
    trees = trees_of(steps[-1]) or every_tree(steps[-1], width)
    if not trees:
        return _with_gaps(model, _narrowed(plausible, datatype), chance)
    missing = len(steps) == 1 and takes(model, {MATRIX: np.full((1, model.columns[0].width), np.nan)})
    probes = probe_splits(trees, width, datatype.numpy_dtype, chance, splits=SPLITS_PROBED, missing=missing)
    led_back = _lead_back(probes.rows, steps[:-1], model.columns, chance)
    if led_back is None:
        return _with_gaps(model, _narrowed(plausible, datatype), chance)
    rows = _narrowed(led_back, datatype)
    splits = probes.splits
    if len(steps) > 1:
        forward = _come_forward(table.given(rows), steps[:-1])
        splits = 0 if forward is None else divided(trees, forward, at_most=probes.splits)
    return Samples(rows, probes.origins, splits, probes.splits_in_all)


def _narrowed(rows: dict[str, NDArray[Any]], datatype: Datatype) -> dict[str, NDArray[Any]]:
    """Numbers that inputs of this type can hold: what an artifact can never be sent proves nothing about it."""
    return {
        name: values if values.dtype == object else values.astype(datatype.numpy_dtype).astype(np.float64)
        for name, values in rows.items()
    }


def _come_forward(given: Any, steps: Sequence[Any]) -> NDArray[np.float64] | None:  # noqa: ANN401 - an array or a frame
    """What of these rows comes to the last step; None if a step refuses them, which the comparison tells."""
    try:
        for step in steps:
            given = step.transform(given)
    except Exception:  # noqa: BLE001 - however a framework refuses
        return None
    return np.asarray(given.toarray() if hasattr(given, "toarray") else given, dtype=np.float64)


# --- back through the steps ----------------------------------------------------------------------------


def _lead_back(
    rows: NDArray[np.float64], steps: Sequence[Any], columns: Sequence[Column], chance: np.random.Generator
) -> dict[str, NDArray[Any]] | None:
    """What has to be given so that `rows` come to the last step; None if a step has no way back."""
    for at in range(len(steps) - 1, -1, -1):
        if hasattr(steps[at], "transformers_"):
            return _through_columns(rows, steps[at], columns, chance) if at == 0 else None
        if not hasattr(steps[at], "inverse_transform"):
            return None
        rows = np.asarray(steps[at].inverse_transform(rows))
    return {MATRIX: rows} if columns[0].name == MATRIX else None


def _through_columns(
    rows: NDArray[np.float64],
    transformer: Any,  # noqa: ANN401
    columns: Sequence[Column],
    chance: np.random.Generator,
) -> dict[str, NDArray[Any]]:
    found: dict[str | int, NDArray[Any]] = {}
    for name, part, selected in transformer.transformers_:
        slots = transformer.output_indices_[name]
        if isinstance(part, str):
            values = rows[:, slots] if part == "passthrough" else None
        else:
            values = _inverse(part, rows[:, slots])
        for at, column in enumerate(selected):
            usable = values is not None and values.shape[1] == len(selected)
            found[column] = values[:, at] if usable and values is not None else _plausible(part, at, len(rows), chance)
    return _as_inputs(found, columns, len(rows))


def _inverse(part: Any, rows: NDArray[np.float64]) -> NDArray[Any] | None:  # noqa: ANN401
    for step in reversed(steps_of(part)):
        if hasattr(step, "statistics_"):  # an imputer leaves what is there as it is
            continue
        if not hasattr(step, "inverse_transform"):
            return None
        rows = np.asarray(step.inverse_transform(rows))
    return rows


def _as_inputs(
    found: Mapping[str | int, NDArray[Any]], columns: Sequence[Column], count: int
) -> dict[str, NDArray[Any]]:
    if columns[0].name == MATRIX and len(columns) == 1:
        blank = np.zeros(count)
        return {MATRIX: np.column_stack([found.get(i, blank) for i in range(columns[0].width)]).astype(np.float64)}
    inputs: dict[str, NDArray[Any]] = {}
    for column in columns:
        blank = np.full(count, "", dtype=object) if column.is_text else np.zeros(count)
        values = found.get(column.name, blank).reshape(-1, 1)
        inputs[column.name] = _as_text(values) if column.is_text else values.astype(np.float64)
    return inputs


def _as_text(values: NDArray[Any]) -> NDArray[Any]:
    return np.array([[_UNKNOWN if value is None else str(value)] for value in values[:, 0]], dtype=object)


# --- where the data lay --------------------------------------------------------------------------------


def _plausible_rows(
    columns: Sequence[Column], steps: Sequence[Any], chance: np.random.Generator
) -> dict[str, NDArray[Any]]:
    first = steps[0]
    if hasattr(first, "transformers_"):
        found = {
            column: _plausible(part, at, _ROWS, chance)
            for _, part, selected in first.transformers_
            for at, column in enumerate(selected)
        }
        return _as_inputs(found, columns, _ROWS)
    width = columns[0].width
    return {MATRIX: np.column_stack([_plausible(first, at, _ROWS, chance) for at in range(width)]).astype(np.float64)}


def _plausible(part: Any, at: int, count: int, chance: np.random.Generator) -> NDArray[Any]:  # noqa: ANN401
    """Values of the column that is the `at`th of what this step was fitted on."""
    categories = categories_of(part, at)
    if categories is not None:
        chosen: NDArray[Any] = chance.choice(np.append(categories.astype(object), _UNKNOWN), count)
        return chosen
    seen = next((values for step in steps_of(part) if (values := _seen_values(step, at)) is not None), None)
    if seen is not None:
        near: NDArray[np.float64] = chance.choice(seen, count) + chance.normal(0.0, 0.1 * np.std(seen), count)
        return near
    centre, spread = next((found for step in steps_of(part) if (found := _range(step, at))), (0.0, 1.0))
    around: NDArray[np.float64] = chance.normal(size=count) * chance.choice(_SPREADS, count)
    return centre + spread * around


def _seen_values(step: Any, at: int) -> NDArray[np.float64] | None:  # noqa: ANN401
    for name in _SEEN:
        values = getattr(step, name, None)
        if isinstance(values, np.ndarray) and values.ndim == 2 and values.shape[0] > 1 and at < values.shape[1]:
            return values[:, at].astype(np.float64)
    return None


def _range(step: Any, at: int) -> tuple[float, float] | None:  # noqa: ANN401
    """Centre and spread of a column, as the step was fitted."""
    for centre, spread in _ranges(step):
        if at < len(centre) and np.isfinite(centre[at]) and np.isfinite(spread[at]):
            return float(centre[at]), float(spread[at])
    return None


def _ranges(step: Any) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:  # noqa: ANN401
    scale = getattr(step, "scale_", None)
    if isinstance(scale, np.ndarray) and hasattr(step, "data_min_"):  # MinMaxScaler
        yield (step.data_min_ + step.data_max_) / 2, (step.data_max_ - step.data_min_) / 2
    elif isinstance(scale, np.ndarray):  # StandardScaler, RobustScaler, MaxAbsScaler
        centre = next((c for c in (getattr(step, n, None) for n in ("mean_", "center_")) if c is not None), None)
        yield np.zeros(len(scale)) if centre is None else np.asarray(centre), scale
    elif isinstance(getattr(step, "coef_", None), np.ndarray):
        strength = np.abs(np.atleast_2d(step.coef_)).max(axis=0)
        yield np.zeros(len(strength)), 1.0 / np.maximum(strength, 1e-3)


def _with_gaps(model: Foreign, rows: Rows, chance: np.random.Generator) -> Samples:
    """The rows, and again with some numbers missing if the framework answers that; without unknown texts if not."""
    given = {name: values.copy() for name, values in rows.items()}
    if not takes(model, given):
        given = {name: _known_only(values) for name, values in given.items()}
    origins = ["plausible"] * len(next(iter(given.values())))
    gaps = {name: _holed(values, chance) for name, values in given.items()}
    if not takes(model, gaps):
        return Samples(given, origins)
    both = {name: np.concatenate([values, gaps[name]]) for name, values in given.items()}
    return Samples(both, origins + ["with missing values"] * len(origins))


def _known_only(values: NDArray[Any]) -> NDArray[Any]:
    if values.dtype != object:
        return values
    known = next((value for value in values[:, 0] if value != _UNKNOWN), "")
    replaced: NDArray[Any] = np.where(values == _UNKNOWN, known, values)
    return replaced


def _holed(values: NDArray[Any], chance: np.random.Generator) -> NDArray[Any]:
    if values.dtype == object:
        return values
    return np.where(chance.random(values.shape) < 0.1, np.nan, values)
