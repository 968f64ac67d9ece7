"""What a framework's module gives: its model, able to answer, to export itself, and to say where it decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import onnx
from numpy.typing import NDArray

from taxiway.convert.parity import Samples
from taxiway.convert.trees import Tree, probe_splits
from taxiway.core.tensors import Datatype
from taxiway.runtimes.hosted.tabular import MATRIX, Column, Table

SPLITS_PROBED = 800
Rows = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Export:
    """What the exporter wrote, and what was mended in it."""

    model: onnx.ModelProto
    mended: tuple[str, ...] = ()


class Foreign(Protocol):
    """A model in its own framework.

    `libraries` are the distributions whose versions matter, `datatypes` the inputs' types worth trying, in order.
    `outputs` are the names of what it answers and how many columns each has; None stands for a vector.
    """

    @property
    def framework(self) -> str: ...  # noqa: D102
    @property
    def converter(self) -> str: ...  # noqa: D102
    @property
    def libraries(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def datatypes(self) -> tuple[Datatype, ...]: ...  # noqa: D102
    @property
    def columns(self) -> Sequence[Column]: ...  # noqa: D102
    @property
    def outputs(self) -> Mapping[str, int | None]: ...  # noqa: D102

    def answer(self, rows: Rows) -> dict[str, NDArray[Any]]:
        """What the framework says to these rows: `outputs` by name, a row each."""

    def samples(self, datatype: Datatype, chance: np.random.Generator) -> Samples:
        """Rows that find an exporter's mistakes in inputs of this type."""

    def export(self, datatype: Datatype) -> Export:
        """The model as ONNX with inputs of this type, by the framework's usual exporter."""


def widths(table: Table) -> dict[str, int | None]:
    """The outputs of a table and how many columns each has; None for a vector."""
    return {one.name: one.shape[1] if len(one.shape) > 1 else None for one in table.outputs}


def answers(table: Table, rows: Rows) -> dict[str, NDArray[Any]]:
    """What the framework says, as the server would have it run in a process of its own."""
    found = table.answer(rows, [one.name for one in table.outputs])
    return {one.name: found[one.name] for one in table.outputs}


def takes(model: Foreign, rows: Rows) -> bool:
    """Whether the framework answers such rows at all (missing values, unknown categories)."""
    try:
        model.answer(rows)
    except Exception:  # noqa: BLE001 - however a framework refuses
        return False
    return True


def samples_of_trees(
    model: Foreign, trees: Sequence[Tree], width: int, datatype: Datatype, chance: np.random.Generator
) -> Samples:
    """Rows of one matrix at the splits of `trees`, without values where the framework takes that."""
    missing = takes(model, {MATRIX: np.full((1, width), np.nan)})
    probes = probe_splits(trees, width, datatype.numpy_dtype, chance, splits=SPLITS_PROBED, missing=missing)
    return Samples({MATRIX: probes.rows}, probes.origins, probes.splits, probes.splits_in_all)
