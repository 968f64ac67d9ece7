"""A graph's answers beside torch's, case by case.

A number's error is relative to the expected one, but never to less than the root of the mean square of its output:
what is nearly zero because large terms cancel has lost its digits in torch as well. Sums of float32 in another order
differ by more than those of trees do, so the tolerance is wider: 1e-4, and 1e-2 where an output has 16 bits. Whole
numbers and truth values, such as a token's or a class's, have no tolerance.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from taxiway.convert.outcome import Parity, Reason, Refused, Worst
from taxiway.convert.parity import ROW_VALUES_SHOWN
from taxiway.core.errors import ModelFailed
from taxiway.core.tensors import Datatype
from taxiway.runtimes.onnx import OnnxModel

if TYPE_CHECKING:
    from taxiway.convert.networks.network import Feeds, Network  # needs torch, which judging an answer does not

TOLERANCE: Final = 1e-4
TOLERANCE_OF_HALVES: Final = 1e-2


@dataclass(frozen=True)
class Case:
    """Arguments, and what torch answers them."""

    feeds: Feeds
    expected: dict[str, NDArray[Any]]
    origin: str

    @property
    def rows(self) -> int:
        """How many rows it has; a tensor without dimensions counts as one."""
        return next((values.shape[0] for values in self.feeds.values() if values.ndim), 1)


def cases_of(network: Network, given: bool) -> list[Case]:
    """The examples (from a file, if they were given), and cases like them of other sizes.

    Raises:
        Refused: torch itself does not answer one.
    """
    chance = np.random.default_rng(20)
    feeds = network.cases(chance)
    origins = ["given" if given else "example", *["like the examples"] * (len(feeds) - 1)]
    return [Case(one, _answer(network, one), origin) for one, origin in zip(feeds, origins, strict=True)]


def _answer(network: Network, feeds: Feeds) -> dict[str, NDArray[Any]]:
    try:
        return network.answer(feeds)
    except Exception as problem:
        sizes = ", ".join(f"{name} {list(values.shape)}" for name, values in feeds.items())
        raise Refused(
            Reason.UNSUPPORTED,
            f"{network.framework} itself fails on arguments of the sizes {sizes} with numbers like the examples': "
            f"{type(problem).__name__}: {str(problem)[:300]}",
            "export it with the sizes that it takes (torch.export.Dim with min and max)"
            f"; or let {network.framework} serve it",
        ) from problem


def prove(cases: Sequence[Case], model: OnnxModel) -> Parity:
    """Ask the graph every case.

    Raises:
        ModelFailed: it refuses one.
    """
    kinds = {spec.datatype for spec in (*model.inputs, *model.outputs)}
    tolerance = TOLERANCE_OF_HALVES if Datatype.FP16 in kinds else TOLERANCE
    wrong, largest, worst, at = 0, 0.0, None, 0
    for case in cases:
        errors = _errors_of(case, model)
        count = max(case.rows, 1)  # an empty argument may be answered, too
        rows = [_by_row(values, count).max(axis=1, initial=0.0) for values, _ in errors.values()]
        wrong += int(np.count_nonzero(np.max(rows, axis=0) > tolerance))
        for name, (values, got) in errors.items():
            error = float(values.max(initial=0.0))
            if error > largest or worst is None:
                largest, worst = max(error, largest), _tell(case, name, values, got, at)
        at += case.rows
    return Parity(
        datatype=model.inputs[0].datatype.wire_name,
        rows=at,
        batches=tuple(sorted({case.rows for case in cases})),
        origins=dict(Counter(case.origin for case in cases for _ in range(case.rows))),
        splits=0,
        splits_in_all=0,
        tolerance=tolerance,
        labels_wrong=0,
        numbers_wrong=wrong,
        ties=0,
        worst_relative_error=_finite(largest),
        has_labels=False,
        worst=worst if largest > 0 else None,
    )


def _errors_of(case: Case, model: OnnxModel) -> dict[str, tuple[NDArray[np.float64], NDArray[Any]]]:
    """By output, the error of each number and the graph's answer."""
    names = [spec.name for spec in model.inputs]
    unknown = set(names) - case.feeds.keys()
    if unknown or {spec.name for spec in model.outputs} != case.expected.keys():
        raise ModelFailed(f"the graph takes {names} and answers {[spec.name for spec in model.outputs]}")
    got = model.run({name: np.ascontiguousarray(case.feeds[name]) for name in names}, tuple(case.expected))
    return {name: (_errors(case.expected[name], one), one) for name, one in zip(case.expected, got, strict=True)}


def _errors(expected: NDArray[Any], got: NDArray[Any]) -> NDArray[np.float64]:
    if expected.shape != got.shape:
        shape = expected.shape if expected.size else (1,)  # wrong is wrong, though there be no number in it
        return np.full(shape, np.inf)
    if expected.dtype.kind != "f":
        equal: NDArray[np.bool_] = np.equal(expected, got)
        return np.where(equal, 0.0, np.inf)
    wanted, told = expected.astype(np.float64), got.astype(np.float64)
    finite = wanted[np.isfinite(wanted)]
    usual = math.sqrt(float(np.mean(np.square(finite)))) if finite.size else 0.0
    with np.errstate(invalid="ignore", divide="ignore"):
        errors: NDArray[np.float64] = np.abs(told - wanted) / np.maximum(np.abs(wanted), usual)
    errors = np.where((told == wanted) | (np.isnan(told) & np.isnan(wanted)), 0.0, errors)
    return np.where(np.isnan(errors), np.inf, errors)


def _by_row(values: NDArray[np.float64], rows: int) -> NDArray[np.float64]:
    """A row of errors for each row of the case; all of them for each, where the output has none."""
    if values.ndim and values.shape[0] == rows:
        return values.reshape(rows, -1) if values.size else np.zeros((rows, 1))
    return np.tile(values.reshape(1, -1), (rows, 1))


def _tell(case: Case, name: str, errors: NDArray[np.float64], got: NDArray[Any], at: int) -> Worst:
    expected = case.expected[name]
    same = expected.shape == got.shape
    place = int(errors.argmax()) if errors.size else 0
    row, column = divmod(place, max(errors.size // max(case.rows, 1), 1))
    return Worst(
        output=name,
        row=at + row,
        origin=case.origin,
        batch=case.rows,
        column=column,
        expected=_plain(expected.reshape(-1)[place]) if same and expected.size else f"shape {expected.shape}",
        got=_plain(got.reshape(-1)[place]) if same and got.size else f"shape {got.shape}",
        relative_error=_finite(float(errors.reshape(-1)[place])) if errors.size else None,
        inputs={key: _shown(values, row) for key, values in case.feeds.items()},
    )


def _shown(values: NDArray[Any], row: int) -> list[float | str | None]:
    one = values[row] if values.ndim and row < len(values) else values
    return [_plain(value) for value in one.reshape(-1)[:ROW_VALUES_SHOWN]]


def _plain(value: Any) -> float | str:  # noqa: ANN401 - an element of any array
    return float(value) if math.isfinite(float(value)) else str(value)


def _finite(error: float) -> float | None:
    return error if math.isfinite(error) else None
